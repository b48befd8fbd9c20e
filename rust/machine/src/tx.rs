//! One command at work: everything it would change, on the side.
//!
//! A command reads the machine, the stored rows and its own edits through [`Tx`]. When it is
//! refused, or breaks an invariant, the `Tx` is dropped and nothing has happened. [`Tx::finish`]
//! turns the edits into [`Effects`]: rows with their old and new hashes, and memory to replace.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use codec::row::{
    self, AgentRow, Cf, Change, Event, EventRow, IdempotencyRow, MemberRow, ReadError, StateRead, Status, TaskRow, key, row_hash,
};
use codec::{Message, Outcome, Refusal, TaskId};

use crate::Signal;
use crate::agent::AgentState;
use crate::invariant;
use crate::machine::Machine;
use crate::task::{LiveTask, decode_row, dependencies_of, parent_of, status_of};

/// Why a command did not go through.
pub(crate) enum Stop {
    Refused(Box<Outcome>),
    /// The node must stop.
    Read(ReadError),
    /// It would have broken an invariant.
    Invariant(String),
}

impl From<ReadError> for Stop {
    fn from(error: ReadError) -> Self {
        Self::Read(error)
    }
}

pub(crate) type Step<T = ()> = Result<T, Stop>;

pub(crate) fn refuse<T>(refusal: Refusal, field: impl Into<String>, detail: impl Into<String>) -> Step<T> {
    Err(Stop::Refused(Box::new(Outcome::refused(refusal, field, detail))))
}

pub(crate) fn broken<T>(what: impl Into<String>) -> Step<T> {
    Err(Stop::Invariant(what.into()))
}

pub(crate) type KeyValue = (Vec<u8>, Vec<u8>);
/// An agent's id and edit, and its row's new hash if it has one.
pub(crate) type AgentAfter = (Arc<str>, AgentEdit, Option<u128>);

/// Changes of the entry's earlier commands, by column family.
pub(crate) type Pending = [BTreeMap<Vec<u8>, Option<Vec<u8>>>; Cf::ALL.len()];

/// Stored rows with the entry's earlier changes on top.
#[derive(Clone, Copy)]
pub(crate) struct View<'a> {
    pub(crate) rows: &'a dyn StateRead,
    pub(crate) pending: &'a Pending,
}

impl View<'_> {
    pub(crate) fn get(&self, cf: Cf, key: &[u8]) -> Result<Option<Vec<u8>>, ReadError> {
        match self.pending[cf as usize].get(key) {
            Some(value) => Ok(value.clone()),
            None => self.rows.get(cf, key),
        }
    }

    /// The first `limit` rows from `start` on whose key begins with `prefix`.
    pub(crate) fn scan(&self, cf: Cf, prefix: &[u8], start: &[u8], limit: usize) -> Result<Vec<KeyValue>, ReadError> {
        let pending = &self.pending[cf as usize];
        let mut found = BTreeMap::new();
        self.rows.scan(cf, prefix, start, &mut |key, value| {
            if !pending.contains_key(key) {
                found.insert(key.to_vec(), value.to_vec());
            }
            found.len() < limit
        })?;
        let from = start.max(prefix).to_vec();
        for (key, value) in pending.range(from..).take_while(|(key, _)| key.starts_with(prefix)) {
            if let Some(value) = value {
                found.insert(key.clone(), value.clone());
            }
        }
        Ok(found.into_iter().take(limit).collect())
    }

    pub(crate) fn decode<M: Message + Default>(&self, cf: Cf, key: &[u8]) -> Result<Option<M>, ReadError> {
        let Some(value) = self.get(cf, key)? else { return Ok(None) };
        row::decode(&value).map(Some).map_err(|e| ReadError(format!("a row of {} cannot be decoded: {e}", cf.name())))
    }
}

/// What a task was when the command began.
pub(crate) struct Before {
    pub(crate) status: Status,
    pub(crate) epoch: u32,
    pub(crate) agent: String,
    pub(crate) completed_wall_us: u64,
    hash: u128,
    live: bool,
}

/// A task row that the command works on.
pub(crate) struct TaskEdit {
    pub(crate) before: Option<Before>,
    pub(crate) row: TaskRow,
    /// Retention deletes it.
    pub(crate) forgotten: bool,
}

pub(crate) struct AgentEdit {
    pub(crate) row: Arc<AgentRow>,
    pub(crate) row_changed: bool,
    pub(crate) used: Vec<u64>,
    pub(crate) added: Vec<TaskId>,
    pub(crate) removed: Vec<TaskId>,
}

/// How a row's old hash is known.
pub(crate) enum Old {
    Absent,
    Known(u128),
    /// Look at what is stored.
    Stored,
}

pub(crate) struct Write {
    change: Change,
    old: Old,
}

/// Counters of the meta row that a command moves.
#[derive(Default)]
pub(crate) struct Counters {
    pub(crate) idempotency_rows: i64,
    pub(crate) ended_bytes: i64,
    pub(crate) submitted: u64,
    pub(crate) forgotten: u64,
    pub(crate) by_status: [i64; Status::ALL.len()],
    pub(crate) events_first_revision: Option<u64>,
}

pub(crate) struct Tx<'a> {
    pub(crate) machine: &'a Machine,
    pub(crate) view: View<'a>,
    pub(crate) revision: u64,
    pub(crate) cluster_us: u64,
    pub(crate) wall_us: u64,
    /// The entry's seed: the only randomness.
    pub(crate) seed: u64,
    pub(crate) tasks: BTreeMap<TaskId, Box<TaskEdit>>,
    pub(crate) agents: BTreeMap<Arc<str>, AgentEdit>,
    /// `None`: the member has left, and its row goes.
    pub(crate) members: BTreeMap<String, Option<MemberRow>>,
    pub(crate) writes: Vec<Write>,
    pub(crate) events: Vec<Event>,
    pub(crate) signals: Vec<Signal>,
    /// Tasks that ended and whose dependents and parent have not been told yet.
    pub(crate) ended: VecDeque<TaskId>,
    /// (dependency, dependent) of the tasks that this command submits.
    pub(crate) new_links: BTreeSet<(TaskId, TaskId)>,
    /// Nodes whose agents hold less than before: a draining one may be drained now.
    pub(crate) freed_nodes: BTreeSet<String>,
    pub(crate) forgotten_agents: BTreeSet<Arc<str>>,
    pub(crate) forgotten_keys: BTreeSet<Vec<u8>>,
    pub(crate) counters: Counters,
}

/// What a command changes, ready to be committed.
pub(crate) struct Effects {
    pub(crate) changes: Vec<Change>,
    pub(crate) hash_removed: Vec<u128>,
    pub(crate) hash_added: Vec<u128>,
    pub(crate) tasks: Vec<(TaskId, TaskAfter)>,
    pub(crate) agents: Vec<AgentAfter>,
    pub(crate) forgotten_agents: BTreeSet<Arc<str>>,
    pub(crate) members: Vec<(String, Option<(MemberRow, u128)>)>,
    pub(crate) signals: Vec<Signal>,
    pub(crate) counters: Counters,
}

/// A task's place in memory after the command.
pub(crate) struct TaskAfter {
    pub(crate) live: Option<LiveTask>,
    pub(crate) was_live: bool,
    pub(crate) parent: Option<TaskId>,
    pub(crate) dependencies: Vec<TaskId>,
}

impl<'a> Tx<'a> {
    pub(crate) fn new(machine: &'a Machine, view: View<'a>, seed: u64) -> Self {
        Self {
            machine,
            view,
            revision: machine.revision(),
            cluster_us: machine.cluster_us(),
            wall_us: machine.wall_us(),
            seed,
            tasks: BTreeMap::new(),
            agents: BTreeMap::new(),
            members: BTreeMap::new(),
            writes: Vec::new(),
            events: Vec::new(),
            signals: Vec::new(),
            ended: VecDeque::new(),
            new_links: BTreeSet::new(),
            freed_nodes: BTreeSet::new(),
            forgotten_agents: BTreeSet::new(),
            forgotten_keys: BTreeSet::new(),
            counters: Counters::default(),
        }
    }

    /// The task's row for reading, from the command's own edits, memory or the store.
    pub(crate) fn find_task(&mut self, id: TaskId) -> Step<Option<&mut TaskEdit>> {
        if !self.tasks.contains_key(&id) {
            let (value, live) = match self.machine.tasks.get(&id) {
                Some(task) => (Some(std::borrow::Cow::Borrowed(task.value())), true),
                None => (self.view.get(Cf::Task, &id.0)?.map(std::borrow::Cow::Owned), false),
            };
            let Some(value) = value else { return Ok(None) };
            let row = decode_row(&value).map_err(|e| ReadError(format!("the row of task {id} cannot be decoded: {e}")))?;
            let hash = match self.machine.tasks.get(&id) {
                Some(task) => task.hash(),
                None => row_hash(Cf::Task, &id.0, &value),
            };
            let before = Before {
                status: status_of(&row),
                epoch: row.epoch,
                agent: row.assigned_agent_id.clone(),
                completed_wall_us: row.completed_wall_us,
                hash,
                live,
            };
            self.tasks.insert(id, Box::new(TaskEdit { before: Some(before), row, forgotten: false }));
        }
        Ok(self.tasks.get_mut(&id).map(|edit| &mut **edit))
    }

    /// The row of a task that a client named: refused with `NotFound` when there is none.
    pub(crate) fn named_task(&mut self, id: &[u8]) -> Step<(TaskId, &mut TaskRow)> {
        let Ok(id) = TaskId::from_slice(id) else { return refuse(Refusal::Invalid, "/id", "a task id has 16 bytes") };
        match self.find_task(id)? {
            Some(edit) => Ok((id, &mut edit.row)),
            None => refuse(Refusal::NotFound, "", format!("no task {id}")),
        }
    }

    /// The row of a task that the state itself names.
    pub(crate) fn task(&mut self, id: TaskId) -> Step<&mut TaskRow> {
        match self.find_task(id)? {
            Some(edit) => Ok(&mut edit.row),
            None => broken(format!("task {id} is named by the state and missing")),
        }
    }

    pub(crate) fn agent_row(&self, id: &str) -> Arc<AgentRow> {
        match (self.agents.get(id), self.machine.agents.get(id)) {
            (Some(edit), _) => edit.row.clone(),
            (None, Some(agent)) => agent.row.clone(),
            (None, None) => Arc::default(),
        }
    }

    pub(crate) fn agent_or_new(&mut self, id: &Arc<str>) -> &mut AgentEdit {
        let machine = self.machine;
        self.agents.entry(id.clone()).or_insert_with(|| {
            let known = machine.agents.get(id);
            AgentEdit {
                row: known.map(|a| a.row.clone()).unwrap_or_default(),
                row_changed: false,
                used: known.map(|a| a.used.clone()).unwrap_or_default(),
                added: Vec::new(),
                removed: Vec::new(),
            }
        })
    }

    /// What the agent holds at this point of the command, in order of id.
    pub(crate) fn held_by(&self, id: &str) -> Vec<TaskId> {
        let mut held = self.machine.agents.get(id).map(|a| a.held.clone()).unwrap_or_default();
        if let Some(edit) = self.agents.get(id) {
            held.extend(edit.added.iter().copied());
            edit.removed.iter().for_each(|task| {
                held.remove(task);
            });
        }
        held.into_iter().collect()
    }

    pub(crate) fn write(&mut self, cf: Cf, key: Vec<u8>, value: Option<Vec<u8>>, old: Old) {
        self.writes.push(Write { change: Change { cf, key, value }, old });
    }

    pub(crate) fn write_idempotency(&mut self, key: Vec<u8>, row: &IdempotencyRow) {
        let index = row::index::by_key_age(row.created_cluster_us, &key);
        self.write(Cf::Index, index, Some(Vec::new()), Old::Absent);
        self.write(Cf::Idempotency, key, Some(row::encode(row)), Old::Absent);
        self.counters.idempotency_rows += 1;
    }

    /// Checks what must hold and gives the changes out; memory is untouched until they are committed.
    pub(crate) fn finish(mut self) -> Step<Effects> {
        let mut tasks = Vec::with_capacity(self.tasks.len());
        for (id, edit) in std::mem::take(&mut self.tasks) {
            if edit.forgotten || edit.row.revision == self.revision {
                invariant::check_task(id, &edit)?;
                tasks.push((id, self.task_changes(id, &edit)));
            }
        }
        let agents = self.agent_changes()?;
        let mut members = Vec::new();
        for (node_id, row) in std::mem::take(&mut self.members) {
            let value = row.as_ref().map(row::encode);
            let key = node_id.as_bytes().to_vec();
            let old = self.machine.members.get(&node_id).map_or(Old::Absent, |m| Old::Known(m.hash));
            let hash = value.as_ref().map(|value| row_hash(Cf::Member, &key, value));
            self.write(Cf::Member, key, value, old);
            members.push((node_id, row.zip(hash)));
        }
        if !self.events.is_empty() {
            let row = EventRow { events: std::mem::take(&mut self.events), wall_us: self.wall_us };
            self.write(Cf::Event, key::event(self.revision), Some(row::encode(&row)), Old::Absent);
        }
        invariant::check_counts(self.machine, &self.counters)?;
        let mut effects = Effects {
            changes: Vec::with_capacity(self.writes.len()),
            hash_removed: Vec::new(),
            hash_added: Vec::new(),
            tasks,
            agents,
            forgotten_agents: self.forgotten_agents,
            members,
            signals: self.signals,
            counters: self.counters,
        };
        for Write { change, old } in self.writes {
            if change.cf.hashed() {
                match old {
                    Old::Absent => {}
                    Old::Known(hash) => effects.hash_removed.push(hash),
                    Old::Stored => {
                        if let Some(value) = self.view.get(change.cf, &change.key)? {
                            effects.hash_removed.push(row_hash(change.cf, &change.key, &value));
                        }
                    }
                }
                if let Some(value) = &change.value {
                    effects.hash_added.push(row_hash(change.cf, &change.key, value));
                }
            }
            effects.changes.push(change);
        }
        Ok(effects)
    }

    fn task_changes(&mut self, id: TaskId, edit: &TaskEdit) -> TaskAfter {
        let (row, before) = (&edit.row, edit.before.as_ref());
        let status = status_of(row);
        if let Some(before) = before {
            self.counters.by_status[before.status as usize] -= 1;
        } else {
            self.counters.submitted += 1;
        }
        if edit.forgotten {
            self.counters.forgotten += 1;
        } else {
            self.counters.by_status[status as usize] += 1;
        }
        crate::event::index_changes(self, id, edit);
        let old = before.map_or(Old::Absent, |b| Old::Known(b.hash));
        let value = (!edit.forgotten).then(|| row::encode(row));
        let live = match &value {
            Some(value) if !status.ended() => {
                let agent = status.held().then(|| self.shared_agent(&row.assigned_agent_id));
                Some(LiveTask::new(id, row, value, agent))
            }
            _ => None,
        };
        self.write(Cf::Task, key::task(id), value, old);
        TaskAfter {
            live,
            was_live: before.is_some_and(|b| b.live),
            parent: parent_of(row),
            dependencies: dependencies_of(row).collect(),
        }
    }

    fn shared_agent(&self, id: &str) -> Arc<str> {
        let known = self.machine.agents.get_key_value(id).map(|(id, _)| id.clone());
        known.unwrap_or_else(|| id.into())
    }

    fn agent_changes(&mut self) -> Step<Vec<AgentAfter>> {
        let mut agents = Vec::with_capacity(self.agents.len());
        for (id, edit) in std::mem::take(&mut self.agents) {
            invariant::check_agent(&id, &edit)?;
            let mut hash = None;
            if edit.row_changed {
                let value = row::encode(&*edit.row);
                hash = Some(row_hash(Cf::Agent, id.as_bytes(), &value));
                let old = self.machine.agents.get(&id).map_or(Old::Absent, |a: &AgentState| Old::Known(a.hash));
                self.write(Cf::Agent, id.as_bytes().to_vec(), Some(value), old);
            }
            agents.push((id, edit, hash));
        }
        Ok(agents)
    }
}
