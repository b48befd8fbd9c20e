//! Changes of the configuration, one at a time (Raft thesis §4.1, and §4.3 for joint consensus).
//!
//! A change of one member is a simple one. More than one goes through a joint configuration, which
//! stays until [`Consensus::leave_joint`]: whoever leads then finishes it.

use codec::log::ConfState;
use raft::eraftpb::{ConfChangeSingle, ConfChangeTransition, ConfChangeType, ConfChangeV2};

use crate::core::{Consensus, Role};
use crate::error::ConsensusError;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MemberChange {
    /// Adds a voter, or makes a learner one.
    AddVoter(u64),
    /// Adds a learner, or makes a voter one.
    AddLearner(u64),
    Remove(u64),
}

impl MemberChange {
    fn single(self) -> ConfChangeSingle {
        let (kind, node_id) = match self {
            MemberChange::AddVoter(id) => (ConfChangeType::AddNode, id),
            MemberChange::AddLearner(id) => (ConfChangeType::AddLearnerNode, id),
            MemberChange::Remove(id) => (ConfChangeType::RemoveNode, id),
        };
        ConfChangeSingle { change_type: kind, node_id, ..Default::default() }
    }
}

/// Whether two majorities must agree.
pub fn is_joint(configuration: &ConfState) -> bool {
    !configuration.voters_outgoing.is_empty()
}

/// Whether the id has any part in the configuration.
pub fn has_member(configuration: &ConfState, raft_id: u64) -> bool {
    let ConfState { voters, learners, voters_outgoing, learners_next, .. } = configuration;
    [voters, learners, voters_outgoing, learners_next].into_iter().any(|ids| ids.contains(&raft_id))
}

impl Consensus {
    /// Whether a change may be proposed: by a leader that has committed in its own term (the bug of
    /// single-server changes, raft-dev 2015-07-10) and has applied the change before it.
    pub fn may_change(&self) -> bool {
        let raft = &self.raw.raft;
        let settled = raft.commit_to_current_term() || mutant::active("conf-change-before-noop");
        let idle = !raft.has_pending_conf() || mutant::active("two-conf-changes");
        self.role() == Role::Leader && settled && idle && !self.transferring()
    }

    /// Proposes the changes as one step; more than one as a joint configuration. Nothing tells
    /// whether it will be committed: the configuration does.
    ///
    /// # Errors
    /// Not now ([`Consensus::may_change`]), not in a joint configuration, or too much is uncommitted.
    pub fn change_members(&mut self, changes: &[MemberChange]) -> Result<(), ConsensusError> {
        if changes.is_empty() || is_joint(self.configuration()) {
            return Err(ConsensusError::ProposalDropped("a joint configuration is left first".into()));
        }
        let transition = match changes.len() {
            1 => ConfChangeTransition::Auto,
            _ => ConfChangeTransition::Explicit,
        };
        let changes: Vec<_> = changes.iter().map(|change| change.single()).collect();
        self.propose_change(ConfChangeV2 { transition, changes: changes.into(), ..Default::default() })
    }

    /// Proposes to leave the joint configuration.
    ///
    /// # Errors
    /// As [`Consensus::change_members`].
    pub fn leave_joint(&mut self) -> Result<(), ConsensusError> {
        if !is_joint(self.configuration()) {
            return Err(ConsensusError::ProposalDropped("the configuration is not joint".into()));
        }
        self.propose_change(ConfChangeV2::default())
    }

    fn propose_change(&mut self, change: ConfChangeV2) -> Result<(), ConsensusError> {
        if self.role() != Role::Leader {
            return Err(ConsensusError::NotLeader);
        }
        if !self.may_change() {
            return Err(ConsensusError::ProposalDropped("another change is under way".into()));
        }
        self.raw.propose_conf_change(Vec::new(), change).map_err(|e| ConsensusError::ProposalDropped(e.to_string()))
    }

    /// A leader that the configuration has let go leads no longer: the crate leaves that to us. It
    /// may lead through the joint configuration, in which its vote still counts.
    pub(crate) fn step_down_if_removed(&mut self) {
        let ConfState { voters, voters_outgoing, .. } = self.configuration();
        let votes = voters.contains(&self.raft_id()) || voters_outgoing.contains(&self.raft_id());
        if !votes && self.role() == Role::Leader && !mutant::active("removed-leader-leads") {
            let term = self.term();
            self.raw.raft.become_follower(term, 0);
        }
    }
}
