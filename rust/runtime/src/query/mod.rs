//! Reads: JSON of the API rendered from stored rows.
//!
//! What always holds:
//! * a read sees one moment: the caller passes a view of the state store;
//! * nothing of a user's JSON is parsed: payloads, results, checkpoints and values are copied;
//! * every answer is bounded in items, scanned rows and bytes ([`limits`]).

mod agent;
mod assignments;
mod commands;
mod event;
mod graph;
mod json;
mod key;
mod list;
mod raft_log;
mod result;
mod status;
mod task;
#[cfg(test)]
mod testing;

use codec::frame::DecodeError;
use codec::row::{self, AgentRow, BlobKind, Cf, MetaRow, ReadError, StateRead, TaskRow};
use codec::{Message, TaskId};
use store::StoreError;

pub use agent::{AgentQuery, agent, agent_epoch, agents, status_name as agent_status_name};
pub use assignments::{Assignments, Held, assignments, held};
pub use event::{Events, events};
pub use graph::task_graph;
pub use json::rfc3339;
pub use key::{KeyAnswer, key};
pub use list::{Page, TaskQuery, tasks};
pub use raft_log::{LogRows, log_rows};
pub use result::{TaskResult, task_result};
pub use status::status;
pub use task::{task, task_events, task_logs, task_status};

/// Bounds of one read.
pub mod limits {
    /// Items of one page.
    pub const PAGE_ITEMS_MAX: usize = 1_000;
    /// A page ends early once it holds this many bytes.
    pub const PAGE_BYTES_MAX: usize = 8 << 20;
    /// Rows one page looks at; it may then hold less than it could and still name a next cursor.
    pub const PAGE_SCAN_MAX: usize = 20_000;
    /// Rows that `count` looks at before it gives up.
    pub const COUNT_SCAN_MAX: usize = 200_000;
    /// Results sent inside one answer (inputs of a task, leaves of a DAG), in bytes together;
    /// what is beyond is named by an address instead.
    pub const INLINE_BYTES_MAX: usize = 1 << 20;
    /// Children of one task: a DAG's limit.
    pub const CHILDREN_MAX: usize = 10_000;
    /// Tasks of an agent that one poll looks at.
    pub const HELD_MAX: usize = 10_000;
    /// Bytes of events in one answer; the first revision always fits.
    pub const EVENTS_BYTES_MAX: usize = 4 << 20;
}

/// Why a read has no answer.
#[derive(Debug, thiserror::Error)]
pub enum QueryError {
    #[error(transparent)]
    Read(#[from] ReadError),
    /// A stored row cannot be decoded: the store is damaged or of a newer release.
    #[error("a stored row cannot be read: {0}")]
    Row(#[from] DecodeError),
    #[error(transparent)]
    Log(StoreError),
    /// The query or its cursor is none of ours.
    #[error("{0}")]
    Query(String),
}

pub type Result<T> = std::result::Result<T, QueryError>;

/// Applied commands in this view, 0 before the first rows.
pub fn revision(rows: &dyn StateRead) -> Result<u64> {
    Ok(meta(rows)?.revision)
}

/// Raft index of the newest applied entry in this view.
pub fn applied_index(rows: &dyn StateRead) -> Result<u64> {
    Ok(meta(rows)?.applied_index)
}

fn meta(rows: &dyn StateRead) -> Result<MetaRow> {
    Ok(get(rows, Cf::Meta, b"")?.unwrap_or_default())
}

fn get<M: Message + Default>(rows: &dyn StateRead, cf: Cf, key: &[u8]) -> Result<Option<M>> {
    Ok(rows.get(cf, key)?.map(|value| row::decode(&value)).transpose()?)
}

fn task_row(rows: &dyn StateRead, id: TaskId) -> Result<Option<TaskRow>> {
    get(rows, Cf::Task, &row::key::task(id))
}

fn agent_row(rows: &dyn StateRead, agent_id: &str) -> Result<Option<AgentRow>> {
    get(rows, Cf::Agent, agent_id.as_bytes())
}

fn blob(rows: &dyn StateRead, id: TaskId, kind: BlobKind) -> Result<Option<Vec<u8>>> {
    Ok(rows.get(Cf::Blob, &row::key::blob(id, kind, 0))?)
}

/// Ids at the end of the index keys under `prefix`, at most `limit`.
fn indexed(rows: &dyn StateRead, prefix: &[u8], limit: usize) -> Result<Vec<TaskId>> {
    let mut ids = Vec::new();
    rows.scan(Cf::Index, prefix, prefix, &mut |key, _| {
        ids.extend(row::index::plain_id_at_end(key));
        ids.len() < limit
    })?;
    Ok(ids)
}

/// The rows of a task's children in the order they were submitted.
fn children(rows: &dyn StateRead, parent: TaskId) -> Result<Vec<(TaskId, TaskRow)>> {
    let ids = indexed(rows, &row::index::by_parent_prefix(parent), limits::CHILDREN_MAX)?;
    let mut found = Vec::with_capacity(ids.len());
    for id in ids {
        found.extend(task_row(rows, id)?.map(|task| (id, task)));
    }
    Ok(found)
}
