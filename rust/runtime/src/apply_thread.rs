//! The thread that owns the machine: drain, apply, one state write, then tell everybody.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use codec::frame::{Frame, FrameKind};
use codec::log::Bootstrap;
use codec::row::{AgentStatus, Status};
use crossbeam_channel::{Receiver, Sender};
use machine::{Machine, RetentionLimits, Signal};
use node::{AppliedBatch, ApplyDriver, ApplyError, ApplyInput, CheckApplied, Event};
use store::StateStore;
use store::rocks::{DataDirectory, RocksState};

use crate::backup::make_seeded_state;
use crate::clock::Clock;
use crate::feed::Feed;
use crate::interest::Interest;
use crate::metrics::Metrics;
use crate::raft_thread::ToRaft;
use crate::ring::{Hints, Ring};
use crate::state_cell::StateCell;
use crate::trace::Trace;
use crate::verifier::{VerifyJob, verify_now};

/// Counting the slots walks over all agents.
const SLOTS_INTERVAL: Duration = Duration::from_secs(1);

pub(crate) enum ApplyRequest {
    Input(ApplyInput),
    /// Writes the first rows, flushed, and loads them; then `done`. With a seed, the rows stand in a
    /// directory of their own, which is named: the log must name it, then `Install` follows.
    Bootstrap {
        bootstrap: Box<Bootstrap>,
        done: Sender<Option<String>>,
    },
    /// Waits until the log names the directory, then uses it.
    Install {
        state_dir: String,
        index: u64,
        logged: Receiver<()>,
    },
}

pub(crate) struct ApplyThread {
    /// `None` while the node belongs to no cluster.
    pub driver: Option<ApplyDriver>,
    pub session: u64,
    pub limits: RetentionLimits,
    pub state: Arc<StateCell>,
    pub directory: Arc<DataDirectory>,
    pub requests: Receiver<ApplyRequest>,
    pub raft: Sender<ToRaft>,
    pub ring: Arc<Ring>,
    pub interest: Arc<Interest>,
    pub feed: Arc<Feed>,
    pub metrics: Arc<Metrics>,
    pub trace: Arc<Trace>,
    pub node_id: String,
    pub batch_bytes_max: usize,
    /// Replaced stores that a reader may still use; their directories go when the last one lets go.
    pub retired: Vec<Arc<RocksState>>,
    /// Leadership that was told, and is established once an entry of its own term was applied.
    pub coming_term: Option<u64>,
    pub clock: Clock,
    /// When the slots were counted last.
    pub slots_at: Option<Instant>,
    pub verifier: Sender<VerifyJob>,
    /// The state cannot be used: what is committed is not applied until another one is installed.
    pub damaged: bool,
}

impl ApplyThread {
    /// Runs until all senders are gone, or the state cannot be read or written.
    pub(crate) fn run(mut self) {
        let mut next = None;
        while let Some(request) = next.take().or_else(|| self.requests.recv().ok()) {
            match self.execute(request) {
                Ok(following) => next = following,
                Err(reason) => {
                    // A raft thread that has ended listens no longer.
                    let _ = self.raft.send(ToRaft::Halt(reason));
                    return;
                }
            }
        }
    }

    fn execute(&mut self, request: ApplyRequest) -> Result<Option<ApplyRequest>, String> {
        match request {
            ApplyRequest::Input(ApplyInput::Entries { mut entries, mut configurations }) => {
                let mut bytes: usize = entries.iter().map(|e| e.data.len()).sum();
                let mut next = None;
                while bytes < self.batch_bytes_max {
                    match self.requests.try_recv() {
                        Ok(ApplyRequest::Input(ApplyInput::Entries { entries: more, configurations: with })) => {
                            bytes += more.iter().map(|e| e.data.len()).sum::<usize>();
                            entries.extend(more);
                            configurations.extend(with);
                        }
                        Ok(other) => {
                            next = Some(other);
                            break;
                        }
                        Err(_) => break,
                    }
                }
                self.metrics.apply_batch_entries.record(entries.len() as u64);
                self.metrics.entries_applied.fetch_add(entries.len() as u64, Ordering::Relaxed);
                self.input(ApplyInput::Entries { entries, configurations })?;
                Ok(next)
            }
            ApplyRequest::Input(input) => self.input(input).map(|()| None),
            ApplyRequest::Bootstrap { bootstrap, done } => self.bootstrap(&bootstrap, done).map(|()| None),
            ApplyRequest::Install { state_dir, index, logged } => {
                // Without an answer the log writer has failed, and has said so.
                if logged.recv().is_ok() {
                    self.install(&state_dir, index)?;
                }
                Ok(None)
            }
        }
    }

    fn input(&mut self, input: ApplyInput) -> Result<(), String> {
        let mut next = Some(input);
        while let Some(input) = next.take() {
            next = self.step(input)?;
        }
        Ok(())
    }

    /// One step of the driver, written and told; returns what a check left for the next one.
    fn step(&mut self, input: ApplyInput) -> Result<Option<ApplyInput>, String> {
        if let ApplyInput::Session { session } = input {
            self.session = session;
        }
        let Some(driver) = &mut self.driver else {
            return match input {
                ApplyInput::Entries { .. } if !self.damaged => {
                    Err("entries were committed before the first rows were written".to_owned())
                }
                _ => Ok(None),
            };
        };
        let started = Instant::now();
        if let ApplyInput::Role { leader, term } = input {
            self.coming_term = leader.then_some(term);
            if !leader {
                self.feed.role(false, term, driver.machine());
            }
        }
        let answered = matches!(input, ApplyInput::Entries { .. } | ApplyInput::LookForDue { .. });
        let first = match &input {
            ApplyInput::Entries { entries, .. } => entries.first().map(|entry| entry.index),
            _ => None,
        };
        failpoint::point!("runtime::apply_thread::step_before");
        let state = self.state.get();
        let mut batch = match driver.step(state.as_ref(), input) {
            Ok(batch) => batch,
            Err(ApplyError::Read(error)) => return self.state_damaged(error.to_string()),
            Err(error) => return Err(error.to_string()),
        };
        if !batch.changes.is_empty() {
            match state.write(&batch.changes) {
                Ok(()) => {}
                Err(error) if is_corruption(&error.to_string()) => return self.state_damaged(error.to_string()),
                Err(error) => return Err(format!("the state cannot be written: {error}")),
            }
            self.metrics.apply_us.record(started.elapsed().as_micros() as u64);
        }
        if let Some(first) = first {
            self.trace.record("apply", &self.node_id, first, batch.report.index);
        }
        let verifies: Vec<CheckApplied> = batch.report.checks.iter().filter(|c| c.verify != 0).copied().collect();
        if !verifies.is_empty() {
            verify_now(&self.verifier, state, verifies);
        }
        let rest = batch.rest.take();
        failpoint::point!("runtime::apply_thread::written");
        self.measure(&batch);
        self.tell(batch, answered);
        failpoint::point!("runtime::apply_thread::told");
        Ok(rest)
    }

    /// Bytes that cannot be what was written: nothing is applied on top of them, and the raft side fences the node.
    fn state_damaged(&mut self, reason: String) -> Result<Option<ApplyInput>, String> {
        if let Some(driver) = self.driver.take() {
            let term = self.coming_term.take().or(driver.leader_term()).unwrap_or_default();
            self.feed.role(false, term, driver.machine());
        }
        self.damaged = true;
        self.send(Event::StateDamaged { reason });
        Ok(None)
    }

    fn measure(&mut self, batch: &AppliedBatch) {
        let Some(driver) = &self.driver else { return };
        if batch.changes.is_empty() {
            return;
        }
        let machine = driver.machine();
        self.metrics.propagation_us.record(self.clock.wall_us().saturating_sub(machine.wall_us()));
        for signal in &batch.signals {
            if let Signal::Taken { waited_us, .. } = signal {
                self.metrics.assignment_us.record(*waited_us);
            }
        }
        if self.slots_at.is_none_or(|at| at.elapsed() >= SLOTS_INTERVAL) {
            self.slots_at = Some(Instant::now());
            let (total, taken) = slots(machine);
            self.metrics.slots_total.store(total, Ordering::Relaxed);
            self.metrics.slots_taken.store(taken, Ordering::Relaxed);
            let ready = machine.meta().tasks_by_status.get(Status::Ready as usize).copied().unwrap_or_default();
            self.metrics.slots_waited_for.store(ready, Ordering::Relaxed);
        }
    }

    /// The rows are written: whoever waits for them may look.
    fn tell(&mut self, batch: AppliedBatch, answered: bool) {
        let Some(driver) = &self.driver else { return };
        self.ring.hint(&mut self.hints(&batch));
        if let Some(term) = self.coming_term
            && batch.report.term >= term
        {
            self.coming_term = None;
            self.feed.role(true, term, driver.machine());
        } else {
            self.feed.applied(&batch.signals, driver.machine());
        }
        for signal in &batch.signals {
            if let Signal::Quarantine { revision, reason, command } = signal {
                self.quarantine(*revision, reason, command);
            }
        }
        if answered {
            if batch.report.session_opened {
                failpoint::point!("runtime::apply_thread::session_opened");
            }
            self.send(Event::Applied(batch.report));
        }
    }

    fn hints(&self, batch: &AppliedBatch) -> Hints {
        let mut hints = Hints::default();
        for signal in &batch.signals {
            match signal {
                Signal::Status { task, status } if self.interest.in_task(*task) => {
                    hints.tasks.insert(*task, *status);
                }
                Signal::Assigned { agent } | Signal::Command { agent } if self.interest.in_agent(agent) => {
                    hints.agents.insert(agent.clone());
                }
                _ => {}
            }
        }
        // Not only entries with events: whoever follows the log waits for this, too.
        if self.interest.in_events() && !batch.changes.is_empty() {
            hints.events = Some(batch.report.revision);
        }
        hints
    }

    fn quarantine(&self, revision: u64, reason: &str, command: &[u8]) {
        self.metrics.quarantined.fetch_add(1, Ordering::Relaxed);
        keep_quarantined(self.directory.path(), revision, reason, command);
    }

    fn bootstrap(&mut self, bootstrap: &Bootstrap, done: Sender<Option<String>>) -> Result<(), String> {
        failpoint::point!("runtime::apply_thread::bootstrap_before");
        if bootstrap.seed.is_some() {
            let state_dir = make_seeded_state(&self.directory, bootstrap)?;
            self.state.expect(state_dir.clone());
            // The raft thread waits for this, unless it has ended.
            let _ = done.send(Some(state_dir));
            return Ok(());
        }
        let state = self.state.get();
        write_first_rows(state.as_ref(), bootstrap).map_err(|e| e.to_string())?;
        failpoint::point!("runtime::apply_thread::bootstrap_after");
        self.driver = Some(self.load(&state)?);
        // The raft thread waits for this, unless it has ended.
        let _ = done.send(None);
        Ok(())
    }

    fn load(&self, state: &RocksState) -> Result<ApplyDriver, String> {
        ApplyDriver::load(state, self.session, self.limits).map_err(|e| format!("the state cannot be loaded: {e}"))
    }

    fn install(&mut self, state_dir: &str, index: u64) -> Result<(), String> {
        failpoint::point!("runtime::apply_thread::install_before");
        let path: PathBuf = self.directory.path().join(state_dir);
        let state = Arc::new(self.directory.open_state(state_dir).map_err(|e| e.to_string())?);
        let driver = self.load(&state)?;
        if driver.machine().applied_index() != index {
            let found = driver.machine().applied_index();
            return Err(format!("{}: holds the state at {found}, but the log was cut at {index}", path.display()));
        }
        failpoint::point!("runtime::apply_thread::install_loaded");
        let installed = driver.loaded_report();
        self.driver = Some(driver);
        self.directory.forget_offer(state_dir);
        self.damaged = false;
        self.directory.remove_seed().map_err(|e| e.to_string())?;
        self.retired.push(self.state.replace(state, state_dir.to_owned()));
        failpoint::point!("runtime::apply_thread::install_switched");
        self.remove_retired()?;
        failpoint::point!("runtime::apply_thread::install_after");
        self.feed.replaced();
        self.send(Event::SnapshotInstalled(installed));
        Ok(())
    }

    /// Deletes replaced directories once nobody reads them; the next start deletes what is left.
    fn remove_retired(&mut self) -> Result<(), String> {
        self.retired.retain(|state| Arc::strong_count(state) > 1);
        if self.retired.is_empty() {
            self.directory.remove_unnamed(&self.state.names()).map_err(|e| e.to_string())?;
            self.state.set_kept_aside(self.directory.kept_aside().map_err(|e| e.to_string())?);
        }
        Ok(())
    }

    fn send(&self, event: Event) {
        // A raft thread that has ended listens no longer.
        let _ = self.raft.send(ToRaft::event(event));
    }
}

/// Whether RocksDB says that bytes on the disk are not what was written.
pub(crate) fn is_corruption(text: &str) -> bool {
    text.contains("Corruption")
}

/// Keeps the command that would have broken an invariant. That it cannot be kept changes nothing.
pub(crate) fn keep_quarantined(data_dir: &Path, revision: u64, reason: &str, command: &[u8]) {
    eprintln!("taskquorum: command {revision} was refused, because it would have broken an invariant: {reason}");
    let directory = data_dir.join("quarantine");
    let mut bytes = Vec::new();
    Frame::encode(FrameKind::Quarantine, command, &mut bytes);
    let kept = std::fs::create_dir_all(&directory).and_then(|()| std::fs::write(directory.join(revision.to_string()), bytes));
    if let Err(error) = kept {
        eprintln!("taskquorum: the bytes of command {revision} could not be kept: {error}");
    }
}

/// Slots of the agents that are up, and those taken.
fn slots(machine: &Machine) -> (u64, u64) {
    let up = machine.agents().filter(|(_, agent)| agent.status() == AgentStatus::Up);
    up.fold((0, 0), |(total, taken), (_, agent)| {
        let of_agent = agent.row().resources.iter().zip(agent.used()).find(|(resource, _)| resource.name == "slots");
        of_agent.map_or((total, taken), |(resource, used)| (total + resource.amount, taken + used))
    })
}

/// Writes and flushes the rows of a new cluster.
pub(crate) fn write_first_rows(state: &dyn StateStore, bootstrap: &Bootstrap) -> Result<(), store::StoreError> {
    state.write(&Machine::bootstrap_rows(bootstrap))?;
    state.flush()?;
    Ok(())
}
