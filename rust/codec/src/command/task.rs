//! What clients ask of tasks: a submit with everything that describes a task, and what may follow it.

use prost::{Enumeration, Message};

use super::need::{Amount, Label, Requirements};

/// Submits one task, or a DAG: then `tasks[0]` is the parent (`join` set) and all others name it.
/// It is taken whole or not at all.
#[derive(Clone, PartialEq, Message)]
pub struct Submit {
    #[prost(string, tag = "1")]
    pub tenant: String,
    /// Empty for none.
    #[prost(string, tag = "2")]
    pub idempotency_key: String,
    /// 16 bytes: hash of the request's body; the same id or key with another one is refused.
    #[prost(bytes = "vec", tag = "3")]
    pub body_hash: Vec<u8>,
    #[prost(message, repeated, tag = "4")]
    pub tasks: Vec<TaskSpec>,
}

#[derive(Clone, PartialEq, Message)]
pub struct TaskSpec {
    /// 16 bytes.
    #[prost(bytes = "vec", tag = "1")]
    pub id: Vec<u8>,
    /// Local name in a DAG; empty for none.
    #[prost(string, tag = "2")]
    pub name: String,
    /// 16 bytes, or empty for none.
    #[prost(bytes = "vec", tag = "3")]
    pub parent_id: Vec<u8>,
    #[prost(string, tag = "4")]
    pub task_type: String,
    /// `task_data`: JSON text as the client sent it, never parsed here.
    #[prost(bytes = "vec", tag = "5")]
    pub payload: Vec<u8>,
    /// −10..=10, higher first.
    #[prost(sint32, tag = "6")]
    pub priority: i32,
    #[prost(message, optional, tag = "7")]
    pub requirements: Option<Requirements>,
    /// 16 bytes each; names have been resolved to ids.
    #[prost(bytes = "vec", repeated, tag = "8")]
    pub dependencies: Vec<Vec<u8>>,
    #[prost(enumeration = "DependencyFailure", tag = "9")]
    pub on_dependency_failure: i32,
    /// A child whose failure does not fail its parent.
    #[prost(bool, tag = "10")]
    pub optional: bool,
    /// Wall time; 0 for none.
    #[prost(uint64, tag = "11")]
    pub not_before_wall_us: u64,
    /// Wall time; 0 for none.
    #[prost(uint64, tag = "12")]
    pub deadline_wall_us: u64,
    /// Longest time in `ready`, 0 for none.
    #[prost(uint64, tag = "13")]
    pub queue_ms: u64,
    /// Longest time of one attempt, 0 for none.
    #[prost(uint64, tag = "14")]
    pub run_ms: u64,
    /// Longest time from submit to end, 0 for none.
    #[prost(uint64, tag = "15")]
    pub total_ms: u64,
    #[prost(message, optional, tag = "16")]
    pub retry: Option<RetryPolicy>,
    #[prost(bool, tag = "17")]
    pub idempotent: bool,
    #[prost(bool, tag = "18")]
    pub preemptible: bool,
    /// The client's measure of the input, 0 for unknown; feeds prediction.
    #[prost(uint64, tag = "19")]
    pub size_hint: u64,
    #[prost(message, repeated, tag = "20")]
    pub labels: Vec<Label>,
    #[prost(message, repeated, tag = "21")]
    pub cost_estimate: Vec<Amount>,
    /// Set on a DAG's parent.
    #[prost(message, optional, tag = "22")]
    pub join: Option<Join>,
}

#[derive(Clone, PartialEq, Message)]
pub struct RetryPolicy {
    /// Attempts in all that may end in a failure or timeout, ≥ 1.
    #[prost(uint32, tag = "1")]
    pub max_attempts: u32,
    #[prost(uint64, tag = "2")]
    pub backoff_ms: u64,
    #[prost(uint32, tag = "3")]
    pub factor_milli: u32,
    #[prost(uint64, tag = "4")]
    pub max_backoff_ms: u64,
    /// Error codes that end the task at once.
    #[prost(string, repeated, tag = "5")]
    pub non_retryable: Vec<String>,
}

#[derive(Clone, PartialEq, Message)]
pub struct Join {
    #[prost(enumeration = "JoinPolicy", tag = "1")]
    pub policy: i32,
    /// For `Quorum`: children that must complete.
    #[prost(uint32, tag = "2")]
    pub count: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Enumeration)]
#[repr(i32)]
pub enum JoinPolicy {
    All = 0,
    Any = 1,
    Quorum = 2,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Enumeration)]
#[repr(i32)]
pub enum DependencyFailure {
    Fail = 0,
    Skip = 1,
    Run = 2,
}

/// Cancels a task and its children.
#[derive(Clone, PartialEq, Message)]
pub struct Cancel {
    #[prost(bytes = "vec", tag = "1")]
    pub task_id: Vec<u8>,
    /// Revoke at once instead of asking the agent first.
    #[prost(bool, tag = "2")]
    pub kill: bool,
    #[prost(uint64, tag = "3")]
    pub grace_ms: u64,
}

/// Puts a live task back into the queue.
#[derive(Clone, PartialEq, Message)]
pub struct Reschedule {
    #[prost(bytes = "vec", tag = "1")]
    pub task_id: Vec<u8>,
    #[prost(string, repeated, tag = "2")]
    pub exclude_agents: Vec<String>,
    #[prost(sint32, optional, tag = "3")]
    pub priority: Option<i32>,
    #[prost(uint64, optional, tag = "4")]
    pub not_before_wall_us: Option<u64>,
}

/// Makes a parked or failed task ready again, with all its attempts.
#[derive(Clone, PartialEq, Message)]
pub struct Retry {
    #[prost(bytes = "vec", tag = "1")]
    pub task_id: Vec<u8>,
}
