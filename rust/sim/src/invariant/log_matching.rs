//! Log matching: entries of one index and term are the same, and so is everything before them
//! (Raft, figure 3). By induction it is enough that the entry before has the same term.

use codec::log::LogEntry;
use xxhash_rust::xxh3::xxh3_64;

use super::{Check, broken};
use crate::host::Host;

#[derive(Clone, Copy, PartialEq)]
struct Seen {
    term: u64,
    term_before: u64,
    data: u64,
}

#[derive(Default)]
pub struct LogMatching {
    /// By index: what was seen there, one for each term.
    seen: Vec<Vec<Seen>>,
}

pub fn data_hash(entry: &LogEntry) -> u64 {
    xxh3_64(&entry.data) ^ entry.kind as u64
}

impl LogMatching {
    /// A node takes these entries into its log.
    pub fn append(&mut self, hosts: &[Host], at: usize, entries: &[LogEntry]) -> Check {
        let (Some(first), Some(process)) = (entries.first(), &hosts[at].process) else { return Ok(()) };
        let Some(mut term_before) = process.shadow.term(first.index - 1) else {
            return broken("log matching", format!("n{}: entry {} follows nothing", at + 1, first.index));
        };
        for entry in entries {
            let now = Seen { term: entry.term, term_before, data: data_hash(entry) };
            term_before = entry.term;
            let index = entry.index as usize;
            if self.seen.len() <= index {
                self.seen.resize(index + 64, Vec::new());
            }
            match self.seen[index].iter().find(|s| s.term == now.term) {
                None => self.seen[index].push(now),
                Some(before) if *before == now => {}
                Some(before) => {
                    let text = format!(
                        "n{}: entry {index} of term {} has data {:x} after term {}, elsewhere data {:x} after term {}",
                        at + 1,
                        now.term,
                        now.data,
                        now.term_before,
                        before.data,
                        before.term_before
                    );
                    return broken("log matching", text);
                }
            }
        }
        Ok(())
    }
}
