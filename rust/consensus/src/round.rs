//! [`Round`]: what Raft wants done, in its order, and the messages and snapshots in it.

use bytes::Bytes;
use codec::log::{ConfState, HardState, LogEntry};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotMeta {
    pub index: u64,
    pub term: u64,
    pub configuration: ConfState,
}

/// A Raft message for a peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outgoing {
    pub to: u64,
    /// Heartbeats, votes and their answers, which must not wait behind appends.
    pub urgent: bool,
    /// The files of a snapshot must go with it.
    pub snapshot: bool,
    pub bytes: Bytes,
}

/// One round of output, to be carried out in the order of its fields.
#[derive(Debug, Default)]
pub struct Round {
    /// Not 0: save `entries` and `hard_state` with one sync, then call [`Consensus::persisted`](crate::Consensus::persisted).
    pub persist: u64,
    pub entries: Vec<LogEntry>,
    pub hard_state: Option<HardState>,
    /// Install this snapshot first (with the same sync).
    pub snapshot: Option<SnapshotMeta>,
    /// Free to go now.
    pub messages: Vec<Outgoing>,
    /// Committed entries to apply, in order; configuration changes have been taken into account.
    pub committed: Vec<LogEntry>,
    /// Configuration after each committed configuration change.
    pub configurations: Vec<(u64, ConfState)>,
    /// Rounds of read index that a quorum has confirmed: (round, index).
    pub readable: Vec<(u64, u64)>,
    /// Leader or role have changed.
    pub role_changed: bool,
}
