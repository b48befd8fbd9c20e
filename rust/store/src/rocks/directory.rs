//! One node's data directory: opening it is where every start-up check happens.
//!
//! What always holds: an error changes nothing and deletes nothing. Leftovers of an interrupted
//! install go only after everything has opened and passed.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use codec::log::LogBase;

use super::log::{self, OpenedLog};
use super::witness::WitnessFile;
use super::{RocksLog, RocksOptions, RocksState, aside, checks, files, keys};
use crate::{LogStore, Position, StoreError, meta_of};

type Stores = (RocksLog, Arc<RocksState>, String, OpenReport);

/// The directory, held until this is dropped.
pub struct DataDirectory {
    path: PathBuf,
    options: RocksOptions,
    /// Holds the lock; closing it lets go.
    _lock: File,
}

/// What opening had to do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OpenReport {
    /// The directory was empty and has been made.
    pub created: bool,
    /// The commit index was saved below the applied index (a power loss) and raised: from, to.
    pub raised_commit: Option<(u64, u64)>,
    /// Directories that nothing named, now deleted.
    pub removed: Vec<String>,
    /// A received snapshot whose install had not begun: it can be offered again without its files.
    pub taken_back: Option<String>,
    /// What was damaged and is now kept aside, for people.
    pub repaired: Vec<String>,
    /// Why there is no state: it was damaged, and the log alone cannot bring it back. `Opened::state` holds
    /// nothing then; the node must install another one before it serves.
    pub without_state: Option<String>,
}

/// An open directory. Drop the stores before the directory.
pub struct Opened {
    pub log: RocksLog,
    pub state: Arc<RocksState>,
    /// Name of the state's directory.
    pub state_dir: String,
    pub directory: DataDirectory,
    pub report: OpenReport,
}

impl DataDirectory {
    pub(super) fn locked(path: PathBuf, options: RocksOptions, lock: File) -> Self {
        Self { path, options, _lock: lock }
    }

    /// Opens (or makes) the directory of node `node_id`, verifies the whole log, and checks log,
    /// witness and state against each other.
    ///
    /// # Errors
    /// `Locked`, `Foreign`, `Damaged`, `Unusable`, `Failed`.
    pub fn open(path: &Path, node_id: &str, options: &RocksOptions) -> Result<Opened, StoreError> {
        Self::take(path, options)?.open_files(node_id, false).map_err(|(error, _)| error)
    }

    /// Opens the directory like [`DataDirectory::open`], and goes on without what is damaged: a damaged log is
    /// kept aside and the directory begins anew as `raft_id`, a damaged state is kept aside alone.
    ///
    /// # Errors
    /// As for `open`; `Damaged` only where the files that say how to go on are damaged themselves.
    pub fn open_repairing(path: &Path, node_id: &str, options: &RocksOptions, raft_id: u64) -> Result<Opened, StoreError> {
        let directory = Self::take(path, options)?;
        if directory.is_retiring()? {
            return directory.begin_anew(node_id);
        }
        let (damage, directory) = match directory.open_files(node_id, false) {
            Err((StoreError::Damaged(damage), directory)) => (damage, directory),
            result => return result.map_err(|(error, _)| error),
        };
        let what = format!("{}: {}", damage.path.display(), damage.what);
        let Some(name) = directory.is_of_state(&damage) else {
            directory.retire(node_id, raft_id, &what)?;
            return directory.begin_anew(node_id);
        };
        let kept = directory.set_aside_state(&name, &what)?;
        let kept = kept.map(|aside| format!("{what}. The state is kept in {}", directory.path.join(aside).display()));
        let note = kept.unwrap_or(what);
        // The log may hold everything since the first configuration; else the node waits for a snapshot.
        let mut opened = match directory.open_files(node_id, false) {
            Err((StoreError::Damaged(damage), directory)) if directory.is_of_state(&damage).is_some() => {
                let mut opened = directory.open_files(node_id, true).map_err(|(error, _)| error)?;
                opened.report.without_state = Some(note.clone());
                opened
            }
            result => result.map_err(|(error, _)| error)?,
        };
        opened.report.repaired.push(note);
        Ok(opened)
    }

    /// Takes the directory for this process.
    fn take(path: &Path, options: &RocksOptions) -> Result<Self, StoreError> {
        options.validate()?;
        files::make_directory(path)?;
        Ok(Self { path: path.to_owned(), options: options.clone(), _lock: lock(path)? })
    }

    /// Moves the retired files aside, and opens what is then a new directory under the next identity.
    fn begin_anew(self, node_id: &str) -> Result<Opened, StoreError> {
        let Some((note, next)) = self.move_retired()? else {
            return self.open_files(node_id, false).map_err(|(error, _)| error);
        };
        let mut opened = self.open_files(node_id, false).map_err(|(error, _)| error)?;
        if opened.log.identity().is_none() {
            opened.log.save_identity(&next)?;
        }
        std::fs::remove_file(&note).map_err(|e| StoreError::failed(format!("cannot remove {}", note.display()), e))?;
        files::sync_directory(&opened.directory.path)?;
        opened.report.repaired.push(next.damaged);
        Ok(opened)
    }

    /// `without_state`: the log alone, with an empty state in the place of the one it names.
    fn open_files(self, node_id: &str, without_state: bool) -> Result<Opened, (StoreError, Self)> {
        match self.open_stores(node_id, without_state) {
            Ok((log, state, state_dir, report)) => Ok(Opened { log, state, state_dir, directory: self, report }),
            Err(error) => Err((error, self)),
        }
    }

    fn open_stores(&self, node_id: &str, without_state: bool) -> Result<Stores, StoreError> {
        let (path, options, directory) = (self.path.as_path(), &self.options, self);
        if path.join(keys::OBSERVER_FILE).exists() {
            return Err(StoreError::Foreign { path: path.to_owned(), what: "it is the directory of an observer".to_owned() });
        }
        let mut report = OpenReport { created: directory.make_log(node_id)?, ..OpenReport::default() };
        let witness = WitnessFile::load(&directory.path.join(keys::WITNESS_FILE))?;
        let log_path = directory.path.join(keys::LOG_DIR);

        let found = OpenedLog::examine(&log_path, options, Some(witness.position().index))?;
        checks::owner(path, node_id, &found)?;
        checks::witness(&log_path, &witness, &found)?;
        let Some(base) = found.base.clone() else {
            return Err(StoreError::damaged(log_path, "the base record is missing"));
        };
        let state_path = path.join(&base.state_dir);
        let (state, state_dir, applied) = match without_state {
            true => (directory.empty_state()?, keys::REBUILDING_DIR.to_owned(), 0),
            false => {
                if let Some(reason) = directory.mark_of(&base.state_dir) {
                    return Err(StoreError::damaged(state_path, reason));
                }
                let rebuildable = checks::can_be_rebuilt(&found) && !state_path.join("CURRENT").exists();
                let state = RocksState::open(&state_path, options, rebuildable)?;
                if rebuildable {
                    // RocksDB syncs what is in its directory, but nobody else the directory's own name.
                    files::sync_directory(path)?;
                }
                let meta = meta_of(&state).map_err(|e| StoreError::damaged(&state_path, e.to_string()))?;
                let applied = checks::state(&log_path, &state_path, &found, meta.as_ref())?;
                (state, base.state_dir.clone(), applied)
            }
        };
        let last = found.last;
        drop(found);

        let opened = OpenedLog::open(&log_path, options, false)?;
        if opened.last != last {
            let what = format!("it ended with entry {} and then with entry {}", last.index, opened.last.index);
            return Err(StoreError::damaged(log_path, what));
        }
        let mut log = opened.into_log(witness);
        report.raised_commit = log.raise_commit(applied)?.map(|from| (from, applied));
        for name in files::directories(path)? {
            if keys::state_dir_number(&name).is_some() && name != base.state_dir && directory.take_back(&name)? {
                report.taken_back = Some(name);
            }
        }
        if let Some(identity) = log.identity()
            && aside::read_identity(&path.join(keys::IDENTITY_FILE)).as_ref() != Some(identity)
        {
            aside::keep_identity(path, identity)?;
        }
        report.removed = directory.remove_unnamed(&[base.state_dir, state_dir.clone()])?;
        Ok((log, Arc::new(state), state_dir, report))
    }

    /// An empty state in the place of a damaged one.
    fn empty_state(&self) -> Result<RocksState, StoreError> {
        let path = self.path.join(keys::REBUILDING_DIR);
        if path.exists() {
            files::remove_directory(&path)?;
        }
        RocksState::open(&path, &self.options, true)
    }

    /// Makes the log of an empty directory, or finishes making one; true if it did. The witness
    /// comes last: without it, only a log that holds nothing may go on.
    fn make_log(&self, node_id: &str) -> Result<bool, StoreError> {
        let witness_path = self.path.join(keys::WITNESS_FILE);
        let log_path = self.path.join(keys::LOG_DIR);
        let (has_witness, has_log) = (witness_path.exists(), log_path.join("CURRENT").exists());
        if !has_log && (has_witness || self.has_state()?) {
            return Err(StoreError::damaged(log_path, "the log is not there, but the directory was in use"));
        }
        if has_witness {
            return Ok(false);
        }
        if has_log {
            let found = OpenedLog::examine(&log_path, &self.options, None)?;
            checks::owner(&self.path, node_id, &found)?;
            if !found.is_new() || self.has_state()? {
                return Err(StoreError::damaged(&witness_path, "the witness file is missing, but the log is not new"));
            }
        }
        failpoint::point!("store::directory::make_log_before");
        let opened = OpenedLog::open(&log_path, &self.options, true)?;
        failpoint::point!("store::directory::log_made");
        let base = LogBase { state_dir: keys::state_dir(1), ..LogBase::default() };
        log::write_first_base(&opened.files, &base)?;
        files::sync_directory(&self.path)?;
        failpoint::point!("store::directory::base_written");
        WitnessFile::create(&self.path, &witness_path, Position::default(), &opened.hard_state)?;
        failpoint::point!("store::directory::make_log_after");
        Ok(true)
    }

    fn has_state(&self) -> Result<bool, StoreError> {
        Ok(files::directories(&self.path)?.iter().any(|name| keys::state_dir_number(name).is_some()))
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn options(&self) -> &RocksOptions {
        &self.options
    }

    /// A name never used by a state directory that is still here, or was set aside.
    pub(super) fn next_state_dir(&self) -> Result<String, StoreError> {
        let mut names = files::directories(&self.path)?;
        for aside in self.kept_aside()? {
            names.extend(files::directories(&self.path.join(aside))?);
        }
        let number = names.iter().filter_map(|name| keys::state_dir_number(name)).max().unwrap_or(0) + 1;
        Ok(keys::state_dir(number))
    }

    /// Makes an empty state directory; returns name and path.
    pub fn new_state_dir(&self) -> Result<(String, PathBuf), StoreError> {
        let name = self.next_state_dir()?;
        let path = self.path.join(&name);
        files::make_directory(&path)?;
        Ok((name, path))
    }

    /// Syncs the files of a state directory; to be called before `LogStore::install`.
    pub fn sync_state_dir(&self, name: &str) -> Result<(), StoreError> {
        files::sync_tree(&self.path.join(name))
    }

    /// Opens a state directory, or a copy of one, to be read only: no file in it changes.
    pub fn read_state(&self, path: &Path) -> Result<RocksState, StoreError> {
        RocksState::open_read_only(path, &self.options)
    }

    /// Opens a state directory that was received or is named by the log's base.
    pub fn open_state(&self, name: &str) -> Result<RocksState, StoreError> {
        RocksState::open(&self.path.join(name), &self.options, false)
    }

    /// Where a checkpoint of the state at `index` goes, for `StateStore::checkpoint`.
    pub fn snapshot_path(&self, index: u64) -> PathBuf {
        self.path.join(keys::SNAPSHOTS_DIR).join(index.to_string())
    }

    /// Deletes the state directories not in `keep` and returns their names; one that was marked as damaged is
    /// set aside instead. None of them may be open.
    pub fn remove_unnamed(&self, keep: &[String]) -> Result<Vec<String>, StoreError> {
        let mut removed = Vec::new();
        for name in files::directories(&self.path)? {
            let ours = keys::state_dir_number(&name).is_some() || name == keys::REBUILDING_DIR;
            if let Some(reason) = self.mark_of(&name).filter(|_| ours && !keep.contains(&name)) {
                let aside = self.set_aside_state(&name, &reason)?.unwrap_or_default();
                eprintln!("taskquorum: the damaged state {name} is kept in {}", self.path.join(aside).display());
            } else if ours && !keep.contains(&name) {
                self.remove_state_dir(&name)?;
                removed.push(name);
            }
        }
        Ok(removed)
    }

    /// Deletes one state directory that nothing names and nobody has open.
    pub fn remove_state_dir(&self, name: &str) -> Result<(), StoreError> {
        failpoint::point!("store::directory::remove_before");
        files::remove_directory(&self.path.join(name))
    }

    /// Where copies of the state for backups go.
    pub fn backups_path(&self) -> PathBuf {
        self.path.join(keys::BACKUPS_DIR)
    }

    /// Deletes what backups of an earlier process have left.
    pub fn remove_backups(&self) -> Result<(), StoreError> {
        remove_if_there(&self.backups_path())
    }

    /// Where a restored state waits for its cluster.
    pub fn seed_path(&self) -> PathBuf {
        self.path.join(keys::SEED_DIR)
    }

    pub fn remove_seed(&self) -> Result<(), StoreError> {
        remove_if_there(&self.seed_path())
    }

    /// Deletes one checkpoint.
    pub fn remove_snapshot(&self, index: u64) -> Result<(), StoreError> {
        files::remove_directory(&self.snapshot_path(index))
    }

    /// Deletes the checkpoints whose index is not in `keep`, finished or not.
    pub fn remove_snapshots(&self, keep: &[u64]) -> Result<(), StoreError> {
        let snapshots = self.path.join(keys::SNAPSHOTS_DIR);
        for name in files::directories(&snapshots)? {
            if !name.parse().is_ok_and(|index| keep.contains(&index)) {
                files::remove_directory(&snapshots.join(name))?;
            }
        }
        Ok(())
    }
}

fn remove_if_there(path: &Path) -> Result<(), StoreError> {
    if path.exists() { files::remove_directory(path) } else { Ok(()) }
}

/// Takes the directory for this process; the lock goes with the process, whatever happens to it.
pub(super) fn lock(path: &Path) -> Result<File, StoreError> {
    let lock_path = path.join(keys::LOCK_FILE);
    let failed = |error: std::io::Error| StoreError::failed(format!("cannot lock {}", lock_path.display()), error);
    let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&lock_path).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(std::fs::TryLockError::WouldBlock) => {
            let mut text = String::new();
            let pid = file.read_to_string(&mut text).ok().and_then(|_| text.trim().parse().ok());
            return Err(StoreError::Locked { path: path.to_owned(), pid });
        }
        Err(std::fs::TryLockError::Error(error)) => return Err(failed(error)),
    }
    file.set_len(0).map_err(failed)?;
    file.seek(SeekFrom::Start(0)).map_err(failed)?;
    writeln!(file, "{}", std::process::id()).map_err(failed)?;
    Ok(file)
}
