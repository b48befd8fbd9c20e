//! What only the leader proposes (tags 40–49 of [`super::Body`]): decisions of its policy, of its clock and of its checks.

use prost::{Enumeration, Message};

/// The policy's decision. A stale item is refused alone; the rest stands.
#[derive(Clone, PartialEq, Message)]
pub struct Assign {
    #[prost(message, repeated, tag = "1")]
    pub items: Vec<Assignment>,
}

#[derive(Clone, PartialEq, Message)]
pub struct Assignment {
    #[prost(bytes = "vec", tag = "1")]
    pub task_id: Vec<u8>,
    /// The task's epoch that the policy read.
    #[prost(uint32, tag = "2")]
    pub epoch: u32,
    #[prost(string, tag = "3")]
    pub agent_id: String,
    #[prost(uint64, tag = "4")]
    pub agent_epoch: u64,
    /// Terms of the score in basis points, in the order of SCHEDULING §3 (M, P, L, F, D, Z).
    #[prost(sint32, repeated, tag = "5")]
    pub terms: Vec<i32>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Enumeration)]
#[repr(i32)]
pub enum ExpireReason {
    /// `not_before` or a backoff has passed: delayed → ready.
    Delay = 0,
    /// Not held in time after the hand-over.
    Unclaimed = 1,
    RunTimeout = 2,
    /// `queue_ms`, `total_ms` or `deadline` has passed.
    Deadline = 3,
    /// The grace of a cooperative cancel is over.
    CancelGrace = 4,
}

#[derive(Clone, PartialEq, Message)]
pub struct Expire {
    #[prost(message, repeated, tag = "1")]
    pub tasks: Vec<ExpiredTask>,
    #[prost(message, repeated, tag = "2")]
    pub agents: Vec<ExpiredAgent>,
    /// Nodes whose drain deadline has passed.
    #[prost(string, repeated, tag = "3")]
    pub drained_nodes: Vec<String>,
}

#[derive(Clone, PartialEq, Message)]
pub struct ExpiredTask {
    #[prost(bytes = "vec", tag = "1")]
    pub task_id: Vec<u8>,
    #[prost(uint32, tag = "2")]
    pub epoch: u32,
    #[prost(enumeration = "ExpireReason", tag = "3")]
    pub reason: i32,
}

/// An agent whose lease ran out at the leader.
#[derive(Clone, PartialEq, Message)]
pub struct ExpiredAgent {
    #[prost(string, tag = "1")]
    pub agent_id: String,
    #[prost(uint64, tag = "2")]
    pub agent_epoch: u64,
}

/// Forgets what is past its retention; ≤ 1,000 items an entry.
#[derive(Clone, PartialEq, Message)]
pub struct Retention {
    /// Ended tasks, 16 bytes each.
    #[prost(bytes = "vec", repeated, tag = "1")]
    pub task_ids: Vec<Vec<u8>>,
    /// Keys of rows of the idempotency column family.
    #[prost(bytes = "vec", repeated, tag = "2")]
    pub idempotency_keys: Vec<Vec<u8>>,
    /// Events below this revision, at most `events_max` of them, oldest first; 0 for none.
    #[prost(uint64, tag = "3")]
    pub events_below_revision: u64,
    #[prost(uint32, tag = "4")]
    pub events_max: u32,
    /// Agents that were lost or left before the retention, as ids.
    #[prost(string, repeated, tag = "5")]
    pub agent_ids: Vec<String>,
}

/// The leader's state hash at an index, for every replica to compare with its own.
#[derive(Clone, PartialEq, Message)]
pub struct HashCheck {
    #[prost(uint64, tag = "1")]
    pub index: u64,
    /// 16 bytes, big-endian.
    #[prost(bytes = "vec", tag = "2")]
    pub hash: Vec<u8>,
    /// Not 0: every replica also recomputes its hash over all rows, as of this entry, under this number.
    #[prost(fixed64, tag = "3")]
    pub verify: u64,
}

/// Moves cluster time while nothing else is proposed.
#[derive(Clone, PartialEq, Message)]
pub struct ClockAdvance {}
