//! Retention: what is past its age or number is deleted, by commands only, so that every replica
//! forgets the same rows at the same index.

use codec::Outcome;
use codec::TaskId;
use codec::command::Retention;
use codec::row::{AgentStatus, Cf, EventKind, EventRow, ReadError, StateRead, index, key, row_hash};

use crate::dag::pairs_of;
use crate::limits::RETENTION_ITEMS_MAX;
use crate::machine::Machine;
use crate::task::parent_of;
use crate::tx::{Old, Step, Tx};

/// What may be kept. Whichever bound comes first deletes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetentionLimits {
    /// Age since the end, in µs of wall time.
    pub tasks_age_us: u64,
    pub tasks_max: u64,
    /// Payload and result bytes of ended tasks.
    pub tasks_bytes_max: u64,
    /// Age in µs of cluster time.
    pub keys_age_us: u64,
    pub keys_max: u64,
    /// Age in µs of wall time.
    pub events_age_us: u64,
    /// Revisions that watch can replay.
    pub events_max: u64,
    /// Age since an agent was lost or left, in µs of wall time.
    pub agents_age_us: u64,
}

impl Default for RetentionLimits {
    fn default() -> Self {
        const HOUR_US: u64 = 3_600_000_000;
        Self {
            tasks_age_us: 7 * 24 * HOUR_US,
            tasks_max: 10_000_000,
            tasks_bytes_max: 50 << 30,
            keys_age_us: 24 * HOUR_US,
            keys_max: 10_000_000,
            events_age_us: HOUR_US,
            events_max: 1_000_000,
            agents_age_us: 24 * HOUR_US,
        }
    }
}

impl Machine {
    /// What the leader should propose to forget now: at most `limit` items in all, the oldest
    /// first, or `None`.
    ///
    /// # Errors
    /// If a row cannot be read.
    pub fn retention(
        &self,
        rows: &dyn StateRead,
        limits: &RetentionLimits,
        limit: usize,
    ) -> Result<Option<Retention>, ReadError> {
        let mut left = limit.min(RETENTION_ITEMS_MAX);
        let task_ids = self.tasks_to_forget(rows, limits, left)?;
        left -= task_ids.len();
        let idempotency_keys = self.keys_to_forget(rows, limits, left)?;
        left -= idempotency_keys.len();
        let (events_below_revision, events) = self.events_to_forget(rows, limits, left)?;
        left -= events;
        let before = self.wall_us().saturating_sub(limits.agents_age_us);
        let gone = self.agents.iter().filter(|(_, a)| is_gone(a.status()) && a.row.changed_wall_us < before);
        let agent_ids: Vec<String> = gone.take(left).map(|(id, _)| id.to_string()).collect();
        let events_max = u32::try_from(events).unwrap_or(u32::MAX);
        let any = !task_ids.is_empty() || !idempotency_keys.is_empty() || events > 0 || !agent_ids.is_empty();
        Ok(any.then_some(Retention { task_ids, idempotency_keys, events_below_revision, events_max, agent_ids }))
    }

    fn tasks_to_forget(&self, rows: &dyn StateRead, limits: &RetentionLimits, left: usize) -> Result<Vec<Vec<u8>>, ReadError> {
        let ended = self.ended_tasks();
        let mut surplus = ended.saturating_sub(limits.tasks_max);
        if self.meta.ended_bytes > limits.tasks_bytes_max && ended > 0 {
            // By the average: the next round sees what is left.
            let average = (self.meta.ended_bytes / ended).max(1);
            surplus = surplus.max((self.meta.ended_bytes - limits.tasks_bytes_max).div_ceil(average));
        }
        let before = self.wall_us().saturating_sub(limits.tasks_age_us);
        let mut ids = Vec::new();
        let mut seen = 0usize;
        rows.scan(Cf::Index, &[index::BY_END], &[index::BY_END], &mut |index_key, _| {
            let Some((ended_at, id)) = index::time_and_rest(index_key) else { return false };
            if ids.len() >= left || seen >= 4 * RETENTION_ITEMS_MAX || (ended_at >= before && surplus == 0) {
                return false;
            }
            seen += 1;
            surplus = surplus.saturating_sub(1);
            if TaskId::from_slice(id).is_ok_and(|id| !self.is_needed(id)) {
                ids.push(id.to_vec());
            }
            true
        })?;
        Ok(ids)
    }

    fn keys_to_forget(&self, rows: &dyn StateRead, limits: &RetentionLimits, left: usize) -> Result<Vec<Vec<u8>>, ReadError> {
        let mut surplus = self.meta.idempotency_rows.saturating_sub(limits.keys_max);
        let before = self.cluster_us().saturating_sub(limits.keys_age_us);
        let mut keys = Vec::new();
        rows.scan(Cf::Index, &[index::BY_KEY_AGE], &[index::BY_KEY_AGE], &mut |index_key, _| {
            let Some((created_at, row_key)) = index::time_and_rest(index_key) else { return false };
            if keys.len() >= left || (created_at >= before && surplus == 0) {
                return false;
            }
            surplus = surplus.saturating_sub(1);
            keys.push(row_key.to_vec());
            true
        })?;
        Ok(keys)
    }

    /// The revision below which events go, and how many rows that is (at most `left`).
    fn events_to_forget(&self, rows: &dyn StateRead, limits: &RetentionLimits, left: usize) -> Result<(u64, usize), ReadError> {
        let before = self.wall_us().saturating_sub(limits.events_age_us);
        let surplus_below = self.revision().saturating_sub(limits.events_max);
        let (mut below, mut count) = (0, 0);
        let start = key::event(self.meta.events_first_revision);
        rows.scan(Cf::Event, &[], &start, &mut |event_key, value| {
            let Ok(revision) = <[u8; 8]>::try_from(event_key).map(u64::from_be_bytes) else { return false };
            let old = codec::row::decode::<EventRow>(value).is_ok_and(|row| row.wall_us < before);
            if count >= left || !(old || revision < surplus_below) {
                return false;
            }
            count += 1;
            below = revision + 1;
            true
        })?;
        Ok((below, count))
    }

    fn ended_tasks(&self) -> u64 {
        let by_status = codec::row::Status::ALL.iter().zip(&self.meta.tasks_by_status);
        by_status.filter(|(status, _)| status.ended()).map(|(_, count)| count).sum()
    }

    /// A live task depends on it: its result is still an input.
    fn is_needed(&self, id: TaskId) -> bool {
        self.dependents.range(pairs_of(id)).next().is_some()
    }
}

fn is_gone(status: AgentStatus) -> bool {
    matches!(status, AgentStatus::Lost | AgentStatus::Left)
}

impl Tx<'_> {
    /// Items that may not be forgotten (live, needed, unknown) are passed over.
    pub(crate) fn retain(&mut self, command: &Retention) -> Step<Outcome> {
        for id in command.task_ids.iter().take(RETENTION_ITEMS_MAX) {
            if let Ok(id) = TaskId::from_slice(id) {
                self.forget_task(id)?;
            }
        }
        for row_key in command.idempotency_keys.iter().take(RETENTION_ITEMS_MAX) {
            self.forget_key(row_key)?;
        }
        for id in command.agent_ids.iter().take(RETENTION_ITEMS_MAX) {
            self.forget_agent(id);
        }
        self.forget_events(command)?;
        Ok(Outcome::accepted(self.revision))
    }

    fn forget_task(&mut self, id: TaskId) -> Step {
        if self.machine.tasks.contains_key(&id) || self.machine.is_needed(id) {
            return Ok(());
        }
        let Some(edit) = self.find_task(id)? else { return Ok(()) };
        let parent = parent_of(&edit.row);
        // A live parent's result is composed of its children's.
        if edit.forgotten || parent.is_some_and(|parent| self.machine.tasks.contains_key(&parent)) {
            return Ok(());
        }
        self.announce(id, EventKind::TaskForgotten)?;
        if let Some(edit) = self.find_task(id)? {
            edit.forgotten = true;
        }
        for (blob_key, value) in self.view.scan(Cf::Blob, &id.0, &id.0, usize::MAX)? {
            let old = Old::Known(row_hash(Cf::Blob, &blob_key, &value));
            self.write(Cf::Blob, blob_key, None, old);
        }
        Ok(())
    }

    fn forget_key(&mut self, row_key: &[u8]) -> Step {
        let Some(row) = self.view.decode::<codec::row::IdempotencyRow>(Cf::Idempotency, row_key)? else { return Ok(()) };
        if !self.forgotten_keys.insert(row_key.to_vec()) {
            return Ok(());
        }
        self.write(Cf::Index, index::by_key_age(row.created_cluster_us, row_key), None, Old::Absent);
        self.write(Cf::Idempotency, row_key.to_vec(), None, Old::Stored);
        self.counters.idempotency_rows -= 1;
        Ok(())
    }

    fn forget_agent(&mut self, id: &str) {
        let Some((id, agent)) = self.machine.agents.get_key_value(id) else { return };
        if is_gone(agent.status()) && self.forgotten_agents.insert(id.clone()) {
            self.write(Cf::Agent, id.as_bytes().to_vec(), None, Old::Known(agent.hash));
            self.signals.push(crate::Signal::AgentChanged { agent: id.clone() });
        }
    }

    fn forget_events(&mut self, command: &Retention) -> Step {
        let first = self.machine.meta().events_first_revision;
        let below = command.events_below_revision.min(self.revision);
        let most = (command.events_max as usize).min(RETENTION_ITEMS_MAX);
        if below <= first || most == 0 {
            return Ok(());
        }
        let rows = self.view.scan(Cf::Event, &[], &key::event(first), most)?;
        let mut reached = below;
        let full = rows.len() == most;
        for (event_key, value) in rows {
            let revision = <[u8; 8]>::try_from(event_key.as_slice()).map_or(below, u64::from_be_bytes);
            if revision >= below {
                break;
            }
            if full {
                reached = revision + 1;
            }
            let old = Old::Known(row_hash(Cf::Event, &event_key, &value));
            self.write(Cf::Event, event_key, None, old);
        }
        self.counters.events_first_revision = Some(reached);
        Ok(())
    }
}
