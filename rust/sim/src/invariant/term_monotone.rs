//! Term monotone: a node's term never goes back, also not over a restart below what was synced; and
//! it votes once in a term.

use std::collections::BTreeMap;

use codec::log::HardState;
use consensus::Consensus;
use store::LogStore;

use super::{Check, broken};
use crate::host::Host;

#[derive(Default)]
pub struct TermMonotone {
    terms: BTreeMap<usize, u64>,
    synced: BTreeMap<usize, HardState>,
}

impl TermMonotone {
    pub fn turn(&mut self, at: usize, consensus: &Consensus) -> Check {
        let term = consensus.term();
        let before = self.terms.insert(at, term).unwrap_or(0);
        if term < before {
            return broken("term monotone", format!("n{}: term went from {before} back to {term}", at + 1));
        }
        Ok(())
    }

    /// A log write of this node was synced.
    pub fn written(&mut self, hosts: &[Host], at: usize) -> Check {
        let now = hosts[at].disk.log.hard_state().clone();
        let before = self.synced.insert(at, now.clone()).unwrap_or_default();
        if now.term < before.term || (now.term == before.term && before.vote != 0 && now.vote != before.vote) {
            return broken("term monotone", format!("n{}: {before:?} was synced, then {now:?}", at + 1));
        }
        Ok(())
    }

    /// A new process of this node has started from its disk.
    pub fn started(&mut self, hosts: &[Host], at: usize) -> Check {
        let synced = self.synced.get(&at).cloned().unwrap_or_default();
        let Some(term) = hosts[at].process.as_ref().and_then(|p| p.consensus()).map(Consensus::term) else {
            return Ok(());
        };
        self.terms.insert(at, term);
        if term < synced.term {
            return broken("term monotone", format!("n{} starts with term {term}, but {} was synced", at + 1, synced.term));
        }
        let found = hosts[at].disk.log.hard_state();
        if found.term == synced.term && synced.vote != 0 && found.vote != synced.vote {
            return broken("term monotone", format!("n{} starts with {found:?}, but {synced:?} was synced", at + 1));
        }
        Ok(())
    }
}
