//! The leader's controller: admits, welcomes, promotes, swaps, settles and removes, one step at a time.
//!
//! Nothing is proposed before the leader's own term's first entry is applied, nor while a change or
//! a command of this controller is under way.

use std::collections::BTreeSet;

use codec::command::{AdmitMember, Body, SettleMember, SwapVoter};
use codec::log::{Bootstrap, BootstrapMember};
use codec::peer::{Lane, PeerBody, Welcome};
use codec::row::{MemberRole, MemberState};
use consensus::Consensus;

use super::ids;
use crate::driver::Driver;
use crate::effect::Effect;
use crate::event::{Member, Micros};
use crate::plan::{Known, NextStep, is_settled, next_step};

/// A member that joins is told of the cluster this often, until it has its role.
const WELCOME_US: Micros = 500_000;
/// Leadership is offered again after this time: an election's worth.
const HAND_OVER_US: Micros = 1_000_000;

impl Driver {
    /// One step, if one is due. Called with every tick of an established leader.
    pub(crate) fn lead_membership(&mut self) {
        let since_us = *self.membership.since_us.get_or_insert(self.now_us);
        self.welcome_members();
        self.refuse_doubted();
        let Some(consensus) = &self.consensus else { return };
        let learners = &consensus.configuration().learners;
        let progress: Vec<_> = consensus.progress().into_iter().filter(|p| learners.contains(&p.raft_id)).collect();
        let round_us = self.config.consensus.election_ticks_min as u64 * self.config.tick_us;
        self.membership.catch_up(&progress, consensus.last_index(), self.now_us, round_us);
        let busy = self.applied_index < self.membership.asked_index || self.leader.has_own_member_command();
        if busy {
            return;
        }
        if let Some(body) = self.member_command(since_us) {
            self.leader.push(body);
            return;
        }
        if !self.begins_with_a_snapshot() {
            self.change_configuration();
        }
    }

    /// A cluster that began with restored rows: who joins cannot make them from the first configuration,
    /// and must begin with a snapshot. So the log may not begin at index 1 any more. True: not yet.
    fn begins_with_a_snapshot(&mut self) -> bool {
        let restored = self.identity.bootstrap.as_ref().is_some_and(|b| b.seed.is_some());
        let joins = self.peers.members().iter().any(|m| m.state == MemberState::Joining && m.raft_id != 0);
        let Some(consensus) = self.consensus.as_mut().filter(|c| restored && joins && c.base().0 == 0) else { return false };
        if self.keeping.flushed_index() >= 1 && consensus.last_index() > 1 {
            consensus.truncate_prefix(1);
            self.keeping.truncated(1);
            self.effects.push(Effect::Truncate { base_index: 1 });
        } else if self.keeping.flush_now() {
            self.effects.push(Effect::Flush);
        }
        true
    }

    fn welcome_members(&mut self) {
        if self.now_us < self.membership.welcome_at_us {
            return;
        }
        self.membership.welcome_at_us = self.now_us + WELCOME_US;
        let members = self.peers.members();
        // A learner at rest may still be a directory that has not heard of its admission.
        let stranger = |m: &Member| self.membership.strangers.get(&m.node_id).is_some_and(|s| s.raft_id == m.raft_id);
        let waits = |m: &Member| m.state == MemberState::Joining || stranger(m);
        let joins = |m: &&Member| waits(m) && m.raft_id != 0 && m.raft_id != self.identity.raft_id;
        let to: Vec<u64> = members.iter().filter(joins).map(|m| m.raft_id).filter(|id| self.peers.is_up(*id)).collect();
        if to.is_empty() {
            return;
        }
        // Rows of a cluster that began with restored ones are not made from its first configuration:
        // such a log never begins at index 1, so that its members begin with a snapshot.
        let own = self.identity.bootstrap.clone().filter(|b| b.cluster_id == self.identity.cluster_id && b.seed.is_none());
        let bootstrap = own.unwrap_or(Bootstrap { cluster_id: self.identity.cluster_id, ..Bootstrap::default() });
        let as_known =
            |m: &Member| BootstrapMember { node_id: m.node_id.clone(), raft_id: m.raft_id, address: m.address.clone() };
        let welcome = Welcome {
            raft_id: 0,
            bootstrap: Some(bootstrap),
            members: members.iter().filter(|m| m.role != MemberRole::Observer).map(as_known).collect(),
        };
        for raft_id in to {
            self.send(raft_id, Lane::Control, PeerBody::Welcome(Welcome { raft_id, ..welcome.clone() }));
        }
    }

    /// The command that the rows wait for: admit who was met, settle what is done, give a silent
    /// voter's place to a spare.
    fn member_command(&self, since_us: Micros) -> Option<Body> {
        let consensus = self.consensus.as_ref()?;
        let members = self.peers.members();
        let known = if self.membership.strangers.is_empty() { BTreeSet::new() } else { ids(members) };
        for member in members {
            let Some(stranger) = self.membership.strangers.get(&member.node_id) else { continue };
            let invited = member.state == MemberState::Joining && member.raft_id == 0;
            // Where the damaged directory's own id could not be read, the name alone says whose it was.
            let said = stranger.retired.contains(&member.raft_id) || stranger.retired.last() == Some(&0);
            let retired = said && member.raft_id != 0 && member.state != MemberState::Leaving;
            if (invited || retired || member.state == MemberState::Replacing) && !known.contains(&stranger.raft_id) {
                let retires = if retired { member.raft_id } else { 0 };
                let node_id = member.node_id.clone();
                return Some(Body::AdmitMember(AdmitMember { node_id, raft_id: stranger.raft_id, retires }));
            }
        }
        let waits = |m: &&Member| matches!(m.state, MemberState::Joining | MemberState::Leaving);
        if consensus.may_change()
            && let Some(done) = members.iter().filter(waits).find(|m| self.may_settle(m, consensus))
        {
            let (node_id, raft_id) = (done.node_id.clone(), done.raft_id);
            let (state, role) = (done.state as i32, done.role as i32);
            return Some(Body::SettleMember(SettleMember { node_id, raft_id, state, role }));
        }
        self.spare_for_a_silent_voter(since_us)
    }

    /// A learner is there once it has caught up; a silent one, a voter until now, is not waited for.
    fn may_settle(&self, member: &Member, consensus: &Consensus) -> bool {
        let learns = member.state == MemberState::Joining && member.role == MemberRole::Learner;
        let caught_up = || self.membership.catching.get(&member.raft_id).is_some_and(|c| c.caught_up);
        let silent = || !self.peers.fresh(member.raft_id, self.now_us);
        is_settled(member, consensus.configuration()) && (!learns || caught_up() || silent())
    }

    /// A voter that is silent for `replace_dead_ms`, and a learner at rest that is caught up; one place
    /// at a time.
    fn spare_for_a_silent_voter(&self, since_us: Micros) -> Option<Body> {
        let limit_us = self.config.replace_dead_ms * 1_000;
        let members = self.peers.members();
        if limit_us == 0 || members.iter().any(|m| !m.replaces.is_empty()) {
            return None;
        }
        let at_rest = |m: &Member| m.state == MemberState::Active;
        let silent = |m: &&Member| {
            let heard_us = self.peers.heard_at_us(m.raft_id).unwrap_or(0).max(since_us);
            let due = self.now_us >= heard_us + limit_us;
            at_rest(m) && m.role == MemberRole::Voter && m.raft_id != self.identity.raft_id && due
        };
        let voter = members.iter().find(silent)?;
        let known = self.known();
        let ready = |id: u64| known.caught_up.contains(&id) && known.alive.contains(&id);
        let learner = members.iter().find(|m| at_rest(m) && m.role == MemberRole::Learner && ready(m.raft_id))?;
        Some(Body::SwapVoter(SwapVoter { learner: learner.node_id.clone(), voter: voter.node_id.clone() }))
    }

    fn known(&self) -> Known {
        let caught_up = self.membership.catching.iter().filter(|(_, c)| c.caught_up).map(|(id, _)| *id).collect();
        let alive = self.peers.alive(self.identity.raft_id, self.now_us).into_iter().collect();
        Known { alive, caught_up }
    }

    fn change_configuration(&mut self) {
        let known = self.known();
        let (own, now_us) = (self.identity.raft_id, self.now_us);
        let Some(consensus) = self.consensus.as_mut().filter(|c| c.may_change()) else { return };
        // What is refused here is proposed again at a later tick: the step follows from the state.
        match next_step(self.peers.members(), consensus.configuration(), &known, own) {
            NextStep::Nothing => {}
            NextStep::Leave => drop(consensus.leave_joint()),
            NextStep::Change(changes) => drop(consensus.change_members(&changes)),
            NextStep::HandOver if now_us < self.membership.hand_over_at_us => {}
            NextStep::HandOver => {
                let stays = |id: &u64| self.peers.members().iter().any(|m| m.raft_id == *id && m.state != MemberState::Leaving);
                if let Some(to) = self.most_caught_up_of(stays)
                    && let Some(consensus) = &mut self.consensus
                {
                    consensus.transfer_leader(to);
                    // Without anybody to hand over to, the next tick looks again: check-quorum forgets who was
                    // active twice in this time, and in step with it nobody would ever be found.
                    self.membership.hand_over_at_us = now_us + HAND_OVER_US;
                }
            }
        }
    }
}
