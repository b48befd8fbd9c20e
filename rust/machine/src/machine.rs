//! The machine: memory, and one entry at a time applied to it.
//!
//! Every command of an entry takes the next revision, also one that is refused or replayed, so a
//! revision names one command for ever. Leader-only commands carry a term instead of a session.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use codec::command::{Body, Expire, HashCheck};
use codec::log::{Bootstrap, ConfState};
use codec::row::{self, Cf, Change, DrainState, MemberRow, MetaRow, ReadError, SessionOutcomes, StateRead, Status, row_hash};
use codec::{Command, EntryPayload, Message, Outcome, Refusal, TaskId};

use crate::Signal;
use crate::agent::AgentState;
use crate::hash::HashSum;
use crate::limits::RECENT_HASHES_MAX;
use crate::load::{LoadError, LoadPath};
use crate::member::{Member, drain_state};
use crate::session::{Gate, Session};
use crate::task::LiveTask;
use crate::timers::TimerQueue;
use crate::tx::{Effects, Pending, Step, Stop, TaskAfter, Tx, View};

/// Version of the behaviour of apply that this release writes into a new cluster.
pub const MACHINE_VERSION: u32 = 1;

/// The replicated state in memory: all that can still change.
#[derive(Debug)]
pub struct Machine {
    pub(crate) meta: MetaRow,
    pub(crate) hash: HashSum,
    pub(crate) tasks: BTreeMap<TaskId, LiveTask>,
    pub(crate) agents: BTreeMap<Arc<str>, AgentState>,
    pub(crate) members: BTreeMap<String, Member>,
    pub(crate) sessions: BTreeMap<u64, Session>,
    pub(crate) timers: TimerQueue,
    /// (dependency, live dependent): also of dependencies that have ended.
    pub(crate) dependents: BTreeSet<(TaskId, TaskId)>,
    /// (parent, live child).
    pub(crate) children: BTreeSet<(TaskId, TaskId)>,
    recent_hashes: VecDeque<(u64, [u8; 16])>,
    /// When the first drain of a node ends, in cluster time: every applied batch asks.
    drain_due: Option<u64>,
}

/// What an entry came to.
#[derive(Debug, Default)]
pub struct Applied {
    /// One for each command, in order.
    pub outcomes: Vec<Outcome>,
    /// To be written in one batch: by column family, then key; the meta row is among them.
    pub changes: Vec<Change>,
    pub signals: Vec<Signal>,
}

/// The changes of the entry that is being applied.
#[derive(Default)]
pub(crate) struct Entry {
    pub(crate) pending: Pending,
    pub(crate) sessions: BTreeMap<u64, SessionOutcomes>,
    pub(crate) signals: Vec<Signal>,
}

impl Entry {
    pub(crate) fn set(&mut self, cf: Cf, key: Vec<u8>, value: Option<Vec<u8>>) {
        self.pending[cf as usize].insert(key, value);
    }

    pub(crate) fn into_applied(mut self, meta: &MetaRow, outcomes: Vec<Outcome>) -> Applied {
        self.set(Cf::Meta, Vec::new(), Some(row::encode(meta)));
        let mut changes = Vec::with_capacity(self.pending.iter().map(BTreeMap::len).sum());
        for (cf, rows) in Cf::ALL.into_iter().zip(self.pending) {
            changes.extend(rows.into_iter().map(|(key, value)| Change { cf, key, value }));
        }
        Applied { outcomes, changes, signals: self.signals }
    }
}

impl Machine {
    /// The rows of a new cluster: its members and a meta row at index 0 with all of them as voters.
    pub fn bootstrap_rows(bootstrap: &Bootstrap) -> Vec<Change> {
        let mut hash = HashSum::default();
        let mut members: BTreeMap<Vec<u8>, Vec<u8>> = BTreeMap::new();
        for member in &bootstrap.members {
            let row = MemberRow { raft_id: member.raft_id, address: member.address.clone(), ..MemberRow::default() };
            members.insert(member.node_id.as_bytes().to_vec(), row::encode(&row));
        }
        members.iter().for_each(|(key, value)| hash.add_row(Cf::Member, key, value));
        let mut voters: Vec<u64> = bootstrap.members.iter().map(|m| m.raft_id).collect();
        voters.sort_unstable();
        let meta = MetaRow {
            configuration: Some(ConfState { voters, ..ConfState::default() }),
            wall_us: bootstrap.wall_us,
            hash: hash.to_bytes().to_vec(),
            machine_version: MACHINE_VERSION,
            cluster_id: bootstrap.cluster_id,
            events_first_revision: 1,
            tasks_by_status: vec![0; Status::ALL.len()],
            ..MetaRow::default()
        };
        let meta = Change { cf: Cf::Meta, key: Vec::new(), value: Some(row::encode(&meta)) };
        let members = members.into_iter().map(|(key, value)| Change { cf: Cf::Member, key, value: Some(value) });
        std::iter::once(meta).chain(members).collect()
    }

    /// Rebuilds memory from rows. Live tasks, agents, members and sessions are read; what has
    /// ended is only read over when there is little of it.
    ///
    /// # Errors
    /// If the rows cannot be read, or contradict each other or their own counts.
    pub fn load(rows: &dyn StateRead) -> Result<Self, LoadError> {
        Self::load_by(rows, LoadPath::Cheapest)
    }

    /// [`Machine::load`] by a path of the caller's choice; the machine is the same.
    ///
    /// # Errors
    /// As [`Machine::load`].
    pub fn load_by(rows: &dyn StateRead, path: LoadPath) -> Result<Self, LoadError> {
        crate::load::load(rows, path)
    }

    pub(crate) fn empty(meta: MetaRow) -> Self {
        Self {
            hash: HashSum::from_bytes(&meta.hash),
            meta,
            tasks: BTreeMap::new(),
            agents: BTreeMap::new(),
            members: BTreeMap::new(),
            sessions: BTreeMap::new(),
            timers: TimerQueue::default(),
            dependents: BTreeSet::new(),
            children: BTreeSet::new(),
            recent_hashes: VecDeque::new(),
            drain_due: None,
        }
    }

    /// Applies a normal entry. `rows` is the store with the changes of earlier entries on top.
    ///
    /// # Errors
    /// If a row cannot be read. The machine is then of no more use: the node stops.
    pub fn apply(&mut self, rows: &dyn StateRead, index: u64, term: u64, payload: &EntryPayload) -> Result<Applied, ReadError> {
        self.meta.cluster_us = self.meta.cluster_us.max(payload.cluster_us);
        self.meta.wall_us = self.meta.wall_us.max(payload.wall_us);
        let mut entry = Entry::default();
        let mut outcomes = Vec::with_capacity(payload.commands.len());
        for command in &payload.commands {
            self.meta.revision += 1;
            let mut outcome = self.apply_command(&mut entry, rows, term, payload.seed, command)?;
            if outcome.revision == 0 {
                outcome.revision = self.meta.revision;
            }
            outcomes.push(outcome);
        }
        self.store_sessions(&mut entry, index);
        self.applied(index, term);
        Ok(entry.into_applied(&self.meta, outcomes))
    }

    /// Takes note of an entry without commands: a no-op, or a configuration change.
    pub fn apply_empty(&mut self, index: u64, term: u64, configuration: Option<ConfState>) -> Applied {
        let mut entry = Entry::default();
        if configuration.is_some() {
            self.meta.configuration = configuration;
            entry.signals.push(Signal::ConfigurationChanged);
        }
        self.applied(index, term);
        entry.into_applied(&self.meta, Vec::new())
    }

    pub(crate) fn applied(&mut self, index: u64, term: u64) {
        self.meta.applied_index = index;
        self.meta.applied_term = term;
        self.meta.hash.clear();
        self.meta.hash.extend_from_slice(&self.hash.to_bytes());
        if self.recent_hashes.len() == RECENT_HASHES_MAX {
            self.recent_hashes.pop_front();
        }
        self.recent_hashes.push_back((index, self.hash.to_bytes()));
    }

    fn apply_command(
        &mut self,
        entry: &mut Entry,
        rows: &dyn StateRead,
        term: u64,
        seed: u64,
        command: &Command,
    ) -> Result<Outcome, ReadError> {
        match &command.body {
            None => Ok(Outcome::refused(Refusal::Invalid, "", "a command without a body, or of a kind unknown to this release")),
            Some(Body::OpenSession(open)) => Ok(self.open_session(entry, command.session, &open.node_id)),
            Some(body) if body.leader_only() => {
                if command.term != term {
                    let detail = format!("proposed in term {}, applied in term {term}", command.term);
                    return Ok(Outcome::refused(Refusal::StaleTerm, "", detail));
                }
                if let Body::HashCheck(check) = body {
                    self.compare_hash(entry, check);
                }
                self.run(entry, rows, seed, command, body)
            }
            Some(body) => match self.session_gate(entry, command) {
                Gate::Answer(outcome) => Ok(outcome),
                Gate::Apply => {
                    let mut outcome = self.run(entry, rows, seed, command, body)?;
                    if outcome.revision == 0 {
                        outcome.revision = self.meta.revision;
                    }
                    self.save_outcome(entry, command, &outcome);
                    Ok(outcome)
                }
            },
        }
    }

    /// Computes the command on the side and commits it if nothing stops it.
    fn run(
        &mut self,
        entry: &mut Entry,
        rows: &dyn StateRead,
        seed: u64,
        command: &Command,
        body: &Body,
    ) -> Result<Outcome, ReadError> {
        let tx = Tx::new(self, View { rows, pending: &entry.pending }, seed);
        match execute(tx, body) {
            Ok(_) if failpoint::skip!("machine::machine::invariant") => {
                let reason = "the failpoint machine::machine::invariant".to_owned();
                Ok(self.quarantine(entry, command, reason))
            }
            Ok((outcome, effects)) => {
                self.commit(entry, effects);
                Ok(outcome)
            }
            Err(Stop::Refused(outcome)) => Ok(*outcome),
            Err(Stop::Read(error)) => Err(error),
            Err(Stop::Invariant(reason)) => Ok(self.quarantine(entry, command, reason)),
        }
    }

    /// Refuses a command that would break an invariant, and keeps its bytes.
    fn quarantine(&self, entry: &mut Entry, command: &Command, reason: String) -> Outcome {
        let outcome = Outcome::refused(Refusal::InternalInvariant, "", reason.clone());
        entry.signals.push(Signal::Quarantine { revision: self.meta.revision, reason, command: command.encode_to_vec() });
        outcome
    }

    pub(crate) fn commit(&mut self, entry: &mut Entry, effects: Effects) {
        effects.hash_removed.iter().for_each(|hash| self.hash.remove(*hash));
        effects.hash_added.iter().for_each(|hash| self.hash.add(*hash));
        for Change { cf, key, value } in effects.changes {
            entry.set(cf, key, value);
        }
        for (id, after) in effects.tasks {
            self.place_task(id, after);
        }
        for (id, edit, hash) in effects.agents {
            let state = self.agents.entry(id).or_insert_with(|| AgentState {
                row: Arc::default(),
                hash: 0,
                used: Vec::new(),
                held: BTreeSet::new(),
            });
            state.row = edit.row;
            state.hash = hash.unwrap_or(state.hash);
            state.used = edit.used;
            state.held.extend(edit.added);
            edit.removed.iter().for_each(|task| {
                state.held.remove(task);
            });
        }
        for id in effects.forgotten_agents {
            self.agents.remove(&id);
        }
        let members_change = !effects.members.is_empty();
        for (node_id, after) in effects.members {
            match after {
                Some((row, hash)) => drop(self.members.insert(node_id, Member { row, hash })),
                None => {
                    self.members.remove(&node_id);
                    self.retire_sessions_of(entry, &node_id);
                }
            }
        }
        if members_change {
            self.note_drains();
        }
        let (counters, meta) = (effects.counters, &mut self.meta);
        for (count, change) in meta.tasks_by_status.iter_mut().zip(counters.by_status) {
            *count = count.saturating_add_signed(change);
        }
        meta.tasks_submitted += counters.submitted;
        meta.tasks_forgotten += counters.forgotten;
        meta.idempotency_rows = meta.idempotency_rows.saturating_add_signed(counters.idempotency_rows);
        meta.ended_bytes = meta.ended_bytes.saturating_add_signed(counters.ended_bytes);
        if let Some(revision) = counters.events_first_revision {
            meta.events_first_revision = revision;
        }
        entry.signals.extend(effects.signals);
    }

    pub(crate) fn place_task(&mut self, id: TaskId, after: TaskAfter) {
        if after.was_live != after.live.is_some() {
            let live = after.live.is_some();
            let mut link = |set: fn(&mut Self) -> &mut BTreeSet<(TaskId, TaskId)>, pair| {
                if live {
                    set(self).insert(pair);
                } else {
                    set(self).remove(&pair);
                }
            };
            after.dependencies.iter().for_each(|dependency| link(|m| &mut m.dependents, (*dependency, id)));
            if let Some(parent) = after.parent {
                link(|m| &mut m.children, (parent, id));
            }
        }
        let new = after.live.as_ref().map(|t| *t.timers());
        let old = match after.live {
            Some(task) => self.tasks.insert(id, task),
            None => self.tasks.remove(&id),
        };
        self.timers.replace(id, old.as_ref().map(LiveTask::timers), new.as_ref());
    }

    fn compare_hash(&self, entry: &mut Entry, check: &HashCheck) {
        let Ok(leader) = <[u8; 16]>::try_from(check.hash.as_slice()) else { return };
        let found = self.recent_hashes.binary_search_by_key(&check.index, |(index, _)| *index);
        if let Some((index, own)) = found.ok().map(|at| self.recent_hashes[at])
            && own != leader
        {
            entry.signals.push(Signal::HashMismatch { index, own, leader });
        }
    }

    /// Tasks and node drains that are due at these times, as the leader proposes them: at most
    /// `limit` tasks, earliest first. `None` when nothing is. Agents' leases are the leader's own.
    pub fn due(&self, cluster_us: u64, wall_us: u64, limit: usize) -> Option<Expire> {
        let epoch_of = |id: TaskId| self.tasks.get(&id).map_or(0, LiveTask::epoch);
        let tasks = self.timers.due(cluster_us, wall_us, limit, epoch_of);
        let drains = self.draining().filter(|(_, until)| *until <= cluster_us);
        let drained_nodes: Vec<String> = drains.map(|(node_id, _)| node_id.clone()).collect();
        let any = !tasks.is_empty() || !drained_nodes.is_empty();
        any.then_some(Expire { tasks, agents: Vec::new(), drained_nodes })
    }

    /// Cluster and wall time of the earliest timer, in µs.
    pub fn next_due(&self) -> (Option<u64>, Option<u64>) {
        let (cluster, wall) = self.timers.next();
        (cluster.into_iter().chain(self.drain_due).min(), wall)
    }

    /// The members have changed.
    pub(crate) fn note_drains(&mut self) {
        self.drain_due = self.draining().map(|(_, until)| until).min();
    }

    fn draining(&self) -> impl Iterator<Item = (&String, u64)> {
        let draining = self.members.iter().filter(|(_, m)| drain_state(&m.row) == DrainState::Draining);
        draining.map(|(node_id, m)| (node_id, m.row.drain_until_cluster_us))
    }

    /// Recomputes the state hash from every hashed row of `rows`: as expensive as reading them all.
    ///
    /// # Errors
    /// If a row cannot be read.
    pub fn hash_of_rows(rows: &dyn StateRead) -> Result<[u8; 16], ReadError> {
        let mut sum = HashSum::default();
        for cf in Cf::ALL.into_iter().filter(|cf| cf.hashed()) {
            rows.scan(cf, &[], &[], &mut |key, value| {
                sum.add(row_hash(cf, key, value));
                true
            })?;
        }
        Ok(sum.to_bytes())
    }

    /// The first part of memory that is not the same in two machines. Equal machines go on equally:
    /// what a restart, a snapshot and a replay must show.
    pub fn difference(&self, other: &Self) -> Option<&'static str> {
        let parts = [
            ("meta", self.meta == other.meta),
            ("hash", self.hash == other.hash),
            ("tasks", self.tasks == other.tasks),
            ("agents", self.agents == other.agents),
            ("members", self.members == other.members),
            ("sessions", self.sessions == other.sessions),
            ("timers", self.timers == other.timers),
            ("dependents", self.dependents == other.dependents),
            ("children", self.children == other.children),
        ];
        parts.into_iter().find(|(_, same)| !same).map(|(part, _)| part)
    }
}

fn execute(mut tx: Tx<'_>, body: &Body) -> Step<(Outcome, Effects)> {
    let outcome = match body {
        Body::Submit(c) => tx.submit(c),
        Body::Cancel(c) => tx.cancel(c),
        Body::Reschedule(c) => tx.reschedule(c),
        Body::Retry(c) => tx.retry(c),
        Body::RegisterAgent(c) => tx.register_agent(c),
        Body::LeaveAgent(c) => tx.leave_agent(c),
        Body::DrainAgent(c) => tx.drain_agent(c),
        Body::Start(c) => tx.start(c),
        Body::Progress(c) => tx.progress(c),
        Body::Complete(c) => tx.complete(c),
        Body::Fail(c) => tx.fail(c),
        Body::PutKey(c) => tx.put_key(c),
        Body::DeleteKey(c) => tx.delete_key(c),
        Body::DrainNode(c) => tx.drain_node(c),
        Body::Assign(c) => tx.assign(c),
        Body::Expire(c) => tx.expire(c),
        Body::Retention(c) => tx.retain(c),
        Body::AddMember(c) => tx.add_member(c),
        Body::RemoveMember(c) => tx.remove_member(c),
        Body::ReplaceMember(c) => tx.replace_member(c),
        Body::AdmitMember(c) => tx.admit_member(c),
        Body::SettleMember(c) => tx.settle_member(c),
        Body::SwapVoter(c) => tx.swap_voter(c),
        Body::OpenSession(_) | Body::HashCheck(_) | Body::ClockAdvance(_) => Ok(Outcome::accepted(tx.revision)),
    }?;
    tx.settle_drains();
    Ok((outcome, tx.finish()?))
}
