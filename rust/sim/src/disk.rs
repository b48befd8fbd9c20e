//! One node's disk: log, state and checkpoints, with what a crash leaves of them.
//!
//! * A process that ends (`kill`) keeps what the kernel has taken: every finished log write, synced
//!   or not; of a log write under way either all or nothing; of the state what was flushed (RocksDB
//!   without a WAL), which may be more than the node knows of.
//! * A power loss takes unsynced log truncations back as well. A log write under way is there, or
//!   not, or torn: a torn record at the end of the log is found by its checksum and dropped.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use codec::log::{HardState, Identity, LogBase, LogEntry};
use codec::row::StateRead;
use store::memory::{MemoryDisk, MemoryLog, MemoryState};
use store::{LogStore, StateStore, StoreError, meta_of};

use crate::rng::Rng;

const FIRST_STATE_DIR: &str = "state-1";

pub struct Disk {
    pub log: MemoryLog,
    pub state: MemoryState,
    pub directories: MemoryDisk,
    /// Directory of `state`.
    state_dir: String,
    next_dir: u64,
    /// Checkpoints of the running process, by index.
    pub checkpoints: BTreeSet<u64>,
    /// A record that was never synced stands torn at the end of the log.
    torn_tail: bool,
    /// A record of the log that was synced, and has gone bad since.
    rotten: Option<u64>,
    /// Nothing has been synced since the state directory came into use: only in a mutant.
    /// An observer's: of the log only the name of the state directory counts.
    pub without_log: bool,
    state_unsynced: bool,
}

/// A log write that has begun: one batch, one sync.
#[derive(Debug)]
pub struct Writing {
    pub number: u64,
    pub entries: Vec<LogEntry>,
    pub hard_state: Option<HardState>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Crash {
    Kill,
    Power,
}

/// What a process finds when it starts.
pub struct Found {
    pub identity: Identity,
    pub hard_state: HardState,
    pub base: LogBase,
    pub entries: Vec<LogEntry>,
}

impl Disk {
    pub fn new(identity: Identity) -> Self {
        let directories = MemoryDisk::default();
        let mut log = MemoryLog::new(FIRST_STATE_DIR);
        log.save_identity(&identity).expect("an empty disk takes an identity");
        let state = MemoryState::new(&directories);
        let state_dir = FIRST_STATE_DIR.to_owned();
        Self {
            log,
            state,
            directories,
            state_dir,
            next_dir: 2,
            checkpoints: BTreeSet::new(),
            torn_tail: false,
            rotten: None,
            state_unsynced: false,
            without_log: false,
        }
    }

    pub fn checkpoint_path(index: u64) -> PathBuf {
        PathBuf::from(format!("snapshots/{index}"))
    }

    /// A new name for the directory of a received snapshot.
    pub fn new_state_dir(&mut self) -> String {
        let name = format!("state-{}", self.next_dir);
        self.next_dir += 1;
        name
    }

    /// Copies the state under the name of its applied index; all but it and the newest before go.
    ///
    /// # Errors
    /// Of the state store.
    pub fn checkpoint(&mut self) -> Result<codec::row::MetaRow, StoreError> {
        let newest = self.checkpoints.last().copied();
        let directories = self.directories.clone();
        self.checkpoints.retain(|index| {
            let keep = Some(*index) == newest;
            if !keep {
                directories.remove(&Self::checkpoint_path(*index));
            }
            keep
        });
        let meta = meta_of(&self.state).map_err(|e| StoreError::Unusable(e.to_string()))?;
        let meta = meta.ok_or_else(|| StoreError::Unusable("the state holds no meta row".to_owned()))?;
        if self.checkpoints.insert(meta.applied_index) {
            self.state.checkpoint(&Self::checkpoint_path(meta.applied_index))?;
        }
        Ok(meta)
    }

    /// Uses another state directory from here on.
    ///
    /// # Errors
    /// If it is not there.
    pub fn switch_state(&mut self, state_dir: &str) -> Result<(), StoreError> {
        self.state = MemoryState::open(&self.directories, Path::new(state_dir))?;
        state_dir.clone_into(&mut self.state_dir);
        self.state_unsynced = mutant::active("install-before-durable");
        Ok(())
    }

    /// A record in the middle of what was synced goes bad. False if there is none: the log is too short.
    pub fn rot(&mut self, rng: &mut Rng) -> bool {
        let (low, high) = (self.log.base().index + 1, self.log.last_index());
        if high <= low {
            return false;
        }
        self.rotten = Some(rng.range(low, high));
        true
    }

    pub fn is_rotten(&self) -> bool {
        self.rotten.is_some()
    }

    /// The process is gone; `writing` had begun. Returns what became of that write.
    pub fn crash(&mut self, how: Crash, writing: Option<Writing>, rng: &mut Rng) -> &'static str {
        let mut fate = "nothing was being written";
        let mut log = std::mem::replace(&mut self.log, MemoryLog::new(FIRST_STATE_DIR)).reopen();
        if let Some(writing) = writing {
            fate = match (how, rng.below(3)) {
                (_, 0) => {
                    log.append(&writing.entries, writing.hard_state.as_ref()).expect("the batch was checked by its order");
                    "the write under way is whole"
                }
                (Crash::Power, 1) => {
                    self.torn_tail = true;
                    "the write under way is torn and dropped"
                }
                _ => "the write under way is lost",
            };
        }
        // A power loss takes back what was not synced, or the kernel had written it by itself.
        self.log = if how == Crash::Power && rng.chance(5_000) { log.crash() } else { log };
        if rng.chance(2_500) {
            // RocksDB flushes full memtables without being asked. A poisoned store does not.
            let _ = self.state.flush();
        }
        if how == Crash::Power && self.state_unsynced {
            self.directories.remove(Path::new(&std::mem::take(&mut self.state_dir)));
        }
        let state = std::mem::replace(&mut self.state, MemoryState::new(&self.directories));
        self.state = state.crash().expect("flushed rows are readable");
        for index in std::mem::take(&mut self.checkpoints) {
            self.directories.remove(&Self::checkpoint_path(index));
        }
        fate
    }

    /// The checks at start (DESIGN §5), as `store::rocks` makes them.
    ///
    /// # Errors
    /// What is wrong: after crashes alone nothing ever may be.
    pub fn open(&mut self) -> Result<Found, String> {
        let found = self.examine()?;
        self.rotten = None;
        Ok(found)
    }

    /// Makes every row written before durable.
    ///
    /// # Errors
    /// Of the state store.
    pub fn flush(&mut self) -> Result<u64, StoreError> {
        self.state_unsynced = false;
        self.state.flush()
    }

    fn examine(&mut self) -> Result<Found, String> {
        // What was never synced may be torn, and is no loss; what was synced must be sound.
        if std::mem::take(&mut self.torn_tail) && mutant::active("torn-tail-is-corruption") {
            return Err("the last record of the log is torn".to_owned());
        }
        if let Some(index) = self.rotten {
            if !mutant::active("corruption-is-torn-tail") {
                return Err(format!("entry {index} of the log is damaged"));
            }
            self.log.lose_tail(index);
        }
        let base = self.log.base().clone();
        if base.state_dir != self.state_dir {
            self.switch_state(&base.state_dir).map_err(|e| e.to_string())?;
        }
        let meta = meta_of(&self.state as &dyn StateRead).map_err(|e| e.to_string())?;
        let last = self.log.last_index();
        if let Some(meta) = &meta {
            if meta.applied_index < base.index {
                return Err(format!("the state ends with entry {}, but the log begins after {}", meta.applied_index, base.index));
            }
            if self.without_log {
                // What was flushed since the directory was named needs no log behind it.
            } else if meta.applied_index > last {
                return Err(format!("the log ends with entry {last}, but the state has flushed entry {}", meta.applied_index));
            }
            if !self.without_log {
                self.log.raise_commit(meta.applied_index).map_err(|e| e.to_string())?;
            }
        } else if base.index > 0 {
            return Err(format!("the state has no rows, but the log begins after {}", base.index));
        }
        let identity = self.log.identity().cloned().ok_or("the identity is missing")?;
        let entries = self.log.entries(base.index + 1, last + 1, u64::MAX).map_err(|e| e.to_string())?;
        Ok(Found { identity, hard_state: self.log.hard_state().clone(), base, entries })
    }
}
