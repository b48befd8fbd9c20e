//! What must always hold (TRUST §3), one invariant a file.
//!
//! Cheap checks run with every step: before an effect is carried out, after a node's turn, when a
//! log write is synced, when entries are committed and applied. At the heart stands [`replay`]: one
//! more machine, which applies each committed entry once, and whose hash every replica must show.
//! The task invariants are checked against models of their own, fed by commands, outcomes and
//! events, so that a bug in the machine that all replicas share is seen as well.

pub mod acknowledged;
pub mod append_only;
pub mod arrows;
pub mod attempts;
pub mod capacity;
pub mod commit_monotone;
pub mod configuration;
pub mod convergence;
pub mod dedup;
pub mod durable_acks;
pub mod durable_apply;
pub mod durable_commit;
pub mod election_safety;
pub mod equal_hash;
pub mod keys;
pub mod leader_completeness;
pub mod lease;
pub mod log_matching;
pub mod once;
pub mod one_change;
pub mod reads;
pub mod replay;
pub mod rows;
pub mod snapshot_replay;
pub mod state_machine_safety;
pub mod status_sum;
pub mod synced_log;
pub mod tasks;
pub mod term_monotone;
pub mod timeout_drawn;

use codec::log::{Bootstrap, ConfState, LogEntry};
use codec::row::{Change, MetaRow};
use machine::{Machine, Signal};
use node::{AppliedReport, Effect};

use crate::agent::Agent;
use crate::host::Host;
use crate::queue::Time;

/// A broken promise, and when it was seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    pub invariant: &'static str,
    pub text: String,
    pub at_us: Time,
}

/// A broken promise, as its checker sees it.
#[derive(Debug)]
pub struct Broken {
    pub invariant: &'static str,
    pub text: String,
}

pub type Check = Result<(), Broken>;

pub fn broken(invariant: &'static str, text: String) -> Check {
    Err(Broken { invariant, text })
}

impl Broken {
    pub fn at(self, now: Time) -> Violation {
        Violation { invariant: self.invariant, text: self.text, at_us: now }
    }
}

#[derive(Default)]
pub struct Invariants {
    pub election: election_safety::ElectionSafety,
    pub append_only: append_only::AppendOnly,
    pub matching: log_matching::LogMatching,
    pub commit: commit_monotone::CommitMonotone,
    pub term: term_monotone::TermMonotone,
    pub durable: durable_commit::DurableCommit,
    pub change: one_change::OneChange,
    pub configuration: configuration::Configuration,
    pub replay: replay::Replay,
    pub reads: reads::Reads,
    pub tasks: tasks::Tasks,
    pub keys: keys::Keys,
    pub capacity: capacity::Capacity,
    pub dedup: dedup::Dedup,
    pub once: once::Once,
    pub lease: lease::Lease,
    pub acknowledged: acknowledged::Acknowledged,
    pub synced: synced_log::SyncedLog,
    pub timeout: timeout_drawn::TimeoutDrawn,
}

impl Invariants {
    pub fn bootstrapped(&mut self, bootstrap: &Bootstrap) {
        self.replay.begin(&Machine::bootstrap_rows(bootstrap));
        self.configuration.begin(self.replay.machine().configuration());
    }

    /// The state hash of first rows.
    pub fn hash_of(&self, rows: &[Change]) -> [u8; 16] {
        let mut all = rows::Rows::default();
        all.write(rows.to_vec());
        Machine::hash_of_rows(&all).expect("rows in memory are read")
    }

    pub fn formed(&mut self, rows: &[Change]) {
        self.replay.begin(rows);
        self.configuration.begin(self.replay.machine().configuration());
    }

    pub fn started(&mut self, hosts: &[Host], at: usize) -> Check {
        self.commit.forget(at);
        self.append_only.forget(at);
        self.durable.forget(at);
        self.change.started(hosts, at);
        self.timeout.forget(at);
        self.synced.started(hosts, at)?;
        self.term.started(hosts, at)
    }

    pub fn stopped(&mut self, hosts: &[Host], at: usize) {
        self.append_only.forget(at);
        self.synced.stopped(hosts, at);
    }

    pub fn installed(&mut self, at: usize, _index: u64) {
        self.append_only.forget(at);
    }

    pub fn before_effect(&mut self, hosts: &[Host], at: usize, effect: &Effect) -> Check {
        match effect {
            Effect::Persist { entries, .. } => {
                self.append_only.append(hosts, at, entries)?;
                one_change::OneChange::proposed(hosts, at, entries)?;
                self.change.append(at, entries);
                self.matching.append(hosts, at, entries)
            }
            Effect::InstallSnapshot { base, .. } => self.configuration.installs(hosts, at, base.index),
            Effect::Send { body, .. } => durable_acks::sent(hosts, at, body),
            _ => Ok(()),
        }
    }

    pub fn after_turn(&mut self, hosts: &[Host], at: usize) -> Check {
        let Some(process) = &hosts[at].process else { return Ok(()) };
        let Some(consensus) = process.consensus() else { return Ok(()) };
        self.term.turn(at, consensus)?;
        self.commit.turn(at, consensus)?;
        self.timeout.turn(at, consensus)?;
        self.durable.configuration(at, consensus);
        if consensus.role() == consensus::Role::Leader {
            if self.election.leads(at, consensus.term())? {
                leader_completeness::elected(hosts, at, consensus, &self.replay)?;
            }
            self.durable.turn(hosts, at, consensus)?;
            self.change.turn(at, consensus, self.replay.last())?;
            configuration::Configuration::leads(at, consensus)?;
        }
        Ok(())
    }

    pub fn log_written(&mut self, hosts: &[Host], at: usize) -> Check {
        self.term.written(hosts, at)
    }

    /// A node is about to apply these entries: they are committed.
    pub fn committed(
        &mut self,
        hosts: &[Host],
        entries: &[LogEntry],
        configurations: &[(u64, ConfState)],
        at: usize,
        agents: &[Agent],
        now: Time,
    ) -> Check {
        self.configuration.changed(at, configurations)?;
        for entry in entries {
            durable_apply::entry(hosts, at, entry)?;
            if entry.index <= self.replay.last() {
                state_machine_safety::again(at, entry, &self.replay)?;
                continue;
            }
            let configuration = configurations.iter().find(|(index, _)| *index == entry.index).map(|(_, c)| c.clone());
            if let Some(configuration) = &configuration {
                one_change::step(&self.replay.machine().configuration(), configuration)?;
                configuration::Configuration::keeps_voters(configuration)?;
            }
            let Some(step) = self.replay.apply(at, entry, configuration)? else { continue };
            for command in &step.commands {
                self.once.command(command)?;
                self.dedup.command(command)?;
                attempts::command(command, entry.term, &self.tasks)?;
                self.lease.command(command, agents, now)?;
                self.capacity.command(command);
                for event in &command.events {
                    self.tasks.event(command.revision, event)?;
                    self.keys.event(command.revision, event, &self.acknowledged)?;
                }
            }
            self.capacity.entry(&self.tasks, self.replay.machine())?;
            status_sum::entry(&self.tasks, self.replay.machine())?;
        }
        Ok(())
    }

    pub fn applied(&mut self, at: usize, report: &AppliedReport) -> Check {
        equal_hash::applied(at, report, &self.replay)
    }

    pub fn signals(&mut self, at: usize, signals: &[Signal]) -> Check {
        for signal in signals {
            match signal {
                Signal::Quarantine { revision, reason, .. } => {
                    return broken("machine's own invariants", format!("command {revision}: {reason}"));
                }
                Signal::HashMismatch { index, .. } => {
                    return broken("equal hash", format!("n{} differs from its leader at {index}", at + 1));
                }
                _ => {}
            }
        }
        Ok(())
    }

    pub fn snapshot(&self, meta: &MetaRow) -> Check {
        snapshot_replay::received(meta, &self.replay)
    }

    /// Everything at once, when nothing is under way any more.
    pub fn at_the_end(&self, hosts: &[Host]) -> Check {
        snapshot_replay::rows_equal(hosts, &self.replay)?;
        self.acknowledged.at_the_end(&self.tasks, &self.replay)
    }
}
