//! The replay: one machine that applies every committed entry once, in order, one at a time. Its
//! hashes are what every replica must show; its outcomes and events feed the task models.

use codec::command::Command;
use codec::frame::{Frame, FrameKind};
use codec::log::{ConfState, EntryKind, LogEntry};
use codec::row::{self, Cf, Change, Event, EventRow};
use codec::{EntryPayload, Outcome};
use machine::Machine;

use super::log_matching::data_hash;
use super::rows::Rows;
use super::{Broken, Check, broken};

/// A committed entry: what it is, and the state after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Committed {
    pub term: u64,
    pub data: u64,
    pub state: [u8; 16],
}

/// A command of an entry with what it came to.
pub struct Executed {
    pub revision: u64,
    pub command: Command,
    pub outcome: Outcome,
    pub events: Vec<Event>,
}

#[derive(Default)]
pub struct Step {
    pub commands: Vec<Executed>,
}

#[derive(Default)]
pub struct Replay {
    machine: Option<Machine>,
    pub rows: Rows,
    /// By index − 1.
    entries: Vec<Committed>,
}

impl Replay {
    /// The rows of the first configuration. A cluster has one: a second call must agree.
    pub fn begin(&mut self, rows: &[Change]) {
        if self.machine.is_none() {
            self.rows.write(rows.to_vec());
            let machine = Machine::load(&self.rows).expect("first rows load");
            // A cluster that existed before the run stands behind its first entries.
            let first = Committed { term: machine.applied_term(), data: 0, state: machine.hash() };
            self.entries = vec![first; machine.applied_index() as usize];
            self.machine = Some(machine);
        }
    }

    /// Whether the cluster has its first configuration.
    pub fn begun(&self) -> bool {
        self.machine.is_some()
    }

    pub fn last(&self) -> u64 {
        self.entries.len() as u64
    }

    pub fn entry(&self, index: u64) -> Option<&Committed> {
        self.entries.get(index.checked_sub(1)? as usize)
    }

    /// The last committed entry of a term below `term`: (index, term).
    pub fn last_before(&self, term: u64) -> Option<(u64, u64)> {
        let index = self.entries.partition_point(|e| e.term < term) as u64;
        self.entry(index).map(|e| (index, e.term))
    }

    pub fn machine(&self) -> &Machine {
        self.machine.as_ref().expect("a cluster")
    }

    /// Applies the next entry. `None` for an entry without commands.
    pub fn apply(&mut self, at: usize, entry: &LogEntry, configuration: Option<ConfState>) -> Result<Option<Step>, Broken> {
        if entry.index != self.last() + 1 {
            let text = format!("n{} applies entry {} after {}", at + 1, entry.index, self.last());
            return broken("state machine safety", text).map(|()| None);
        }
        let before = self.entries.last().map_or(0, |e| e.term);
        if entry.term < before {
            let text = format!("entry {} of term {} is committed after term {before}", entry.index, entry.term);
            return broken("log matching", text).map(|()| None);
        }
        let Some(machine) = &mut self.machine else {
            return broken("state machine safety", "entries before the first configuration".to_owned()).map(|()| None);
        };
        let mut step = None;
        let applied = if entry.kind == EntryKind::ConfChange || entry.data.is_empty() {
            machine.apply_empty(entry.index, entry.term, configuration)
        } else {
            let payload: EntryPayload = match Frame::decode_message(FrameKind::EntryPayload, &entry.data) {
                Ok(payload) => payload,
                Err(error) => return broken("state machine safety", format!("entry {}: {error}", entry.index)).map(|()| None),
            };
            let first = machine.revision() + 1;
            let mut applied = machine.apply(&self.rows, entry.index, entry.term, &payload).expect("rows in memory are read");
            let mut events = events_of(&applied.changes);
            let commands = payload.commands.into_iter().zip(std::mem::take(&mut applied.outcomes)).enumerate();
            let commands = commands.map(|(position, (command, outcome))| {
                let revision = first + position as u64;
                let events = events.iter_mut().find(|(r, _)| *r == revision).map(|(_, e)| std::mem::take(e)).unwrap_or_default();
                Executed { revision, command, outcome, events }
            });
            step = Some(Step { commands: commands.collect() });
            applied
        };
        let state = machine.hash();
        self.rows.write(applied.changes);
        self.entries.push(Committed { term: entry.term, data: data_hash(entry), state });
        Ok(step)
    }

    /// The replay's rows add up to its hash.
    pub fn hash_adds_up(&self) -> Check {
        match Machine::hash_of_rows(&self.rows) {
            Ok(hash) if hash == self.machine().hash() => Ok(()),
            _ => broken("equal hash", "the replay's rows do not add up to its hash".to_owned()),
        }
    }
}

fn events_of(changes: &[Change]) -> Vec<(u64, Vec<Event>)> {
    let rows = changes.iter().filter(|c| c.cf == Cf::Event);
    rows.filter_map(|change| {
        let revision = u64::from_be_bytes(<[u8; 8]>::try_from(change.key.as_slice()).ok()?);
        let row: EventRow = row::decode(change.value.as_deref()?).ok()?;
        Some((revision, row.events))
    })
    .collect()
}
