//! Commands: what clients, agents and the leader ask the replicated machine to do.
//!
//! One Raft entry carries an [`EntryPayload`]: the leader's stamp and many commands. Times are
//! microseconds; `*_wall_us` is wall time since 1970, `cluster_us` the cluster's own clock
//! (DESIGN §3 "Time"). Levels, scores and progress are basis points (0..=10_000).

use prost::{Enumeration, Message, Oneof};

mod member;

pub use member::{AddMember, AdmitMember, RemoveMember, ReplaceMember, SettleMember, SwapVoter};

/// What one normal Raft entry holds.
#[derive(Clone, PartialEq, Message)]
pub struct EntryPayload {
    /// Cluster time at which the leader packed the entry.
    #[prost(uint64, tag = "1")]
    pub cluster_us: u64,
    /// The leader's wall clock at that moment.
    #[prost(uint64, tag = "2")]
    pub wall_us: u64,
    /// The only source of randomness for apply (retry jitter).
    #[prost(fixed64, tag = "3")]
    pub seed: u64,
    #[prost(message, repeated, tag = "4")]
    pub commands: Vec<Command>,
}

/// One command with the identity that makes it apply once.
#[derive(Clone, PartialEq, Message)]
pub struct Command {
    /// The proposing node's session; 0 for the leader's own commands.
    #[prost(fixed64, tag = "1")]
    pub session: u64,
    /// Position in the session, from 1 without gaps.
    #[prost(uint64, tag = "2")]
    pub sequence: u64,
    /// Every sequence below is resolved at the proposer: its outcome may be forgotten.
    #[prost(uint64, tag = "3")]
    pub resolved_below: u64,
    /// Leader-only commands: the proposer's term; refused in an entry of another term.
    #[prost(uint64, tag = "4")]
    pub term: u64,
    #[prost(
        oneof = "Body",
        tags = "10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 40, 41, 42, 43, 44, 50, 51, 52, 53, 54, 55"
    )]
    pub body: Option<Body>,
}

#[derive(Clone, PartialEq, Oneof)]
pub enum Body {
    #[prost(message, tag = "10")]
    OpenSession(OpenSession),
    #[prost(message, tag = "11")]
    Submit(Submit),
    #[prost(message, tag = "12")]
    Cancel(Cancel),
    #[prost(message, tag = "13")]
    Reschedule(Reschedule),
    #[prost(message, tag = "14")]
    Retry(Retry),
    #[prost(message, tag = "15")]
    RegisterAgent(RegisterAgent),
    #[prost(message, tag = "16")]
    LeaveAgent(LeaveAgent),
    #[prost(message, tag = "17")]
    DrainAgent(DrainAgent),
    #[prost(message, tag = "18")]
    Start(Start),
    #[prost(message, tag = "19")]
    Progress(Progress),
    #[prost(message, tag = "20")]
    Complete(Complete),
    #[prost(message, tag = "21")]
    Fail(Fail),
    #[prost(message, tag = "22")]
    PutKey(PutKey),
    #[prost(message, tag = "23")]
    DeleteKey(DeleteKey),
    #[prost(message, tag = "24")]
    DrainNode(DrainNode),
    // From 40: leader-only. They carry a term and no session.
    #[prost(message, tag = "40")]
    Assign(Assign),
    #[prost(message, tag = "41")]
    Expire(Expire),
    #[prost(message, tag = "42")]
    Retention(Retention),
    #[prost(message, tag = "43")]
    HashCheck(HashCheck),
    #[prost(message, tag = "44")]
    ClockAdvance(ClockAdvance),
    // 50 to 59: membership. The first three are anybody's, the others the leader's own.
    #[prost(message, tag = "50")]
    AddMember(AddMember),
    #[prost(message, tag = "51")]
    RemoveMember(RemoveMember),
    #[prost(message, tag = "52")]
    ReplaceMember(ReplaceMember),
    #[prost(message, tag = "53")]
    AdmitMember(AdmitMember),
    #[prost(message, tag = "54")]
    SettleMember(SettleMember),
    #[prost(message, tag = "55")]
    SwapVoter(SwapVoter),
}

impl Body {
    /// Whether only the leader of the entry's own term may propose it.
    pub fn leader_only(&self) -> bool {
        let deciding = matches!(self, Self::Assign(_) | Self::Expire(_) | Self::Retention(_) | Self::HashCheck(_));
        let membership = matches!(self, Self::AdmitMember(_) | Self::SettleMember(_) | Self::SwapVoter(_));
        deciding || membership || matches!(self, Self::ClockAdvance(_))
    }

    /// The command's name in logs, metrics and `/cluster/raft-log`.
    pub fn name(&self) -> &'static str {
        match self {
            Self::OpenSession(_) => "open_session",
            Self::Submit(_) => "submit",
            Self::Cancel(_) => "cancel",
            Self::Reschedule(_) => "reschedule",
            Self::Retry(_) => "retry",
            Self::RegisterAgent(_) => "register_agent",
            Self::LeaveAgent(_) => "leave_agent",
            Self::DrainAgent(_) => "drain_agent",
            Self::Start(_) => "start",
            Self::Progress(_) => "progress",
            Self::Complete(_) => "complete",
            Self::Fail(_) => "fail",
            Self::PutKey(_) => "put_key",
            Self::DeleteKey(_) => "delete_key",
            Self::DrainNode(_) => "drain_node",
            Self::Assign(_) => "assign",
            Self::Expire(_) => "expire",
            Self::Retention(_) => "retention",
            Self::HashCheck(_) => "hash_check",
            Self::ClockAdvance(_) => "clock_advance",
            Self::AddMember(_) => "add_member",
            Self::RemoveMember(_) => "remove_member",
            Self::ReplaceMember(_) => "replace_member",
            Self::AdmitMember(_) => "admit_member",
            Self::SettleMember(_) => "settle_member",
            Self::SwapVoter(_) => "swap_voter",
        }
    }
}

/// Opens the session `Command::session` for a node and retires its older ones.
#[derive(Clone, PartialEq, Message)]
pub struct OpenSession {
    #[prost(string, tag = "1")]
    pub node_id: String,
}

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
pub struct Requirements {
    /// Sorted by dimension, each at most once.
    #[prost(message, repeated, tag = "1")]
    pub capabilities: Vec<CapabilityNeed>,
    /// Sorted by name, each at most once; `slots` is always there (default 1).
    #[prost(message, repeated, tag = "2")]
    pub resources: Vec<Amount>,
    /// Sorted by key: the agent must carry each of them.
    #[prost(message, repeated, tag = "3")]
    pub labels: Vec<Label>,
}

#[derive(Clone, PartialEq, Message)]
pub struct CapabilityNeed {
    #[prost(string, tag = "1")]
    pub dimension: String,
    /// Hard minimum of the declared level in basis points; 0 is a preference only.
    #[prost(uint32, tag = "2")]
    pub min_bp: u32,
    /// Weight of the match in thousandths.
    #[prost(uint32, tag = "3")]
    pub weight_milli: u32,
}

#[derive(Clone, PartialEq, Message)]
pub struct Amount {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(uint64, tag = "2")]
    pub amount: u64,
}

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Message)]
pub struct Label {
    #[prost(string, tag = "1")]
    pub key: String,
    #[prost(string, tag = "2")]
    pub value: String,
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

/// What must hold of a key before it is written.
#[derive(Clone, PartialEq, Oneof)]
pub enum KeyCondition {
    /// `If-Match`: the key's revision.
    #[prost(uint64, tag = "10")]
    Revision(u64),
    /// `If-None-Match: *`: the key does not exist (the value is ignored).
    #[prost(bool, tag = "11")]
    Absent(bool),
}

#[derive(Clone, PartialEq, Message)]
pub struct PutKey {
    #[prost(string, tag = "1")]
    pub tenant: String,
    #[prost(string, tag = "2")]
    pub key: String,
    /// JSON text.
    #[prost(bytes = "vec", tag = "3")]
    pub value: Vec<u8>,
    #[prost(oneof = "KeyCondition", tags = "10, 11")]
    pub condition: Option<KeyCondition>,
}

#[derive(Clone, PartialEq, Message)]
pub struct DeleteKey {
    #[prost(string, tag = "1")]
    pub tenant: String,
    #[prost(string, tag = "2")]
    pub key: String,
    #[prost(oneof = "KeyCondition", tags = "10, 11")]
    pub condition: Option<KeyCondition>,
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
