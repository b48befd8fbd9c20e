//! Leader append-only: a leader never replaces or deletes entries of its log (Raft, figure 3).

use std::collections::BTreeMap;

use codec::log::LogEntry;

use super::{Check, broken};
use crate::host::Host;

#[derive(Default)]
pub struct AppendOnly {
    /// Node → term it leads and the last index of its log.
    leading: BTreeMap<usize, (u64, u64)>,
}

impl AppendOnly {
    pub fn forget(&mut self, at: usize) {
        self.leading.remove(&at);
    }

    pub fn append(&mut self, hosts: &[Host], at: usize, entries: &[LogEntry]) -> Check {
        let (Some(first), Some(last)) = (entries.first(), entries.last()) else { return Ok(()) };
        let Some(process) = &hosts[at].process else { return Ok(()) };
        // Entries of its own term are a leader's: what follows them was appended by it as well.
        let leads = process.consensus().filter(|c| c.role() == consensus::Role::Leader && c.term() == last.term);
        let Some(term) = leads.map(consensus::Consensus::term) else {
            self.leading.remove(&at);
            return Ok(());
        };
        if let Some((led, end)) = self.leading.get(&at)
            && *led == term
            && first.index <= *end
        {
            return broken("leader append-only", format!("n{} leads term {term} and replaces entry {}", at + 1, first.index));
        }
        if first.term == term {
            self.leading.insert(at, (term, last.index));
        }
        Ok(())
    }
}
