//! The log database: one synced write batch an append, by one writer.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use codec::FrameKind;
use codec::frame::to_frame;
use codec::log::{HardState, Identity, LogBase, LogEntry, LogRecord};
use rocksdb::{DB, ReadOptions, WriteBatch, WriteOptions};

use super::aside;
use super::record::{self, family};
use super::witness::WitnessFile;
use super::{RocksOptions, keys};
use crate::log::{check_append, check_install};
use crate::{LogReader, LogStore, Position, StoreError};

/// The witness is synced at most this far behind the log (DESIGN rule 4).
const WITNESS_LAG: Duration = Duration::from_millis(100);

/// A log whose start-up checks have passed: see [`super::DataDirectory::open`].
pub struct RocksLog {
    files: Arc<LogFiles>,
    identity: Option<Identity>,
    base: LogBase,
    hard_state: HardState,
    last: Position,
    witness: WitnessFile,
    /// When the oldest append that the witness does not know was synced.
    behind_since: Option<Instant>,
    poisoned: Option<String>,
}

/// What was found in the log database, verified from the base to the end.
pub(super) struct OpenedLog {
    pub files: LogFiles,
    pub identity: Option<Identity>,
    /// `None` in a database that was never finished being made.
    pub base: Option<LogBase>,
    pub hard_state: HardState,
    pub last: Position,
    /// The entry at the index that was asked for, if the log holds it.
    pub at_witness: Option<Position>,
}

impl OpenedLog {
    /// Reads the whole log (it is as long as one flush interval of the state) without changing a
    /// file: a recovery for writing would delete the WAL files behind a bad record.
    pub fn examine(path: &Path, options: &RocksOptions, witness: Option<u64>) -> Result<Self, StoreError> {
        let cache = options.cache();
        let families = options.log_families(&cache);
        let db = DB::open_cf_descriptors_read_only(&options.log_database(false), path, families, false);
        Self::read(db.map_err(|e| record::unreadable(path, e))?, witness)
    }

    /// Opens the database for writing, makes it if it is not there, and reads the whole log.
    pub fn open(path: &Path, options: &RocksOptions, create: bool) -> Result<Self, StoreError> {
        let cache = options.cache();
        let db = DB::open_cf_descriptors(&options.log_database(create), path, options.log_families(&cache));
        Self::read(db.map_err(|e| record::unreadable(path, e))?, None)
    }

    fn read(db: DB, witness: Option<u64>) -> Result<Self, StoreError> {
        let identity = record::read_meta(&db, keys::IDENTITY, FrameKind::Identity)?;
        let hard_state = record::read_meta(&db, keys::HARD_STATE, FrameKind::HardState)?.unwrap_or_default();
        let base: Option<LogBase> = record::read_meta(&db, keys::BASE, FrameKind::LogBase)?;
        let mut last = base.as_ref().map(Position::of_base).unwrap_or_default();
        let mut at_witness = (witness == Some(last.index)).then_some(last);
        let mut first = db.raw_iterator_cf(family(&db, keys::ENTRIES));
        first.seek_to_first();
        if let Some(index) = first.key().and_then(keys::entry_index).filter(|index| *index <= last.index) {
            let what = format!("entry {index} lies at or below the log's base {}", last.index);
            return Err(StoreError::damaged(db.path(), what));
        }
        drop(first);
        record::walk(&db, scan_options(), last, |_, position| {
            last = position;
            if witness == Some(position.index) {
                at_witness = Some(position);
            }
            true
        })?;
        Ok(Self { files: LogFiles { db }, identity, base, hard_state, last, at_witness })
    }

    /// The log for use.
    ///
    /// # Panics
    /// If the base is missing: the caller has checked or written it.
    pub fn into_log(self, witness: WitnessFile) -> RocksLog {
        RocksLog {
            files: Arc::new(self.files),
            identity: self.identity,
            base: self.base.expect("a log in use has a base"),
            hard_state: self.hard_state,
            last: self.last,
            witness,
            behind_since: None,
            poisoned: None,
        }
    }

    /// Whether nothing has ever been saved in it.
    pub fn is_new(&self) -> bool {
        self.identity.is_none() && self.last.index == 0 && self.hard_state == HardState::default()
    }
}

/// The identity record alone, from a log that may be damaged elsewhere.
pub(super) fn read_identity(path: &Path, options: &RocksOptions) -> Result<Option<Identity>, StoreError> {
    let cache = options.cache();
    let families = options.log_families(&cache);
    let db = DB::open_cf_descriptors_read_only(&options.log_database(false), path, families, false);
    record::read_meta(&db.map_err(|e| record::unreadable(path, e))?, keys::IDENTITY, FrameKind::Identity)
}

/// Writes the first base of a new log; synced.
pub(super) fn write_first_base(files: &LogFiles, base: &LogBase) -> Result<(), StoreError> {
    let mut batch = WriteBatch::default();
    batch.put_cf(family(&files.db, keys::META), keys::BASE, to_frame(FrameKind::LogBase, base));
    files.write(batch, true)
}

fn scan_options() -> ReadOptions {
    let mut options = ReadOptions::default();
    options.fill_cache(false);
    options.set_readahead_size(1 << 20);
    options
}

/// The open database, shared by the writer and its readers.
pub(super) struct LogFiles {
    db: DB,
}

impl LogFiles {
    fn write(&self, batch: WriteBatch, sync: bool) -> Result<(), StoreError> {
        let mut options = WriteOptions::default();
        options.set_sync(sync);
        let path = self.db.path().display();
        let failed = |e| StoreError::failed(format!("cannot write the log {path}"), e);
        failpoint::point!("store::log::write_before", |reason: String| Err(StoreError::failed("cannot write the log", reason)));
        if failpoint::ENABLED {
            // With a place between the write and its sync.
            options.set_sync(false);
            self.db.write_opt(batch, &options).map_err(failed)?;
            if sync && !failpoint::skip!("store::log::skip_sync") {
                failpoint::point!("store::log::written_unsynced", |reason: String| Err(StoreError::failed("sync", reason)));
                self.db.flush_wal(true).map_err(failed)?;
            }
        } else {
            self.db.write_opt(batch, &options).map_err(failed)?;
        }
        failpoint::point!("store::log::write_after");
        Ok(())
    }

    /// The stored position of `index`, its record's checksum verified; `None` if it has no record.
    fn record_position(&self, index: u64) -> Result<Option<Position>, StoreError> {
        let path = self.db.path();
        let entries = family(&self.db, keys::ENTRIES);
        let value = self.db.get_pinned_cf(entries, keys::entry(index)).map_err(|e| record::unreadable(path, e))?;
        let Some(value) = value else { return Ok(None) };
        let (entry, chain) = record::decode(path, index, &value)?;
        Ok(Some(Position { index, term: entry.term, chain }))
    }
}

impl LogReader for LogFiles {
    fn entries(&self, low: u64, high: u64, bytes_max: u64) -> Result<Vec<LogEntry>, StoreError> {
        if low >= high {
            return Ok(Vec::new());
        }
        let before = match low.checked_sub(1) {
            None => None,
            Some(index) => match self.record_position(index)? {
                Some(position) => Some(position),
                None => self.base_position()?.filter(|base| base.index == index),
            },
        };
        let Some(before) = before else { return Err(self.outside(low, high)?) };
        let mut options = ReadOptions::default();
        options.set_iterate_upper_bound(keys::entry(high));
        let mut entries = Vec::new();
        let mut bytes = 0u64;
        let mut full = false;
        record::walk(&self.db, options, before, |entry, _| {
            bytes += entry.data.len() as u64;
            full = bytes > bytes_max && !entries.is_empty();
            if !full {
                entries.push(entry);
            }
            !full
        })?;
        if !full && entries.len() as u64 != high - low {
            return Err(self.outside(low, high)?);
        }
        Ok(entries)
    }
}

impl LogFiles {
    fn base_position(&self) -> Result<Option<Position>, StoreError> {
        let base = record::read_meta::<LogBase>(&self.db, keys::BASE, FrameKind::LogBase)?;
        Ok(base.as_ref().map(Position::of_base))
    }

    /// Why `[low, high)` is not wholly in the log.
    fn outside(&self, low: u64, high: u64) -> Result<StoreError, StoreError> {
        let base = self.base_position()?.unwrap_or_default().index;
        if low <= base {
            return Ok(StoreError::Compacted { low, base });
        }
        let mut rows = self.db.raw_iterator_cf(family(&self.db, keys::ENTRIES));
        rows.seek_to_last();
        let last = rows.key().and_then(keys::entry_index).unwrap_or(base);
        Ok(StoreError::Unavailable { high, last })
    }
}

impl RocksLog {
    fn usable(&self) -> Result<(), StoreError> {
        match &self.poisoned {
            None => Ok(()),
            Some(cause) => Err(StoreError::Poisoned(cause.clone())),
        }
    }

    /// Passes a result on and poisons the store if it is a failure.
    fn kept<T>(&mut self, result: Result<T, StoreError>) -> Result<T, StoreError> {
        if let Err(error) = &result {
            self.poisoned = Some(error.to_string());
        }
        result
    }

    fn write(&mut self, batch: WriteBatch, sync: bool) -> Result<(), StoreError> {
        let written = self.files.write(batch, sync);
        self.kept(written)
    }

    fn save_witness(&mut self, position: Position) -> Result<(), StoreError> {
        let hard_state = self.hard_state.clone();
        let saved = self.witness.save(position, &hard_state);
        self.kept(saved)
    }

    fn position(&self, index: u64) -> Result<Option<Position>, StoreError> {
        match index {
            _ if index == self.last.index => Ok(Some(self.last)),
            _ if index == self.base.index => Ok(Some(Position::of_base(&self.base))),
            _ if index < self.base.index || index > self.last.index => Ok(None),
            _ => match self.files.record_position(index)? {
                Some(position) => Ok(Some(position)),
                None => Err(StoreError::damaged(self.files.db.path(), format!("entry {index} is missing"))),
            },
        }
    }

    fn put_meta(&self, batch: &mut WriteBatch, key: &[u8], frame: Vec<u8>) {
        batch.put_cf(family(&self.files.db, keys::META), key, frame);
    }

    fn delete_entries(&self, batch: &mut WriteBatch, low: u64, high: u64) {
        batch.delete_range_cf(family(&self.files.db, keys::ENTRIES), keys::entry(low), keys::entry(high));
    }

    /// Raises a commit index that a power loss left below what the state had applied and flushed;
    /// returns the old one.
    pub(super) fn raise_commit(&mut self, applied: u64) -> Result<Option<u64>, StoreError> {
        let saved = self.hard_state.clone();
        if saved.commit >= applied {
            return Ok(None);
        }
        self.append(&[], Some(&HardState { commit: applied, ..saved.clone() }))?;
        Ok(Some(saved.commit))
    }
}

impl LogStore for RocksLog {
    fn identity(&self) -> Option<&Identity> {
        self.identity.as_ref()
    }

    fn save_identity(&mut self, identity: &Identity) -> Result<(), StoreError> {
        self.usable()?;
        failpoint::point!("store::log::identity_before");
        let mut batch = WriteBatch::default();
        self.put_meta(&mut batch, keys::IDENTITY, to_frame(FrameKind::Identity, identity));
        self.write(batch, true)?;
        if let Some(directory) = self.files.db.path().parent() {
            let kept = aside::keep_identity(directory, identity);
            self.kept(kept)?;
        }
        failpoint::point!("store::log::identity_after");
        self.identity = Some(identity.clone());
        Ok(())
    }

    fn base(&self) -> &LogBase {
        &self.base
    }

    fn hard_state(&self) -> &HardState {
        &self.hard_state
    }

    fn last(&self) -> Position {
        self.last
    }

    fn entries(&self, low: u64, high: u64, bytes_max: u64) -> Result<Vec<LogEntry>, StoreError> {
        self.usable()?;
        self.files.entries(low, high, bytes_max)
    }

    fn term(&self, index: u64) -> Result<Option<u64>, StoreError> {
        self.usable()?;
        Ok(self.position(index)?.map(|p| p.term))
    }

    fn reader(&self) -> Arc<dyn LogReader> {
        self.files.clone()
    }

    fn append(&mut self, entries: &[LogEntry], hard_state: Option<&HardState>) -> Result<(), StoreError> {
        self.usable()?;
        let before = match entries.first() {
            Some(first) => self.position(first.index.saturating_sub(1))?,
            None => Some(self.last),
        };
        check_append(&self.base, self.last.index, before, &self.hard_state, entries, hard_state)?;
        let mut position = before.unwrap_or(self.last);
        let mut batch = WriteBatch::default();
        if let Some(first) = entries.first() {
            if self.witness.position().index >= first.index {
                self.save_witness(position)?;
            }
            if first.index <= self.last.index {
                failpoint::point!("store::log::tail_cut");
                self.delete_entries(&mut batch, first.index, self.last.index + 1);
            }
        }
        let table = family(&self.files.db, keys::ENTRIES);
        let mut frame = Vec::new();
        for entry in entries {
            let record = LogRecord::new(entry, position.chain);
            frame.clear();
            record.encode_frame(&mut frame);
            batch.put_cf(table, keys::entry(entry.index), &frame);
            position = Position { index: entry.index, term: entry.term, chain: record.chain };
        }
        if let Some(hard_state) = hard_state {
            failpoint::point!("store::log::hard_state");
            self.put_meta(&mut batch, keys::HARD_STATE, to_frame(FrameKind::HardState, hard_state));
        }
        if batch.is_empty() {
            return Ok(());
        }
        self.write(batch, true)?;
        self.last = position;
        self.hard_state = hard_state.unwrap_or(&self.hard_state).clone();
        if self.witness.saved_vote() != (self.hard_state.term, self.hard_state.vote) {
            // A vote must not be forgotten even if the log's newest record goes bad.
            self.save_witness(position)?;
            self.behind_since = None;
        } else if !entries.is_empty() {
            self.behind_since.get_or_insert_with(Instant::now);
        }
        Ok(())
    }

    fn truncate_prefix(&mut self, base_index: u64) -> Result<(), StoreError> {
        self.usable()?;
        if base_index <= self.base.index {
            return Ok(());
        }
        let Some(position) = self.position(base_index)? else {
            return Err(StoreError::Unavailable { high: base_index + 1, last: self.last.index });
        };
        failpoint::point!("store::log::truncate_before");
        let state_dir = self.base.state_dir.clone();
        let base = LogBase { index: position.index, term: position.term, chain: position.chain, state_dir };
        let mut batch = WriteBatch::default();
        self.delete_entries(&mut batch, self.base.index + 1, base_index + 1);
        self.put_meta(&mut batch, keys::BASE, to_frame(FrameKind::LogBase, &base));
        self.write(batch, false)?;
        failpoint::point!("store::log::truncate_after");
        self.base = base;
        Ok(())
    }

    fn install(&mut self, base: LogBase, hard_state: &HardState) -> Result<(), StoreError> {
        self.usable()?;
        let hard_state = check_install(&self.hard_state, &base, hard_state)?;
        failpoint::point!("store::log::install_before");
        // Until the new witness is written, the old base is what both the old and the new log contain
        // or have passed.
        self.save_witness(Position::of_base(&self.base))?;
        let mut batch = WriteBatch::default();
        self.delete_entries(&mut batch, 0, u64::MAX);
        self.put_meta(&mut batch, keys::BASE, to_frame(FrameKind::LogBase, &base));
        self.put_meta(&mut batch, keys::HARD_STATE, to_frame(FrameKind::HardState, &hard_state));
        self.write(batch, true)?;
        self.last = Position::of_base(&base);
        self.base = base;
        self.hard_state = hard_state;
        failpoint::point!("store::log::install_written");
        self.save_witness(self.last)?;
        failpoint::point!("store::log::install_after");
        self.behind_since = None;
        Ok(())
    }

    fn tick_witness(&mut self) -> Result<(), StoreError> {
        self.usable()?;
        if self.behind_since.is_some_and(|since| since.elapsed() >= WITNESS_LAG) {
            self.sync_witness()?;
        }
        Ok(())
    }

    fn sync_witness(&mut self) -> Result<(), StoreError> {
        self.usable()?;
        if self.behind_since.is_some() {
            self.save_witness(self.last)?;
            self.behind_since = None;
        }
        Ok(())
    }

    fn witness_behind(&self) -> bool {
        self.behind_since.is_some()
    }
}
