//! Bytes from a broken disk or a broken peer: decoding gives an error, never a panic, and a frame
//! that was cut or flipped is never taken for a whole one.

mod common;
#[path = "common/decoders.rs"]
mod decoders;

use codec::frame::{DecodeError, HEADER_BYTES};
use codec::row::{KeyRow, decode, encode};
use codec::{Frame, FrameKind};
use decoders::decode_all;
use proptest::prelude::*;

fn framed() -> Vec<common::Sample> {
    [common::command_samples(), common::log_samples(), common::peer_samples()].into_iter().flatten().collect()
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        decode_all(&bytes);
    }

    /// Bytes that are nearly right reach deeper than noise does.
    #[test]
    fn damaged_messages_never_panic(
        pick in any::<prop::sample::Index>(),
        flips in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        cut in any::<prop::sample::Index>(),
    ) {
        let samples = common::samples();
        let mut bytes = samples[pick.index(samples.len())].bytes.clone();
        for (at, value) in flips {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        bytes.truncate(cut.index(bytes.len() + 1).max(1));
        decode_all(&bytes);
        if bytes.len() > HEADER_BYTES {
            decode_all(&bytes[HEADER_BYTES..]);
        }
    }

    #[test]
    fn a_frame_survives_what_follows_it(payload in proptest::collection::vec(any::<u8>(), 0..100), tail in any::<[u8; 5]>()) {
        let mut bytes = Vec::new();
        Frame::encode(FrameKind::Quarantine, &payload, &mut bytes);
        let length = bytes.len();
        bytes.extend_from_slice(&tail);
        let (frame, used) = Frame::decode(&bytes).expect("a whole frame");
        prop_assert_eq!((frame.kind, frame.payload, used), (FrameKind::Quarantine, payload.as_slice(), length));
    }
}

#[test]
fn every_cut_frame_says_how_much_is_missing() {
    for sample in framed() {
        for length in 0..sample.bytes.len() {
            let missing = if length < HEADER_BYTES { HEADER_BYTES } else { sample.bytes.len() } - length;
            let found = Frame::decode(&sample.bytes[..length]);
            assert_eq!(found, Err(DecodeError::Incomplete { needed: missing }), "{} cut at {length}", sample.name);
        }
    }
}

#[test]
fn every_flipped_bit_of_a_frame_is_noticed() {
    for sample in framed() {
        for bit in 0..sample.bytes.len() * 8 {
            let mut bytes = sample.bytes.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            let found = Frame::decode(&bytes);
            assert!(found.is_err(), "{}: bit {bit} went unnoticed", sample.name);
        }
    }
}

#[test]
fn a_newer_version_asks_for_an_upgrade() {
    let mut bytes = encode(&KeyRow::default());
    bytes[0] = codec::frame::VERSION + 1;
    assert_eq!(decode::<KeyRow>(&bytes), Err(DecodeError::UnknownVersion { found: codec::frame::VERSION + 1 }));
    assert_eq!(decode::<KeyRow>(&[]), Err(DecodeError::Incomplete { needed: 1 }));
}
