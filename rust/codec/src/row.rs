//! Rows of the state store: column families, keys and values.
//!
//! A value is a version byte and a message. Keys are made by the functions at the end of this
//! file and nowhere else: big-endian numbers, so that byte order is the order of the domain.
//! Tenant-scoped keys begin with the tenant's length and bytes.

use prost::{Enumeration, Message};

use crate::command::{Amount, Join, Label, Requirements, RetryPolicy};
use crate::frame::{DecodeError, VERSION};
use crate::id::TaskId;

/// Column families of the state store. The name is on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Cf {
    /// [`MetaRow`] under the empty key: applied index, configuration, revision, time, hash. Not hashed.
    Meta = 0,
    /// task key → [`TaskRow`].
    Task = 1,
    /// task id + [`BlobKind`] (+ attempt) → raw bytes (no version byte): payload, result, checkpoint, logs.
    Blob = 2,
    /// agent id → [`AgentRow`].
    Agent = 3,
    /// node id → [`MemberRow`].
    Member = 4,
    /// session id (+ entry index) → [`SessionRow`], [`SessionOutcomes`].
    Session = 5,
    /// tenant, key → [`KeyRow`].
    Key = 6,
    /// tenant, idempotency key → [`IdempotencyRow`].
    Idempotency = 7,
    /// revision → [`EventRow`]. What watch streams.
    Event = 8,
    /// Index rows with empty values, derived from tasks: not hashed. See [`index`].
    Index = 9,
}

impl Cf {
    pub const ALL: [Cf; 10] =
        [Cf::Meta, Cf::Task, Cf::Blob, Cf::Agent, Cf::Member, Cf::Session, Cf::Key, Cf::Idempotency, Cf::Event, Cf::Index];

    pub fn name(self) -> &'static str {
        match self {
            Cf::Meta => "meta",
            Cf::Task => "task",
            Cf::Blob => "blob",
            Cf::Agent => "agent",
            Cf::Member => "member",
            Cf::Session => "session",
            Cf::Key => "key",
            Cf::Idempotency => "idempotency",
            Cf::Event => "event",
            Cf::Index => "index",
        }
    }

    /// Whether its rows count in the state hash (DESIGN §5).
    pub fn hashed(self) -> bool {
        !matches!(self, Cf::Meta | Cf::Index)
    }
}

/// Encodes a row's value.
pub fn encode(message: &impl Message) -> Vec<u8> {
    let mut out = Vec::with_capacity(1 + message.encoded_len());
    out.push(VERSION);
    message.encode_raw(&mut out);
    out
}

/// Decodes a row's value.
pub fn decode<M: Message + Default>(value: &[u8]) -> Result<M, DecodeError> {
    match value.split_first() {
        None => Err(DecodeError::Incomplete { needed: 1 }),
        Some((&VERSION, rest)) => Ok(M::decode(rest)?),
        Some((&found, _)) => Err(DecodeError::UnknownVersion { found }),
    }
}

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

/// What happened, in the past tense. Used by timelines and watch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Enumeration)]
#[repr(i32)]
pub enum EventKind {
    TaskSubmitted = 0,
    TaskReady = 1,
    TaskDelayed = 2,
    TaskAssigned = 3,
    TaskStarted = 4,
    TaskProgressed = 5,
    TaskCompleted = 6,
    TaskFailed = 7,
    TaskSkipped = 8,
    TaskCancelled = 9,
    TaskCancelling = 10,
    TaskParked = 11,
    TaskRescheduled = 12,
    TaskRetried = 13,
    /// The lease was lost, or the hand-over was not claimed.
    TaskRevoked = 14,
    TaskTimedOut = 15,
    TaskWaiting = 16,
    TaskBlocked = 17,
    /// Forgotten by retention.
    TaskForgotten = 18,
    AgentRegistered = 32,
    AgentLeft = 33,
    AgentLost = 34,
    AgentDraining = 35,
    AgentResumed = 36,
    NodeDraining = 48,
    NodeDrained = 49,
    NodeResumed = 50,
    KeyPut = 64,
    KeyDeleted = 65,
}

impl EventKind {
    /// The aggregate's name in the watch API.
    pub fn aggregate(self) -> &'static str {
        match self as i32 {
            0..=31 => "task",
            32..=47 => "agent",
            48..=63 => "node",
            _ => "kv",
        }
    }

    /// The event's name in the API.
    pub fn name(self) -> &'static str {
        use EventKind::*;
        match self {
            TaskSubmitted => "submitted",
            TaskReady => "ready",
            TaskDelayed => "delayed",
            TaskAssigned => "assigned",
            TaskStarted => "started",
            TaskProgressed => "progressed",
            TaskCompleted => "completed",
            TaskFailed => "failed",
            TaskSkipped => "skipped",
            TaskCancelled => "cancelled",
            TaskCancelling => "cancelling",
            TaskParked => "parked",
            TaskRescheduled => "rescheduled",
            TaskRetried => "retried",
            TaskRevoked => "revoked",
            TaskTimedOut => "timed_out",
            TaskWaiting => "waiting",
            TaskBlocked => "blocked",
            TaskForgotten => "forgotten",
            AgentRegistered => "registered",
            AgentLeft => "left",
            AgentLost => "lost",
            AgentDraining | NodeDraining => "draining",
            AgentResumed | NodeResumed => "resumed",
            NodeDrained => "drained",
            KeyPut => "put",
            KeyDeleted => "deleted",
        }
    }
}

#[derive(Clone, PartialEq, Message)]
pub struct TimelineEvent {
    #[prost(enumeration = "EventKind", tag = "1")]
    pub kind: i32,
    #[prost(uint64, tag = "2")]
    pub wall_us: u64,
    #[prost(uint64, tag = "3")]
    pub revision: u64,
    #[prost(uint32, tag = "4")]
    pub epoch: u32,
    #[prost(string, tag = "5")]
    pub agent_id: String,
    /// Why, when it is not the plain course of things (an error code, `lease_lost`, `unclaimed`, …).
    #[prost(string, tag = "6")]
    pub reason: String,
}

/// All events of one revision.
#[derive(Clone, PartialEq, Message)]
pub struct EventRow {
    #[prost(message, repeated, tag = "1")]
    pub events: Vec<Event>,
    #[prost(uint64, tag = "2")]
    pub wall_us: u64,
}

/// One event with the object's fields as they were after it.
#[derive(Clone, PartialEq, Message)]
pub struct Event {
    #[prost(enumeration = "EventKind", tag = "1")]
    pub kind: i32,
    /// A task's 16 bytes, else the id's UTF-8.
    #[prost(bytes = "vec", tag = "2")]
    pub id: Vec<u8>,
    #[prost(string, tag = "3")]
    pub tenant: String,
    /// Tasks: status, epoch, agent, progress, type, parent, labels.
    #[prost(enumeration = "Status", tag = "4")]
    pub status: i32,
    #[prost(uint32, tag = "5")]
    pub epoch: u32,
    #[prost(string, tag = "6")]
    pub agent_id: String,
    #[prost(uint32, tag = "7")]
    pub progress_bp: u32,
    #[prost(string, tag = "8")]
    pub task_type: String,
    #[prost(bytes = "vec", tag = "9")]
    pub parent_id: Vec<u8>,
    #[prost(message, repeated, tag = "10")]
    pub labels: Vec<Label>,
    /// Keys: the new value.
    #[prost(bytes = "vec", tag = "11")]
    pub value: Vec<u8>,
    #[prost(uint64, tag = "12")]
    pub key_version: u64,
    #[prost(uint64, tag = "13")]
    pub create_revision: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Enumeration)]
#[repr(i32)]
pub enum AgentStatus {
    Up = 0,
    Draining = 1,
    Lost = 2,
    Left = 3,
}

#[derive(Clone, PartialEq, Message)]
pub struct AgentRow {
    #[prost(string, tag = "1")]
    pub node_id: String,
    #[prost(uint64, tag = "2")]
    pub agent_epoch: u64,
    #[prost(message, repeated, tag = "3")]
    pub capabilities: Vec<Amount>,
    /// Declared totals; what is taken follows from the tasks it holds.
    #[prost(message, repeated, tag = "4")]
    pub resources: Vec<Amount>,
    #[prost(message, repeated, tag = "5")]
    pub labels: Vec<Label>,
    #[prost(string, repeated, tag = "6")]
    pub task_types: Vec<String>,
    #[prost(string, tag = "7")]
    pub version: String,
    #[prost(enumeration = "AgentStatus", tag = "8")]
    pub status: i32,
    #[prost(uint64, tag = "9")]
    pub registered_wall_us: u64,
    #[prost(uint64, tag = "10")]
    pub revision: u64,
    #[prost(uint64, tag = "11")]
    pub completed: u64,
    #[prost(uint64, tag = "12")]
    pub failed: u64,
    #[prost(uint64, tag = "13")]
    pub leases_lost: u64,
    /// Wall time of the last status change.
    #[prost(uint64, tag = "14")]
    pub changed_wall_us: u64,
}

#[derive(Clone, PartialEq, Message)]
pub struct MemberRow {
    #[prost(fixed64, tag = "1")]
    pub raft_id: u64,
    /// host:port of the Raft port.
    #[prost(string, tag = "2")]
    pub address: String,
    #[prost(enumeration = "DrainState", tag = "3")]
    pub drain: i32,
    /// Cluster time.
    #[prost(uint64, tag = "4")]
    pub drain_until_cluster_us: u64,
    #[prost(uint64, tag = "5")]
    pub revision: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Enumeration)]
#[repr(i32)]
pub enum DrainState {
    None = 0,
    Draining = 1,
    Drained = 2,
}

#[derive(Clone, PartialEq, Message)]
pub struct SessionRow {
    #[prost(string, tag = "1")]
    pub node_id: String,
    /// Sequences below are resolved.
    #[prost(uint64, tag = "2")]
    pub resolved_below: u64,
    #[prost(uint64, tag = "3")]
    pub opened_revision: u64,
    /// A newer session of the node has taken over: nothing of this one is applied any more.
    #[prost(bool, tag = "4")]
    pub retired: bool,
}

/// Outcomes of one session's commands in one entry.
#[derive(Clone, PartialEq, Message)]
pub struct SessionOutcomes {
    #[prost(uint64, repeated, tag = "1")]
    pub sequences: Vec<u64>,
    #[prost(message, repeated, tag = "2")]
    pub outcomes: Vec<crate::outcome::Outcome>,
}

#[derive(Clone, PartialEq, Message)]
pub struct KeyRow {
    /// JSON text.
    #[prost(bytes = "vec", tag = "1")]
    pub value: Vec<u8>,
    #[prost(uint64, tag = "2")]
    pub revision: u64,
    #[prost(uint64, tag = "3")]
    pub create_revision: u64,
    #[prost(uint64, tag = "4")]
    pub version: u64,
}

#[derive(Clone, PartialEq, Message)]
pub struct IdempotencyRow {
    #[prost(bytes = "vec", tag = "1")]
    pub body_hash: Vec<u8>,
    /// The first submit's outcome.
    #[prost(message, optional, tag = "2")]
    pub outcome: Option<crate::outcome::Outcome>,
    #[prost(uint64, tag = "3")]
    pub created_cluster_us: u64,
}

/// Saved in the batch of the rows it belongs to.
#[derive(Clone, PartialEq, Message)]
pub struct MetaRow {
    #[prost(uint64, tag = "1")]
    pub applied_index: u64,
    #[prost(uint64, tag = "2")]
    pub applied_term: u64,
    #[prost(message, optional, tag = "3")]
    pub configuration: Option<crate::log::ConfState>,
    /// Applied commands.
    #[prost(uint64, tag = "4")]
    pub revision: u64,
    #[prost(uint64, tag = "5")]
    pub cluster_us: u64,
    #[prost(uint64, tag = "6")]
    pub wall_us: u64,
    /// 16 bytes, big-endian.
    #[prost(bytes = "vec", tag = "7")]
    pub hash: Vec<u8>,
    #[prost(uint32, tag = "8")]
    pub machine_version: u32,
    #[prost(fixed64, tag = "9")]
    pub cluster_id: u64,
    /// Oldest revision that watch can still replay.
    #[prost(uint64, tag = "10")]
    pub events_first_revision: u64,
    #[prost(uint64, tag = "11")]
    pub tasks_submitted: u64,
    #[prost(uint64, tag = "12")]
    pub tasks_forgotten: u64,
    /// Tasks by status, in the order of [`Status::ALL`].
    #[prost(uint64, repeated, tag = "13")]
    pub tasks_by_status: Vec<u64>,
    /// Rows of the idempotency column family, and stored payload and result bytes of ended tasks:
    /// what retention counts.
    #[prost(uint64, tag = "14")]
    pub idempotency_rows: u64,
    #[prost(uint64, tag = "15")]
    pub ended_bytes: u64,
}

/// What a blob row of a task holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum BlobKind {
    Payload = 1,
    Result = 2,
    Checkpoint = 3,
    /// Per attempt: the newest 64 KiB of NDJSON lines `{"t","level","text"}`.
    Log = 4,
}

/// Keys of the rows above.
pub mod key {
    use super::{BlobKind, TaskId};

    /// Length-prefixed tenant. Tenants are at most 255 bytes long.
    pub fn tenant(tenant: &str, out: &mut Vec<u8>) {
        let length = u8::try_from(tenant.len()).expect("tenants are at most 255 bytes");
        out.push(length);
        out.extend_from_slice(tenant.as_bytes());
    }

    /// Task ids are unique over all tenants, so the row is found by id alone.
    pub fn task(id: TaskId) -> Vec<u8> {
        id.to_vec()
    }

    pub fn blob(id: TaskId, kind: BlobKind, attempt: u32) -> Vec<u8> {
        let mut key = id.to_vec();
        key.push(kind as u8);
        if kind == BlobKind::Log {
            key.extend_from_slice(&attempt.to_be_bytes());
        }
        key
    }

    pub fn session(session: u64) -> Vec<u8> {
        session.to_be_bytes().to_vec()
    }

    pub fn session_outcomes(session: u64, entry_index: u64) -> Vec<u8> {
        let mut key = session.to_be_bytes().to_vec();
        key.extend_from_slice(&entry_index.to_be_bytes());
        key
    }

    pub fn tenant_scoped(tenant_name: &str, name: &str) -> Vec<u8> {
        let mut key = Vec::with_capacity(1 + tenant_name.len() + name.len());
        tenant(tenant_name, &mut key);
        key.extend_from_slice(name.as_bytes());
        key
    }

    pub fn event(revision: u64) -> Vec<u8> {
        revision.to_be_bytes().to_vec()
    }
}

/// Keys of the index column family: what lists and polls scan. A leading byte names the index;
/// times are stored inverted, so that a forward scan is newest first.
pub mod index {
    use super::{Status, TaskId, key};

    pub const BY_TIME: u8 = b't';
    pub const BY_STATUS: u8 = b's';
    pub const BY_PARENT: u8 = b'p';
    pub const BY_AGENT: u8 = b'a';
    pub const BY_TYPE: u8 = b'y';
    /// Ended tasks of all tenants, oldest end first: what retention forgets.
    pub const BY_END: u8 = b'e';
    /// Idempotency rows of all tenants, oldest first.
    pub const BY_KEY_AGE: u8 = b'i';

    fn newest_first(key: &mut Vec<u8>, created_wall_us: u64, id: TaskId) {
        key.extend_from_slice(&(!created_wall_us).to_be_bytes());
        key.extend(id.0.map(|b| !b));
    }

    /// The id at the end of a `BY_TIME`, `BY_STATUS` or `BY_TYPE` key.
    pub fn id_at_end(index_key: &[u8]) -> Option<TaskId> {
        let tail: [u8; 16] = index_key.get(index_key.len().checked_sub(16)?..)?.try_into().ok()?;
        Some(TaskId(tail.map(|b| !b)))
    }

    pub fn by_time_prefix(tenant: &str) -> Vec<u8> {
        let mut out = vec![BY_TIME];
        key::tenant(tenant, &mut out);
        out
    }

    pub fn by_time(tenant: &str, created_wall_us: u64, id: TaskId) -> Vec<u8> {
        let mut out = by_time_prefix(tenant);
        newest_first(&mut out, created_wall_us, id);
        out
    }

    pub fn by_status_prefix(tenant: &str, status: Status) -> Vec<u8> {
        let mut out = vec![BY_STATUS];
        key::tenant(tenant, &mut out);
        out.push(status as i32 as u8);
        out
    }

    pub fn by_status(tenant: &str, status: Status, created_wall_us: u64, id: TaskId) -> Vec<u8> {
        let mut out = by_status_prefix(tenant, status);
        newest_first(&mut out, created_wall_us, id);
        out
    }

    pub fn by_type_prefix(tenant: &str, task_type: &str) -> Vec<u8> {
        let mut out = vec![BY_TYPE];
        key::tenant(tenant, &mut out);
        key::tenant(task_type, &mut out);
        out
    }

    pub fn by_type(tenant: &str, task_type: &str, created_wall_us: u64, id: TaskId) -> Vec<u8> {
        let mut out = by_type_prefix(tenant, task_type);
        newest_first(&mut out, created_wall_us, id);
        out
    }

    /// Children in the order they were submitted: parent, position, child.
    pub fn by_parent_prefix(parent: TaskId) -> Vec<u8> {
        let mut out = vec![BY_PARENT];
        out.extend_from_slice(&parent.0);
        out
    }

    pub fn by_parent(parent: TaskId, position: u32, child: TaskId) -> Vec<u8> {
        let mut out = by_parent_prefix(parent);
        out.extend_from_slice(&position.to_be_bytes());
        out.extend_from_slice(&child.0);
        out
    }

    /// Tasks that an agent holds now (assigned, running, cancelling).
    pub fn by_agent_prefix(agent_id: &str) -> Vec<u8> {
        let mut out = vec![BY_AGENT];
        key::tenant(agent_id, &mut out);
        out
    }

    pub fn by_agent(agent_id: &str, id: TaskId) -> Vec<u8> {
        let mut out = by_agent_prefix(agent_id);
        out.extend_from_slice(&id.0);
        out
    }

    pub fn by_end(completed_wall_us: u64, id: TaskId) -> Vec<u8> {
        let mut out = vec![BY_END];
        out.extend_from_slice(&completed_wall_us.to_be_bytes());
        out.extend_from_slice(&id.0);
        out
    }

    /// Creation in cluster time, then the row's key in the idempotency column family.
    pub fn by_key_age(created_cluster_us: u64, idempotency_key: &[u8]) -> Vec<u8> {
        let mut out = vec![BY_KEY_AGE];
        out.extend_from_slice(&created_cluster_us.to_be_bytes());
        out.extend_from_slice(idempotency_key);
        out
    }

    /// The time in a `BY_END` or `BY_KEY_AGE` key, and what follows it.
    pub fn time_and_rest(index_key: &[u8]) -> Option<(u64, &[u8])> {
        let time: [u8; 8] = index_key.get(1..9)?.try_into().ok()?;
        Some((u64::from_be_bytes(time), index_key.get(9..)?))
    }

    /// The id at the end of a `BY_PARENT`, `BY_AGENT` or `BY_END` key.
    pub fn plain_id_at_end(index_key: &[u8]) -> Option<TaskId> {
        TaskId::from_slice(index_key.get(index_key.len().checked_sub(16)?..)?).ok()
    }
}

const ROW_HASH_BUFFER_BYTES: usize = 1_024;

/// H of DESIGN §5: what one row adds, modulo 2^128, to the state hash. Defined over
/// `[cf: u8][key length: u32 BE][key][value]`, with `value` as it is stored (version byte included).
/// Rows of column families that are not [`Cf::hashed`] are never counted.
pub fn row_hash(cf: Cf, key: &[u8], value: &[u8]) -> u128 {
    let key_length = u32::try_from(key.len()).expect("keys are far below 4 GiB");
    let total = 5 + key.len() + value.len();
    if total <= ROW_HASH_BUFFER_BYTES {
        // Setting up a streaming hasher costs more than copying a small row.
        let mut buffer = [0u8; ROW_HASH_BUFFER_BYTES];
        buffer[0] = cf as u8;
        buffer[1..5].copy_from_slice(&key_length.to_be_bytes());
        buffer[5..5 + key.len()].copy_from_slice(key);
        buffer[5 + key.len()..total].copy_from_slice(value);
        return xxhash_rust::xxh3::xxh3_128(&buffer[..total]);
    }
    let mut hasher = xxhash_rust::xxh3::Xxh3::new();
    hasher.update(&[cf as u8]);
    hasher.update(&key_length.to_be_bytes());
    hasher.update(key);
    hasher.update(value);
    hasher.digest128()
}

/// One change to a row: what apply computes and a state store writes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    pub cf: Cf,
    pub key: Vec<u8>,
    /// `None` deletes the row.
    pub value: Option<Vec<u8>>,
}

/// A row could not be read: the node stops (DESIGN rule 4).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the state store cannot be read: {0}")]
pub struct ReadError(pub String);

/// Reading of rows: a state store, a snapshot of one, or either with pending changes on top.
pub trait StateRead {
    fn get(&self, cf: Cf, key: &[u8]) -> Result<Option<Vec<u8>>, ReadError>;

    /// Visits rows in key order from `start` (included) while the key begins with `prefix`, until
    /// `visit` returns false.
    fn scan(&self, cf: Cf, prefix: &[u8], start: &[u8], visit: &mut dyn FnMut(&[u8], &[u8]) -> bool) -> Result<(), ReadError>;
}
