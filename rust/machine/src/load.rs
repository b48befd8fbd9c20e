//! Rebuilding memory from rows, at start and after a snapshot was installed.

use std::sync::Arc;

use codec::row::{
    self, AgentRow, Cf, MemberRow, MetaRow, ReadError, SessionOutcomes, SessionRow, StateRead, Status, TaskRow, index, row_hash,
};
use codec::{DecodeError, TaskId};
use thiserror::Error;

use crate::agent::{AgentState, used_by};
use crate::machine::Machine;
use crate::member::Member;
use crate::session::Session;
use crate::task::{LiveTask, decode_row, dependencies_of, parent_of, status_of};
use crate::tx::TaskAfter;

/// Why memory could not be rebuilt. The node must not start with these rows.
#[derive(Debug, Error)]
pub enum LoadError {
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error("there is no state here: the node was never bootstrapped")]
    Empty,
    #[error("a row of {family} cannot be decoded: {error}")]
    Row { family: &'static str, error: DecodeError },
    #[error("the rows contradict each other: {0}")]
    Contradiction(String),
}

/// Ended tasks are read over in one sweep while there are at most this many for each live one;
/// beyond that, live tasks are found through the index by status.
const SWEEP_RATIO: u64 = 4;
const SWEEP_ENDED_MIN: u64 = 100_000;

/// How live tasks are found among the rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LoadPath {
    /// Whichever reads less.
    Cheapest,
    /// Every task row is read, ended ones too.
    Sweep,
    /// Through the index by status.
    Index,
}

pub(crate) fn load(rows: &dyn StateRead, path: LoadPath) -> Result<Machine, LoadError> {
    let value = rows.get(Cf::Meta, &[])?.ok_or(LoadError::Empty)?;
    let mut meta: MetaRow = decoded(Cf::Meta, &value)?;
    meta.tasks_by_status.resize(Status::ALL.len(), 0);
    let mut machine = Machine::empty(meta);
    each(rows, Cf::Member, |key, value| {
        let row: MemberRow = decoded(Cf::Member, value)?;
        machine.members.insert(text(Cf::Member, key)?, Member { row, hash: row_hash(Cf::Member, key, value) });
        Ok(())
    })?;
    machine.note_drains();
    each(rows, Cf::Agent, |key, value| {
        let row: AgentRow = decoded(Cf::Agent, value)?;
        let used = vec![0; row.resources.len()];
        let state = AgentState { row: Arc::new(row), hash: row_hash(Cf::Agent, key, value), used, held: Default::default() };
        machine.agents.insert(text(Cf::Agent, key)?.into(), state);
        Ok(())
    })?;
    each(rows, Cf::Session, |key, value| load_session(&mut machine, key, value))?;
    let ended: u64 = counts(&machine).filter(|(status, _)| status.ended()).map(|(_, count)| count).sum();
    let live: u64 = counts(&machine).filter(|(status, _)| !status.ended()).map(|(_, count)| count).sum();
    let few_ended = ended <= live.saturating_mul(SWEEP_RATIO).max(SWEEP_ENDED_MIN);
    match path {
        LoadPath::Index => look_up_tasks(rows, &mut machine)?,
        LoadPath::Cheapest if !few_ended => look_up_tasks(rows, &mut machine)?,
        LoadPath::Cheapest | LoadPath::Sweep => sweep_tasks(rows, &mut machine)?,
    }
    count_agents(&mut machine)?;
    check(&machine)?;
    Ok(machine)
}

fn decoded<M: codec::Message + Default>(cf: Cf, value: &[u8]) -> Result<M, LoadError> {
    row::decode(value).map_err(|error| LoadError::Row { family: cf.name(), error })
}

fn text(cf: Cf, key: &[u8]) -> Result<String, LoadError> {
    String::from_utf8(key.to_vec()).map_err(|_| LoadError::Contradiction(format!("a key of {} is not text", cf.name())))
}

/// Visits every row of a family, stopping at the first error.
fn each(rows: &dyn StateRead, cf: Cf, mut visit: impl FnMut(&[u8], &[u8]) -> Result<(), LoadError>) -> Result<(), LoadError> {
    let mut result = Ok(());
    rows.scan(cf, &[], &[], &mut |key, value| {
        result = visit(key, value);
        result.is_ok()
    })?;
    result
}

fn counts(machine: &Machine) -> impl Iterator<Item = (Status, u64)> + '_ {
    Status::ALL.into_iter().zip(machine.meta.tasks_by_status.iter().copied())
}

fn load_session(machine: &mut Machine, key: &[u8], value: &[u8]) -> Result<(), LoadError> {
    let number = |bytes: Option<&[u8]>| bytes.and_then(|b| b.try_into().ok()).map(u64::from_be_bytes);
    let wrong = || LoadError::Contradiction("a session's key is malformed".into());
    let id = number(key.get(..8)).ok_or_else(wrong)?;
    let hash = row_hash(Cf::Session, key, value);
    if key.len() == 8 {
        let row: SessionRow = decoded(Cf::Session, value)?;
        machine.sessions.insert(id, Session { row, hash, ..Session::default() });
        return Ok(());
    }
    let index = number(key.get(8..)).ok_or_else(wrong)?;
    let saved: SessionOutcomes = decoded(Cf::Session, value)?;
    let session = machine.sessions.get_mut(&id).ok_or_else(wrong)?;
    let highest = saved.sequences.iter().max().copied().ok_or_else(wrong)?;
    session.entries.insert((highest, index), hash);
    if mutant::active("dedup-not-in-snapshot") {
        return Ok(());
    }
    let resolved_below = session.row.resolved_below;
    session.outcomes.extend(saved.sequences.into_iter().zip(saved.outcomes).filter(|(s, _)| *s >= resolved_below));
    Ok(())
}

fn sweep_tasks(rows: &dyn StateRead, machine: &mut Machine) -> Result<(), LoadError> {
    each(rows, Cf::Task, |key, value| {
        let row = decoded(Cf::Task, value)?;
        insert(machine, key, value, &row)
    })
}

fn look_up_tasks(rows: &dyn StateRead, machine: &mut Machine) -> Result<(), LoadError> {
    for tenant_prefix in tenant_prefixes(rows)? {
        for status in Status::ALL.into_iter().filter(|s| !s.ended()) {
            let mut prefix = tenant_prefix.clone();
            prefix.push(status as i32 as u8);
            let mut ids = Vec::new();
            rows.scan(Cf::Index, &prefix, &prefix, &mut |key, _| {
                ids.extend(index::id_at_end(key));
                true
            })?;
            for id in ids {
                let missing = || LoadError::Contradiction(format!("the index names task {id}, which has no row"));
                let value = rows.get(Cf::Task, &id.0)?.ok_or_else(missing)?;
                let row = decoded(Cf::Task, &value)?;
                insert(machine, &id.0, &value, &row)?;
            }
        }
    }
    Ok(())
}

/// The beginnings of the by-status index, one a tenant: found by jumping from one to the next.
fn tenant_prefixes(rows: &dyn StateRead) -> Result<Vec<Vec<u8>>, LoadError> {
    let malformed = || LoadError::Contradiction("a key of the index by status is malformed".into());
    let mut prefixes: Vec<Vec<u8>> = Vec::new();
    let mut start = vec![index::BY_STATUS];
    loop {
        let mut found = None;
        rows.scan(Cf::Index, &[index::BY_STATUS], &start, &mut |key, _| {
            let length = key.get(1).map_or(0, |l| usize::from(*l));
            found = Some(key.get(..2 + length).map(<[u8]>::to_vec));
            false
        })?;
        let Some(prefix) = found else { return Ok(prefixes) };
        let prefix = prefix.ok_or_else(malformed)?;
        // Each jump leads behind all of a tenant's keys, as statuses are far below 0xff.
        if prefixes.last() == Some(&prefix) {
            return Err(malformed());
        }
        start = prefix.clone();
        start.push(0xff);
        prefixes.push(prefix);
    }
}

fn insert(machine: &mut Machine, key: &[u8], value: &[u8], row: &TaskRow) -> Result<(), LoadError> {
    if Status::try_from(row.status).is_err() {
        return Err(LoadError::Contradiction(format!("a task has the unknown status {}", row.status)));
    }
    let status = status_of(row);
    if status.ended() {
        return Ok(());
    }
    let id = TaskId::from_slice(key).map_err(|error| LoadError::Row { family: Cf::Task.name(), error })?;
    let mut agent = None;
    if status.held() {
        let holder = machine.agents.get_key_value(row.assigned_agent_id.as_str()).map(|(id, _)| id.clone());
        let Some(holder) = holder else {
            return Err(LoadError::Contradiction(format!("task {id} is held by {:?}, which has no row", row.assigned_agent_id)));
        };
        if let Some(state) = machine.agents.get_mut(&holder) {
            state.held.insert(id);
        }
        agent = Some(holder);
    }
    let live = Some(LiveTask::new(id, row, value, agent));
    machine.place_task(
        id,
        TaskAfter { live, was_live: false, parent: parent_of(row), dependencies: dependencies_of(row).collect() },
    );
    Ok(())
}

fn count_agents(machine: &mut Machine) -> Result<(), LoadError> {
    for (id, agent) in &mut machine.agents {
        let mut held = Vec::with_capacity(agent.held.len());
        for task in agent.held.iter().filter_map(|task| machine.tasks.get(task)) {
            held.push(decode_row(task.value()).map_err(|error| LoadError::Row { family: Cf::Task.name(), error })?);
        }
        agent.used = used_by(&agent.row.resources, held.iter())
            .ok_or_else(|| LoadError::Contradiction(format!("agent {id} holds more than it has")))?;
    }
    Ok(())
}

fn check(machine: &Machine) -> Result<(), LoadError> {
    let mut found = [0u64; Status::ALL.len()];
    machine.tasks.values().for_each(|task| found[task.status() as usize] += 1);
    for (status, expected) in counts(machine).filter(|(status, _)| !status.ended()) {
        let found = found[status as usize];
        if found != expected {
            return Err(LoadError::Contradiction(format!("{found} tasks are {}, {expected} were counted", status.name())));
        }
    }
    Ok(())
}
