//! Rows of the state store: column families, keys and values.
//!
//! A value is a version byte and a message. Keys are made by the functions of [`key`] and
//! [`index`] and nowhere else: big-endian numbers, so that byte order is the order of the domain.
//! Tenant-scoped keys begin with the tenant's length and bytes.

use prost::{Enumeration, Message};

use crate::command::{Amount, Label};
use crate::frame::{DecodeError, VERSION};

mod access;
mod event;
pub mod index;
pub mod key;
mod member;
mod task;

pub use access::{Change, ReadError, StateRead, row_hash};
pub use event::{Event, EventKind, EventRow, TimelineEvent};
pub use member::{DrainState, MemberRole, MemberRow, MemberState};
pub use task::{Status, TaskError, TaskRow};

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
