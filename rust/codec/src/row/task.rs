//! A task's row and its status.

use prost::{Enumeration, Message};

use super::TimelineEvent;
use crate::command::{Amount, Join, Label, Requirements, RetryPolicy};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Enumeration)]
#[repr(i32)]
pub enum Status {
    Blocked = 0,
    Delayed = 1,
    Waiting = 2,
    Ready = 3,
    Assigned = 4,
    Running = 5,
    Cancelling = 6,
    InputRequired = 7,
    Parked = 8,
    Completed = 9,
    Failed = 10,
    Skipped = 11,
    Cancelled = 12,
}

impl Status {
    pub const ALL: [Status; 13] = [
        Status::Blocked,
        Status::Delayed,
        Status::Waiting,
        Status::Ready,
        Status::Assigned,
        Status::Running,
        Status::Cancelling,
        Status::InputRequired,
        Status::Parked,
        Status::Completed,
        Status::Failed,
        Status::Skipped,
        Status::Cancelled,
    ];

    /// The name in the API.
    pub fn name(self) -> &'static str {
        match self {
            Status::Blocked => "blocked",
            Status::Delayed => "delayed",
            Status::Waiting => "waiting",
            Status::Ready => "ready",
            Status::Assigned => "assigned",
            Status::Running => "running",
            Status::Cancelling => "cancelling",
            Status::InputRequired => "input_required",
            Status::Parked => "parked",
            Status::Completed => "completed",
            Status::Failed => "failed",
            Status::Skipped => "skipped",
            Status::Cancelled => "cancelled",
        }
    }

    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|s| s.name() == name)
    }

    /// Completed, failed, skipped or cancelled: kept in the store alone, not in memory.
    pub fn ended(self) -> bool {
        matches!(self, Status::Completed | Status::Failed | Status::Skipped | Status::Cancelled)
    }

    /// An agent works on it and its resources are taken.
    pub fn held(self) -> bool {
        matches!(self, Status::Assigned | Status::Running | Status::Cancelling)
    }
}

/// A task but for its payload, result, checkpoint and logs (which are blobs).
#[derive(Clone, PartialEq, Message)]
pub struct TaskRow {
    #[prost(string, tag = "1")]
    pub tenant: String,
    #[prost(string, tag = "2")]
    pub name: String,
    #[prost(bytes = "vec", tag = "3")]
    pub parent_id: Vec<u8>,
    #[prost(string, tag = "4")]
    pub task_type: String,
    #[prost(enumeration = "Status", tag = "5")]
    pub status: i32,
    #[prost(string, tag = "6")]
    pub assigned_agent_id: String,
    /// Wall times in µs; 0 for not yet.
    #[prost(uint64, tag = "7")]
    pub created_wall_us: u64,
    #[prost(uint64, tag = "8")]
    pub started_wall_us: u64,
    #[prost(uint64, tag = "9")]
    pub completed_wall_us: u64,
    #[prost(bytes = "vec", repeated, tag = "10")]
    pub dependencies: Vec<Vec<u8>>,
    #[prost(sint32, tag = "11")]
    pub priority: i32,
    /// Fails + timeouts + lease losses.
    #[prost(uint32, tag = "12")]
    pub retry_count: u32,
    #[prost(uint32, tag = "13")]
    pub epoch: u32,
    /// Revision of the last change.
    #[prost(uint64, tag = "14")]
    pub revision: u64,
    #[prost(message, optional, tag = "15")]
    pub requirements: Option<Requirements>,
    #[prost(uint64, tag = "16")]
    pub not_before_wall_us: u64,
    #[prost(uint64, tag = "17")]
    pub deadline_wall_us: u64,
    #[prost(uint64, tag = "18")]
    pub queue_ms: u64,
    #[prost(uint64, tag = "19")]
    pub run_ms: u64,
    #[prost(uint64, tag = "20")]
    pub total_ms: u64,
    #[prost(message, optional, tag = "21")]
    pub retry: Option<RetryPolicy>,
    #[prost(message, repeated, tag = "22")]
    pub labels: Vec<Label>,
    #[prost(enumeration = "crate::command::DependencyFailure", tag = "23")]
    pub on_dependency_failure: i32,
    #[prost(bool, tag = "24")]
    pub optional: bool,
    #[prost(bool, tag = "25")]
    pub idempotent: bool,
    #[prost(bool, tag = "26")]
    pub preemptible: bool,
    #[prost(uint64, tag = "27")]
    pub size_hint: u64,
    #[prost(message, optional, tag = "28")]
    pub join: Option<Join>,
    /// Revision of the submit: the order among equals (`submit_index`), kept over retries.
    #[prost(uint64, tag = "29")]
    pub submit_revision: u64,
    /// Position in its Submit command: breaks ties of `submit_revision`.
    #[prost(uint32, tag = "30")]
    pub submit_position: u32,
    #[prost(bytes = "vec", tag = "31")]
    pub body_hash: Vec<u8>,
    #[prost(message, optional, tag = "32")]
    pub error: Option<TaskError>,
    /// Basis points.
    #[prost(uint32, tag = "33")]
    pub progress_bp: u32,
    #[prost(string, tag = "34")]
    pub progress_message: String,
    /// Cluster times in µs that timers count from; 0 for not running.
    #[prost(uint64, tag = "35")]
    pub created_cluster_us: u64,
    #[prost(uint64, tag = "36")]
    pub ready_cluster_us: u64,
    #[prost(uint64, tag = "37")]
    pub assigned_cluster_us: u64,
    #[prost(uint64, tag = "38")]
    pub started_cluster_us: u64,
    /// Delayed tasks that wait for a backoff: ready at this cluster time.
    #[prost(uint64, tag = "39")]
    pub delayed_until_cluster_us: u64,
    /// Cancelling: killed at this cluster time.
    #[prost(uint64, tag = "40")]
    pub grace_until_cluster_us: u64,
    /// Fails + timeouts, counted against `max_attempts`.
    #[prost(uint32, tag = "41")]
    pub failures: u32,
    /// Attempts handed out so far (1 for the first).
    #[prost(uint32, tag = "42")]
    pub attempts: u32,
    /// Distinct agents whose lease was lost with this task; 3 park it.
    #[prost(string, repeated, tag = "43")]
    pub lost_agents: Vec<String>,
    #[prost(string, repeated, tag = "44")]
    pub excluded_agents: Vec<String>,
    /// Dependencies not yet ended (blocked tasks).
    #[prost(uint32, tag = "45")]
    pub open_dependencies: u32,
    /// Parents: children in all, and by how they ended.
    #[prost(uint32, tag = "46")]
    pub children: u32,
    #[prost(uint32, tag = "47")]
    pub children_completed: u32,
    #[prost(uint32, tag = "48")]
    pub children_ended: u32,
    /// A required child failed, was skipped or cancelled.
    #[prost(uint32, tag = "49")]
    pub children_failed: u32,
    /// Bytes of the stored payload and result.
    #[prost(uint64, tag = "50")]
    pub payload_bytes: u64,
    #[prost(uint64, tag = "51")]
    pub result_bytes: u64,
    /// The last Assign's terms, for `explain`.
    #[prost(sint32, repeated, tag = "52")]
    pub score_terms: Vec<i32>,
    /// Oldest first, at most 64: when full, the middle is dropped.
    #[prost(message, repeated, tag = "53")]
    pub timeline: Vec<TimelineEvent>,
    #[prost(message, repeated, tag = "54")]
    pub cost_estimate: Vec<Amount>,
    #[prost(message, repeated, tag = "55")]
    pub cost: Vec<Amount>,
    /// Whether a checkpoint blob exists.
    #[prost(bool, tag = "56")]
    pub has_checkpoint: bool,
    /// The agent and epoch whose result was accepted: the same result again is answered 200.
    #[prost(string, tag = "57")]
    pub finished_by: String,
    #[prost(uint32, tag = "58")]
    pub finished_epoch: u32,
    /// agent_epoch of the holder.
    #[prost(uint64, tag = "59")]
    pub assigned_agent_epoch: u64,
}

#[derive(Clone, PartialEq, Message)]
pub struct TaskError {
    #[prost(string, tag = "1")]
    pub code: String,
    #[prost(string, tag = "2")]
    pub message: String,
    #[prost(bool, tag = "3")]
    pub retryable: bool,
}
