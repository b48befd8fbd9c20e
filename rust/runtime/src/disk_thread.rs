//! Slow disk work beside the log: flushing and copying the state, and reading old entries.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};
use node::Event;
use store::rocks::{DataDirectory, RocksState};
use store::{LogReader, StateStore, StoreError, meta_of};

use crate::apply_thread::is_corruption;
use crate::checkpoints::Checkpoints;
use crate::load::LoadSampler;
use crate::metrics::Metrics;
use crate::raft_thread::ToRaft;
use crate::state_cell::StateCell;

const LOAD_INTERVAL: Duration = Duration::from_secs(1);

pub(crate) enum DiskRequest {
    /// Answered by `Event::Flushed`.
    Flush,
    /// Answered by `Event::SnapshotMade` or `SnapshotFailed`.
    Checkpoint,
    /// Deletes a state directory that nothing names; nothing answers.
    Remove { state_dir: String },
}

pub(crate) struct DiskThread {
    pub state: Arc<StateCell>,
    pub directory: Arc<DataDirectory>,
    pub checkpoints: Arc<Checkpoints>,
    pub requests: Receiver<DiskRequest>,
    pub raft: Sender<ToRaft>,
    pub metrics: Arc<Metrics>,
}

impl DiskThread {
    /// Runs until all senders are gone, or a flush fails.
    pub(crate) fn run(self) {
        while let Ok(request) = self.requests.recv() {
            let flushed = matches!(request, DiskRequest::Flush);
            let answer = match request {
                DiskRequest::Flush => self.flush(),
                DiskRequest::Checkpoint => self.checkpoint(),
                DiskRequest::Remove { state_dir } => {
                    self.remove(&state_dir);
                    continue;
                }
            };
            if self.raft.send(answer).is_err() {
                return;
            }
            if flushed {
                merge_small_tables(&self.state.get());
            }
        }
    }

    fn flush(&self) -> ToRaft {
        let started = Instant::now();
        match self.state.get().flush() {
            Ok(applied_index) => {
                self.metrics.flush_us.record(started.elapsed().as_micros() as u64);
                ToRaft::event(Event::Flushed { applied_index })
            }
            Err(error) if is_corruption(&error.to_string()) => ToRaft::event(Event::StateDamaged { reason: error.to_string() }),
            Err(error) => ToRaft::Halt(format!("the state cannot be flushed: {error}")),
        }
    }

    fn remove(&self, state_dir: &str) {
        if let Err(error) = self.directory.remove_state_dir(state_dir) {
            // The next start deletes it: nothing names it.
            eprintln!("taskquorum: {error}");
        }
        self.state.forget(state_dir);
    }

    fn checkpoint(&self) -> ToRaft {
        let started = Instant::now();
        match self.make_checkpoint() {
            Ok(event) => {
                self.metrics.checkpoint_us.record(started.elapsed().as_micros() as u64);
                ToRaft::event(event)
            }
            Err(error) if is_corruption(&error.to_string()) => ToRaft::event(Event::StateDamaged { reason: error.to_string() }),
            Err(StoreError::Poisoned(reason)) => ToRaft::Halt(reason),
            Err(error) => ToRaft::event(Event::SnapshotFailed { reason: error.to_string() }),
        }
    }

    /// Copies the state under a name of its own, reads from inside what it is, and only then gives
    /// it the name under which it is sent.
    fn make_checkpoint(&self) -> Result<Event, StoreError> {
        let failed = |cause: std::io::Error| StoreError::Failed { what: "the checkpoint".to_owned(), cause: cause.to_string() };
        let read =
            |cause: codec::row::ReadError| StoreError::Failed { what: "the checkpoint".to_owned(), cause: cause.to_string() };
        let path = self.directory.path().join("snapshots").join("making");
        self.checkpoints.prune(&self.directory)?;
        std::fs::create_dir_all(path.parent().unwrap_or(&path)).map_err(failed)?;
        self.state.get().checkpoint(&path)?;
        let meta = meta_of(&self.directory.read_state(&path)?).map_err(read)?;
        let Some(meta) = meta else {
            return Err(StoreError::Failed { what: "the checkpoint".to_owned(), cause: "it holds no meta row".to_owned() });
        };
        let final_path: PathBuf = self.directory.snapshot_path(meta.applied_index);
        failpoint::point!("runtime::disk_thread::checkpoint_unnamed");
        if !final_path.exists() {
            std::fs::rename(&path, &final_path).map_err(failed)?;
        }
        failpoint::point!("runtime::disk_thread::checkpoint_named");
        self.checkpoints.made(meta.applied_index);
        let configuration = meta.configuration.unwrap_or_default();
        Ok(Event::SnapshotMade { index: meta.applied_index, term: meta.applied_term, configuration })
    }
}

/// After a flush, which is answered by then. Without it nothing is wrong but the number of files.
pub(crate) fn merge_small_tables(state: &RocksState) {
    if let Err(error) = state.merge_small_tables() {
        eprintln!("taskquorum: {error}");
    }
}

/// Entries asked for by `Effect::FetchEntries`.
pub(crate) struct Fetch {
    pub fetch: u64,
    pub low: u64,
    pub high: u64,
    pub bytes_max: u64,
}

/// Reads entries for followers that are behind, and looks at the machine's load once a second; until
/// all senders are gone.
pub(crate) fn read_entries(reader: Arc<dyn LogReader>, requests: Receiver<Fetch>, raft: Sender<ToRaft>) {
    let mut sampler = LoadSampler::default();
    loop {
        let answer = match requests.recv_timeout(LOAD_INTERVAL) {
            Ok(fetch) => read(reader.as_ref(), fetch),
            Err(RecvTimeoutError::Timeout) => match sampler.sample() {
                Some(load_bp) => ToRaft::Load(load_bp),
                None => continue,
            },
            Err(RecvTimeoutError::Disconnected) => return,
        };
        if raft.send(answer).is_err() {
            return;
        }
    }
}

fn read(reader: &dyn LogReader, Fetch { fetch, low, high, bytes_max }: Fetch) -> ToRaft {
    match reader.entries(low, high, bytes_max) {
        Ok(entries) => ToRaft::event(Event::EntriesFetched { fetch, entries }),
        // The log was cut meanwhile: without entries the follower is sent a snapshot.
        Err(error) if !error.stops_node() => ToRaft::event(Event::EntriesFetched { fetch, entries: Vec::new() }),
        Err(error) => ToRaft::Halt(error.to_string()),
    }
}
