//! Agents: that they come, go and are drained, and what they report of the assignments they hold.

use prost::Message;

use super::need::{Amount, Label};

/// Registers an agent, or registers it again under a new `agent_epoch` (which keeps nothing).
#[derive(Clone, PartialEq, Message)]
pub struct RegisterAgent {
    #[prost(string, tag = "1")]
    pub agent_id: String,
    /// The node whose failure domain the agent shares.
    #[prost(string, tag = "2")]
    pub node_id: String,
    /// Sorted by name: dimension → level in basis points.
    #[prost(message, repeated, tag = "3")]
    pub capabilities: Vec<Amount>,
    /// Sorted by name; `slots` is always there.
    #[prost(message, repeated, tag = "4")]
    pub resources: Vec<Amount>,
    #[prost(message, repeated, tag = "5")]
    pub labels: Vec<Label>,
    /// Empty: any type.
    #[prost(string, repeated, tag = "6")]
    pub task_types: Vec<String>,
    #[prost(string, tag = "7")]
    pub version: String,
    /// The address the agent registered through.
    #[prost(string, tag = "8")]
    pub via_node_id: String,
}

#[derive(Clone, PartialEq, Message)]
pub struct LeaveAgent {
    #[prost(string, tag = "1")]
    pub agent_id: String,
}

#[derive(Clone, PartialEq, Message)]
pub struct DrainAgent {
    #[prost(string, tag = "1")]
    pub agent_id: String,
    /// False ends the drain.
    #[prost(bool, tag = "2")]
    pub drain: bool,
}

/// Takes the agents of a node out of service until the drain is ended.
#[derive(Clone, PartialEq, Message)]
pub struct DrainNode {
    #[prost(string, tag = "1")]
    pub node_id: String,
    /// False ends the drain.
    #[prost(bool, tag = "2")]
    pub drain: bool,
    /// From now, in cluster time: what still runs then goes back to the queue.
    #[prost(uint64, tag = "3")]
    pub deadline_ms: u64,
}

/// The agent holds the assignment: assigned → running.
#[derive(Clone, PartialEq, Message)]
pub struct Start {
    #[prost(bytes = "vec", tag = "1")]
    pub task_id: Vec<u8>,
    #[prost(uint32, tag = "2")]
    pub epoch: u32,
    #[prost(string, tag = "3")]
    pub agent_id: String,
}

#[derive(Clone, PartialEq, Message)]
pub struct Progress {
    #[prost(bytes = "vec", tag = "1")]
    pub task_id: Vec<u8>,
    #[prost(uint32, tag = "2")]
    pub epoch: u32,
    #[prost(string, tag = "3")]
    pub agent_id: String,
    /// Basis points; absent leaves it.
    #[prost(uint32, optional, tag = "4")]
    pub progress_bp: Option<u32>,
    #[prost(string, tag = "5")]
    pub message: String,
    /// JSON text that the next attempt starts from; absent leaves the last one.
    #[prost(bytes = "vec", optional, tag = "6")]
    pub checkpoint: Option<Vec<u8>>,
    #[prost(message, repeated, tag = "7")]
    pub log: Vec<LogLine>,
}

#[derive(Clone, PartialEq, Message)]
pub struct LogLine {
    #[prost(uint64, tag = "1")]
    pub wall_us: u64,
    #[prost(string, tag = "2")]
    pub level: String,
    #[prost(string, tag = "3")]
    pub text: String,
}

#[derive(Clone, PartialEq, Message)]
pub struct Complete {
    #[prost(bytes = "vec", tag = "1")]
    pub task_id: Vec<u8>,
    #[prost(uint32, tag = "2")]
    pub epoch: u32,
    #[prost(string, tag = "3")]
    pub agent_id: String,
    /// JSON text.
    #[prost(bytes = "vec", tag = "4")]
    pub result: Vec<u8>,
    #[prost(message, repeated, tag = "5")]
    pub cost: Vec<Amount>,
    #[prost(uint32, optional, tag = "6")]
    pub quality_bp: Option<u32>,
}

#[derive(Clone, PartialEq, Message)]
pub struct Fail {
    #[prost(bytes = "vec", tag = "1")]
    pub task_id: Vec<u8>,
    #[prost(uint32, tag = "2")]
    pub epoch: u32,
    #[prost(string, tag = "3")]
    pub agent_id: String,
    #[prost(string, tag = "4")]
    pub code: String,
    #[prost(string, tag = "5")]
    pub message: String,
    #[prost(bool, tag = "6")]
    pub retryable: bool,
    #[prost(uint64, optional, tag = "7")]
    pub retry_after_ms: Option<u64>,
    #[prost(message, repeated, tag = "8")]
    pub cost: Vec<Amount>,
}
