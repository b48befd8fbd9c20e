//! Commands: what clients, agents and the leader ask the replicated machine to do.
//!
//! One Raft entry carries an [`EntryPayload`]: the leader's stamp and many commands. Times are
//! microseconds; `*_wall_us` is wall time since 1970, `cluster_us` the cluster's own clock
//! (DESIGN §3 "Time"). Levels, scores and progress are basis points (0..=10_000).
//!
//! This file holds what every command travels in; the commands lie in one file for each who asks.

use prost::{Message, Oneof};

mod agent;
mod key;
mod leader;
mod member;
mod need;
mod task;

pub use agent::{Complete, DrainAgent, DrainNode, Fail, LeaveAgent, LogLine, Progress, RegisterAgent, Start};
pub use key::{DeleteKey, KeyCondition, PutKey};
pub use leader::{Assign, Assignment, ClockAdvance, Expire, ExpireReason, ExpiredAgent, ExpiredTask, HashCheck, Retention};
pub use member::{AddMember, AdmitMember, RemoveMember, ReplaceMember, SettleMember, SwapVoter};
pub use need::{Amount, CapabilityNeed, Label, Requirements};
pub use task::{Cancel, DependencyFailure, Join, JoinPolicy, Reschedule, Retry, RetryPolicy, Submit, TaskSpec};

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
