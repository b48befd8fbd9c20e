//! Commit monotone: a process's commit index never goes back, and never lies beyond its log.

use std::collections::BTreeMap;

use consensus::Consensus;

use super::{Check, broken};

#[derive(Default)]
pub struct CommitMonotone {
    commits: BTreeMap<usize, u64>,
}

impl CommitMonotone {
    pub fn forget(&mut self, at: usize) {
        self.commits.remove(&at);
    }

    pub fn turn(&mut self, at: usize, consensus: &Consensus) -> Check {
        let commit = consensus.commit_index();
        let before = self.commits.insert(at, commit).unwrap_or(0);
        if commit < before {
            return broken("commit monotone", format!("n{}: commit went from {before} back to {commit}", at + 1));
        }
        if commit > consensus.last_index() {
            return broken("commit monotone", format!("n{}: commit {commit} beyond {}", at + 1, consensus.last_index()));
        }
        Ok(())
    }
}
