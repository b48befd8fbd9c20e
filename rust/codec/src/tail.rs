//! Messages between observers and those they follow (DESIGN §1 "membership at scale").
//!
//! A child subscribes at its parent with where it stands; the parent answers with committed entries
//! from there on, or says why it does not. What observers report climbs the same tree, one message a
//! second and child.

use bytes::Bytes;
use prost::{Enumeration, Message};

use crate::frame::DecodeError;
use crate::log::{EntryKind, LogEntry};

/// Asks for the committed entries behind `index`. A newer subscription replaces an older one.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct TailSubscribe {
    /// Named by every batch that answers it; never used twice by a process.
    #[prost(uint64, tag = "1")]
    pub subscription: u64,
    /// The last entry the child has applied, its term, and the state hash (16 bytes) after it. 0 for
    /// a child without state: it needs a snapshot.
    #[prost(uint64, tag = "2")]
    pub index: u64,
    #[prost(uint64, tag = "3")]
    pub term: u64,
    #[prost(bytes = "vec", tag = "4")]
    pub hash: Vec<u8>,
    /// The child needs a snapshot whatever its position: its state is known to differ.
    #[prost(bool, tag = "5")]
    pub snapshot: bool,
    /// Only until it has caught up: taken beside the children that are there for good.
    #[prost(bool, tag = "6")]
    pub catch_up: bool,
}

/// A committed entry as it stands in the log.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct TailEntry {
    #[prost(uint64, tag = "1")]
    pub index: u64,
    #[prost(uint64, tag = "2")]
    pub term: u64,
    #[prost(enumeration = "EntryKind", tag = "3")]
    pub kind: i32,
    #[prost(bytes = "bytes", tag = "4")]
    pub data: Bytes,
}

impl From<&LogEntry> for TailEntry {
    fn from(entry: &LogEntry) -> Self {
        Self { index: entry.index, term: entry.term, kind: entry.kind as i32, data: entry.data.clone() }
    }
}

impl TailEntry {
    /// # Errors
    /// A kind that this release does not know.
    pub fn into_entry(self) -> Result<LogEntry, DecodeError> {
        let kind = EntryKind::try_from(self.kind).map_err(|_| DecodeError::Invalid("unknown entry kind"))?;
        Ok(LogEntry { index: self.index, term: self.term, kind, data: self.data })
    }
}

/// Committed entries without a gap, or none: then it says that the parent is there.
#[derive(Clone, PartialEq, Message)]
pub struct TailBatch {
    #[prost(uint64, tag = "1")]
    pub subscription: u64,
    #[prost(message, repeated, tag = "2")]
    pub entries: Vec<TailEntry>,
    /// The highest index the parent knows to be committed.
    #[prost(uint64, tag = "3")]
    pub commit_index: u64,
    /// The leader as the root of this branch knows it, and its term.
    #[prost(fixed64, tag = "4")]
    pub leader: u64,
    #[prost(uint64, tag = "5")]
    pub term: u64,
    /// Names the process of the voter at the root of this branch; and its pulse: it grows while that
    /// voter follows a leader, and observers only pass it on. A branch whose pulse stands still is dead.
    #[prost(fixed64, tag = "6")]
    pub root: u64,
    #[prost(uint64, tag = "7")]
    pub pulse: u64,
    /// Hops from the root's children on: 0 from a voter.
    #[prost(uint32, tag = "8")]
    pub depth: u32,
    /// A state the parent has applied, for the child to compare its own with; 0 for none.
    #[prost(uint64, tag = "9")]
    pub hash_index: u64,
    #[prost(bytes = "vec", tag = "10")]
    pub hash: Vec<u8>,
}

/// What the child has applied: room for more.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct TailAck {
    #[prost(uint64, tag = "1")]
    pub subscription: u64,
    #[prost(uint64, tag = "2")]
    pub index: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Enumeration)]
#[repr(i32)]
pub enum TailReason {
    /// The child has gone to another parent (said by the child).
    Left = 0,
    /// The parent has all the children it takes.
    Full = 1,
    /// The child is behind what this parent keeps, and a voter can help.
    Behind = 2,
    /// The parent's state at the child's index has another term or hash.
    Diverged = 3,
    /// The parent has no state yet, or does not hear from the cluster itself.
    NotReady = 4,
}

/// The subscription is over, or was not taken.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct TailEnd {
    #[prost(uint64, tag = "1")]
    pub subscription: u64,
    #[prost(enumeration = "TailReason", tag = "2")]
    pub reason: i32,
}

/// Who hangs below whom, published by the leader: a higher (term, version) replaces a lower one.
#[derive(Clone, PartialEq, Message)]
pub struct Placement {
    #[prost(uint64, tag = "1")]
    pub term: u64,
    #[prost(uint64, tag = "2")]
    pub version: u64,
    #[prost(fixed64, tag = "3")]
    pub leader: u64,
    #[prost(message, repeated, tag = "4")]
    pub observers: Vec<PlacedObserver>,
    /// Voters that the leader hears from, itself among them.
    #[prost(uint32, tag = "5")]
    pub voters_healthy: u32,
    /// The voters and learners: a new observer has no member rows yet.
    #[prost(message, repeated, tag = "6")]
    pub voters: Vec<PlacedVoter>,
}

#[derive(Clone, PartialEq, Message)]
pub struct PlacedObserver {
    #[prost(fixed64, tag = "1")]
    pub raft_id: u64,
    /// Raft id of its parent; 0 while there is none.
    #[prost(fixed64, tag = "2")]
    pub parent: u64,
    /// What it last reported, as the leader heard it: so that every node can show it.
    #[prost(message, optional, tag = "3")]
    pub report: Option<ObserverReport>,
}

#[derive(Clone, PartialEq, Eq, Message)]
pub struct PlacedVoter {
    #[prost(fixed64, tag = "1")]
    pub raft_id: u64,
    #[prost(string, tag = "2")]
    pub node_id: String,
    #[prost(string, tag = "3")]
    pub address: String,
    /// The leader hears it.
    #[prost(bool, tag = "4")]
    pub alive: bool,
    /// As the leader knows it, for observers to show.
    #[prost(uint64, tag = "5")]
    pub match_index: u64,
    #[prost(string, tag = "6")]
    pub http_address: String,
}

/// An observer asks to be made a member; a follower passes it to the leader.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct ObserverRegister {
    #[prost(fixed64, tag = "1")]
    pub raft_id: u64,
    #[prost(string, tag = "2")]
    pub node_id: String,
    /// `host:port` that its children dial.
    #[prost(string, tag = "3")]
    pub address: String,
}

/// What an observer says of itself and what its children said, once a second to its parent.
#[derive(Clone, PartialEq, Message)]
pub struct ObserverReports {
    #[prost(message, repeated, tag = "1")]
    pub reports: Vec<ObserverReport>,
}

#[derive(Clone, PartialEq, Message)]
pub struct ObserverReport {
    #[prost(fixed64, tag = "1")]
    pub raft_id: u64,
    /// Whom it follows now.
    #[prost(fixed64, tag = "2")]
    pub parent: u64,
    #[prost(uint64, tag = "3")]
    pub applied_index: u64,
    /// µs since it was made, as far as the nodes on the way know.
    #[prost(uint64, tag = "4")]
    pub age_us: u64,
    /// Basis points: cpu, memory, network; empty when not measured.
    #[prost(uint32, repeated, tag = "5")]
    pub load_bp: Vec<u32>,
    #[prost(string, tag = "6")]
    pub http_address: String,
    #[prost(string, tag = "7")]
    pub version: String,
}
