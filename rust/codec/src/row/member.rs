//! Members: which nodes the cluster wants, and how far Raft's configuration has followed.

use prost::{Enumeration, Message};

#[derive(Clone, PartialEq, Message)]
pub struct MemberRow {
    /// 0 while the node is invited and has not been met.
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
    /// The role that is wanted; whether Raft's configuration has it yet says `state`.
    #[prost(enumeration = "MemberRole", tag = "6")]
    pub role: i32,
    #[prost(enumeration = "MemberState", tag = "7")]
    pub state: i32,
    /// Raft ids whose place this member takes: they leave in the configuration change that gives it
    /// the role. One that another row names becomes a learner, any other is gone for good.
    #[prost(fixed64, repeated, tag = "8")]
    pub replaces: Vec<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Enumeration)]
#[repr(i32)]
pub enum DrainState {
    None = 0,
    Draining = 1,
    Drained = 2,
}

/// What a member is wanted to be. A row without a role is from before roles: all were voters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Enumeration)]
#[repr(i32)]
pub enum MemberRole {
    Voter = 0,
    /// Gets the log and does not vote: on its way to be a voter, or a spare for one.
    Learner = 1,
    /// Is no part of Raft's configuration: it follows the applied log through other members.
    Observer = 2,
}

impl MemberRole {
    pub const ALL: [MemberRole; 3] = [MemberRole::Voter, MemberRole::Learner, MemberRole::Observer];

    /// The role's name in the API.
    pub fn name(self) -> &'static str {
        match self {
            MemberRole::Voter => "voter",
            MemberRole::Learner => "learner",
            MemberRole::Observer => "observer",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Enumeration)]
#[repr(i32)]
pub enum MemberState {
    /// Raft's configuration is what the row wants.
    Active = 0,
    /// On its way into its role: invited (`raft_id` 0), catching up, or about to change it.
    Joining = 1,
    /// On its way out; the row goes once Raft's configuration has let it go.
    Leaving = 2,
    /// Lost for good: waits for an empty directory of its name.
    Replacing = 3,
}

impl MemberState {
    /// The state's name in the API.
    pub fn name(self) -> &'static str {
        match self {
            MemberState::Active => "active",
            MemberState::Joining => "joining",
            MemberState::Leaving => "leaving",
            MemberState::Replacing => "replacing",
        }
    }
}
