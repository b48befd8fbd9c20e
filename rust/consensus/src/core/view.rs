//! What a member knows of its group: roles, indexes, configuration, and the others' progress.

use codec::log::ConfState;
use raft::StateRole;

use super::Consensus;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    Leader,
    Follower,
    Candidate,
    Learner,
}

impl Role {
    /// The role's name in the API.
    pub fn name(self) -> &'static str {
        match self {
            Role::Leader => "leader",
            Role::Follower => "follower",
            Role::Candidate => "candidate",
            Role::Learner => "learner",
        }
    }
}

/// Progress of one peer as the leader sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerProgress {
    pub raft_id: u64,
    pub match_index: u64,
    /// Heard from within the last check-quorum interval.
    pub recently_active: bool,
    pub snapshotting: bool,
    /// It takes entries as they come.
    pub replicating: bool,
}

impl Consensus {
    pub fn role(&self) -> Role {
        match self.raw.raft.state {
            StateRole::Leader => Role::Leader,
            StateRole::Candidate | StateRole::PreCandidate => Role::Candidate,
            StateRole::Follower if self.configuration.learners.contains(&self.raft_id) => Role::Learner,
            StateRole::Follower => Role::Follower,
        }
    }

    pub fn raft_id(&self) -> u64 {
        self.raft_id
    }

    /// Raft id of the leader, 0 for none known.
    pub fn leader(&self) -> u64 {
        self.raw.raft.leader_id
    }

    pub fn term(&self) -> u64 {
        self.raw.raft.term
    }

    pub fn commit_index(&self) -> u64 {
        self.raw.raft.raft_log.committed
    }

    pub fn last_index(&self) -> u64 {
        self.raw.raft.raft_log.last_index()
    }

    /// (index, term) before the first entry.
    pub fn base(&self) -> (u64, u64) {
        self.raw.store().base()
    }

    pub fn configuration(&self) -> &ConfState {
        &self.configuration
    }

    /// Whether leadership is being handed over.
    pub fn transferring(&self) -> bool {
        self.raw.raft.lead_transferee.is_some()
    }

    /// Whether the leader has committed an entry of its own term (reads and policy wait for it).
    pub fn committed_in_term(&self) -> bool {
        self.raw.raft.commit_to_current_term()
    }

    /// Ticks of the election timeout drawn for the current term.
    pub fn election_timeout_ticks(&self) -> usize {
        self.raw.raft.randomized_election_timeout()
    }

    /// Every member's progress, by raft id; meaningful on the leader.
    pub fn progress(&self) -> Vec<PeerProgress> {
        let last_index = self.last_index();
        let mut all: Vec<_> = self
            .raw
            .raft
            .prs()
            .iter()
            .map(|(id, progress)| PeerProgress {
                raft_id: *id,
                match_index: progress.matched,
                recently_active: *id == self.raft_id || progress.recent_active,
                snapshotting: progress.state == raft::ProgressState::Snapshot,
                // One that was brought up by a snapshot is probed until the next entry, even if it has all there is.
                replicating: *id == self.raft_id
                    || progress.state == raft::ProgressState::Replicate
                    || (progress.state == raft::ProgressState::Probe && progress.matched >= last_index),
            })
            .collect();
        all.sort_unstable_by_key(|p| p.raft_id);
        all
    }
}
