//! What a node can say of itself and the cluster without asking anybody.

use consensus::Role;

/// This node's own view; everything it cannot know is `None`.
#[derive(Clone, Debug, Default)]
pub struct NodeView {
    pub node_id: String,
    pub raft_id: u64,
    /// 0 while the node belongs to no cluster.
    pub cluster_id: u64,
    /// Why the node is not in a cluster; empty when it is.
    pub waiting: String,
    pub role: &'static str,
    pub term: u64,
    pub leader: Option<String>,
    pub leader_is_self: bool,
    pub commit_index: u64,
    pub applied_index: u64,
    pub last_index: u64,
    pub base_index: u64,
    pub revision: u64,
    pub cluster_us: u64,
    pub wall_us: u64,
    pub voters: u32,
    /// Voters heard from lately, this one included.
    pub voters_healthy: u32,
    pub has_quorum: bool,
    pub hash_index: u64,
    pub hash: [u8; 16],
    /// `None` until a peer has reported a hash at an index that this node remembers.
    pub hash_agrees: Option<bool>,
    pub members: Vec<MemberView>,
    pub alerts: Vec<String>,
    pub live_agents: usize,
    pub live_tasks: u64,
    pub proposals_pending: usize,
    pub elections: u64,
    pub leader_changes: u64,
}

#[derive(Clone, Debug, Default)]
pub struct MemberView {
    pub node_id: String,
    pub raft_id: u64,
    pub address: String,
    pub http_address: String,
    pub role: &'static str,
    /// `healthy`, `suspect`, `down`, `draining`, `drained`
    pub status: &'static str,
    pub match_index: Option<u64>,
    pub lag: Option<u64>,
    /// Wall time at which something was last heard, 0 for never.
    pub heard_wall_us: u64,
    /// Basis points: cpu, memory, network; `None` when not reported.
    pub load_bp: Option<[u32; 3]>,
    pub agents: Option<u32>,
    pub version: String,
    /// The member's wall clock minus this node's, in µs.
    pub clock_skew_us: Option<i64>,
}

/// A role's name by what a report said.
pub fn role_name(name: &str) -> &'static str {
    [Role::Leader, Role::Follower, Role::Candidate, Role::Learner]
        .map(Role::name)
        .into_iter()
        .find(|n| *n == name)
        .unwrap_or("follower")
}
