//! The log as Raft sees it: the newest entries in memory, older ones on disk.
//!
//! Raft asks for entries synchronously. Whatever is not yet applied is always in memory; for a
//! follower that is further behind, the answer is "temporarily unavailable", the wanted range is
//! noted, and the caller reads it from disk and retries.

use std::cell::RefCell;
use std::collections::VecDeque;

use codec::log::{ConfState, HardState};
use raft::eraftpb::{Entry, Snapshot};
use raft::{Error, GetEntriesContext, RaftState, Result, StorageError};

use crate::convert::{from_raft_configuration, to_raft_configuration, to_raft_hard_state};
use crate::membership::has_member;

/// A range that must come from disk before Raft can send it.
pub(crate) struct WantedEntries {
    pub low: u64,
    pub high: u64,
    pub bytes_max: u64,
    pub context: GetEntriesContext,
}

pub(crate) struct Tail {
    hard_state: HardState,
    configuration: ConfState,
    base_index: u64,
    base_term: u64,
    /// First index of each term's run, oldest first; covers base+1 ..= last.
    term_starts: Vec<(u64, u64)>,
    /// Contiguous up to the last index.
    entries: VecDeque<Entry>,
    entries_bytes: usize,
    last_index: u64,
    /// Read back from disk for the retry of one send: consumed by it.
    fetched: RefCell<Vec<Entry>>,
    wanted: RefCell<Vec<WantedEntries>>,
    snapshot: Option<Snapshot>,
    snapshot_wanted: RefCell<bool>,
}

impl Tail {
    pub fn new(hard_state: HardState, configuration: ConfState, base: (u64, u64), entries: Vec<Entry>) -> Self {
        let mut tail = Self {
            hard_state,
            configuration,
            base_index: base.0,
            base_term: base.1,
            term_starts: Vec::new(),
            entries: VecDeque::new(),
            entries_bytes: 0,
            last_index: base.0,
            fetched: RefCell::default(),
            wanted: RefCell::default(),
            snapshot: None,
            snapshot_wanted: RefCell::new(false),
        };
        tail.append(entries);
        tail
    }

    /// Appends, replacing whatever stands from the first index on.
    pub fn append(&mut self, entries: Vec<Entry>) {
        let Some(first) = entries.first() else { return };
        let first_index = first.index;
        assert!(first_index > self.base_index, "entry {first_index} is below the log's base {}", self.base_index);
        assert!(first_index <= self.last_index + 1, "gap: entry {first_index} after {}", self.last_index);
        while self.entries.back().is_some_and(|e| e.index >= first_index) {
            if let Some(entry) = self.entries.pop_back() {
                self.entries_bytes -= cost(&entry);
            }
        }
        while self.term_starts.last().is_some_and(|(start, _)| *start >= first_index) {
            self.term_starts.pop();
        }
        self.last_index = first_index - 1;
        for entry in entries {
            assert_eq!(entry.index, self.last_index + 1, "entries must be contiguous");
            if self.term_starts.last().is_none_or(|(_, term)| *term != entry.term) {
                self.term_starts.push((entry.index, entry.term));
            }
            self.last_index = entry.index;
            self.entries_bytes += cost(&entry);
            self.entries.push_back(entry);
        }
    }

    /// Drops applied entries from memory beyond the byte bound.
    pub fn evict(&mut self, applied: u64, bytes_max: usize) {
        while self.entries_bytes > bytes_max && self.entries.front().is_some_and(|e| e.index < applied) {
            if let Some(entry) = self.entries.pop_front() {
                self.entries_bytes -= cost(&entry);
            }
        }
    }

    /// Forgets everything up to and with `index` (already cut from the disk's log as well).
    pub fn truncate_prefix(&mut self, index: u64) {
        if index <= self.base_index {
            return;
        }
        assert!(index <= self.last_index, "cannot cut the log at {index}, behind its end {}", self.last_index);
        self.base_term = self.term_of(index).expect("the index is inside the log");
        self.base_index = index;
        while self.entries.front().is_some_and(|e| e.index <= index) {
            if let Some(entry) = self.entries.pop_front() {
                self.entries_bytes -= cost(&entry);
            }
        }
        let keep_from = self.term_starts.iter().rposition(|(start, _)| *start <= index).unwrap_or(0);
        self.term_starts.drain(..keep_from);
    }

    /// Starts over behind an installed snapshot.
    pub fn install(&mut self, index: u64, term: u64, configuration: ConfState) {
        self.base_index = index;
        self.base_term = term;
        self.last_index = index;
        self.configuration = configuration;
        self.entries.clear();
        self.entries_bytes = 0;
        self.term_starts.clear();
    }

    pub fn offer_snapshot(&mut self, snapshot: Snapshot) {
        self.snapshot = Some(snapshot);
        *self.snapshot_wanted.borrow_mut() = false;
    }

    pub fn withdraw_snapshot(&mut self, index: u64) {
        self.snapshot.take_if(|s| s.get_metadata().index == index);
    }

    pub fn take_snapshot_wanted(&self) -> bool {
        std::mem::take(&mut self.snapshot_wanted.borrow_mut())
    }

    pub fn take_wanted(&self) -> Vec<WantedEntries> {
        std::mem::take(&mut self.wanted.borrow_mut())
    }

    pub fn put_fetched(&self, entries: Vec<Entry>) {
        *self.fetched.borrow_mut() = entries;
    }

    pub fn drop_fetched(&self) {
        self.fetched.borrow_mut().clear();
    }

    pub fn base(&self) -> (u64, u64) {
        (self.base_index, self.base_term)
    }

    fn term_of(&self, index: u64) -> Option<u64> {
        if index == self.base_index {
            return Some(self.base_term);
        }
        if index < self.base_index || index > self.last_index {
            return None;
        }
        let at = self.term_starts.partition_point(|(start, _)| *start <= index);
        self.term_starts.get(at.checked_sub(1)?).map(|(_, term)| *term)
    }
}

fn cost(entry: &Entry) -> usize {
    entry.data.len() + 64
}

fn limited(entries: impl Iterator<Item = Entry>, bytes_max: u64) -> Vec<Entry> {
    let mut taken = Vec::new();
    let mut bytes = 0u64;
    for entry in entries {
        bytes += entry.data.len() as u64 + 16;
        if bytes > bytes_max && !taken.is_empty() {
            break;
        }
        taken.push(entry);
    }
    taken
}

impl raft::Storage for Tail {
    fn initial_state(&self) -> Result<RaftState> {
        Ok(RaftState::new(to_raft_hard_state(&self.hard_state), to_raft_configuration(&self.configuration)))
    }

    fn entries(&self, low: u64, high: u64, max_size: impl Into<Option<u64>>, context: GetEntriesContext) -> Result<Vec<Entry>> {
        let bytes_max = max_size.into().unwrap_or(u64::MAX);
        if low <= self.base_index {
            return Err(Error::Store(StorageError::Compacted));
        }
        assert!(high <= self.last_index + 1, "entries up to {high} asked, the log ends at {}", self.last_index);
        if let Some(front) = self.entries.front().map(|e| e.index)
            && low >= front
        {
            let skip = (low - front) as usize;
            let count = (high - low) as usize;
            return Ok(limited(self.entries.iter().skip(skip).take(count).cloned(), bytes_max));
        }
        {
            let fetched = self.fetched.borrow();
            if fetched.first().is_some_and(|e| e.index <= low) && fetched.last().is_some_and(|e| e.index >= low) {
                return Ok(limited(fetched.iter().filter(|e| (low..high).contains(&e.index)).cloned(), bytes_max));
            }
        }
        if context.can_async() {
            self.wanted.borrow_mut().push(WantedEntries { low, high, bytes_max: bytes_max.min(4 << 20), context });
            return Err(Error::Store(StorageError::LogTemporarilyUnavailable));
        }
        Err(Error::Store(StorageError::Unavailable))
    }

    fn term(&self, index: u64) -> Result<u64> {
        if index < self.base_index {
            return Err(Error::Store(StorageError::Compacted));
        }
        self.term_of(index).ok_or(Error::Store(StorageError::Unavailable))
    }

    fn first_index(&self) -> Result<u64> {
        Ok(self.base_index + 1)
    }

    fn last_index(&self) -> Result<u64> {
        Ok(self.last_index)
    }

    /// A member that joined after the snapshot was made would refuse it: it must be in its configuration.
    fn snapshot(&self, request_index: u64, to: u64) -> Result<Snapshot> {
        if let Some(snapshot) = &self.snapshot {
            let index = snapshot.get_metadata().index;
            let knows = has_member(&from_raft_configuration(snapshot.get_metadata().get_conf_state()), to);
            if index >= request_index && index >= self.base_index && knows {
                return Ok(snapshot.clone());
            }
        }
        *self.snapshot_wanted.borrow_mut() = true;
        Err(Error::Store(StorageError::SnapshotTemporarilyUnavailable))
    }
}
