//! One node of the simulated cluster: its disk, its clocks, and the process that runs on it or not.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;
use codec::log::{HardState, Identity, LogBase, LogEntry};
use codec::peer::Hello;
use consensus::Consensus;
use node::{ApplyDriver, ApplyInput, Event, NodeDriver, Token};

use crate::clock::Clock;
use crate::disk::{Disk, Writing};
use crate::queue::Time;

/// What a directory is to the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// It takes part, or will.
    Member,
    /// Empty, and its process has never run.
    Spare,
    /// Removed from the cluster, or lost for good: it never runs again.
    Gone,
}

pub struct Host {
    pub part: Part,
    /// It tails the committed log, and has none of its own.
    pub observer: bool,
    pub raft_id: u64,
    pub node_id: String,
    pub disk: Disk,
    pub clock: Clock,
    pub process: Option<Process>,
    /// Number of the newest process: events of older ones are void.
    pub number: u64,
    /// Writes take this long on top, until then.
    pub slow_disk: (u64, Time),
    /// The next write of log or state fails.
    pub fail_next_write: bool,
    /// The apply side stands still until then.
    pub apply_stalled_until: Time,
    /// Started again at this time; for a process that ended.
    pub restart_at: Option<Time>,
}

/// What waits for the log writer (`runtime::log_writer`).
#[derive(Debug)]
pub enum LogRequest {
    Persist(Writing),
    Truncate { base_index: u64 },
    Install { number: u64, base: LogBase, hard_state: HardState },
}

/// What the log writer is at.
#[derive(Debug)]
pub enum LogWork {
    Write(Writing),
    Install { number: u64, base: LogBase, hard_state: HardState },
}

/// What waits for the apply thread (`runtime::apply_thread`).
#[derive(Debug)]
pub enum ApplyRequest {
    Input(ApplyInput),
    /// Runs once the log has recorded the install under this number.
    Install {
        number: u64,
        state_dir: String,
        index: u64,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiskRequest {
    Flush,
    Checkpoint,
}

/// Who waits for an answer of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Waiter {
    Client { client: usize, serial: u64 },
    Agent { agent: usize, serial: u64 },
    Beat { agent: usize, registration: u64, sent: Time },
    Nobody,
}

/// A transfer of a snapshot to one peer.
#[derive(Clone, Debug)]
pub struct Transfer {
    pub number: u64,
    pub to: u64,
    pub index: u64,
    pub raft_message: Bytes,
}

/// The log as this process has it in memory: what was handed to the log writer, synced or not.
#[derive(Default)]
pub struct Shadow {
    pub base: (u64, u64),
    pub terms: VecDeque<u64>,
}

pub struct Process {
    pub driver: NodeDriver,
    pub apply: Option<ApplyDriver>,
    pub incarnation: u64,
    /// What it says of itself to everybody; the rest is filled in for each connection.
    pub hello: Hello,
    pub inbox: Vec<Event>,
    pub turn_at: Option<Time>,
    pub paused_until: Time,
    pub log_queue: VecDeque<LogRequest>,
    pub log_work: Option<LogWork>,
    pub apply_queue: VecDeque<ApplyRequest>,
    pub applying: bool,
    pub disk_queue: VecDeque<DiskRequest>,
    pub disk_busy: bool,
    /// Number of the last install that the log has recorded.
    pub install_logged: u64,
    pub waiters: BTreeMap<Token, Waiter>,
    pub shadow: Shadow,
    /// One transfer at a time; others wait.
    pub sending: Option<Transfer>,
    pub to_send: VecDeque<Transfer>,
    pub policy_due: bool,
    /// Raft ids that were removed: their streams are closed, and they are told so.
    pub refused: BTreeSet<u64>,
    /// Observers: the nodes that this one dials.
    pub dialed: BTreeSet<String>,
}

impl Process {
    /// Raft below; an observer has none.
    pub fn consensus(&self) -> Option<&Consensus> {
        match &self.driver {
            NodeDriver::Voter(driver) => driver.consensus(),
            NodeDriver::Observer(_) => None,
        }
    }
}

impl Shadow {
    pub fn new(base: &LogBase, entries: &[LogEntry]) -> Self {
        Self { base: (base.index, base.term), terms: entries.iter().map(|e| e.term).collect() }
    }

    pub fn last(&self) -> u64 {
        self.base.0 + self.terms.len() as u64
    }

    pub fn term(&self, index: u64) -> Option<u64> {
        if index == self.base.0 {
            return Some(self.base.1);
        }
        self.terms.get(index.checked_sub(self.base.0 + 1)? as usize).copied()
    }

    /// Replaces everything from the first entry's index on.
    pub fn append(&mut self, entries: &[LogEntry]) {
        if let Some(first) = entries.first() {
            self.terms.truncate((first.index - self.base.0 - 1) as usize);
            self.terms.extend(entries.iter().map(|e| e.term));
        }
    }

    pub fn truncate(&mut self, index: u64) {
        if let Some(term) = self.term(index) {
            self.terms.drain(..(index - self.base.0) as usize);
            self.base = (index, term);
        }
    }

    pub fn install(&mut self, index: u64, term: u64) {
        self.base = (index, term);
        self.terms.clear();
    }
}

impl Host {
    /// An empty directory of another node.
    pub fn rename(&mut self, name: &str) {
        let identity = Identity { raft_id: self.raft_id, node_id: name.to_owned(), ..Identity::default() };
        self.disk = Disk::new(identity);
        name.clone_into(&mut self.node_id);
    }

    pub fn up(&self) -> bool {
        self.process.is_some()
    }

    /// The running process with this number.
    pub fn process(&mut self, number: u64) -> Option<&mut Process> {
        if self.number == number { self.process.as_mut() } else { None }
    }
}
