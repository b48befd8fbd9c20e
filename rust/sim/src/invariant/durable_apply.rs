//! Only what stands synced on its own disk is applied by a node: else a crash leaves a state that
//! has seen more than the log below it.

use codec::log::LogEntry;
use store::LogStore;

use super::{Check, broken};
use crate::host::Host;

/// Node `at` is about to apply a committed entry. An observer has no log: voters have the entry.
pub fn entry(hosts: &[Host], at: usize, entry: &LogEntry) -> Check {
    if hosts[at].observer {
        return Ok(());
    }
    let log = &hosts[at].disk.log;
    let found = log.term(entry.index).ok().flatten();
    if log.base().index >= entry.index || found == Some(entry.term) {
        return Ok(());
    }
    let text = format!("n{} applies entry {} of term {}, its disk holds {found:?} there", at + 1, entry.index, entry.term);
    broken("applied after sync", text)
}
