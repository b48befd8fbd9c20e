//! The one frame of the project: on the log, between peers and in snapshots.
//!
//! ```text
//! offset  size  field
//!      0     4  length of the payload in bytes, little-endian, at most PAYLOAD_BYTES_MAX
//!      4     1  kind (FrameKind)
//!      5     1  version of the payload's encoding
//!      6     2  zero
//!      8     4  CRC32C over bytes 0..8 and the payload, little-endian
//!     12     …  payload
//! ```

use thiserror::Error;

/// Bytes before the payload.
pub const HEADER_BYTES: usize = 12;
/// A larger length is corruption, not a message: the largest entry (1 MiB of commands plus one
/// batch body of 8 MiB) and the largest snapshot chunk stay far below.
pub const PAYLOAD_BYTES_MAX: usize = 64 << 20;
/// Version of every payload that this release writes.
pub const VERSION: u8 = 1;

/// What a frame holds. Numbers are for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum FrameKind {
    /// A record of the Raft log ([`crate::log::LogRecord`]).
    LogRecord = 1,
    /// The saved Raft state ([`crate::log::HardState`]).
    HardState = 2,
    /// The log's base and the name of the state directory ([`crate::log::LogBase`]).
    LogBase = 3,
    /// Who this data directory is ([`crate::log::Identity`]).
    Identity = 4,
    /// Last synced position of the log ([`crate::log::Witness`]).
    Witness = 5,
    /// Payload of a normal Raft entry ([`crate::EntryPayload`]).
    EntryPayload = 6,
    /// A message between peers ([`crate::peer::PeerMessage`]).
    Peer = 7,
    /// One chunk of a snapshot file ([`crate::peer::SnapshotChunk`]).
    SnapshotChunk = 8,
    /// A row of the state store ([`crate::row`]).
    Row = 9,
    /// A captured poll or command kept for study after an invariant failed.
    Quarantine = 10,
}

impl FrameKind {
    pub fn from_u8(kind: u8) -> Option<Self> {
        use FrameKind::*;
        [LogRecord, HardState, LogBase, Identity, Witness, EntryPayload, Peer, SnapshotChunk, Row, Quarantine]
            .into_iter()
            .find(|k| *k as u8 == kind)
    }
}

/// Why bytes were refused.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum DecodeError {
    /// More bytes are needed: a torn tail on disk, or a read that is still under way.
    #[error("{needed} more bytes are needed")]
    Incomplete { needed: usize },
    #[error("a frame of {0} bytes is over the limit of {PAYLOAD_BYTES_MAX}")]
    TooLarge(usize),
    #[error("unknown frame kind {0}")]
    UnknownKind(u8),
    #[error("frame version {found} is newer than this release's {VERSION}: upgrade this node")]
    UnknownVersion { found: u8 },
    #[error("checksum mismatch: stored {stored:08x}, computed {computed:08x}")]
    Checksum { stored: u32, computed: u32 },
    #[error("expected a {expected:?} frame, found {found:?}")]
    WrongKind { expected: FrameKind, found: FrameKind },
    #[error("malformed message: {0}")]
    Message(String),
    #[error("{0}")]
    Invalid(&'static str),
}

impl From<prost::DecodeError> for DecodeError {
    fn from(error: prost::DecodeError) -> Self {
        Self::Message(error.to_string())
    }
}

/// A frame whose checksum has been verified; the payload borrows from the input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    pub kind: FrameKind,
    pub payload: &'a [u8],
}

fn checksum(head: &[u8], payload: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(head), payload)
}

impl<'a> Frame<'a> {
    /// Appends one frame around `payload`.
    ///
    /// # Panics
    /// If the payload is larger than [`PAYLOAD_BYTES_MAX`]: every caller has a smaller bound.
    pub fn encode(kind: FrameKind, payload: &[u8], out: &mut Vec<u8>) {
        let start = out.len();
        out.resize(start + HEADER_BYTES, 0);
        out.extend_from_slice(payload);
        seal(kind, out, start);
    }

    /// Appends one frame around a message, encoding it in place.
    pub fn encode_message(kind: FrameKind, message: &impl prost::Message, out: &mut Vec<u8>) {
        let start = out.len();
        out.resize(start + HEADER_BYTES, 0);
        message.encode_raw(out);
        seal(kind, out, start);
    }

    /// Reads the first frame of `input` and returns it with the number of bytes it took.
    pub fn decode(input: &'a [u8]) -> Result<(Self, usize), DecodeError> {
        let Some(head) = input.get(..HEADER_BYTES) else {
            return Err(DecodeError::Incomplete { needed: HEADER_BYTES - input.len() });
        };
        let length = u32::from_le_bytes([head[0], head[1], head[2], head[3]]) as usize;
        if length > PAYLOAD_BYTES_MAX {
            return Err(DecodeError::TooLarge(length));
        }
        let total = HEADER_BYTES + length;
        let Some(payload) = input.get(HEADER_BYTES..total) else {
            return Err(DecodeError::Incomplete { needed: total - input.len() });
        };
        let stored = u32::from_le_bytes([head[8], head[9], head[10], head[11]]);
        let computed = checksum(&head[..8], payload);
        if stored != computed {
            return Err(DecodeError::Checksum { stored, computed });
        }
        let kind = FrameKind::from_u8(head[4]).ok_or(DecodeError::UnknownKind(head[4]))?;
        if head[5] != VERSION {
            return Err(DecodeError::UnknownVersion { found: head[5] });
        }
        Ok((Self { kind, payload }, total))
    }

    /// Decodes a buffer that holds exactly one frame of `kind` around one message.
    pub fn decode_message<M: prost::Message + Default>(kind: FrameKind, input: &'a [u8]) -> Result<M, DecodeError> {
        let (frame, used) = Self::decode(input)?;
        if frame.kind != kind {
            return Err(DecodeError::WrongKind { expected: kind, found: frame.kind });
        }
        if used != input.len() {
            return Err(DecodeError::Invalid("bytes after the frame"));
        }
        Ok(M::decode(frame.payload)?)
    }
}

/// Frames one message into a buffer of its own.
pub fn to_frame(kind: FrameKind, message: &impl prost::Message) -> Vec<u8> {
    let mut out = Vec::with_capacity(HEADER_BYTES + message.encoded_len());
    Frame::encode_message(kind, message, &mut out);
    out
}

fn seal(kind: FrameKind, out: &mut [u8], start: usize) {
    let length = out.len() - start - HEADER_BYTES;
    assert!(length <= PAYLOAD_BYTES_MAX, "a payload of {length} bytes is over the frame limit");
    let (head, payload) = out[start..].split_at_mut(HEADER_BYTES);
    head[..4].copy_from_slice(&(length as u32).to_le_bytes());
    head[4] = kind as u8;
    head[5] = VERSION;
    let sum = checksum(&head[..8], payload);
    head[8..].copy_from_slice(&sum.to_le_bytes());
}
