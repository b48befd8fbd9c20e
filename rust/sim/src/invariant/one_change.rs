//! One configuration change in flight: a leader's log holds at most one that is not committed, and
//! it proposes none before an entry of its own term is committed (raft-dev, 2015-07-10).

use std::collections::BTreeMap;

use codec::log::{ConfState, EntryKind, LogEntry};
use consensus::Consensus;
use store::LogStore;

use super::{Check, broken};
use crate::host::Host;

/// One step of the configuration: a single voter more or less, or into a joint configuration, or out
/// of it again (Raft thesis §4.3): the majorities before and after always overlap.
pub fn step(before: &ConfState, after: &ConfState) -> Check {
    let apart = |a: &[u64], b: &[u64]| a.iter().filter(|id| !b.contains(id)).count();
    let changed = apart(&before.voters, &after.voters) + apart(&after.voters, &before.voters);
    let allowed = match (before.voters_outgoing.is_empty(), after.voters_outgoing.is_empty()) {
        (true, true) => changed <= 1,
        (true, false) => after.voters_outgoing == before.voters,
        (false, true) => changed == 0,
        (false, false) => changed == 0 && after.voters_outgoing == before.voters_outgoing,
    };
    match allowed {
        true => Ok(()),
        false => broken("one configuration change in flight", format!("{before:?} → {after:?}")),
    }
}

#[derive(Default)]
pub struct OneChange {
    /// Node → indexes of the configuration changes in its log.
    changes: BTreeMap<usize, Vec<u64>>,
}

impl OneChange {
    pub fn started(&mut self, hosts: &[Host], at: usize) {
        let log = &hosts[at].disk.log;
        let entries = log.entries(log.base().index + 1, log.last_index() + 1, u64::MAX).unwrap_or_default();
        let changes = entries.iter().filter(|e| e.kind == EntryKind::ConfChange).map(|e| e.index).collect();
        self.changes.insert(at, changes);
    }

    pub fn append(&mut self, at: usize, entries: &[LogEntry]) {
        let Some(first) = entries.first() else { return };
        let changes = self.changes.entry(at).or_default();
        changes.retain(|index| *index < first.index);
        changes.extend(entries.iter().filter(|e| e.kind == EntryKind::ConfChange).map(|e| e.index));
    }

    /// Node `at` is about to save these entries.
    pub fn proposed(hosts: &[Host], at: usize, entries: &[LogEntry]) -> Check {
        let Some(consensus) = hosts[at].process.as_ref().and_then(|p| p.consensus()) else { return Ok(()) };
        let own = |e: &&LogEntry| e.kind == EntryKind::ConfChange && e.term == consensus.term();
        match entries.iter().find(own) {
            Some(change) if consensus.role() == consensus::Role::Leader && !consensus.committed_in_term() => {
                let text = format!("n{} proposes {} before it has committed in term {}", at + 1, change.index, change.term);
                broken("a change waits for the term's first commit", text)
            }
            _ => Ok(()),
        }
    }

    /// A leader has taken its turn. One that has just started may know less than is committed:
    /// what somebody has `applied` counts as well.
    pub fn turn(&mut self, at: usize, consensus: &Consensus, applied: u64) -> Check {
        let Some(changes) = self.changes.get(&at) else { return Ok(()) };
        let open: Vec<u64> = changes.iter().copied().filter(|index| *index > consensus.commit_index().max(applied)).collect();
        match open.len() {
            0 | 1 => Ok(()),
            _ => broken("one configuration change in flight", format!("n{} has {open:?} uncommitted", at + 1)),
        }
    }
}
