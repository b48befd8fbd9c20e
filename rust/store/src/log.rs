//! The Raft log as a node sees it.

use codec::log::{HardState, Identity, LogBase, LogEntry, chain_hash};

use crate::StoreError;

/// A place in the log: the entry there and the hash of the chain that ends with it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Position {
    pub index: u64,
    pub term: u64,
    pub chain: u64,
}

impl Position {
    pub fn of_base(base: &LogBase) -> Self {
        Self { index: base.index, term: base.term, chain: base.chain }
    }

    /// The position after `entry` has been appended here.
    pub fn after(self, entry: &LogEntry) -> Self {
        Self { index: entry.index, term: entry.term, chain: chain_hash(self.chain, entry) }
    }
}

/// Reads beside the one writer, from any thread.
pub trait LogReader: Send + Sync {
    /// Entries `[low, high)`, as many as fit into `bytes_max` bytes of data but at least one.
    /// Every record's checksum and the hash chain are verified.
    ///
    /// # Errors
    /// `Compacted`, `Unavailable`, `Damaged`, `Failed`.
    fn entries(&self, low: u64, high: u64, bytes_max: u64) -> Result<Vec<LogEntry>, StoreError>;
}

/// The log of one node. One owner writes; [`LogStore::reader`] lends reads to other threads.
pub trait LogStore: Send {
    fn identity(&self) -> Option<&Identity>;

    /// Saves who this node is; synced.
    fn save_identity(&mut self, identity: &Identity) -> Result<(), StoreError>;

    /// What stands before the first entry.
    fn base(&self) -> &LogBase;

    fn hard_state(&self) -> &HardState;

    /// The newest entry, or the base of an empty log.
    fn last(&self) -> Position;

    fn last_index(&self) -> u64 {
        self.last().index
    }

    fn last_term(&self) -> u64 {
        self.last().term
    }

    /// See [`LogReader::entries`].
    fn entries(&self, low: u64, high: u64, bytes_max: u64) -> Result<Vec<LogEntry>, StoreError>;

    /// Term of an entry or of the base; `None` outside.
    fn term(&self, index: u64) -> Result<Option<u64>, StoreError>;

    fn reader(&self) -> std::sync::Arc<dyn LogReader>;

    /// One atomic synced write: the entries, in place of everything from the first one's index on,
    /// and the hard state beside them. Without either it does nothing.
    ///
    /// # Errors
    /// `Rejected`, with nothing written, if the entries leave a gap, would replace a committed or
    /// compacted one, or the hard state goes back. Any other error poisons the store.
    fn append(&mut self, entries: &[LogEntry], hard_state: Option<&HardState>) -> Result<(), StoreError>;

    /// Forgets the entries up to and with `base_index`. Not synced: a crash may bring them back.
    /// An index at or below the base does nothing.
    ///
    /// # Errors
    /// `Unavailable` beyond the last entry; any failure poisons the store.
    fn truncate_prefix(&mut self, base_index: u64) -> Result<(), StoreError>;

    /// One synced write after a snapshot: the log is cleared, `base` (with the new state
    /// directory's name) and the hard state take its place, with the base's index as its commit.
    ///
    /// # Errors
    /// `Rejected` if the base would lie below the committed entries or the hard state goes back.
    fn install(&mut self, base: LogBase, hard_state: &HardState) -> Result<(), StoreError>;

    /// Brings the witness up to the last append if it is 100 ms behind. The writer calls it after
    /// it has answered an append, so that nobody waits for this second sync.
    fn tick_witness(&mut self) -> Result<(), StoreError>;

    /// Brings the witness up to the last append now: when the writer has been idle for 100 ms with
    /// [`LogStore::witness_behind`], and at shutdown.
    fn sync_witness(&mut self) -> Result<(), StoreError>;

    /// Whether entries are newer than the witness.
    fn witness_behind(&self) -> bool;
}

/// Checks what both implementations demand of an append; `before` is the position it follows.
pub(crate) fn check_append(
    base: &LogBase,
    last_index: u64,
    before: Option<Position>,
    saved: &HardState,
    entries: &[LogEntry],
    hard_state: Option<&HardState>,
) -> Result<(), StoreError> {
    if let Some(first) = entries.first() {
        if first.index <= base.index || first.index > last_index + 1 {
            let (low, high) = (base.index + 1, last_index + 1);
            return rejected(format!("an append at {} is outside [{low}, {high}]", first.index));
        }
        if first.index <= saved.commit && first.index <= last_index {
            return rejected(format!("an append at {} would replace entries committed up to {}", first.index, saved.commit));
        }
        if before.is_none_or(|before| before.term > first.term) {
            return rejected(format!("entry {} cannot follow {before:?}", place(first)));
        }
        for pair in entries.windows(2) {
            if pair[1].index != pair[0].index + 1 || pair[1].term < pair[0].term {
                return rejected(format!("entry {} cannot follow entry {}", place(&pair[1]), place(&pair[0])));
            }
        }
    }
    let Some(new) = hard_state else { return Ok(()) };
    check_hard_state(saved, new)?;
    let last = entries.last().map_or(last_index, |e| e.index);
    if new.commit > last {
        return rejected(format!("commit {} is beyond the last entry {last}", new.commit));
    }
    Ok(())
}

/// Checks what both implementations demand of an installed snapshot, and returns the hard state to
/// save: its commit is the snapshot's index, as nothing lies beyond it yet.
pub(crate) fn check_install(saved: &HardState, base: &LogBase, new: &HardState) -> Result<HardState, StoreError> {
    let new = HardState { commit: base.index, ..new.clone() };
    check_hard_state(saved, &new)?;
    match base.state_dir.is_empty() {
        true => Err(StoreError::Rejected("the base names no state directory".to_owned())),
        false => Ok(new),
    }
}

fn check_hard_state(saved: &HardState, new: &HardState) -> Result<(), StoreError> {
    let vote_changed = new.term == saved.term && saved.vote != 0 && new.vote != saved.vote;
    if new.term < saved.term || new.commit < saved.commit || vote_changed {
        return rejected(format!("the hard state cannot go from {saved:?} to {new:?}"));
    }
    Ok(())
}

fn place(entry: &LogEntry) -> String {
    format!("(index {}, term {})", entry.index, entry.term)
}

fn rejected(what: String) -> Result<(), StoreError> {
    Err(StoreError::Rejected(what))
}
