//! What an observer can say of itself and the cluster: its own state, and what the leader published.

use codec::row::{DrainState, MemberRole};
use codec::tail::{PlacedObserver, PlacedVoter};
use consensus::Role;

use super::ObserverDriver;
use crate::event::Member;
use crate::peers::drained_or_healthy;
use crate::view::{MemberView, NodeView, OBSERVER};

impl ObserverDriver {
    /// This node's view of the cluster.
    pub fn view(&self) -> NodeView {
        let leader = self.leader();
        let voters = self.configuration.voters.len();
        let healthy = self.follow.placement().map_or(0, |p| p.voters_healthy as usize);
        let mut view = NodeView {
            node_id: self.config.node_id.clone(),
            raft_id: self.identity.raft_id,
            cluster_id: self.identity.cluster_id,
            role: OBSERVER,
            term: self.follow.term,
            leader: self.name_of(leader).map(|(node_id, _)| node_id),
            commit_index: self.follow.commit_index.max(self.position.index),
            applied_index: self.position.index,
            last_index: self.follow.received().max(self.position.index),
            base_index: self.position.index,
            revision: self.revision,
            cluster_us: self.clock.now(self.now_us, self.wall_us),
            wall_us: self.wall_us,
            voters: voters as u32,
            voters_healthy: healthy as u32,
            has_quorum: leader != 0 && healthy > voters / 2,
            hash_index: self.position.index,
            hash: self.position.hash,
            alerts: self.alerts.iter().cloned().collect(),
            live_agents: self.leases.live_agents(),
            live_tasks: self.live_tasks,
            proposals_pending: self.sessions.count(),
            leader_changes: self.leader_changes,
            ..NodeView::default()
        };
        if self.position.index == 0 {
            view.waiting = match self.identity.cluster_id {
                0 => "no voter of a cluster was reached yet".into(),
                _ => "waiting for a snapshot of the cluster's state".into(),
            };
        }
        view.members = self.peers.members().iter().map(|m| self.member_view(m, leader)).collect();
        view
    }

    fn member_view(&self, member: &Member, leader: u64) -> MemberView {
        let mut view = MemberView {
            node_id: member.node_id.clone(),
            raft_id: member.raft_id,
            address: member.address.clone(),
            role: Role::Follower.name(),
            status: drained_or_healthy(member.drain),
            ..MemberView::default()
        };
        let commit_index = self.follow.commit_index.max(self.position.index);
        if member.raft_id == self.identity.raft_id {
            view.role = OBSERVER;
            view.parent = self.peers.node_id(self.follow.parent()).map(str::to_owned);
            view.http_address = self.config.http_address.clone();
            view.version = self.config.version.clone();
            view.match_index = Some(self.position.index);
            view.heard_wall_us = self.wall_us;
            view.load_bp = self.own_load_bp;
            view.clock_skew_us = Some(0);
        } else if member.role == MemberRole::Observer {
            let placed = self.follow.placement().and_then(|p| p.observers.iter().find(|o| o.raft_id == member.raft_id));
            show_observer(&mut view, placed, member.drain, self.wall_us, |id| self.peers.node_id(id).map(str::to_owned));
        } else {
            let placed = self.follow.placement().and_then(|p| p.voters.iter().find(|v| v.raft_id == member.raft_id));
            show_voter(&mut view, placed, member, leader);
        }
        view.lag = view.match_index.map(|m| commit_index.saturating_sub(m));
        view
    }
}

/// Fills in what an observer last reported. Without a report that counts it is down.
pub(crate) fn show_observer(
    view: &mut MemberView,
    placed: Option<&PlacedObserver>,
    drain: DrainState,
    wall_us: u64,
    name: impl Fn(u64) -> Option<String>,
) {
    view.role = OBSERVER;
    view.parent = placed.and_then(|p| name(p.parent));
    let report = placed.and_then(|p| p.report.as_ref());
    view.status = if report.is_some() { drained_or_healthy(drain) } else { "down" };
    if let Some(report) = report {
        view.parent = name(report.parent).or(view.parent.take());
        view.match_index = Some(report.applied_index);
        view.heard_wall_us = wall_us.saturating_sub(report.age_us);
        view.load_bp = <[u32; 3]>::try_from(report.load_bp.as_slice()).ok();
        view.http_address = report.http_address.clone();
        view.version = report.version.clone();
    }
}

fn show_voter(view: &mut MemberView, placed: Option<&PlacedVoter>, member: &Member, leader: u64) {
    let Some(voter) = placed else {
        view.status = "suspect";
        return;
    };
    view.match_index = Some(voter.match_index).filter(|m| *m > 0);
    view.http_address = voter.http_address.clone();
    if !voter.alive {
        view.status = "down";
    }
    if member.role == MemberRole::Learner {
        view.role = Role::Learner.name();
    }
    if member.raft_id == leader {
        view.role = Role::Leader.name();
    }
}
