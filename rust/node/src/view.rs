//! What a node can say of itself and the cluster without asking anybody.

use codec::peer::{Lane, NodeReport, PeerBody};
use codec::row::{DrainState, MemberRole, MemberState};
use consensus::{Consensus, Role};

use crate::bootstrap::waiting_reason;
use crate::driver::Driver;
use crate::peers::drained_or_healthy;
use crate::verify::VerifyRound;

/// An observer's role in the API.
pub const OBSERVER: &str = "observer";

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
    /// Bytes of the log behind the base, as truncation counts them.
    pub log_bytes: u64,
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
    /// Why this node has fenced itself; empty if it has not.
    pub fenced: String,
    /// How often it has, since the start.
    pub fences: u64,
    /// Directories with damaged files that this node keeps aside (filled in by the runtime).
    pub kept_aside: Vec<String>,
    /// Why no node takes writes; empty if they do.
    pub writes_stopped: String,
    /// The newest verification that was applied, and whether everybody agreed (null: not all have answered).
    pub verify: Option<VerifyView>,
    pub members: Vec<MemberView>,
    pub alerts: Vec<String>,
    pub live_agents: usize,
    pub live_tasks: u64,
    pub proposals_pending: usize,
    pub elections: u64,
    pub leader_changes: u64,
    /// Raft's configuration by name; `outgoing` is not empty in a joint configuration.
    pub voter_names: Vec<String>,
    pub learner_names: Vec<String>,
    pub outgoing_names: Vec<String>,
    /// What the rows still wait for, (node, how far); empty when nothing changes.
    pub changes: Vec<(String, String)>,
    /// The cluster has removed this node: it stops.
    pub removed: bool,
}

/// A verification as this node knows it.
#[derive(Clone, Debug, Default)]
pub struct VerifyView {
    pub round: VerifyRound,
    /// Every member that was heard lately has answered.
    pub complete: bool,
    /// By raft id: whether its rows could be read, add up to the hash it had kept and to the majority's.
    pub sound: Vec<(u64, bool)>,
}

#[derive(Clone, Debug, Default)]
pub struct MemberView {
    pub node_id: String,
    pub raft_id: u64,
    pub address: String,
    pub http_address: String,
    pub role: &'static str,
    /// `healthy`, `suspect`, `down`, `draining`, `drained`, `damaged`
    pub status: &'static str,
    pub match_index: Option<u64>,
    pub lag: Option<u64>,
    /// Whom an observer follows.
    pub parent: Option<String>,
    /// Wall time at which something was last heard, 0 for never.
    pub heard_wall_us: u64,
    /// Basis points: cpu, memory, network; `None` when not reported.
    pub load_bp: Option<[u32; 3]>,
    pub agents: Option<u32>,
    pub version: String,
    /// The member's wall clock minus this node's, in µs.
    pub clock_skew_us: Option<i64>,
    /// The role that is wanted: `voter`, `learner` or `observer`; empty for a stranger.
    pub wanted_role: &'static str,
    /// `active`, `joining`, `leaving` or `replacing`
    pub state: &'static str,
    /// Its newest state hash that this node could compare: (index, hash, whether it is this node's).
    pub hash: Option<(u64, [u8; 16], bool)>,
}

/// A role's name by what a report said.
pub fn role_name(name: &str) -> &'static str {
    [Role::Leader, Role::Follower, Role::Candidate, Role::Learner]
        .map(Role::name)
        .into_iter()
        .find(|n| *n == name)
        .unwrap_or("follower")
}

impl Driver {
    pub(crate) fn report(&mut self) {
        let Some(consensus) = &self.consensus else { return };
        let report = NodeReport {
            applied_index: self.applied_index,
            flushed_index: self.keeping.flushed_index(),
            hash_index: self.applied_index,
            hash: self.hash.to_vec(),
            load_bp: self.own_load_bp.map(|l| l.to_vec()).unwrap_or_default(),
            wall_us: self.wall_us,
            http_address: self.config.http_address.clone(),
            version: self.config.version.clone(),
            agents: self.leases.live_agents() as u32,
            role: consensus.role().name().into(),
            fenced: self.guard.fenced().unwrap_or_default().to_owned(),
        };
        for to in self.peers.others(self.identity.raft_id) {
            self.send(to, Lane::Control, PeerBody::NodeReport(report.clone()));
        }
    }

    /// This node's view of the cluster.
    pub fn view(&self) -> NodeView {
        let mut view = NodeView {
            node_id: self.config.node_id.clone(),
            raft_id: self.identity.raft_id,
            cluster_id: self.identity.cluster_id,
            role: "follower",
            applied_index: self.applied_index,
            revision: self.revision,
            cluster_us: self.clock.now(self.now_us, self.wall_us),
            wall_us: self.wall_us,
            hash_index: self.applied_index,
            hash: self.hash,
            hash_agrees: self.peers.hashes.agrees(),
            fenced: self.guard.fenced().unwrap_or_default().to_owned(),
            fences: self.guard.fences(),
            writes_stopped: self.guard.stopped().unwrap_or_default().to_owned(),
            verify: self.verify_view(),
            live_agents: self.leases.live_agents(),
            live_tasks: self.live_tasks,
            proposals_pending: self.sessions.count(),
            elections: self.elections,
            leader_changes: self.leader_changes,
            removed: self.membership.is_removed(),
            ..NodeView::default()
        };
        let own = [self.guard.fenced(), self.guard.stopped()].into_iter().flatten().map(str::to_owned);
        view.alerts = own.chain(self.alerts.iter().cloned()).chain(self.peers.alerts()).collect();
        let Some(consensus) = &self.consensus else {
            view.waiting = waiting_reason(&self.config, &self.gathering, &self.identity);
            return view;
        };
        let leader = consensus.leader();
        view.role = consensus.role().name();
        view.term = consensus.term();
        view.leader = self.peers.node_id(leader).map(str::to_owned);
        view.leader_is_self = leader == self.identity.raft_id && self.is_leader();
        view.commit_index = consensus.commit_index();
        view.last_index = consensus.last_index();
        view.base_index = consensus.base().0;
        view.log_bytes = self.keeping.log_bytes();
        let voters = &consensus.configuration().voters;
        let healthy = self.peers.healthy(voters, self.identity.raft_id, self.now_us);
        let outgoing = &consensus.configuration().voters_outgoing;
        let healthy_outgoing = self.peers.healthy(outgoing, self.identity.raft_id, self.now_us);
        view.voters = voters.len() as u32;
        view.voters_healthy = healthy as u32;
        view.has_quorum = leader != 0 && healthy > voters.len() / 2;
        // A joint configuration needs both majorities.
        view.has_quorum &= outgoing.is_empty() || healthy_outgoing > outgoing.len() / 2;
        self.membership_view(&mut view);
        view.members = self.member_views(consensus, leader);
        view
    }

    fn membership_view(&self, view: &mut NodeView) {
        let Some(consensus) = &self.consensus else { return };
        let configuration = consensus.configuration();
        // An id without a row is a lost directory's, or has a row that is not applied here yet.
        let name = |id: &u64| self.peers.node_id(*id).map_or_else(|| format!("{id:016x}"), str::to_owned);
        let names = |ids: &[u64]| ids.iter().map(name).collect();
        view.voter_names = names(&configuration.voters);
        view.learner_names = names(&configuration.learners);
        view.outgoing_names = names(&configuration.voters_outgoing);
        let waits = self.peers.members().iter().filter(|m| m.state != MemberState::Active);
        view.changes = waits.map(|m| (m.node_id.clone(), self.progress_of(m))).collect();
    }

    fn verify_view(&self) -> Option<VerifyView> {
        let round = self.guard.verifies.newest()?;
        let voters = &self.consensus.as_ref()?.configuration().voters;
        let complete = round.is_complete(&self.verifying_members());
        let sound = round.results.keys().map(|id| (*id, round.is_sound(*id, voters))).collect();
        Some(VerifyView { round: round.clone(), complete, sound })
    }

    pub(crate) fn member_views(&self, consensus: &Consensus, leader: u64) -> Vec<MemberView> {
        let own = self.peers.members().iter().find(|m| m.raft_id == self.identity.raft_id);
        let own_view = MemberView {
            node_id: self.config.node_id.clone(),
            raft_id: self.identity.raft_id,
            address: own.map(|m| m.address.clone()).unwrap_or_default(),
            http_address: self.config.http_address.clone(),
            role: consensus.role().name(),
            status: match self.guard.fenced() {
                Some(_) => "damaged",
                None => drained_or_healthy(own.map_or(DrainState::None, |m| m.drain)),
            },
            match_index: Some(self.applied_index),
            lag: None,
            parent: None,
            heard_wall_us: self.wall_us,
            load_bp: self.own_load_bp,
            agents: Some(self.leases.live_agents() as u32),
            version: self.config.version.clone(),
            clock_skew_us: Some(0),
            wanted_role: "",
            state: "",
            hash: Some((self.applied_index, self.hash, true)),
        };
        let progress = consensus.progress();
        let last_index = consensus.last_index();
        let mut views = self.peers.views(self.identity.raft_id, &own_view, self.now_us);
        for (view, member) in views.iter_mut().zip(self.peers.members()) {
            view.wanted_role = member.role.name();
            view.state = member.state.name();
            if consensus.configuration().learners.contains(&member.raft_id) {
                view.role = Role::Learner.name();
            }
            if member.role == MemberRole::Observer {
                self.observer_view(view, member);
                view.lag = view.match_index.map(|m| last_index.saturating_sub(m));
                continue;
            }
            if view.raft_id == leader {
                view.role = Role::Leader.name();
            }
            if self.is_leader()
                && let Some(p) = progress.iter().find(|p| p.raft_id == view.raft_id)
            {
                view.match_index = Some(p.match_index);
            }
            view.lag = view.match_index.map(|m| last_index.saturating_sub(m));
            if view.raft_id != self.identity.raft_id {
                view.hash = self.peers.hashes.compared(view.raft_id);
            }
        }
        views
    }
}
