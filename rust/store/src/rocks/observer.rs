//! The directory of an observer: the state, and one small record of who it is in place of a log.
//!
//! What always holds: the record is replaced whole, synced, and before anything relies on it; a
//! directory is a voter's or an observer's for ever; an error changes nothing and deletes nothing.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use codec::frame::{Frame, FrameKind, to_frame};
use codec::log::{HardState, Identity, LogBase, LogEntry};

use super::directory::lock;
use super::{DataDirectory, RocksOptions, RocksState, files, keys};
use crate::{LogReader, LogStore, Position, StoreError, meta_of};

/// An open directory of an observer. Drop the state before the directory.
pub struct OpenedObserver {
    pub record: ObserverRecord,
    pub state: Arc<RocksState>,
    pub directory: DataDirectory,
}

/// Who the observer is, and which state directory it uses: a log store that never has an entry.
pub struct ObserverRecord {
    directory: PathBuf,
    path: PathBuf,
    identity: Option<Identity>,
    base: LogBase,
    /// An earlier write failed: what the disk holds is unknown.
    poisoned: Option<String>,
}

impl DataDirectory {
    /// Opens (or makes) the directory of observer `node_id`, and checks record and state against each
    /// other.
    ///
    /// # Errors
    /// `Locked`, `Foreign` (another node's, or a voter's), `Damaged`, `Unusable`, `Failed`.
    pub fn open_observer(path: &Path, node_id: &str, options: &RocksOptions) -> Result<OpenedObserver, StoreError> {
        options.validate()?;
        files::make_directory(path)?;
        let directory = Self::locked(path.to_owned(), options.clone(), lock(path)?);
        if path.join(keys::LOG_DIR).exists() {
            let what = "it is the directory of a voter or learner, not of an observer".to_owned();
            return Err(StoreError::Foreign { path: path.to_owned(), what });
        }
        let record = ObserverRecord::open(path)?;
        if let Some(identity) = record.identity.as_ref().filter(|i| i.node_id != node_id) {
            let what = format!("it belongs to node {}", identity.node_id);
            return Err(StoreError::Foreign { path: path.to_owned(), what });
        }
        let state_path = path.join(&record.base.state_dir);
        let fresh = record.base.index == 0;
        let state = Arc::new(RocksState::open(&state_path, options, fresh)?);
        let meta = meta_of(state.as_ref()).map_err(|e| StoreError::damaged(&state_path, e.to_string()))?;
        let (cluster_id, applied) = meta.map_or((0, 0), |m| (m.cluster_id, m.applied_index));
        let own = record.identity.as_ref().map_or(0, |i| i.cluster_id);
        if applied < record.base.index {
            let what =
                format!("it stands at index {applied}, before the snapshot at {} that it was made from", record.base.index);
            return Err(StoreError::damaged(&state_path, what));
        }
        if applied > 0 && cluster_id != own {
            let what = format!("its rows are of cluster {cluster_id:016x}, and the node belongs to {own:016x}");
            return Err(StoreError::damaged(&state_path, what));
        }
        directory.remove_unnamed(std::slice::from_ref(&record.base.state_dir))?;
        Ok(OpenedObserver { record, state, directory })
    }
}

impl ObserverRecord {
    fn open(directory: &Path) -> Result<Self, StoreError> {
        let path = directory.join(keys::OBSERVER_FILE);
        let mut record = Self {
            directory: directory.to_owned(),
            path: path.clone(),
            identity: None,
            base: LogBase { state_dir: keys::state_dir(1), ..LogBase::default() },
            poisoned: None,
        };
        let bytes = match std::fs::read(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let used = files::directories(directory)?.iter().any(|name| keys::state_dir_number(name).is_some());
                if used {
                    return Err(StoreError::damaged(path, "the record is not there, but the directory was in use"));
                }
                record.write()?;
                return Ok(record);
            }
            Err(error) => return Err(StoreError::failed(format!("cannot read {}", path.display()), error)),
            Ok(bytes) => bytes,
        };
        let damaged = |error: codec::DecodeError| StoreError::damaged(&path, error.to_string());
        let (base, length) = Frame::decode(&bytes).map_err(damaged)?;
        if base.kind != FrameKind::LogBase {
            return Err(StoreError::damaged(&path, "it does not begin with a base"));
        }
        record.base = Frame::decode_message(FrameKind::LogBase, &bytes[..length]).map_err(damaged)?;
        if length < bytes.len() {
            record.identity = Some(Frame::decode_message(FrameKind::Identity, &bytes[length..]).map_err(damaged)?);
        }
        Ok(record)
    }

    fn write(&mut self) -> Result<(), StoreError> {
        if let Some(cause) = &self.poisoned {
            return Err(StoreError::Poisoned(cause.clone()));
        }
        let mut bytes = to_frame(FrameKind::LogBase, &self.base);
        if let Some(identity) = &self.identity {
            Frame::encode_message(FrameKind::Identity, identity, &mut bytes);
        }
        files::write_durably(&self.directory, &self.path, &bytes).inspect_err(|error| self.poisoned = Some(error.to_string()))
    }

    fn no_log<T>(&self) -> Result<T, StoreError> {
        Err(StoreError::Compacted { low: 0, base: self.base.index })
    }
}

impl LogStore for ObserverRecord {
    fn identity(&self) -> Option<&Identity> {
        self.identity.as_ref()
    }

    fn save_identity(&mut self, identity: &Identity) -> Result<(), StoreError> {
        self.identity = Some(identity.clone());
        self.write()
    }

    fn base(&self) -> &LogBase {
        &self.base
    }

    fn hard_state(&self) -> &HardState {
        const NONE: &HardState = &HardState { term: 0, vote: 0, commit: 0 };
        NONE
    }

    fn last(&self) -> Position {
        Position::of_base(&self.base)
    }

    fn entries(&self, _: u64, _: u64, _: u64) -> Result<Vec<LogEntry>, StoreError> {
        self.no_log()
    }

    fn term(&self, index: u64) -> Result<Option<u64>, StoreError> {
        Ok((index == self.base.index).then_some(self.base.term))
    }

    fn reader(&self) -> Arc<dyn LogReader> {
        Arc::new(NoLog)
    }

    fn append(&mut self, entries: &[LogEntry], _: Option<&HardState>) -> Result<(), StoreError> {
        match entries.is_empty() {
            true => Ok(()),
            false => Err(StoreError::Rejected("an observer has no log".to_owned())),
        }
    }

    fn truncate_prefix(&mut self, _: u64) -> Result<(), StoreError> {
        Ok(())
    }

    fn install(&mut self, base: LogBase, _: &HardState) -> Result<(), StoreError> {
        if base.state_dir.is_empty() {
            return Err(StoreError::Rejected("the base names no state directory".to_owned()));
        }
        self.base = base;
        self.write()
    }

    fn tick_witness(&mut self) -> Result<(), StoreError> {
        Ok(())
    }

    fn sync_witness(&mut self) -> Result<(), StoreError> {
        Ok(())
    }

    fn witness_behind(&self) -> bool {
        false
    }
}

/// What reads the log of a node that has none.
struct NoLog;

impl LogReader for NoLog {
    fn entries(&self, low: u64, _: u64, _: u64) -> Result<Vec<LogEntry>, StoreError> {
        Err(StoreError::Compacted { low, base: u64::MAX })
    }
}
