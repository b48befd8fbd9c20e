//! What waits to be written to one stream, without a socket.

use std::collections::VecDeque;
use std::io::{self, IoSlice, Write};

/// Most frames in one vectored write; the kernel's limit is 1,024.
const SLICES_MAX: usize = 64;

/// Whether a frame may be lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// A Raft message: Raft sends again. It fills at most half of a queue, so that the other class
    /// always finds room.
    Droppable,
    /// Everything else.
    Kept,
}

/// Frames in the order in which they will be sent, at most `bytes_max` of them together, but always
/// one.
#[derive(Debug)]
pub struct SendQueue {
    frames: VecDeque<Vec<u8>>,
    bytes: usize,
    bytes_max: usize,
}

impl SendQueue {
    pub fn new(bytes_max: usize) -> Self {
        Self { frames: VecDeque::new(), bytes: 0, bytes_max }
    }

    /// Queues a frame; false when there is no room, and the queue is unchanged.
    pub fn push(&mut self, frame: Vec<u8>, class: Class) -> bool {
        let bytes_max = match class {
            Class::Droppable => self.bytes_max / 2,
            Class::Kept => self.bytes_max,
        };
        if !self.frames.is_empty() && self.bytes + frame.len() > bytes_max {
            return false;
        }
        self.bytes += frame.len();
        self.frames.push_back(frame);
        true
    }

    /// Moves frames to `out`: whole ones, until it holds `bytes_max`.
    pub fn drain_to(&mut self, out: &mut Outgoing, bytes_max: usize) {
        while out.bytes < bytes_max {
            let Some(frame) = self.frames.pop_front() else { return };
            self.bytes -= frame.len();
            out.push(frame);
        }
    }

    pub fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

/// Frames being written; the first one may be written in part.
#[derive(Debug, Default)]
pub struct Outgoing {
    frames: VecDeque<Vec<u8>>,
    /// Bytes of the first frame that are written.
    at: usize,
    bytes: usize,
}

impl Outgoing {
    pub fn push(&mut self, frame: Vec<u8>) {
        self.bytes += frame.len();
        self.frames.push_back(frame);
    }

    pub fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    /// Writes as much as the stream takes with vectored writes; returns the bytes written. All is
    /// written when it is empty afterwards.
    ///
    /// # Errors
    /// Those of the stream but `WouldBlock` and `Interrupted`.
    pub fn write_to(&mut self, stream: &mut impl Write) -> io::Result<usize> {
        let mut total = 0;
        while !self.frames.is_empty() {
            let mut slices = [IoSlice::new(&[]); SLICES_MAX];
            let mut count = 0;
            for (slice, frame) in slices.iter_mut().zip(&self.frames) {
                *slice = IoSlice::new(if count == 0 { &frame[self.at..] } else { frame });
                count += 1;
            }
            match stream.write_vectored(&slices[..count]) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => {
                    total += written;
                    self.advance(written);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(total)
    }

    fn advance(&mut self, mut written: usize) {
        self.bytes -= written;
        while let Some(front) = self.frames.front() {
            let left = front.len() - self.at;
            if written < left {
                self.at += written;
                return;
            }
            written -= left;
            self.at = 0;
            self.frames.pop_front();
        }
        assert_eq!(written, 0, "more was written than there was");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Takes as many bytes as the next number says; 0 stands for a full socket.
    struct Choppy {
        got: Vec<u8>,
        sizes: VecDeque<usize>,
    }

    impl Write for Choppy {
        fn write(&mut self, data: &[u8]) -> io::Result<usize> {
            self.write_vectored(&[IoSlice::new(data)])
        }

        fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
            let size = self.sizes.pop_front().unwrap_or(usize::MAX);
            if size == 0 {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            let all: Vec<u8> = slices.iter().flat_map(|s| s.iter().copied()).take(size).collect();
            self.got.extend_from_slice(&all);
            Ok(all.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    proptest! {
        /// What was accepted arrives whole and in order, whatever the stream takes at a time, and
        /// the queue never holds more than its bound.
        #[test]
        fn accepted_frames_arrive_in_order(
            frames in proptest::collection::vec((1usize..80, any::<bool>()), 0..150),
            sizes in proptest::collection::vec(0usize..120, 0..80),
        ) {
            let mut queue = SendQueue::new(1000);
            let mut expected = Vec::new();
            for (at, (length, droppable)) in frames.into_iter().enumerate() {
                let frame = vec![at as u8; length];
                let class = if droppable { Class::Droppable } else { Class::Kept };
                let before = queue.bytes();
                if queue.push(frame.clone(), class) {
                    expected.extend(frame);
                } else {
                    let bound = if droppable { 500 } else { 1000 };
                    prop_assert!(before + length > bound);
                    prop_assert_eq!(queue.bytes(), before);
                }
                prop_assert!(queue.bytes() <= 1000);
            }
            let mut stream = Choppy { got: Vec::new(), sizes: sizes.into() };
            let mut out = Outgoing::default();
            while !(queue.is_empty() && out.is_empty()) {
                queue.drain_to(&mut out, 200);
                out.write_to(&mut stream).unwrap();
            }
            prop_assert_eq!(stream.got, expected);
            prop_assert_eq!(out.bytes, 0);
        }
    }

    #[test]
    fn one_frame_larger_than_the_bound_still_passes() {
        let mut queue = SendQueue::new(10);
        assert!(queue.push(vec![0; 50], Class::Droppable));
        assert!(!queue.push(vec![0; 1], Class::Kept));
    }
}
