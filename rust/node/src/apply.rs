//! [`ApplyDriver`]: the apply side of a node, which owns the machine.
//!
//! A batch of committed entries becomes one set of changes for the store, and one report for the
//! raft side. Entries of a batch see each other's changes through an overlay.

use std::collections::BTreeMap;
use std::ops::Bound;

use codec::command::Body;
use codec::frame::{DecodeError, Frame};
use codec::log::{ConfState, EntryKind, LogEntry};
use codec::row::{AgentStatus, Cf, Change, ReadError, StateRead};
use codec::{EntryPayload, FrameKind, Outcome};
use machine::{AgentState, Applied, LoadError, Machine, RetentionLimits, SessionLookup, Signal};
use thiserror::Error;

use crate::event::{AppliedBatch, AppliedReport, ApplyInput, CheckApplied, InstalledReport, Member};

/// Timers proposed in one entry.
const DUE_MAX: usize = 2_000;
/// Items forgotten in one entry.
const RETENTION_MAX: usize = 1_000;

/// The node cannot go on.
#[derive(Debug, Error)]
pub enum ApplyError {
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error(transparent)]
    Load(#[from] LoadError),
    /// A newer release wrote the entry, or it is corrupt: stopping before it is applied loses nothing.
    #[error("entry {index} cannot be applied by this release: {error}")]
    Entry { index: u64, error: DecodeError },
}

pub struct ApplyDriver {
    machine: Machine,
    session: u64,
    leader_term: Option<u64>,
    limits: RetentionLimits,
}

fn is_live(agent: &AgentState) -> bool {
    matches!(agent.status(), AgentStatus::Up | AgentStatus::Draining)
}

/// A store with the batch's earlier changes on top.
struct Overlay<'a> {
    base: &'a dyn StateRead,
    pending: BTreeMap<(Cf, Vec<u8>), Option<Vec<u8>>>,
}

impl Overlay<'_> {
    fn add(&mut self, changes: Vec<Change>) {
        self.pending.extend(changes.into_iter().map(|c| ((c.cf, c.key), c.value)));
    }

    /// Everything that was added, with the newest entry's changes.
    fn into_changes(mut self, newest: Vec<Change>) -> Vec<Change> {
        if self.pending.is_empty() {
            return newest;
        }
        self.add(newest);
        self.pending.into_iter().map(|((cf, key), value)| Change { cf, key, value }).collect()
    }
}

impl StateRead for Overlay<'_> {
    fn get(&self, cf: Cf, key: &[u8]) -> Result<Option<Vec<u8>>, ReadError> {
        if !self.pending.is_empty()
            && let Some(value) = self.pending.get(&(cf, key.to_vec()))
        {
            return Ok(value.clone());
        }
        self.base.get(cf, key)
    }

    fn scan(&self, cf: Cf, prefix: &[u8], start: &[u8], visit: &mut dyn FnMut(&[u8], &[u8]) -> bool) -> Result<(), ReadError> {
        let from = (Bound::Included((cf, start.max(prefix).to_vec())), Bound::Unbounded);
        let mut pending = self
            .pending
            .range(from)
            .take_while(|((c, key), _)| *c == cf && key.starts_with(prefix))
            .map(|((_, key), value)| (key.as_slice(), value.as_deref()))
            .peekable();
        let mut go_on = true;
        self.base.scan(cf, prefix, start, &mut |key, value| {
            while let Some((k, v)) = pending.next_if(|(k, _)| *k < key) {
                go_on = v.is_none_or(|v| visit(k, v));
                if !go_on {
                    return false;
                }
            }
            go_on = match pending.next_if(|(k, _)| *k == key) {
                Some((k, v)) => v.is_none_or(|v| visit(k, v)),
                None => visit(key, value),
            };
            go_on
        })?;
        for (key, value) in pending {
            if !go_on {
                break;
            }
            go_on = value.is_none_or(|v| visit(key, v));
        }
        Ok(())
    }
}

impl ApplyDriver {
    /// Rebuilds the machine from stored rows.
    pub fn load(rows: &dyn StateRead, session: u64, limits: RetentionLimits) -> Result<Self, ApplyError> {
        Ok(Self { machine: Machine::load(rows)?, session, leader_term: None, limits })
    }

    pub fn machine(&self) -> &Machine {
        &self.machine
    }

    /// Term of this node's established leadership, if it has one.
    pub fn leader_term(&self) -> Option<u64> {
        self.leader_term
    }

    /// Everything the raft side wants to know of a machine that was just loaded. Outcomes of the own
    /// session are not among it: its commands are handed over again, and answered from the table.
    pub fn loaded_report(&self) -> InstalledReport {
        let mut report = self.report();
        report.members = Some(self.members());
        report.configuration = Some(self.machine.configuration());
        report.agents =
            self.machine.agents().map(|(id, agent)| (id.to_string(), agent.row().agent_epoch, is_live(agent))).collect();
        let session_known = !matches!(self.machine.session_outcome(self.session, u64::MAX), SessionLookup::Unknown);
        InstalledReport { report, session_known }
    }

    /// Applies one input. The caller writes `changes` in one batch and only then tells anybody.
    pub fn step(&mut self, rows: &dyn StateRead, input: ApplyInput) -> Result<AppliedBatch, ApplyError> {
        match input {
            ApplyInput::Entries { entries, configurations } => self.entries(rows, entries, configurations),
            ApplyInput::LookForDue { cluster_us, wall_us } => {
                let mut report = self.report();
                report.looked = true;
                report.due = self.machine.due(cluster_us, wall_us, DUE_MAX);
                report.retention = self.machine.retention(rows, &self.limits, RETENTION_MAX)?;
                Ok(AppliedBatch { report, ..AppliedBatch::default() })
            }
            ApplyInput::Role { leader, term } => {
                self.leader_term = leader.then_some(term);
                Ok(AppliedBatch { report: self.report(), ..AppliedBatch::default() })
            }
            ApplyInput::Session { session } => {
                self.session = session;
                Ok(AppliedBatch { report: self.report(), ..AppliedBatch::default() })
            }
        }
    }

    fn entries(
        &mut self,
        rows: &dyn StateRead,
        entries: Vec<LogEntry>,
        configurations: Vec<(u64, ConfState)>,
    ) -> Result<AppliedBatch, ApplyError> {
        let mut overlay = Overlay { base: rows, pending: BTreeMap::new() };
        let mut batch = AppliedBatch::default();
        let (mut resolved, mut hashes, mut log_bytes) = (Vec::new(), Vec::with_capacity(entries.len()), 0);
        let mut checks = Vec::new();
        let mut entries = entries.into_iter();
        // A batch of one entry, the usual one at rest, needs no overlay.
        let mut newest = Vec::new();
        for entry in entries.by_ref() {
            overlay.add(std::mem::take(&mut newest));
            log_bytes += entry.data.len() as u64 + 64;
            let configuration = configurations.iter().find(|(index, _)| *index == entry.index).map(|(_, c)| c.clone());
            let applied = self.entry(&overlay, &entry, configuration, &mut resolved, &mut checks)?;
            hashes.push((entry.index, self.machine.hash()));
            batch.signals.extend(applied.signals);
            newest = applied.changes;
            // The rows are read as of this entry: what follows waits for that.
            if checks.iter().any(|c: &CheckApplied| c.verify != 0 && c.at == entry.index) {
                break;
            }
        }
        let rest: Vec<LogEntry> = entries.collect();
        batch.rest = (!rest.is_empty()).then_some(ApplyInput::Entries { entries: rest, configurations });
        batch.changes = overlay.into_changes(newest);
        batch.report = self.report();
        batch.report.resolved = resolved;
        batch.report.hashes = hashes;
        batch.report.checks = checks;
        batch.report.log_bytes = log_bytes;
        self.report_signals(&batch.signals, &mut batch.report);
        Ok(batch)
    }

    fn entry(
        &mut self,
        rows: &dyn StateRead,
        entry: &LogEntry,
        configuration: Option<ConfState>,
        resolved: &mut Vec<(u64, Outcome)>,
        checks: &mut Vec<CheckApplied>,
    ) -> Result<Applied, ApplyError> {
        if entry.kind == EntryKind::ConfChange || entry.data.is_empty() {
            return Ok(self.machine.apply_empty(entry.index, entry.term, configuration));
        }
        let payload: EntryPayload = Frame::decode_message(FrameKind::EntryPayload, &entry.data)
            .map_err(|error| ApplyError::Entry { index: entry.index, error })?;
        if payload.commands.iter().any(|c| c.body.is_none()) {
            let error = DecodeError::Invalid("a command of an unknown kind: upgrade this node");
            return Err(ApplyError::Entry { index: entry.index, error });
        }
        let applied = self.machine.apply(rows, entry.index, entry.term, &payload)?;
        debug_assert_eq!(applied.outcomes.len(), payload.commands.len());
        for (command, outcome) in payload.commands.iter().zip(&applied.outcomes) {
            if let Some(Body::HashCheck(check)) = &command.body
                && command.term == entry.term
            {
                let alone = payload.commands.len() == 1;
                checks.push(CheckApplied { at: entry.index, index: check.index, verify: check.verify, alone });
            }
            if command.session == self.session && command.sequence > 0 {
                resolved.push((command.sequence, outcome.clone()));
            }
        }
        Ok(applied)
    }

    fn report_signals(&self, signals: &[Signal], report: &mut AppliedReport) {
        let mut members_changed = false;
        for signal in signals {
            match signal {
                Signal::AgentChanged { agent } => {
                    let (epoch, live) = self.machine.agent(agent).map_or((0, false), |a| (a.row().agent_epoch, is_live(a)));
                    report.agents.push((agent.to_string(), epoch, live));
                }
                Signal::SessionOpened { session, .. } if *session == self.session => report.session_opened = true,
                Signal::Members => members_changed = true,
                Signal::HashMismatch { index, .. } => report.hash_mismatch = Some(*index),
                _ => {}
            }
        }
        if members_changed {
            report.members = Some(self.members());
        }
    }

    fn members(&self) -> Vec<Member> {
        let members = self.machine.members();
        members
            .map(|(node_id, row)| Member {
                node_id: node_id.to_owned(),
                raft_id: row.raft_id,
                address: row.address.clone(),
                drain: row.drain(),
                role: row.role(),
                state: row.state(),
                replaces: row.replaces.clone(),
            })
            .collect()
    }

    fn report(&self) -> AppliedReport {
        let (next_due_cluster_us, next_due_wall_us) = self.machine.next_due();
        AppliedReport {
            index: self.machine.applied_index(),
            term: self.machine.applied_term(),
            revision: self.machine.revision(),
            cluster_us: self.machine.cluster_us(),
            hash: self.machine.hash(),
            next_due_cluster_us,
            next_due_wall_us,
            live_tasks: self.machine.live_tasks() as u64,
            ..AppliedReport::default()
        }
    }
}
