//! The state database: no WAL, one write batch an apply, and flushes that take all column families
//! together, so that rows and their applied index never part.

use std::path::{Path, PathBuf};

use codec::row::{Cf, Change, ReadError, StateRead};
use parking_lot::Mutex;
use rocksdb::checkpoint::Checkpoint;
use rocksdb::{ColumnFamily, DB, DBRawIterator, FlushOptions, ReadOptions, SnapshotWithThreadMode, WriteBatch, WriteOptions};

use super::{RocksOptions, files, record};
use crate::{StateStore, StoreError, meta_of};

/// One open state directory.
pub struct RocksState {
    pub(super) db: DB,
    path: PathBuf,
    status: Mutex<Status>,
    /// One flush at a time, so that the flushed index never goes back.
    flushing: Mutex<()>,
}

struct Status {
    flushed_index: u64,
    poisoned: Option<String>,
}

impl RocksState {
    /// Opens a state directory, or makes one if `create`.
    ///
    /// # Errors
    /// `Damaged` if it cannot be read, `Failed` if the disk fails.
    pub fn open(path: &Path, options: &RocksOptions, create: bool) -> Result<Self, StoreError> {
        if !create && !path.join("CURRENT").exists() {
            return Err(StoreError::damaged(path, "the state database is not there"));
        }
        let cache = options.cache();
        let db = DB::open_cf_descriptors(&options.state_database(create), path, options.state_families(&cache))
            .map_err(|e| record::unreadable(path, e))?;
        let status = Mutex::new(Status { flushed_index: 0, poisoned: None });
        let state = Self { db, path: path.to_owned(), status, flushing: Mutex::new(()) };
        let meta = meta_of(&state).map_err(|e| StoreError::damaged(path, e.to_string()))?;
        state.status.lock().flushed_index = meta.map_or(0, |m| m.applied_index);
        Ok(state)
    }

    /// Opens a state directory, or a copy of one, to be read only: no file in it changes. Writes and
    /// flushes fail.
    ///
    /// # Errors
    /// `Damaged` if it cannot be read, `Failed` if the disk fails.
    pub fn open_read_only(path: &Path, options: &RocksOptions) -> Result<Self, StoreError> {
        if !path.join("CURRENT").exists() {
            return Err(StoreError::damaged(path, "the state database is not there"));
        }
        let cache = options.cache();
        let families = options.state_families(&cache);
        let db = DB::open_cf_descriptors_read_only(&options.state_database(false), path, families, false)
            .map_err(|e| record::unreadable(path, e))?;
        let status = Mutex::new(Status { flushed_index: 0, poisoned: None });
        Ok(Self { db, path: path.to_owned(), status, flushing: Mutex::new(()) })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Bytes of unflushed rows.
    pub fn unflushed_bytes(&self) -> u64 {
        let sizes = Cf::ALL.into_iter().map(|cf| {
            let size = self.db.property_int_value_cf(self.family(cf), rocksdb::properties::CUR_SIZE_ALL_MEM_TABLES);
            size.ok().flatten().unwrap_or(0)
        });
        sizes.sum()
    }

    fn family(&self, cf: Cf) -> &ColumnFamily {
        record::family(&self.db, cf.name())
    }

    fn usable(&self) -> Result<(), StoreError> {
        match &self.status.lock().poisoned {
            None => Ok(()),
            Some(cause) => Err(StoreError::Poisoned(cause.clone())),
        }
    }

    fn kept<T>(&self, what: &str, result: Result<T, rocksdb::Error>) -> Result<T, StoreError> {
        result.map_err(|error| {
            let failure = StoreError::failed(format!("cannot {what} the state {}", self.path.display()), error);
            self.status.lock().poisoned.get_or_insert_with(|| failure.to_string());
            failure
        })
    }
}

impl StateStore for RocksState {
    fn write(&self, changes: &[Change]) -> Result<(), StoreError> {
        self.usable()?;
        failpoint::point!("store::state::write_before", |reason: String| Err(StoreError::failed(
            "cannot write the state",
            reason
        )));
        let mut batch = WriteBatch::default();
        for change in changes {
            match &change.value {
                Some(value) => batch.put_cf(self.family(change.cf), &change.key, value),
                None => batch.delete_cf(self.family(change.cf), &change.key),
            }
        }
        let mut options = WriteOptions::default();
        options.disable_wal(true);
        self.kept("write", self.db.write_opt(batch, &options))?;
        failpoint::point!("store::state::write_after");
        Ok(())
    }

    fn flush(&self) -> Result<u64, StoreError> {
        let _one_at_a_time = self.flushing.lock();
        self.usable()?;
        let meta = meta_of(self).map_err(|e| StoreError::failed("cannot flush the state", e))?;
        let applied_index = meta.map_or(0, |m| m.applied_index);
        failpoint::point!("store::state::flush_before", |reason: String| Err(StoreError::failed(
            "cannot flush the state",
            reason
        )));
        let mut options = FlushOptions::default();
        options.set_wait(true);
        let families: Vec<&ColumnFamily> = Cf::ALL.into_iter().map(|cf| self.family(cf)).collect();
        self.kept("flush", self.db.flush_cfs_opt(&families, &options))?;
        failpoint::point!("store::state::flush_after");
        self.status.lock().flushed_index = applied_index;
        Ok(applied_index)
    }

    fn flushed_index(&self) -> u64 {
        self.status.lock().flushed_index
    }

    fn checkpoint(&self, dir: &Path) -> Result<(), StoreError> {
        self.usable()?;
        if let Some(parent) = dir.parent() {
            files::make_directory(parent)?;
        }
        failpoint::point!("store::state::checkpoint_before", |reason: String| Err(StoreError::failed(
            "cannot copy the state",
            reason
        )));
        let made = Checkpoint::new(&self.db).and_then(|checkpoint| checkpoint.create_checkpoint(dir));
        self.kept("copy", made)?;
        failpoint::point!("store::state::checkpoint_copied");
        files::sync_tree(dir)?;
        failpoint::point!("store::state::checkpoint_after");
        Ok(())
    }

    fn view(&self) -> Box<dyn StateRead + Send + Sync + '_> {
        Box::new(View { state: self, snapshot: self.db.snapshot() })
    }
}

impl StateRead for RocksState {
    fn get(&self, cf: Cf, key: &[u8]) -> Result<Option<Vec<u8>>, ReadError> {
        self.db.get_cf(self.family(cf), key).map_err(|e| ReadError(e.to_string()))
    }

    fn scan(&self, cf: Cf, prefix: &[u8], start: &[u8], visit: &mut dyn FnMut(&[u8], &[u8]) -> bool) -> Result<(), ReadError> {
        let rows = self.db.raw_iterator_cf_opt(self.family(cf), bounded(prefix));
        visit_rows(rows, prefix, start, visit)
    }
}

/// The rows of one moment.
struct View<'a> {
    state: &'a RocksState,
    snapshot: SnapshotWithThreadMode<'a, DB>,
}

impl StateRead for View<'_> {
    fn get(&self, cf: Cf, key: &[u8]) -> Result<Option<Vec<u8>>, ReadError> {
        self.snapshot.get_cf(self.state.family(cf), key).map_err(|e| ReadError(e.to_string()))
    }

    fn scan(&self, cf: Cf, prefix: &[u8], start: &[u8], visit: &mut dyn FnMut(&[u8], &[u8]) -> bool) -> Result<(), ReadError> {
        let rows = self.snapshot.raw_iterator_cf_opt(self.state.family(cf), bounded(prefix));
        visit_rows(rows, prefix, start, visit)
    }
}

fn bounded(prefix: &[u8]) -> ReadOptions {
    let mut options = ReadOptions::default();
    if let Some(end) = end_of(prefix) {
        options.set_iterate_upper_bound(end);
    }
    options
}

/// The first key after all keys that begin with `prefix`; `None` if there is none.
fn end_of(prefix: &[u8]) -> Option<Vec<u8>> {
    let length = prefix.iter().rposition(|byte| *byte != u8::MAX)? + 1;
    let mut end = prefix[..length].to_vec();
    end[length - 1] += 1;
    Some(end)
}

fn visit_rows(
    mut rows: DBRawIterator<'_>,
    prefix: &[u8],
    start: &[u8],
    visit: &mut dyn FnMut(&[u8], &[u8]) -> bool,
) -> Result<(), ReadError> {
    rows.seek(start.max(prefix));
    while let Some((key, value)) = rows.item() {
        if !key.starts_with(prefix) || !visit(key, value) {
            return Ok(());
        }
        rows.next();
    }
    rows.status().map_err(|e| ReadError(e.to_string()))
}
