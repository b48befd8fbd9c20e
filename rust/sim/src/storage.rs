//! What a node's other threads do: write the log in batches, apply, flush, copy, read old entries.

use node::{ApplyInput, Event};
use store::{LogStore, StoreError};

use crate::agent::AgentStep;
use crate::disk::Writing;
use crate::host::{ApplyRequest, DiskRequest, LogRequest, LogWork};
use crate::invariant::Violation;
use crate::world::{What, World};

/// Requests merged into one append, and into one apply batch.
const BATCH_MAX: usize = 256;

impl Writing {
    /// Adds a later request, as `runtime::log_writer` does: its entries replace what they conflict with.
    fn add(&mut self, later: Writing) {
        self.number = later.number;
        if let Some(first) = later.entries.first() {
            let keep = self.entries.partition_point(|e| e.index < first.index);
            self.entries.truncate(keep);
        }
        self.entries.extend(later.entries);
        self.hard_state = later.hard_state.or(self.hard_state.take());
    }
}

impl World {
    /// How much longer the disk takes at the moment.
    pub(crate) fn slowness(&mut self, at: usize) -> u64 {
        let (by_us, until) = self.hosts[at].slow_disk;
        if until > self.now { self.rng.range(by_us / 2, by_us + 1) } else { 0 }
    }

    // ---- the log writer --------------------------------------------------------------------

    /// Takes what waits, up to a bound, unless a write is under way.
    pub(crate) fn start_log(&mut self, at: usize) {
        loop {
            let number = self.hosts[at].number;
            let Some(process) = &mut self.hosts[at].process else { return };
            if process.log_work.is_some() {
                return;
            }
            let work = match process.log_queue.pop_front() {
                None => return,
                Some(LogRequest::Persist(mut writing)) => {
                    for _ in 0..BATCH_MAX {
                        match process.log_queue.pop_front() {
                            Some(LogRequest::Persist(later)) => writing.add(later),
                            Some(other) => {
                                process.log_queue.push_front(other);
                                break;
                            }
                            None => break,
                        }
                    }
                    LogWork::Write(writing)
                }
                Some(LogRequest::Install { number, base, hard_state }) => LogWork::Install { number, base, hard_state },
                Some(LogRequest::Truncate { base_index }) => {
                    // Not synced: no time passes.
                    if let Err(error) = self.hosts[at].disk.log.truncate_prefix(base_index) {
                        self.halt_on_disk(at, &error.to_string());
                        return;
                    }
                    continue;
                }
            };
            process.log_work = Some(work);
            let (low, high) = self.budget.sync_us;
            let when = self.now + self.rng.skewed(low, high) + self.slowness(at);
            self.queue.push(when, What::LogDone { at, number });
            return;
        }
    }

    pub(crate) fn log_done(&mut self, at: usize, number: u64) -> Result<(), Violation> {
        if self.paused(at, number, What::LogDone { at, number }).is_none() {
            return Ok(());
        }
        let now = self.now;
        let host = &mut self.hosts[at];
        if host.number != number {
            return Ok(());
        }
        let Some(process) = &mut host.process else { return Ok(()) };
        let Some(work) = process.log_work.take() else { return Ok(()) };
        self.trace.fold(now, 2, at as u64, 0);
        if std::mem::take(&mut host.fail_next_write) {
            // What the disk holds after a failed sync is unknown: the batch may be there, whole.
            if let LogWork::Write(writing) = work
                && self.rng.chance(5_000)
            {
                let _ = self.hosts[at].disk.log.append(&writing.entries, writing.hard_state.as_ref());
            }
            self.hosts[at].disk.log.fail_next_write();
            self.halt_on_disk(at, "the log cannot be written: injected failure");
            return Ok(());
        }
        let done = match work {
            LogWork::Write(writing) => {
                let written = host.disk.log.append(&writing.entries, writing.hard_state.as_ref());
                written.map(|()| writing.number)
            }
            LogWork::Install { number, base, hard_state } => {
                process.install_logged = number;
                host.disk.log.install(base, &hard_state).map(|()| number)
            }
        };
        match done {
            Ok(number) => {
                self.invariants.log_written(&self.hosts, at).map_err(|v| v.at(now))?;
                self.tell(at, Event::Persisted { number });
            }
            Err(error) => return Err(self.violation("log order", format!("n{}: {error}", at + 1))),
        }
        self.start_log(at);
        self.start_apply(at);
        Ok(())
    }

    // ---- the apply thread ------------------------------------------------------------------

    pub(crate) fn start_apply(&mut self, at: usize) {
        let now = self.now;
        let host = &mut self.hosts[at];
        let (number, stalled) = (host.number, host.apply_stalled_until);
        let Some(process) = &mut host.process else { return };
        let ready = match process.apply_queue.front() {
            None => false,
            Some(ApplyRequest::Input(_)) => true,
            Some(ApplyRequest::Install { number, .. }) => process.install_logged >= *number,
        };
        if process.applying || !ready {
            return;
        }
        process.applying = true;
        let when = now.max(stalled) + self.rng.skewed(20, 2_000);
        self.queue.push(when, What::ApplyDone { at, number });
    }

    pub(crate) fn apply_done(&mut self, at: usize, number: u64) -> Result<(), Violation> {
        if self.paused(at, number, What::ApplyDone { at, number }).is_none() {
            return Ok(());
        }
        let Some(process) = self.hosts[at].process(number) else { return Ok(()) };
        process.applying = false;
        let Some(request) = process.apply_queue.pop_front() else { return Ok(()) };
        match request {
            ApplyRequest::Install { state_dir, index, .. } => self.switch_state(at, &state_dir, index)?,
            ApplyRequest::Input(ApplyInput::Entries { mut entries, mut configurations }) => {
                for _ in 0..BATCH_MAX {
                    match process.apply_queue.pop_front() {
                        Some(ApplyRequest::Input(ApplyInput::Entries { entries: more, configurations: with })) => {
                            entries.extend(more);
                            configurations.extend(with);
                        }
                        Some(other) => {
                            process.apply_queue.push_front(other);
                            break;
                        }
                        None => break,
                    }
                }
                let checked = self.invariants.committed(&self.hosts, &entries, &configurations, at, &self.agents, self.now);
                checked.map_err(|v| v.at(self.now))?;
                self.apply(at, ApplyInput::Entries { entries, configurations })?;
            }
            ApplyRequest::Input(input) => self.apply(at, input)?,
        }
        self.start_apply(at);
        Ok(())
    }

    fn apply(&mut self, at: usize, input: ApplyInput) -> Result<(), Violation> {
        let now = self.now;
        let answered = matches!(input, ApplyInput::Entries { .. } | ApplyInput::LookForDue { .. });
        let host = &mut self.hosts[at];
        let Some(process) = &mut host.process else { return Ok(()) };
        let Some(driver) = &mut process.apply else {
            return match input {
                ApplyInput::Entries { .. } => Err(self.violation("halt", format!("n{}: entries before the first rows", at + 1))),
                _ => Ok(()),
            };
        };
        let mut batch = match driver.step(&host.disk.state, input) {
            Ok(batch) => batch,
            Err(error) => return Err(self.violation("halt", format!("n{} cannot apply: {error}", at + 1))),
        };
        if !batch.changes.is_empty() {
            if host.fail_next_write && self.rng.chance(2_000) {
                host.fail_next_write = false;
                self.halt_on_disk(at, "the state cannot be written: injected failure");
                return Ok(());
            }
            let changes = std::mem::take(&mut batch.changes);
            host.disk.state.write_owned(changes).expect("a state that works");
        }
        self.trace.fold(now, 3, at as u64, batch.report.index);
        self.invariants.applied(at, &batch.report).map_err(|v| v.at(now))?;
        self.invariants.signals(at, &batch.signals).map_err(|v| v.at(now))?;
        let leads = process.apply.as_ref().is_some_and(|a| a.leader_term().is_some());
        for signal in &batch.signals {
            if let machine::Signal::Assigned { agent } | machine::Signal::Command { agent } = signal
                && let Some(index) = self.agents.iter().position(|a| a.id == **agent && a.node == at)
            {
                let (serial, when) = (self.agents[index].serial, now + self.rng.range(500, 5_000));
                self.queue.push(when, What::Agent { agent: index, serial, step: AgentStep::Poll });
            }
        }
        if leads {
            self.ask_policy(at);
        }
        if answered {
            self.tell(at, Event::Applied(batch.report));
        }
        if let (Some(rest), Some(process)) = (batch.rest, &mut self.hosts[at].process) {
            process.apply_queue.push_front(ApplyRequest::Input(rest));
        }
        Ok(())
    }

    // ---- the disk thread -------------------------------------------------------------------

    pub(crate) fn ask_disk(&mut self, at: usize, request: DiskRequest) {
        if let Some(process) = &mut self.hosts[at].process {
            process.disk_queue.push_back(request);
            self.start_disk(at);
        }
    }

    fn start_disk(&mut self, at: usize) {
        let number = self.hosts[at].number;
        let Some(process) = &mut self.hosts[at].process else { return };
        if process.disk_busy || process.disk_queue.is_empty() {
            return;
        }
        process.disk_busy = true;
        let when = self.now + self.rng.skewed(2_000, 200_000) + self.slowness(at);
        self.queue.push(when, What::DiskDone { at, number });
    }

    pub(crate) fn disk_done(&mut self, at: usize, number: u64) -> Result<(), Violation> {
        if self.paused(at, number, What::DiskDone { at, number }).is_none() {
            return Ok(());
        }
        let host = &mut self.hosts[at];
        let Some(process) = host.process(number) else { return Ok(()) };
        process.disk_busy = false;
        let request = process.disk_queue.pop_front();
        let event = match request {
            None => return Ok(()),
            Some(DiskRequest::Flush) => host.disk.flush().map(|applied_index| Event::Flushed { applied_index }),
            Some(DiskRequest::Checkpoint) => host.disk.checkpoint().map(|meta| Event::SnapshotMade {
                index: meta.applied_index,
                term: meta.applied_term,
                configuration: meta.configuration.unwrap_or_default(),
            }),
        };
        match event {
            Ok(event) => self.tell(at, event),
            Err(error) => self.halt_on_disk(at, &error.to_string()),
        }
        self.start_disk(at);
        Ok(())
    }

    pub(crate) fn fetched(
        &mut self,
        at: usize,
        number: u64,
        fetch: u64,
        low: u64,
        high: u64,
        bytes_max: u64,
    ) -> Result<(), Violation> {
        let host = &mut self.hosts[at];
        if host.number != number || host.process.is_none() {
            return Ok(());
        }
        let entries = match host.disk.log.entries(low, high, bytes_max) {
            Ok(entries) => entries,
            // The log was cut meanwhile: without entries the follower is sent a snapshot.
            Err(StoreError::Compacted { .. } | StoreError::Unavailable { .. }) => Vec::new(),
            Err(error) => return Err(self.violation("halt", format!("n{}: {error}", at + 1))),
        };
        self.tell(at, Event::EntriesFetched { fetch, entries });
        Ok(())
    }
}
