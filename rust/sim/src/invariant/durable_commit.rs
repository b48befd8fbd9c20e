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
    /// Node → commit index that was checked, and the configuration then.
    checked: BTreeMap<usize, (u64, ConfState)>,
    /// Node → the term that it led when it took its turn last.
    led: BTreeMap<usize, u64>,
}

impl DurableCommit {
    pub fn forget(&mut self, at: usize) {
        self.checked.remove(&at);
        self.led.remove(&at);
    }

    /// A leader has taken its turn.
    pub fn turn(&mut self, hosts: &[Host], at: usize, consensus: &Consensus) -> Check {
        let (commit, now) = (consensus.commit_index(), consensus.configuration());
        let Some(process) = &hosts[at].process else { return Ok(()) };
        let before = self.checked.get(&at);
        let led_before = self.led.insert(at, consensus.term()) == Some(consensus.term());
        if before.is_some_and(|(checked, _)| *checked >= commit) {
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
        let holds = under(now) || before.is_some_and(|(_, c)| under(c));
        if consensus.committed_in_term() && !holds {
            let text =
                format!("n{} commits entry {commit} of term {term} without a durable majority of {:?}", at + 1, now.voters);
            return broken("commit on a durable quorum", text);
        }
        self.checked.insert(at, (commit, now.clone()));
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
