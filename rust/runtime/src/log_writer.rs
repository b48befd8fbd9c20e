//! The one thread that writes the log: take one request, drain to a bound, sync once, answer all.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use codec::log::{HardState, Identity, LogBase, LogEntry};
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};
use node::Event;
use store::{LogStore, StoreError};

use crate::metrics::Metrics;
use crate::raft_thread::ToRaft;

/// The witness file may lag behind the log by this much.
const WITNESS_LAG: Duration = Duration::from_millis(100);

pub(crate) enum LogRequest {
    Persist {
        number: u64,
        entries: Vec<LogEntry>,
        hard_state: Option<HardState>,
    },
    Truncate {
        base_index: u64,
    },
    /// Answered by `done` once it is synced.
    SaveIdentity {
        identity: Box<Identity>,
        done: Sender<()>,
    },
    /// Answered by `done`, and then by `Event::Persisted`.
    Install {
        number: u64,
        base: LogBase,
        hard_state: HardState,
        done: Sender<()>,
    },
}

pub(crate) struct LogWriter {
    pub log: Box<dyn LogStore>,
    pub requests: Receiver<LogRequest>,
    pub raft: Sender<ToRaft>,
    pub metrics: Arc<Metrics>,
    /// Base of the log, for readers.
    pub base_index: Arc<AtomicU64>,
    pub batch_bytes_max: usize,
}

/// Requests that become one append.
#[derive(Default)]
struct Batch {
    number: u64,
    entries: Vec<LogEntry>,
    hard_state: Option<HardState>,
    bytes: usize,
}

impl Batch {
    /// Adds a later request. Its entries replace what they conflict with, synced or not.
    fn add(&mut self, number: u64, entries: Vec<LogEntry>, hard_state: Option<HardState>) {
        self.number = number;
        if let Some(first) = entries.first() {
            let keep = self.entries.partition_point(|e| e.index < first.index);
            self.entries.truncate(keep);
        }
        self.bytes += entries.iter().map(|e| e.data.len()).sum::<usize>();
        self.entries.extend(entries);
        self.hard_state = hard_state.or(self.hard_state.take());
    }
}

impl LogWriter {
    /// Runs until all senders are gone, or a write fails: then the node must stop, because what the
    /// disk holds is unknown.
    pub(crate) fn run(mut self) {
        if let Err(error) = self.serve() {
            // A raft thread that has ended listens no longer.
            let _ = self.raft.send(ToRaft::Halt(format!("the log cannot be written: {error}")));
        }
    }

    fn serve(&mut self) -> Result<(), StoreError> {
        let mut next = None;
        loop {
            let request = match next.take() {
                Some(request) => request,
                None => match self.receive()? {
                    Some(request) => request,
                    None => return Ok(()),
                },
            };
            next = self.execute(request)?;
            self.base_index.store(self.log.base().index, Ordering::Release);
        }
    }

    fn receive(&mut self) -> Result<Option<LogRequest>, StoreError> {
        if !self.log.witness_behind() {
            return Ok(self.requests.recv().ok());
        }
        match self.requests.recv_timeout(WITNESS_LAG) {
            Ok(request) => Ok(Some(request)),
            Err(RecvTimeoutError::Disconnected) => Ok(None),
            Err(RecvTimeoutError::Timeout) => {
                self.log.tick_witness()?;
                Ok(self.requests.recv().ok())
            }
        }
    }

    /// Executes a request and those that can be merged with it; returns the first that cannot.
    fn execute(&mut self, request: LogRequest) -> Result<Option<LogRequest>, StoreError> {
        match request {
            LogRequest::Persist { number, entries, hard_state } => {
                let mut batch = Batch::default();
                batch.add(number, entries, hard_state);
                let next = self.drain(&mut batch);
                self.append(batch)?;
                Ok(next)
            }
            LogRequest::Truncate { base_index } => self.log.truncate_prefix(base_index).map(|()| None),
            LogRequest::SaveIdentity { identity, done } => {
                self.log.save_identity(&identity)?;
                // The raft thread waits for this, unless it has ended.
                let _ = done.send(());
                Ok(None)
            }
            LogRequest::Install { number, base, hard_state, done } => {
                self.log.install(base, &hard_state)?;
                // The raft thread waits for this, unless it has ended.
                let _ = done.send(());
                self.tell(Event::Persisted { number });
                Ok(None)
            }
        }
    }

    fn drain(&self, batch: &mut Batch) -> Option<LogRequest> {
        while batch.bytes < self.batch_bytes_max {
            match self.requests.try_recv() {
                Ok(LogRequest::Persist { number, entries, hard_state }) => batch.add(number, entries, hard_state),
                Ok(other) => return Some(other),
                Err(_) => return None,
            }
        }
        None
    }

    fn append(&mut self, batch: Batch) -> Result<(), StoreError> {
        failpoint::point!("runtime::log_writer::append_before");
        let started = Instant::now();
        self.log.append(&batch.entries, batch.hard_state.as_ref())?;
        self.metrics.fsync_us.record(started.elapsed().as_micros() as u64);
        self.metrics.log_batch_entries.record(batch.entries.len() as u64);
        self.metrics.log_batch_bytes.record(batch.bytes as u64);
        failpoint::point!("runtime::log_writer::ack_before");
        // A number stands for all before it.
        self.tell(Event::Persisted { number: batch.number });
        failpoint::point!("runtime::log_writer::ack_after");
        self.log.tick_witness()
    }

    fn tell(&self, event: Event) {
        // A raft thread that has ended listens no longer.
        let _ = self.raft.send(ToRaft::event(event));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use codec::log::EntryKind;
    use store::memory::MemoryLog;

    fn entries(range: std::ops::Range<u64>, term: u64) -> Vec<LogEntry> {
        range.map(|index| LogEntry { index, term, kind: EntryKind::Normal, data: vec![1; 10].into() }).collect()
    }

    /// append 5..8 of term 1 · save a vote · append 7..9 of term 2, cutting 7 → one append without the old 7.
    #[test]
    fn merged_requests_equal_the_same_requests_in_order() {
        let mut batch = Batch::default();
        batch.add(1, entries(5..8, 1), None);
        batch.add(2, Vec::new(), Some(HardState { term: 2, vote: 3, commit: 6 }));
        batch.add(3, entries(7..9, 2), None);
        let got: Vec<(u64, u64)> = batch.entries.iter().map(|e| (e.index, e.term)).collect();
        assert_eq!(got, [(5, 1), (6, 1), (7, 2), (8, 2)]);
        assert_eq!((batch.number, batch.hard_state.map(|h| h.vote)), (3, Some(3)));
    }

    fn writer(log: MemoryLog) -> (Sender<LogRequest>, Receiver<ToRaft>, LogWriter) {
        let (requests_in, requests) = crossbeam_channel::unbounded();
        let (raft, answers) = crossbeam_channel::unbounded();
        let (metrics, base_index) = (Arc::default(), Arc::default());
        (requests_in, answers, LogWriter { log: Box::new(log), requests, raft, metrics, base_index, batch_bytes_max: 1 << 20 })
    }

    /// Three requests wait → one sync, and one answer that stands for all.
    #[test]
    fn what_waits_is_synced_together() {
        let (requests, answers, writer) = writer(MemoryLog::new("state-1"));
        let metrics = writer.metrics.clone();
        for number in 1..4 {
            requests.send(LogRequest::Persist { number, entries: entries(number..number + 1, 1), hard_state: None }).unwrap();
        }
        drop(requests);
        writer.run();
        let answers: Vec<ToRaft> = answers.iter().collect();
        assert!(matches!(&answers[..], [ToRaft::Event(e)] if matches!(**e, Event::Persisted { number: 3 })), "{answers:?}");
        assert_eq!(metrics.fsync_us.view().count, 1);
    }

    /// A write fails → the node is told to stop, nothing is acknowledged, and nothing is tried again.
    #[test]
    fn a_failed_sync_stops_the_node() {
        let mut log = MemoryLog::new("state-1");
        log.fail_next_write();
        let (requests, answers, writer) = writer(log);
        requests.send(LogRequest::Persist { number: 1, entries: entries(1..2, 1), hard_state: None }).unwrap();
        requests.send(LogRequest::Truncate { base_index: 0 }).unwrap();
        requests.send(LogRequest::Persist { number: 2, entries: entries(2..3, 1), hard_state: None }).unwrap();
        writer.run();
        let answers: Vec<ToRaft> = answers.iter().collect();
        assert!(matches!(&answers[..], [ToRaft::Halt(reason)] if reason.contains("cannot be written")), "{answers:?}");
    }
}
