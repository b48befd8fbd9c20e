//! A peer's stream: where it is cut into reads makes no difference, and what was understood is the same when said again.
#![no_main]

use codec::frame::DecodeError;
use codec::peer::PeerBody;
use libfuzzer_sys::fuzz_target;
use transport::framing::{FrameReader, encode};

const FRAME_BYTES_MAX: usize = 1 << 16;

fn read(chunks: &[&[u8]]) -> (Vec<PeerBody>, Option<DecodeError>) {
    let mut reader = FrameReader::new(FRAME_BYTES_MAX);
    let mut bodies = Vec::new();
    for chunk in chunks {
        reader.feed(chunk);
        loop {
            match reader.take() {
                Ok(Some(body)) => bodies.push(body),
                Ok(None) => break,
                Err(error) => return (bodies, Some(error)),
            }
        }
    }
    (bodies, None)
}

fuzz_target!(|input: (u16, Vec<u8>)| {
    let (cut, bytes) = input;
    // The second half is also sealed as a whole frame, so that the fuzzer gets behind the checksum.
    let sealed = encode_raw(&bytes);
    for stream in [&bytes, &sealed] {
        let (head, tail) = stream.split_at(usize::from(cut).min(stream.len()));
        let (whole, whole_end) = read(&[stream]);
        assert_eq!(read(&[head, tail]), (whole.clone(), whole_end));
        let again: Vec<u8> = whole.iter().cloned().flat_map(encode).collect();
        assert_eq!(read(&[&again]), (whole, None));
    }
});

fn encode_raw(payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    codec::Frame::encode(codec::FrameKind::Peer, payload, &mut out);
    out
}
