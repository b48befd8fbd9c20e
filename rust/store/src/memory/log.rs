//! A log in memory. Appends are durable on return; a prefix truncation is not until the next one.

use std::collections::VecDeque;
use std::sync::Arc;

use codec::log::{HardState, Identity, LogBase, LogEntry};
use parking_lot::RwLock;

use crate::log::{check_append, check_install};
use crate::{LogReader, LogStore, Position, StoreError};

/// What has been written, in order; shared with readers.
#[derive(Clone, Debug, Default)]
struct Written {
    base: LogBase,
    /// Entry and position; the first is `base.index + 1`.
    entries: VecDeque<(LogEntry, Position)>,
}

/// See [`LogStore`].
#[derive(Debug)]
pub struct MemoryLog {
    identity: Option<Identity>,
    hard_state: HardState,
    base: LogBase,
    written: Arc<RwLock<Written>>,
    /// Base and entries that an unsynced truncation took away: a crash may bring them back.
    unsynced: Option<Written>,
    /// What a crash brings back instead of a hard state that is not synced: only in a mutant.
    synced_hard_state: Option<HardState>,
    behind: bool,
    poisoned: Option<String>,
    fail_next_write: bool,
}

impl MemoryLog {
    /// An empty log whose base names `state_dir`.
    pub fn new(state_dir: &str) -> Self {
        let base = LogBase { state_dir: state_dir.to_owned(), ..LogBase::default() };
        Self {
            identity: None,
            hard_state: HardState::default(),
            written: Arc::new(RwLock::new(Written { base: base.clone(), entries: VecDeque::new() })),
            base,
            unsynced: None,
            synced_hard_state: None,
            behind: false,
            poisoned: None,
            fail_next_write: false,
        }
    }

    /// The log as the next process finds it after a power loss: nothing unsynced is left.
    pub fn crash(self) -> Self {
        let mut written = self.written.read().clone();
        if let Some(unsynced) = self.unsynced {
            let mut entries = unsynced.entries;
            entries.append(&mut written.entries);
            written = Written { base: unsynced.base, entries };
        }
        Self {
            base: written.base.clone(),
            written: Arc::new(RwLock::new(written)),
            identity: self.identity,
            hard_state: self.synced_hard_state.unwrap_or(self.hard_state),
            unsynced: None,
            synced_hard_state: None,
            behind: false,
            poisoned: None,
            fail_next_write: false,
        }
    }

    /// The log as the next process finds it when only the process ended: what the kernel had taken
    /// is still there, and may still be lost to a power loss.
    pub fn reopen(self) -> Self {
        Self { behind: false, poisoned: None, fail_next_write: false, ..self }
    }

    /// What is left for a reader that takes the bad record at `index` for the end of the log.
    pub fn lose_tail(&mut self, index: u64) {
        let mut written = self.written.write();
        let keep = index.saturating_sub(written.base.index + 1) as usize;
        written.entries.truncate(keep);
        self.hard_state.commit = self.hard_state.commit.min(written.last().index);
    }

    /// Makes the next write fail and poison the store.
    pub fn fail_next_write(&mut self) {
        self.fail_next_write = true;
    }

    /// Raises a commit index saved below what the state has applied, as opening a directory does.
    pub fn raise_commit(&mut self, applied: u64) -> Result<(), StoreError> {
        match applied > self.hard_state.commit {
            true => self.append(&[], Some(&HardState { commit: applied, ..self.hard_state.clone() })),
            false => Ok(()),
        }
    }

    fn usable(&self) -> Result<(), StoreError> {
        match &self.poisoned {
            None => Ok(()),
            Some(cause) => Err(StoreError::Poisoned(cause.clone())),
        }
    }

    /// Where a disk would be written.
    fn touch_disk(&mut self) -> Result<(), StoreError> {
        if !self.fail_next_write {
            return Ok(());
        }
        let failure = StoreError::failed("cannot write the log", "injected failure");
        self.poisoned = Some(failure.to_string());
        Err(failure)
    }
}

impl Written {
    fn last(&self) -> Position {
        self.entries.back().map_or_else(|| Position::of_base(&self.base), |(_, position)| *position)
    }

    fn position(&self, index: u64) -> Option<Position> {
        if index == self.base.index {
            return Some(Position::of_base(&self.base));
        }
        let offset = index.checked_sub(self.base.index + 1)?;
        self.entries.get(offset as usize).map(|(_, position)| *position)
    }
}

impl LogReader for RwLock<Written> {
    fn entries(&self, low: u64, high: u64, bytes_max: u64) -> Result<Vec<LogEntry>, StoreError> {
        if low >= high {
            return Ok(Vec::new());
        }
        let written = self.read();
        let (base, last) = (written.base.index, written.last().index);
        if low <= base {
            return Err(StoreError::Compacted { low, base });
        }
        let mut found = Vec::new();
        let mut bytes = 0u64;
        for (entry, _) in written.entries.range((low - base - 1).min(last - base) as usize..).take((high - low) as usize) {
            bytes += entry.data.len() as u64;
            if bytes > bytes_max && !found.is_empty() {
                return Ok(found);
            }
            found.push(entry.clone());
        }
        match high > last + 1 {
            true => Err(StoreError::Unavailable { high, last }),
            false => Ok(found),
        }
    }
}

impl LogStore for MemoryLog {
    fn identity(&self) -> Option<&Identity> {
        self.identity.as_ref()
    }

    fn save_identity(&mut self, identity: &Identity) -> Result<(), StoreError> {
        self.usable()?;
        self.touch_disk()?;
        self.identity = Some(identity.clone());
        self.unsynced = None;
        Ok(())
    }

    fn base(&self) -> &LogBase {
        &self.base
    }

    fn hard_state(&self) -> &HardState {
        &self.hard_state
    }

    fn last(&self) -> Position {
        self.written.read().last()
    }

    fn entries(&self, low: u64, high: u64, bytes_max: u64) -> Result<Vec<LogEntry>, StoreError> {
        self.usable()?;
        self.written.entries(low, high, bytes_max)
    }

    fn term(&self, index: u64) -> Result<Option<u64>, StoreError> {
        self.usable()?;
        Ok(self.written.read().position(index).map(|position| position.term))
    }

    fn reader(&self) -> Arc<dyn LogReader> {
        self.written.clone()
    }

    fn append(&mut self, entries: &[LogEntry], hard_state: Option<&HardState>) -> Result<(), StoreError> {
        self.usable()?;
        let before = self.written.read().position(entries.first().map_or(0, |first| first.index).saturating_sub(1));
        check_append(&self.base, self.last_index(), before, &self.hard_state, entries, hard_state)?;
        if entries.is_empty() && hard_state.is_none() {
            return Ok(());
        }
        self.touch_disk()?;
        self.unsynced = None;
        self.synced_hard_state = None;
        if let (Some(first), Some(before)) = (entries.first(), before) {
            let mut written = self.written.write();
            written.entries.truncate((first.index - self.base.index - 1) as usize);
            let mut position = before;
            for entry in entries {
                position = position.after(entry);
                written.entries.push_back((entry.clone(), position));
            }
            self.behind = true;
        }
        if let Some(hard_state) = hard_state {
            if mutant::active("vote-not-durable") && entries.is_empty() {
                return Ok(());
            }
            if mutant::active("hard-state-apart") && !entries.is_empty() {
                self.synced_hard_state = Some(self.hard_state.clone());
            }
            self.hard_state = hard_state.clone();
        }
        Ok(())
    }

    fn truncate_prefix(&mut self, base_index: u64) -> Result<(), StoreError> {
        self.usable()?;
        if base_index <= self.base.index {
            return Ok(());
        }
        let Some(position) = self.written.read().position(base_index) else {
            return Err(StoreError::Unavailable { high: base_index + 1, last: self.last_index() });
        };
        self.touch_disk()?;
        let state_dir = self.base.state_dir.clone();
        let base = LogBase { index: position.index, term: position.term, chain: position.chain, state_dir };
        let mut written = self.written.write();
        let cut = written.entries.drain(..(base_index - self.base.index) as usize);
        match &mut self.unsynced {
            Some(unsynced) => unsynced.entries.extend(cut),
            None => self.unsynced = Some(Written { base: self.base.clone(), entries: cut.collect() }),
        }
        written.base = base.clone();
        drop(written);
        self.base = base;
        Ok(())
    }

    fn install(&mut self, base: LogBase, hard_state: &HardState) -> Result<(), StoreError> {
        self.usable()?;
        let hard_state = check_install(&self.hard_state, &base, hard_state)?;
        self.touch_disk()?;
        *self.written.write() = Written { base: base.clone(), entries: VecDeque::new() };
        self.base = base;
        self.hard_state = hard_state;
        self.unsynced = None;
        self.synced_hard_state = None;
        self.behind = false;
        Ok(())
    }

    fn tick_witness(&mut self) -> Result<(), StoreError> {
        self.usable()
    }

    fn sync_witness(&mut self) -> Result<(), StoreError> {
        self.usable()?;
        self.behind = false;
        Ok(())
    }

    fn witness_behind(&self) -> bool {
        self.behind
    }
}
