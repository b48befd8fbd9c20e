//! State machine safety: no two nodes apply different entries at one index (Raft, figure 3).

use codec::log::LogEntry;

use super::log_matching::data_hash;
use super::replay::Replay;
use super::{Check, broken};

/// Node `at` is about to apply an entry that another one has applied before.
pub fn again(at: usize, entry: &LogEntry, replay: &Replay) -> Check {
    match replay.entry(entry.index) {
        Some(first) if (first.term, first.data) == (entry.term, data_hash(entry)) => Ok(()),
        // The configuration the cluster was formed with stands before the first entry.
        None if entry.index == 0 => Ok(()),
        first => broken(
            "state machine safety",
            format!("n{} applies entry {} of term {}, elsewhere it was {first:?}", at + 1, entry.index, entry.term),
        ),
    }
}
