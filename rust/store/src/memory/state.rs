//! A state store in memory. Rows count as durable from a flush on; a crash takes back all rows
//! written since, over all column families together.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use codec::row::{Cf, Change, ReadError, StateRead};
use parking_lot::Mutex;

use crate::{StateStore, StoreError, meta_of};

type Family = BTreeMap<Vec<u8>, Vec<u8>>;

/// Column families in the order of [`Cf::ALL`]. Cloning is cheap: a family is copied by the first
/// write after it.
#[derive(Clone, Debug, Default)]
struct Rows([Arc<Family>; Cf::ALL.len()]);

/// The directories of one node's disk: what checkpoints were written, by path.
#[derive(Clone, Debug, Default)]
pub struct MemoryDisk(Arc<Mutex<BTreeMap<PathBuf, Rows>>>);

/// See [`StateStore`].
#[derive(Debug)]
pub struct MemoryState {
    disk: MemoryDisk,
    now: Mutex<Now>,
}

#[derive(Debug, Default)]
struct Now {
    rows: Rows,
    /// What stood in place of each write since the last flush, oldest first: what a crash brings back.
    undo: Vec<Change>,
    flushed_index: u64,
    poisoned: Option<String>,
    fail_next_write: bool,
}

impl MemoryDisk {
    /// Copies a directory, as a transfer between nodes does. False if there is none.
    pub fn copy(&self, from: &Path, to: &MemoryDisk, at: &Path) -> bool {
        let found = self.0.lock().get(from).cloned();
        found.is_some_and(|rows| {
            to.0.lock().insert(at.to_owned(), rows);
            true
        })
    }

    pub fn remove(&self, dir: &Path) {
        self.0.lock().remove(dir);
    }
}

impl MemoryState {
    /// An empty state on `disk`.
    pub fn new(disk: &MemoryDisk) -> Self {
        Self { disk: disk.clone(), now: Mutex::default() }
    }

    /// Opens a checkpoint; what is written afterwards does not change it.
    pub fn open(disk: &MemoryDisk, dir: &Path) -> Result<Self, StoreError> {
        let Some(rows) = disk.0.lock().get(dir).cloned() else {
            return Err(StoreError::damaged(dir, "the state database is not there"));
        };
        Self::of_rows(disk, rows)
    }

    fn of_rows(disk: &MemoryDisk, rows: Rows) -> Result<Self, StoreError> {
        let meta = meta_of(&rows).map_err(|e| StoreError::damaged("memory", e.to_string()))?;
        let flushed_index = meta.map_or(0, |m| m.applied_index);
        let now = Now { rows, undo: Vec::new(), flushed_index, poisoned: None, fail_next_write: false };
        Ok(Self { disk: disk.clone(), now: Mutex::new(now) })
    }

    /// The state as the next process finds it after a power loss.
    pub fn crash(self) -> Result<Self, StoreError> {
        let Now { mut rows, undo, .. } = self.now.into_inner();
        for before in undo.into_iter().rev() {
            rows.put(before.cf, before.key, before.value);
        }
        Self::of_rows(&self.disk, rows)
    }

    /// [`StateStore::write`] of changes that nobody needs afterwards: their bytes become the rows.
    ///
    /// # Errors
    /// As [`StateStore::write`].
    pub fn write_owned(&self, changes: Vec<Change>) -> Result<(), StoreError> {
        let mut now = self.now.lock();
        now.touch_disk()?;
        for Change { cf, key, value } in changes {
            let before = now.rows.put(cf, key.clone(), value);
            if cf == Cf::Meta && mutant::active("applied-index-apart") {
                continue;
            }
            now.undo.push(Change { cf, key, value: before });
        }
        Ok(())
    }

    /// Makes the next write or flush fail and poison the store.
    pub fn fail_next_write(&self) {
        self.now.lock().fail_next_write = true;
    }
}

impl Rows {
    /// Sets or deletes a row; what stood there before.
    fn put(&mut self, cf: Cf, key: Vec<u8>, value: Option<Vec<u8>>) -> Option<Vec<u8>> {
        let family = Arc::make_mut(&mut self.0[cf as usize]);
        match value {
            Some(value) => family.insert(key, value),
            None => family.remove(&key),
        }
    }
}

fn scan(family: &Family, prefix: &[u8], start: &[u8], visit: &mut dyn FnMut(&[u8], &[u8]) -> bool) {
    let rows = family.range::<[u8], _>((Bound::Included(start.max(prefix)), Bound::Unbounded));
    for (key, value) in rows.take_while(|(key, _)| key.starts_with(prefix)) {
        if !visit(key, value) {
            break;
        }
    }
}

impl Now {
    fn touch_disk(&mut self) -> Result<(), StoreError> {
        if let Some(cause) = &self.poisoned {
            return Err(StoreError::Poisoned(cause.clone()));
        }
        if self.fail_next_write {
            let failure = StoreError::failed("cannot write the state", "injected failure");
            self.poisoned = Some(failure.to_string());
            return Err(failure);
        }
        Ok(())
    }
}

impl StateStore for MemoryState {
    fn write(&self, changes: &[Change]) -> Result<(), StoreError> {
        self.write_owned(changes.to_vec())
    }

    fn flush(&self) -> Result<u64, StoreError> {
        let mut now = self.now.lock();
        now.touch_disk()?;
        let meta = meta_of(&now.rows).map_err(|e| StoreError::failed("cannot flush the state", e))?;
        now.flushed_index = meta.map_or(0, |m| m.applied_index);
        now.undo.clear();
        Ok(now.flushed_index)
    }

    fn flushed_index(&self) -> u64 {
        self.now.lock().flushed_index
    }

    fn checkpoint(&self, dir: &Path) -> Result<(), StoreError> {
        let mut now = self.now.lock();
        now.touch_disk()?;
        let mut directories = self.disk.0.lock();
        if directories.contains_key(dir) {
            let failure = StoreError::failed("cannot copy the state", format!("{} exists", dir.display()));
            return Err(failure);
        }
        directories.insert(dir.to_owned(), now.rows.clone());
        drop(directories);
        // As RocksDB does: what is copied is flushed first, so the log may be cut up to it.
        let meta = meta_of(&now.rows).map_err(|e| StoreError::failed("cannot copy the state", e))?;
        now.flushed_index = meta.map_or(0, |m| m.applied_index);
        now.undo.clear();
        Ok(())
    }

    fn view(&self) -> Box<dyn StateRead + Send + Sync + '_> {
        Box::new(self.now.lock().rows.clone())
    }
}

impl StateRead for MemoryState {
    fn get(&self, cf: Cf, key: &[u8]) -> Result<Option<Vec<u8>>, ReadError> {
        self.now.lock().rows.get(cf, key)
    }

    fn scan(&self, cf: Cf, prefix: &[u8], start: &[u8], visit: &mut dyn FnMut(&[u8], &[u8]) -> bool) -> Result<(), ReadError> {
        // The visitor may read this store again, so the lock is not held over it.
        let family = self.now.lock().rows.0[cf as usize].clone();
        scan(&family, prefix, start, visit);
        Ok(())
    }
}

impl StateRead for Rows {
    fn get(&self, cf: Cf, key: &[u8]) -> Result<Option<Vec<u8>>, ReadError> {
        Ok(self.0[cf as usize].get(key).cloned())
    }

    fn scan(&self, cf: Cf, prefix: &[u8], start: &[u8], visit: &mut dyn FnMut(&[u8], &[u8]) -> bool) -> Result<(), ReadError> {
        scan(&self.0[cf as usize], prefix, start, visit);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(state: &MemoryState, key: &str, value: Option<&str>) {
        let value = value.map(|v| v.as_bytes().to_vec());
        state.write(&[Change { cf: Cf::Key, key: key.as_bytes().to_vec(), value }]).expect("a store that works");
    }

    fn rows(state: &MemoryState) -> String {
        let mut found = String::new();
        let mut visit = |key: &[u8], value: &[u8]| {
            found += &format!("{}={} ", String::from_utf8_lossy(key), String::from_utf8_lossy(value));
            true
        };
        state.scan(Cf::Key, &[], &[], &mut visit).expect("a store that works");
        found
    }

    #[test]
    fn a_crash_brings_back_what_was_flushed_whatever_was_written_since() {
        let state = MemoryState::new(&MemoryDisk::default());
        put(&state, "a", Some("1"));
        put(&state, "b", Some("1"));
        state.flush().expect("a store that works");
        let since = [("a", Some("2")), ("a", None), ("a", Some("3")), ("b", None), ("c", Some("1")), ("d", None)];
        since.iter().for_each(|(key, value)| put(&state, key, *value));
        assert_eq!(rows(&state), "a=3 c=1 ");
        let state = state.crash().expect("rows that can be read");
        assert_eq!(rows(&state), "a=1 b=1 ");
        put(&state, "b", Some("2"));
        assert_eq!(rows(&state.crash().expect("rows that can be read")), "a=1 b=1 ", "the next crash as well");
    }
}
