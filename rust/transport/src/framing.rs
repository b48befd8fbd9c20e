//! Bytes of a stream to messages, without a socket.

use bytes::{Buf, Bytes, BytesMut};
use codec::Message;
use codec::frame::{DecodeError, Frame, FrameKind, HEADER_BYTES, to_frame};
use codec::peer::{PeerBody, PeerMessage};

/// Frames one message for a stream.
pub fn encode(body: PeerBody) -> Vec<u8> {
    to_frame(FrameKind::Peer, &PeerMessage { body: Some(body) })
}

/// Cuts a stream into messages. It holds at most one unfinished frame and what was fed beside it:
/// the caller takes all messages before it feeds more.
pub struct FrameReader {
    buffer: BytesMut,
    frame_bytes_max: usize,
}

impl FrameReader {
    /// `frame_bytes_max` bounds a frame, its header included.
    pub fn new(frame_bytes_max: usize) -> Self {
        Self { buffer: BytesMut::new(), frame_bytes_max }
    }

    /// Changes the bound: a stream has a small one until its lane is known.
    pub fn set_frame_bytes_max(&mut self, bytes: usize) {
        self.frame_bytes_max = bytes;
    }

    pub fn feed(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// Bytes held for messages that are not complete, or not taken yet.
    pub fn buffered(&self) -> usize {
        self.buffer.len()
    }

    /// The next complete message, or `None` until more bytes are fed.
    ///
    /// # Errors
    /// Any malformed, oversized or foreign frame: the stream cannot be read any further.
    pub fn take(&mut self) -> Result<Option<PeerBody>, DecodeError> {
        while let Some(mut bytes) = self.take_frame()? {
            let (frame, used) = Frame::decode(&bytes)?;
            assert_eq!(used, bytes.len(), "the frame's length was read twice with different results");
            if frame.kind != FrameKind::Peer {
                return Err(DecodeError::WrongKind { expected: FrameKind::Peer, found: frame.kind });
            }
            bytes.advance(HEADER_BYTES);
            // Without a body it is one of a newer release that this one does not know: nothing that it needs to answer.
            if let Some(body) = PeerMessage::decode(bytes)?.body {
                return Ok(Some(body));
            }
        }
        Ok(None)
    }

    /// The next complete frame's bytes, not looked into yet.
    fn take_frame(&mut self) -> Result<Option<Bytes>, DecodeError> {
        if self.buffer.len() < HEADER_BYTES {
            return Ok(None);
        }
        let length = u32::from_le_bytes([self.buffer[0], self.buffer[1], self.buffer[2], self.buffer[3]]) as usize;
        let total = HEADER_BYTES.saturating_add(length);
        if total > self.frame_bytes_max {
            return Err(DecodeError::TooLarge(length));
        }
        if self.buffer.len() < total {
            self.buffer.reserve(total - self.buffer.len());
            return Ok(None);
        }
        Ok(Some(self.buffer.split_to(total).freeze()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use codec::peer::{Forward, ReadIndexRequest};
    use proptest::prelude::*;

    fn bodies() -> impl Strategy<Value = Vec<PeerBody>> {
        let body = prop_oneof![
            proptest::collection::vec(any::<u8>(), 0..3000).prop_map(|data| PeerBody::Raft(data.into())),
            any::<u64>().prop_map(|round| PeerBody::ReadIndexRequest(ReadIndexRequest { round })),
            Just(PeerBody::Forward(Forward::default())),
        ];
        proptest::collection::vec(body, 0..20)
    }

    fn take_all(reader: &mut FrameReader) -> Vec<PeerBody> {
        let mut out = Vec::new();
        while let Some(body) = reader.take().unwrap() {
            out.push(body);
        }
        out
    }

    proptest! {
        /// However the network cuts the stream, the same messages come out.
        #[test]
        fn cuts_do_not_matter(sent in bodies(), cuts in proptest::collection::vec(1usize..700, 1..60)) {
            let stream: Vec<u8> = sent.iter().cloned().flat_map(encode).collect();
            let mut reader = FrameReader::new(4096);
            let mut got = Vec::new();
            let mut rest = &stream[..];
            for cut in cuts.iter().cycle() {
                let (head, tail) = rest.split_at((*cut).min(rest.len()));
                reader.feed(head);
                got.extend(take_all(&mut reader));
                prop_assert!(reader.buffered() < 4096);
                rest = tail;
                if rest.is_empty() {
                    break;
                }
            }
            prop_assert_eq!(got, sent);
            prop_assert_eq!(reader.buffered(), 0);
        }

        /// One flipped bit never yields a different message.
        #[test]
        fn a_flipped_bit_is_never_delivered(data in proptest::collection::vec(any::<u8>(), 1..300), at in any::<prop::sample::Index>(), bit in 0u8..8) {
            let sent = PeerBody::Raft(data.into());
            let mut stream = encode(sent.clone());
            let at = at.index(stream.len());
            stream[at] ^= 1 << bit;
            let mut reader = FrameReader::new(1 << 20);
            reader.feed(&stream);
            match reader.take() {
                Ok(Some(body)) => prop_assert!(false, "took {body:?}"),
                Ok(None) => prop_assert!(at < 4, "only a longer length may wait for more bytes"),
                Err(_) => {}
            }
        }
    }

    #[test]
    fn an_oversized_frame_is_refused_by_its_header_alone() {
        let mut reader = FrameReader::new(100);
        reader.feed(&encode(PeerBody::Raft(vec![0; 200].into()))[..HEADER_BYTES]);
        assert!(matches!(reader.take(), Err(DecodeError::TooLarge(_))));
    }

    /// Scenario: a peer of a newer release sends 100,000 messages that this one does not know, in one read → they are
    /// passed over in the stack of one, and the message behind them arrives.
    #[test]
    fn any_number_of_unknown_messages_is_passed_over() {
        let unknown = to_frame(FrameKind::Peer, &PeerMessage { body: None });
        let mut bytes = unknown.repeat(100_000);
        bytes.extend(encode(PeerBody::ReadIndexRequest(ReadIndexRequest { round: 7 })));
        let mut reader = FrameReader::new(1 << 20);
        reader.feed(&bytes);
        assert_eq!(reader.take(), Ok(Some(PeerBody::ReadIndexRequest(ReadIndexRequest { round: 7 }))));
        assert_eq!(reader.take(), Ok(None));
    }
}
