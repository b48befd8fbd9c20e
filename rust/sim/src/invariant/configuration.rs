//! The configuration is the log's: the same change leads to the same configuration everywhere, an
//! installed snapshot brings its own, and who leads has a vote in it.

use std::collections::{BTreeMap, BTreeSet};

use codec::log::ConfState;
use consensus::Consensus;

use super::{Check, broken};
use crate::host::Host;
use crate::members::VOTERS_MIN;

#[derive(Default)]
pub struct Configuration {
    /// By the index of the change that made it; the first one at 0.
    known: BTreeMap<u64, ConfState>,
}

impl Configuration {
    pub fn begin(&mut self, first: ConfState) {
        self.known.entry(0).or_insert(first);
    }

    /// Node `at` is about to apply entries, among them these changes.
    pub fn changed(&mut self, at: usize, configurations: &[(u64, ConfState)]) -> Check {
        for (index, configuration) in configurations {
            let known = self.known.entry(*index).or_insert_with(|| configuration.clone());
            if known != configuration {
                let text = format!("n{}: the change at {index} leads to {configuration:?}, elsewhere to {known:?}", at + 1);
                return broken("one configuration an index", text);
            }
        }
        Ok(())
    }

    /// Node `at` installs the snapshot of `index`: nothing behind it is committed here yet.
    pub fn installs(&self, hosts: &[Host], at: usize, index: u64) -> Check {
        let Some(consensus) = hosts[at].process.as_ref().and_then(|p| p.consensus()) else { return Ok(()) };
        let Some((_, expected)) = self.known.range(..=index).next_back() else { return Ok(()) };
        let ConfState { voters, learners, voters_outgoing, .. } = expected;
        let members: BTreeSet<u64> = [voters, learners, voters_outgoing].into_iter().flatten().copied().collect();
        let counted: BTreeSet<u64> = consensus.progress().iter().map(|p| p.raft_id).collect();
        if consensus.configuration() == expected && counted == members {
            return Ok(());
        }
        let text = format!("n{}: {counted:?} with snapshot {index}, whose configuration is {expected:?}", at + 1);
        broken("a snapshot brings its configuration", text)
    }

    /// A change is committed. Nobody asks for fewer voters than these here, and the loss of one must
    /// leave a majority.
    pub fn keeps_voters(configuration: &ConfState) -> Check {
        let ConfState { voters, .. } = configuration;
        match voters.len() >= VOTERS_MIN {
            true => Ok(()),
            false => broken("three voters stay", format!("the voters are {voters:?}")),
        }
    }

    /// A leader has taken its turn.
    pub fn leads(at: usize, consensus: &Consensus) -> Check {
        let ConfState { voters, voters_outgoing, .. } = consensus.configuration();
        if [voters, voters_outgoing].iter().any(|ids| ids.contains(&consensus.raft_id())) {
            return Ok(());
        }
        broken("a leader has a vote", format!("n{} leads term {} and is no voter of {voters:?}", at + 1, consensus.term()))
    }
}
