//! Records of the Raft log database, and the hash chain that lets the log prove itself.

use bytes::Bytes;
use prost::{Enumeration, Message};
use xxhash_rust::xxh3::Xxh3;

use crate::frame::{DecodeError, Frame, FrameKind};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Enumeration)]
#[repr(i32)]
pub enum EntryKind {
    Normal = 0,
    /// `data` is an encoded `eraftpb::ConfChangeV2`.
    ConfChange = 1,
}

/// An entry as consensus and the log store pass it on. An empty `data` of a normal entry is the
/// no-op of a new term.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogEntry {
    pub index: u64,
    pub term: u64,
    pub kind: EntryKind,
    pub data: Bytes,
}

/// One record of the log database: the entry and the hash of the chain up to and with it.
#[derive(Clone, PartialEq, Message)]
pub struct LogRecord {
    #[prost(uint64, tag = "1")]
    pub index: u64,
    #[prost(uint64, tag = "2")]
    pub term: u64,
    #[prost(enumeration = "EntryKind", tag = "3")]
    pub kind: i32,
    #[prost(bytes = "bytes", tag = "4")]
    pub data: Bytes,
    #[prost(fixed64, tag = "5")]
    pub chain: u64,
}

impl LogRecord {
    pub fn new(entry: &LogEntry, chain_before: u64) -> Self {
        let chain = chain_hash(chain_before, entry);
        Self { index: entry.index, term: entry.term, kind: entry.kind as i32, data: entry.data.clone(), chain }
    }

    pub fn encode_frame(&self, out: &mut Vec<u8>) {
        Frame::encode_message(FrameKind::LogRecord, self, out);
    }

    /// Decodes a stored record; the caller checks the chain.
    pub fn decode_frame(bytes: &[u8]) -> Result<Self, DecodeError> {
        Frame::decode_message(FrameKind::LogRecord, bytes)
    }

    pub fn into_entry(self) -> Result<LogEntry, DecodeError> {
        let kind = EntryKind::try_from(self.kind).map_err(|_| DecodeError::Invalid("unknown entry kind"))?;
        Ok(LogEntry { index: self.index, term: self.term, kind, data: self.data })
    }
}

/// Hash of the chain that ends with `entry`; the chain before the first entry is 0.
pub fn chain_hash(before: u64, entry: &LogEntry) -> u64 {
    let mut hasher = Xxh3::with_seed(before);
    hasher.update(&entry.index.to_be_bytes());
    hasher.update(&entry.term.to_be_bytes());
    hasher.update(&[entry.kind as i32 as u8]);
    hasher.update(&entry.data);
    hasher.digest()
}

#[derive(Clone, PartialEq, Eq, Message)]
pub struct HardState {
    #[prost(uint64, tag = "1")]
    pub term: u64,
    /// Raft id voted for in `term`; 0 for none.
    #[prost(fixed64, tag = "2")]
    pub vote: u64,
    #[prost(uint64, tag = "3")]
    pub commit: u64,
}

#[derive(Clone, PartialEq, Eq, Message)]
pub struct ConfState {
    #[prost(fixed64, repeated, tag = "1")]
    pub voters: Vec<u64>,
    #[prost(fixed64, repeated, tag = "2")]
    pub learners: Vec<u64>,
    #[prost(fixed64, repeated, tag = "3")]
    pub voters_outgoing: Vec<u64>,
    #[prost(fixed64, repeated, tag = "4")]
    pub learners_next: Vec<u64>,
    #[prost(bool, tag = "5")]
    pub auto_leave: bool,
}

/// What stands before the first entry of the log, and which state directory belongs to it.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct LogBase {
    /// Index of the last entry that is no longer in the log.
    #[prost(uint64, tag = "1")]
    pub index: u64,
    #[prost(uint64, tag = "2")]
    pub term: u64,
    /// Chain hash at `index`.
    #[prost(fixed64, tag = "3")]
    pub chain: u64,
    /// Name of the current state directory inside the data directory.
    #[prost(string, tag = "4")]
    pub state_dir: String,
}

/// Made once with the data directory.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Identity {
    #[prost(fixed64, tag = "1")]
    pub raft_id: u64,
    #[prost(string, tag = "2")]
    pub node_id: String,
    /// 0 until the node belongs to a cluster.
    #[prost(fixed64, tag = "3")]
    pub cluster_id: u64,
    /// The first configuration, kept for a restart between bootstrap and the first apply.
    #[prost(message, optional, tag = "4")]
    pub bootstrap: Option<Bootstrap>,
    /// Raft ids that this directory had before, newest last, each moved aside as damaged and never to come
    /// back; 0 for one that could not be read. At most the newest 16.
    #[prost(fixed64, repeated, tag = "5")]
    pub retired: Vec<u64>,
    /// What was damaged when the newest of them was retired, and where its files are.
    #[prost(string, tag = "6")]
    pub damaged: String,
    /// The cluster of the newest of them; 0 if unknown. With `retired`, never a part of a new cluster.
    #[prost(fixed64, tag = "7")]
    pub former_cluster_id: u64,
}

/// The first configuration, fixed by the lowest name among nodes that all were empty.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Bootstrap {
    #[prost(fixed64, tag = "1")]
    pub cluster_id: u64,
    #[prost(message, repeated, tag = "2")]
    pub members: Vec<BootstrapMember>,
    #[prost(uint64, tag = "3")]
    pub wall_us: u64,
    /// The state that the cluster begins with, restored by each member beforehand; none: empty.
    #[prost(message, optional, tag = "4")]
    pub seed: Option<Seed>,
}

/// A restored state: what its nodes must agree on before they make a cluster of it.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Seed {
    /// Checksum of the whole backup, 16 bytes.
    #[prost(bytes = "vec", tag = "1")]
    pub digest: Vec<u8>,
    /// Revision, cluster time and state hash (16 bytes) of the backup.
    #[prost(uint64, tag = "2")]
    pub revision: u64,
    #[prost(uint64, tag = "3")]
    pub cluster_us: u64,
    #[prost(bytes = "vec", tag = "4")]
    pub hash: Vec<u8>,
}

#[derive(Clone, PartialEq, Eq, Message)]
pub struct BootstrapMember {
    #[prost(string, tag = "1")]
    pub node_id: String,
    #[prost(fixed64, tag = "2")]
    pub raft_id: u64,
    #[prost(string, tag = "3")]
    pub address: String,
}

/// Last synced position of the log, in a small file of its own (DESIGN rule 4).
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Witness {
    #[prost(uint64, tag = "1")]
    pub term: u64,
    #[prost(uint64, tag = "2")]
    pub index: u64,
    #[prost(fixed64, tag = "3")]
    pub chain: u64,
    /// Term and vote of the saved hard state: a vote that left this node is never forgotten.
    #[prost(uint64, tag = "4")]
    pub saved_term: u64,
    #[prost(fixed64, tag = "5")]
    pub vote: u64,
    /// Grows by one with every write: the newer of the file's two slots counts.
    #[prost(uint64, tag = "6")]
    pub sequence: u64,
}
