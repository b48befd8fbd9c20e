//! One suite for both implementations of the stores: what a node relies on, crashes included. A
//! case is written once, over a disk that can be opened and crashed.

#![allow(clippy::unwrap_used)]

mod common;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use codec::log::LogBase;
use codec::row::{Cf, StateRead};
use common::*;
use store::memory::{MemoryDisk, MemoryLog, MemoryState};
use store::rocks::{DataDirectory, RocksLog, RocksState};
use store::{LogStore, StateStore, StoreError, meta_of, state_hash};

/// A node's disk with its stores open.
trait Disk: Sized {
    type Log: LogStore;
    type State: StateStore;
    fn new() -> Self;
    fn log(&mut self) -> &mut Self::Log;
    fn state(&self) -> &Self::State;
    /// Loses what was not synced or flushed, and opens again.
    fn crash(self) -> Self;
    /// A path for a checkpoint, and opening what was written there.
    fn checkpoint_path(&self) -> PathBuf;
    fn open_checkpoint(&self, dir: &Path) -> Self::State;
}

struct Memory {
    disk: MemoryDisk,
    log: MemoryLog,
    state: MemoryState,
}

impl Disk for Memory {
    type Log = MemoryLog;
    type State = MemoryState;

    fn new() -> Self {
        let disk = MemoryDisk::default();
        Self { state: MemoryState::new(&disk), log: MemoryLog::new("state-1"), disk }
    }

    fn log(&mut self) -> &mut MemoryLog {
        &mut self.log
    }

    fn state(&self) -> &MemoryState {
        &self.state
    }

    fn crash(self) -> Self {
        let (mut log, state) = (self.log.crash(), self.state.crash().unwrap());
        log.raise_commit(state.flushed_index()).unwrap();
        Self { log, state, disk: self.disk }
    }

    fn checkpoint_path(&self) -> PathBuf {
        PathBuf::from("snapshots/1")
    }

    fn open_checkpoint(&self, dir: &Path) -> MemoryState {
        MemoryState::open(&self.disk, dir).unwrap()
    }
}

/// A process that ends without closing anything: its files are copied as they are, which is what
/// the next process would find, and then it is dropped.
struct Rocks {
    folder: tempfile::TempDir,
    log: RocksLog,
    state: Arc<RocksState>,
    directory: DataDirectory,
}

impl Rocks {
    fn open(folder: tempfile::TempDir) -> Self {
        let opened = open(folder.path()).unwrap();
        Self { folder, log: opened.log, state: opened.state, directory: opened.directory }
    }
}

fn copy_tree(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => copy_tree(&entry.path(), &target),
            false => std::fs::copy(entry.path(), target).map(|_| ()).unwrap(),
        }
    }
}

impl Disk for Rocks {
    type Log = RocksLog;
    type State = RocksState;

    fn new() -> Self {
        Self::open(tempfile::tempdir().unwrap())
    }

    fn log(&mut self) -> &mut RocksLog {
        &mut self.log
    }

    fn state(&self) -> &RocksState {
        &self.state
    }

    fn crash(self) -> Self {
        let copy = tempfile::tempdir().unwrap();
        copy_tree(self.folder.path(), copy.path());
        drop(self);
        Self::open(copy)
    }

    fn checkpoint_path(&self) -> PathBuf {
        self.directory.snapshot_path(1)
    }

    fn open_checkpoint(&self, dir: &Path) -> RocksState {
        // A receiver has it as a state directory of its own.
        let (name, path) = self.directory.new_state_dir().unwrap();
        copy_tree(dir, &path);
        self.directory.sync_state_dir(&name).unwrap();
        self.directory.open_state(&name).unwrap()
    }
}

/// A disk with an identity and entries 1..=5 of term 1, two of them committed.
fn with_five<D: Disk>() -> D {
    let mut disk = D::new();
    disk.log().save_identity(&identity()).unwrap();
    disk.log().append(&entries(1..=5, 1), Some(&hard_state(1, 7, 2))).unwrap();
    disk
}

fn terms(log: &impl LogStore, low: u64, high: u64) -> Vec<u64> {
    log.entries(low, high, u64::MAX).unwrap().iter().map(|e| e.term).collect()
}

fn a_new_log_is_empty<D: Disk>() {
    let mut disk = D::new();
    let log = disk.log();
    assert_eq!((log.last_index(), log.last_term(), log.base().index), (0, 0, 0));
    assert_eq!(log.base().state_dir, "state-1");
    assert_eq!(log.term(0).unwrap(), Some(0));
    assert_eq!(log.term(1).unwrap(), None);
    assert!(log.identity().is_none());
}

fn appends_survive_a_crash<D: Disk>() {
    let mut disk = with_five::<D>().crash();
    let log = disk.log();
    assert_eq!(log.identity(), Some(&identity()));
    assert_eq!(log.hard_state(), &hard_state(1, 7, 2));
    assert_eq!(log.entries(1, 6, u64::MAX).unwrap(), entries(1..=5, 1));
    assert_eq!((log.last_index(), log.last_term()), (5, 1));
    log.append(&entries(6..=7, 2), Some(&hard_state(2, 0, 5))).unwrap();
    let mut disk = disk.crash();
    assert_eq!(terms(disk.log(), 4, 8), [1, 1, 2, 2]);
}

fn a_conflicting_tail_is_replaced_whole<D: Disk>() {
    let mut disk = with_five::<D>();
    disk.log().sync_witness().unwrap();
    disk.log().append(&[entry(4, 3)], Some(&hard_state(3, 9, 2))).unwrap();
    let check = |log: &mut D::Log| {
        assert_eq!(log.last_index(), 4);
        assert_eq!(terms(log, 1, 5), [1, 1, 1, 3]);
        assert_eq!(log.term(5).unwrap(), None);
        assert_eq!(log.hard_state(), &hard_state(3, 9, 2));
    };
    check(disk.log());
    check(disk.crash().log());
}

fn reads_have_bounds<D: Disk>() {
    let mut disk = with_five::<D>();
    let size = entry(1, 1).data.len() as u64;
    let log = disk.log();
    assert_eq!(log.entries(2, 6, 2 * size).unwrap(), entries(2..=3, 1));
    assert_eq!(log.entries(2, 6, 0).unwrap(), entries(2..=2, 1), "one entry is always returned");
    assert_eq!(log.entries(3, 3, u64::MAX).unwrap(), []);
    assert_eq!(log.entries(4, 8, u64::MAX), Err(StoreError::Unavailable { high: 8, last: 5 }));
    assert_eq!(log.entries(0, 2, u64::MAX), Err(StoreError::Compacted { low: 0, base: 0 }));
    assert_eq!(log.reader().entries(1, 6, u64::MAX).unwrap(), entries(1..=5, 1));
}

fn a_rule_broken_by_the_caller_writes_nothing<D: Disk>() {
    let mut disk = with_five::<D>();
    let log = disk.log();
    let mut refused = |entries: &[codec::log::LogEntry], state: Option<codec::log::HardState>| {
        let error = log.append(entries, state.as_ref()).unwrap_err();
        assert!(matches!(error, StoreError::Rejected(_)), "{error}");
    };
    refused(&[entry(7, 1)], None); // a gap
    refused(&[entry(2, 2)], None); // entry 2 is committed
    refused(&[entry(6, 1), entry(8, 1)], None); // a gap inside
    refused(&[entry(6, 0)], None); // terms go back
    refused(&[], Some(hard_state(0, 7, 2))); // the term goes back
    refused(&[], Some(hard_state(1, 8, 2))); // a second vote in one term
    refused(&[], Some(hard_state(1, 7, 1))); // the commit goes back
    refused(&[], Some(hard_state(1, 7, 6))); // a commit beyond the log
    assert_eq!(disk.crash().log().entries(1, 6, u64::MAX).unwrap(), entries(1..=5, 1));
}

fn a_cut_prefix_keeps_the_rest_readable<D: Disk>() {
    let mut disk = with_five::<D>();
    disk.log().append(&[], Some(&hard_state(1, 7, 5))).unwrap();
    disk.state().write(&[meta(4)]).unwrap();
    assert_eq!(disk.state().flush().unwrap(), 4);
    disk.log().truncate_prefix(3).unwrap();
    disk.log().truncate_prefix(2).unwrap();
    let check = |log: &mut D::Log| {
        assert_eq!((log.base().index, log.base().term, log.base().state_dir.as_str()), (3, 1, "state-1"));
        assert_eq!(log.term(3).unwrap(), Some(1));
        assert_eq!(log.term(2).unwrap(), None);
        assert_eq!(log.entries(3, 5, u64::MAX), Err(StoreError::Compacted { low: 3, base: 3 }));
        assert_eq!(log.reader().entries(2, 5, 9), Err(StoreError::Compacted { low: 2, base: 3 }));
        assert_eq!(log.entries(4, 6, u64::MAX).unwrap(), entries(4..=5, 1));
    };
    check(disk.log());
    assert_eq!(disk.log().truncate_prefix(6), Err(StoreError::Unavailable { high: 7, last: 5 }));
    // The next append makes the cut durable with itself.
    disk.log().append(&[entry(6, 1)], None).unwrap();
    let mut disk = disk.crash();
    check(disk.log());
    disk.log().truncate_prefix(4).unwrap();
    let mut disk = disk.crash();
    assert!([3, 4].contains(&disk.log().base().index), "an unsynced cut may come back, or not");
    assert_eq!(terms(disk.log(), 5, 7), [1, 1]);
}

fn an_install_clears_the_log<D: Disk>() {
    let mut disk = with_five::<D>();
    disk.log().sync_witness().unwrap();
    disk.state().write(&[meta(4)]).unwrap();
    disk.state().flush().unwrap();
    // Index 4 lies below the witness: the tail that goes was never committed.
    let base = LogBase { index: 4, term: 2, chain: 99, state_dir: "state-1".to_owned() };
    disk.log().install(base.clone(), &hard_state(2, 0, 4)).unwrap();
    let check = |log: &mut D::Log| {
        assert_eq!(log.base(), &base);
        assert_eq!((log.last_index(), log.last_term()), (4, 2));
        assert_eq!(log.hard_state(), &hard_state(2, 0, 4));
        assert_eq!(log.entries(4, 5, u64::MAX), Err(StoreError::Compacted { low: 4, base: 4 }));
    };
    check(disk.log());
    let mut disk = disk.crash();
    check(disk.log());
    disk.log().append(&[entry(5, 2)], None).unwrap();
    assert_eq!(terms(disk.crash().log(), 5, 6), [2]);
}

fn an_install_never_goes_back<D: Disk>() {
    let mut disk = with_five::<D>();
    let base = LogBase { index: 1, term: 1, chain: 0, state_dir: "state-2".to_owned() };
    assert!(matches!(disk.log().install(base, &hard_state(1, 7, 1)), Err(StoreError::Rejected(_))));
    assert_eq!(disk.log().last_index(), 5);
}

fn rows_are_read_in_key_order<D: Disk>() {
    let disk = D::new();
    let rows = [b"b".as_slice(), b"ab", b"a\xff", b"a\xff\xff\x01", b"a", b"\xff\xff", b"\xff"];
    let changes: Vec<_> = rows.iter().map(|key| put(Cf::Index, key, key)).collect();
    disk.state().write(&changes).unwrap();
    let scan = |rows: &dyn StateRead, prefix: &[u8], start: &[u8], limit: usize| {
        let mut found = Vec::new();
        let mut visit = |key: &[u8], value: &[u8]| {
            assert_eq!(key, value);
            found.push(key.to_vec());
            found.len() < limit
        };
        rows.scan(Cf::Index, prefix, start, &mut visit).unwrap();
        found
    };
    let view = disk.state().view();
    disk.state().flush().unwrap();
    for rows in [disk.state() as &dyn StateRead, view.as_ref()] {
        assert_eq!(scan(rows, b"a", b"", 9), [b"a".as_slice(), b"ab", b"a\xff", b"a\xff\xff\x01"]);
        assert_eq!(scan(rows, b"a\xff", b"", 9), [b"a\xff".as_slice(), b"a\xff\xff\x01"]);
        assert_eq!(scan(rows, b"a", b"ab", 2), [b"ab".as_slice(), b"a\xff"]);
        assert_eq!(scan(rows, b"\xff", b"", 9), [b"\xff".as_slice(), b"\xff\xff"]);
        assert_eq!(scan(rows, b"", b"", 9).len(), 7);
        assert_eq!(scan(rows, b"c", b"", 9).len(), 0);
        assert_eq!(rows.get(Cf::Index, b"ab").unwrap().as_deref(), Some(b"ab".as_slice()));
        assert_eq!(rows.get(Cf::Task, b"ab").unwrap(), None);
    }
}

fn a_view_stays_at_its_moment<D: Disk>() {
    let disk = D::new();
    disk.state().write(&[put(Cf::Key, b"k", b"1"), meta(1)]).unwrap();
    let view = disk.state().view();
    disk.state().write(&[put(Cf::Key, b"k", b"2"), put(Cf::Key, b"l", b"2"), meta(2)]).unwrap();
    assert_eq!(view.get(Cf::Key, b"k").unwrap().unwrap(), b"1");
    assert_eq!(view.get(Cf::Key, b"l").unwrap(), None);
    assert_eq!(meta_of(view.as_ref()).unwrap().unwrap().applied_index, 1);
    assert_eq!(disk.state().get(Cf::Key, b"k").unwrap().unwrap(), b"2");
}

/// Unflushed rows go together over all column families, and the applied index with them.
fn a_crash_takes_unflushed_rows_together<D: Disk>() {
    let disk = with_five::<D>();
    let write = |index: u64| {
        let mut changes: Vec<_> = Cf::ALL[1..].iter().map(|cf| put(*cf, b"row", &index.to_be_bytes())).collect();
        changes.push(meta(index));
        disk.state().write(&changes).unwrap();
    };
    write(1);
    write(2);
    assert_eq!(disk.state().flushed_index(), 0);
    assert_eq!(disk.state().flush().unwrap(), 2);
    write(3);
    disk.state().write(&[delete(Cf::Key, b"row")]).unwrap();
    assert_eq!(disk.state().flushed_index(), 2);
    let disk = disk.crash();
    assert_eq!(disk.state().flushed_index(), 2);
    assert_eq!(meta_of(disk.state()).unwrap().unwrap().applied_index, 2);
    for cf in &Cf::ALL[1..] {
        assert_eq!(disk.state().get(*cf, b"row").unwrap().unwrap(), 2u64.to_be_bytes(), "{}", cf.name());
    }
}

fn a_commit_below_the_applied_index_is_raised<D: Disk>() {
    let disk = with_five::<D>();
    disk.state().write(&[meta(4)]).unwrap();
    disk.state().flush().unwrap();
    let mut disk = disk.crash();
    assert_eq!(disk.log().hard_state(), &hard_state(1, 7, 4));
}

/// A checkpoint holds unflushed rows too, and later writes do not reach it.
fn a_checkpoint_is_a_copy_of_one_moment<D: Disk>() {
    let disk = D::new();
    disk.state().write(&[put(Cf::Key, b"k", b"1"), meta(1)]).unwrap();
    disk.state().flush().unwrap();
    disk.state().write(&[put(Cf::Blob, b"b", b"2"), meta(2)]).unwrap();
    let path = disk.checkpoint_path();
    disk.state().checkpoint(&path).unwrap();
    let hash = state_hash(disk.state()).unwrap();
    disk.state().write(&[delete(Cf::Key, b"k"), meta(3)]).unwrap();
    assert!(disk.state().checkpoint(&path).is_err(), "a checkpoint never overwrites one");
    let copy = disk.open_checkpoint(&path);
    assert_eq!(meta_of(&copy).unwrap().unwrap().applied_index, 2);
    assert_eq!(copy.flushed_index(), 2);
    assert_eq!(state_hash(&copy).unwrap(), hash);
    assert_ne!(state_hash(disk.state()).unwrap(), hash);
}

/// The hash is the sum over hashed rows: order and history do not matter, index rows do not count.
fn the_state_hash_is_a_sum_of_rows<D: Disk>() {
    let disk = D::new();
    assert_eq!(state_hash(disk.state()).unwrap(), 0);
    disk.state().write(&[put(Cf::Key, b"k", b"old"), put(Cf::Key, b"k", b"1"), put(Cf::Task, b"k", b"1")]).unwrap();
    disk.state().write(&[put(Cf::Index, b"i", b""), meta(1), put(Cf::Event, b"e", b"x"), delete(Cf::Event, b"e")]).unwrap();
    let expected = codec::row::row_hash(Cf::Key, b"k", b"1").wrapping_add(codec::row::row_hash(Cf::Task, b"k", b"1"));
    assert_eq!(state_hash(disk.state()).unwrap(), expected);
}

macro_rules! conformance {
    ($($case:ident),* $(,)?) => {
        mod memory {
            $(#[test] fn $case() { super::$case::<super::Memory>(); })*
        }
        mod rocks {
            $(#[test] fn $case() { super::$case::<super::Rocks>(); })*
        }
    };
}

conformance!(
    a_new_log_is_empty,
    appends_survive_a_crash,
    a_conflicting_tail_is_replaced_whole,
    reads_have_bounds,
    a_rule_broken_by_the_caller_writes_nothing,
    a_cut_prefix_keeps_the_rest_readable,
    an_install_clears_the_log,
    an_install_never_goes_back,
    rows_are_read_in_key_order,
    a_view_stays_at_its_moment,
    a_crash_takes_unflushed_rows_together,
    a_commit_below_the_applied_index_is_raised,
    a_checkpoint_is_a_copy_of_one_moment,
    the_state_hash_is_a_sum_of_rows,
);
