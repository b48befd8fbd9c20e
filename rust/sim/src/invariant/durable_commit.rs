//! Commit only on a durable quorum: what a leader counts as committed stands synced on the disks of
//! a majority of the voters (of both halves of a joint configuration); and it counts copies of its
//! own term's entries only (Raft §5.4.2).

use std::collections::BTreeMap;

use codec::log::ConfState;
use consensus::Consensus;
use store::LogStore;

use super::{Check, broken};
use crate::host::Host;

#[derive(Default)]
pub struct DurableCommit {
    /// Node → commit index that was checked.
    checked: BTreeMap<usize, u64>,
    /// Node → its configuration, and the one before its commit index moved last.
    configurations: BTreeMap<usize, [ConfState; 2]>,
    /// Node → commit index at which they were looked at.
    looked_at: BTreeMap<usize, u64>,
    /// Node → the term that it led when it took its turn last.
    led: BTreeMap<usize, u64>,
}

impl DurableCommit {
    pub fn forget(&mut self, at: usize) {
        self.checked.remove(&at);
        self.led.remove(&at);
        self.configurations.remove(&at);
        self.looked_at.remove(&at);
    }

    /// Any node has taken its turn.
    pub fn configuration(&mut self, at: usize, consensus: &Consensus) {
        // It changes only where entries are committed or a snapshot is taken.
        if self.looked_at.insert(at, consensus.commit_index()) == Some(consensus.commit_index()) {
            return;
        }
        let now = consensus.configuration();
        let known = self.configurations.entry(at).or_insert_with(|| [now.clone(), now.clone()]);
        if known[1] != *known.first().unwrap_or(now) {
            known[0] = known[1].clone();
        }
        if known[1] != *now {
            known[1] = now.clone();
        }
    }

    /// A leader has taken its turn.
    pub fn turn(&mut self, hosts: &[Host], at: usize, consensus: &Consensus) -> Check {
        let commit = consensus.commit_index();
        let Some(process) = &hosts[at].process else { return Ok(()) };
        let led_before = self.led.insert(at, consensus.term()) == Some(consensus.term());
        if self.checked.get(&at).is_some_and(|checked| *checked >= commit) {
            return Ok(());
        }
        let Some(term) = process.shadow.term(commit) else { return Ok(()) };
        // Entries of earlier terms are committed by one of the own term only.
        if led_before && term != consensus.term() {
            let text = format!("n{} leads term {} and commits up to entry {commit} of term {term}", at + 1, consensus.term());
            return broken("commit by an entry of the own term", text);
        }
        // A change may have been applied in the same turn: then the configuration before counts, too.
        let under =
            |c: &ConfState| [&c.voters, &c.voters_outgoing].into_iter().all(|voters| durable(hosts, voters, commit, term));
        let holds = self.configurations.get(&at).is_none_or(|known| known.iter().any(under));
        if consensus.committed_in_term() && !holds {
            let text = format!(
                "n{} commits entry {commit} of term {term} without a durable majority of {:?}",
                at + 1,
                consensus.configuration().voters
            );
            return broken("commit on a durable quorum", text);
        }
        self.checked.insert(at, commit);
        Ok(())
    }
}

/// Whether a majority of `voters` has the entry on disk. No voters: nothing to ask.
fn durable(hosts: &[Host], voters: &[u64], index: u64, term: u64) -> bool {
    let has = |raft_id: &&u64| {
        let Some(host) = hosts.iter().find(|h| h.raft_id == **raft_id) else { return false };
        host.disk.log.base().index >= index || host.disk.log.term(index).ok().flatten() == Some(term)
    };
    voters.is_empty() || voters.iter().filter(has).count() * 2 > voters.len()
}
