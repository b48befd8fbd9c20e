//! Commands that say which nodes the cluster wants (tags 50–59 of [`super::Body`]).
//!
//! They change member rows only. The leader's membership controller brings Raft's configuration to
//! what the rows want, and settles each row once it has (docs/architecture.md, "Membership").

use prost::Message;

/// Wants a node of this name in the cluster: a new one, or another role for a member. The raft id
/// follows by [`AdmitMember`], from the directory that answers at the address.
#[derive(Clone, PartialEq, Message)]
pub struct AddMember {
    #[prost(string, tag = "1")]
    pub node_id: String,
    /// host:port of its Raft port; empty keeps a member's address.
    #[prost(string, tag = "2")]
    pub address: String,
    #[prost(enumeration = "crate::row::MemberRole", tag = "3")]
    pub role: i32,
    /// Raft ids that the leader has heard lately, itself included: filled in where the command is packed.
    #[prost(fixed64, repeated, tag = "4")]
    pub alive: Vec<u64>,
}

/// Wants a member out of the cluster. Refused where the others would be no quorum.
#[derive(Clone, PartialEq, Message)]
pub struct RemoveMember {
    #[prost(string, tag = "1")]
    pub node_id: String,
    /// As in [`AddMember`].
    #[prost(fixed64, repeated, tag = "2")]
    pub alive: Vec<u64>,
}

/// Gives the place of a node that is lost for good to an empty directory of the same name.
#[derive(Clone, PartialEq, Message)]
pub struct ReplaceMember {
    #[prost(string, tag = "1")]
    pub node_id: String,
    /// Where the empty directory answers; empty: where the lost one did.
    #[prost(string, tag = "2")]
    pub address: String,
    /// As in [`AddMember`].
    #[prost(fixed64, repeated, tag = "3")]
    pub alive: Vec<u64>,
}

/// Leader-only: an empty directory of the wanted name answered at the wanted address.
#[derive(Clone, PartialEq, Message)]
pub struct AdmitMember {
    #[prost(string, tag = "1")]
    pub node_id: String,
    #[prost(fixed64, tag = "2")]
    pub raft_id: u64,
    /// The member's raft id until now, where the new directory says that this one is gone: then nobody
    /// has to ask for the replacement. 0: only a row that waits for a directory takes it.
    #[prost(fixed64, tag = "3")]
    pub retires: u64,
}

/// Leader-only: Raft's configuration is now what the row wants. A row that waits for anything else
/// by then is left alone.
#[derive(Clone, PartialEq, Message)]
pub struct SettleMember {
    #[prost(string, tag = "1")]
    pub node_id: String,
    #[prost(fixed64, tag = "2")]
    pub raft_id: u64,
    /// The row's state as the leader saw it.
    #[prost(enumeration = "crate::row::MemberState", tag = "3")]
    pub state: i32,
    /// And its wanted role.
    #[prost(enumeration = "crate::row::MemberRole", tag = "4")]
    pub role: i32,
}

/// Leader-only: a voter has been silent for too long, and a caught-up learner takes its place. The
/// silent one becomes a learner, and a spare if it comes back.
#[derive(Clone, PartialEq, Message)]
pub struct SwapVoter {
    #[prost(string, tag = "1")]
    pub learner: String,
    #[prost(string, tag = "2")]
    pub voter: String,
}
