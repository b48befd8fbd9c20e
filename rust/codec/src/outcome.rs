//! What a command came to: stored with its session, and answered to whoever proposed it.

use prost::{Enumeration, Message};

/// Why apply refused a command. The HTTP layer maps each to a status and a stable code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Enumeration)]
#[repr(i32)]
pub enum Refusal {
    /// Not refused.
    None = 0,
    /// 404: no such task, agent, key or node.
    NotFound = 1,
    /// 409 `exists`: the id is taken by a different body.
    Exists = 2,
    /// 422 `idempotency_mismatch`.
    IdempotencyMismatch = 3,
    /// 409 `wrong_state`: the transition table has no such arrow.
    WrongState = 4,
    /// 409 `stale_epoch`, with the current holder.
    StaleEpoch = 5,
    /// 409 `stale_agent`: the agent has registered again.
    StaleAgent = 6,
    /// 412 `precondition_failed`, with what is there.
    PreconditionFailed = 7,
    /// 422 `unknown_dependency`.
    UnknownDependency = 8,
    /// 422 `cycle`.
    Cycle = 9,
    /// 422 `invalid`: something the edge should have refused (the field is named).
    Invalid = 10,
    /// 429 `too_many_live_tasks`.
    LimitExceeded = 11,
    /// The session is unknown or retired: the node opens a new one and proposes again.
    SessionUnknown = 12,
    /// A leader-only command from another term.
    StaleTerm = 13,
    /// 500 `internal_invariant`: applying it would have broken an invariant; bytes are kept.
    InternalInvariant = 14,
    /// An assignment item read a version that has changed.
    StaleRead = 15,
    /// 507 `disk_full`.
    DiskFull = 16,
    /// The sequence is below the session's low-water mark: resolved long ago.
    Forgotten = 17,
    /// 409 `would_lose_quorum`: what is left after the removal could not commit anything.
    WouldLoseQuorum = 18,
    /// 409 `member_alive`: only a node that nobody hears can be replaced.
    MemberAlive = 19,
}

/// The outcome of one command. Fields without a meaning for a command stay at their default.
#[derive(Clone, PartialEq, Message)]
pub struct Outcome {
    #[prost(enumeration = "Refusal", tag = "1")]
    pub refusal: i32,
    /// Revision of the command, or of the row that a replay answers with.
    #[prost(uint64, tag = "2")]
    pub revision: u64,
    /// The task's status after the command ([`crate::row::Status`]).
    #[prost(enumeration = "crate::row::Status", tag = "3")]
    pub status: i32,
    /// The task's current epoch (with a stale one: the one that holds).
    #[prost(uint32, tag = "4")]
    pub epoch: u32,
    /// The task's current agent, for `StaleEpoch` and `WrongState`.
    #[prost(string, tag = "5")]
    pub agent_id: String,
    #[prost(uint64, tag = "6")]
    pub agent_epoch: u64,
    /// Submit: ids in the order of the command (a replay answers with the first submit's).
    #[prost(bytes = "vec", repeated, tag = "7")]
    pub task_ids: Vec<Vec<u8>>,
    /// Submit: names in the same order, for a replay.
    #[prost(string, repeated, tag = "8")]
    pub names: Vec<String>,
    /// Nothing changed: the same request was applied before.
    #[prost(bool, tag = "9")]
    pub replayed: bool,
    /// The field that a refusal is about, as a JSON pointer.
    #[prost(string, tag = "10")]
    pub field: String,
    /// One sentence for people.
    #[prost(string, tag = "11")]
    pub detail: String,
    /// Keys: revision, create revision and version after the command, or of what is there.
    #[prost(uint64, tag = "12")]
    pub key_revision: u64,
    #[prost(uint64, tag = "13")]
    pub create_revision: u64,
    #[prost(uint64, tag = "14")]
    pub key_version: u64,
}

impl Outcome {
    pub fn accepted(revision: u64) -> Self {
        Self { revision, ..Self::default() }
    }

    pub fn refused(refusal: Refusal, field: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { refusal: refusal as i32, field: field.into(), detail: detail.into(), ..Self::default() }
    }

    pub fn is_accepted(&self) -> bool {
        self.refusal == Refusal::None as i32
    }
}
