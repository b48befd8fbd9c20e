//! What happened, in the past tense: timelines and watch.

use prost::{Enumeration, Message};

use super::Status;
use crate::command::Label;

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
    /// A node is wanted in the cluster, in the role, or in the place of a lost one.
    NodeJoining = 51,
    /// It has the role.
    NodeJoined = 52,
    NodeLeaving = 53,
    NodeRemoved = 54,
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
            NodeJoining => "joining",
            NodeJoined => "joined",
            NodeLeaving => "leaving",
            NodeRemoved => "removed",
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
