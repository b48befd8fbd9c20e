//! The `Node` class: one method for each call of `_native.pyi`.

use std::sync::OnceLock;
use std::time::Duration;

use codec::row::StateRead;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList};
use runtime::query::{self, AgentQuery, Page, QueryError, TaskQuery};
use runtime::{Config, Handle, OpenError, Service};
use store::{StateStore, StoreError};

use crate::backup::Backup;
use crate::convert::{busy, bytes, bytes_or_none, failed, invalid, notice, query_error, released, task_id};
use crate::policy::{PolicyBatch, assignments};
use crate::wire;

/// (revision, JSON or `None`)
type Found<'py> = (u64, Option<Bound<'py, PyBytes>>);
/// (revision, JSON array, next cursor, count)
type Listed<'py> = (u64, Bound<'py, PyBytes>, Option<String>, Option<u64>);

/// One node: consensus, log, state machine and transport, on threads of their own.
#[pyclass(frozen, module = "taskquorum._native")]
pub struct Node {
    node_id: String,
    /// Locked only without the GIL, so that whoever waits for it holds nobody up.
    service: Service,
    /// Set by `start`.
    running: OnceLock<(Handle, String)>,
}

impl Node {
    fn handle(&self) -> PyResult<&Handle> {
        self.running.get().map(|(handle, _)| handle).ok_or_else(|| failed("the node was not started"))
    }

    /// Reads from a view of one moment, without the GIL; the revision is the view's.
    fn read<T: Send>(&self, py: Python<'_>, read: impl FnOnce(&dyn StateRead) -> query::Result<T> + Send) -> PyResult<(u64, T)> {
        let handle = self.handle()?;
        released(py, || {
            let state = handle.state();
            let rows = state.view();
            let found = query::revision(&*rows).and_then(|revision| Ok((revision, read(&*rows)?)));
            report_damage(handle, found)
        })
        .map_err(query_error)
    }

    fn found<'py>(
        &self,
        py: Python<'py>,
        read: impl FnOnce(&dyn StateRead) -> query::Result<Option<Vec<u8>>> + Send,
    ) -> PyResult<Found<'py>> {
        let (revision, json) = self.read(py, read)?;
        Ok((revision, bytes_or_none(py, json)))
    }

    fn listed<'py>(
        &self,
        py: Python<'py>,
        read: impl FnOnce(&dyn StateRead) -> query::Result<Page> + Send,
    ) -> PyResult<Listed<'py>> {
        let (revision, page) = self.read(py, read)?;
        Ok((revision, bytes(py, &page.items), page.next_cursor, page.count))
    }
}

/// A read that met damage is told to the node, which stops serving the bytes.
fn report_damage<T>(handle: &Handle, found: query::Result<T>) -> query::Result<T> {
    match &found {
        Err(QueryError::Read(error)) if error.0.contains("Corruption") => handle.state_damaged(error.to_string()),
        Err(QueryError::Log(error @ StoreError::Damaged(_))) => handle.log_damaged(error.to_string()),
        _ => {}
    }
    found
}

#[pymethods]
impl Node {
    #[new]
    fn new(py: Python<'_>, config: &[u8]) -> PyResult<Self> {
        let config = Config::from_json(config).map_err(failed)?;
        let service = released(py, || Service::open(config)).map_err(failed)?;
        let node_id = service.handle().node_id().to_owned();
        Ok(Self { node_id, service, running: OnceLock::new() })
    }

    fn start(&self, py: Python<'_>) -> PyResult<()> {
        released(py, || {
            let handle = self.service.start()?;
            let address = self.service.raft_address().map_or_else(String::new, |address| address.to_string());
            // A second start has failed above.
            let _ = self.running.set((handle, address));
            Ok(())
        })
        .map_err(|error: OpenError| failed(error))
    }

    fn stop(&self, py: Python<'_>, timeout_ms: u64) -> PyResult<bool> {
        released(py, || {
            if let Some((handle, _)) = self.running.get() {
                handle.feed().stop();
            }
            self.service.stop(Duration::from_millis(timeout_ms))
        })
        .map_err(failed)
    }

    #[getter]
    fn node_id(&self) -> &str {
        &self.node_id
    }

    #[getter]
    fn raft_address(&self) -> PyResult<&str> {
        self.running.get().map(|(_, address)| address.as_str()).ok_or_else(|| failed("the node was not started"))
    }

    // ---- completions ---------------------------------------------------------------------------

    fn notify_fd(&self) -> PyResult<i32> {
        Ok(self.handle()?.ring().notify_fd())
    }

    fn drain<'py>(&self, py: Python<'py>, limit: usize) -> PyResult<Bound<'py, PyList>> {
        let taken = self.handle()?.ring().drain(limit);
        let notices = taken.into_iter().map(|taken| notice(py, taken)).collect::<PyResult<Vec<_>>>()?;
        PyList::new(py, notices)
    }

    fn propose(&self, py: Python<'_>, commands: &[u8], timeout_ms: u64) -> PyResult<u64> {
        let bodies = released(py, || wire::commands(commands)).map_err(invalid)?;
        if bodies.is_empty() {
            return Err(invalid("a group of proposals holds at least one command"));
        }
        self.handle()?.propose(bodies, Duration::from_millis(timeout_ms)).map_err(busy)
    }

    fn read_index(&self, timeout_ms: u64) -> PyResult<u64> {
        self.handle()?.read_index(Duration::from_millis(timeout_ms)).map_err(busy)
    }

    fn beat(&self, beats: Vec<(String, u64, Option<[u32; 3]>)>, timeout_ms: u64) -> PyResult<u64> {
        self.handle()?.beat(beats, Duration::from_millis(timeout_ms)).map_err(busy)
    }

    fn transfer_leader(&self, to: Option<String>, timeout_ms: u64) -> PyResult<u64> {
        self.handle()?.transfer_leader(to, Duration::from_millis(timeout_ms)).map_err(busy)
    }

    fn await_member(&self, node_id: String, timeout_ms: u64) -> PyResult<u64> {
        self.handle()?.await_member(node_id, Duration::from_millis(timeout_ms)).map_err(busy)
    }

    fn snapshot(&self, timeout_ms: u64) -> PyResult<u64> {
        // The disk decides how long it takes; the caller stops waiting when its own time runs out.
        let _ = timeout_ms;
        self.handle()?.snapshot().map_err(busy)
    }

    fn verify(&self, timeout_ms: u64) -> PyResult<u64> {
        self.handle()?.verify(Duration::from_millis(timeout_ms)).map_err(busy)
    }

    /// Whether the node has fenced itself: then nothing of its state may be served.
    #[getter]
    fn is_fenced(&self) -> PyResult<bool> {
        Ok(self.handle()?.is_fenced())
    }

    fn backup(&self, py: Python<'_>) -> PyResult<Backup> {
        let handle = self.handle()?;
        released(py, || handle.backup()).map(Backup::from).map_err(failed)
    }

    // ---- interest ------------------------------------------------------------------------------

    fn watch_task(&self, task_id: &[u8], watch: bool) -> PyResult<()> {
        let task = self::task_id(task_id)?;
        if self.handle()?.interest().watch_task(task, watch) { Ok(()) } else { Err(busy("too many tasks are watched")) }
    }

    fn watch_agent(&self, agent_id: &str, watch: bool) -> PyResult<()> {
        if self.handle()?.interest().watch_agent(agent_id, watch) { Ok(()) } else { Err(busy("too many agents are watched")) }
    }

    fn watch_events(&self, watch: bool) -> PyResult<()> {
        self.handle()?.interest().watch_events(watch);
        Ok(())
    }

    // ---- reads ---------------------------------------------------------------------------------

    fn task<'py>(&self, py: Python<'py>, task_id: &[u8], children: bool, events: bool) -> PyResult<Found<'py>> {
        let id = self::task_id(task_id)?;
        self.found(py, |rows| query::task(rows, id, children, events))
    }

    fn tasks<'py>(&self, py: Python<'py>, query: &[u8]) -> PyResult<Listed<'py>> {
        let query: TaskQuery = serde_json::from_slice(query).map_err(invalid)?;
        self.listed(py, |rows| query::tasks(rows, &query))
    }

    fn task_result<'py>(&self, py: Python<'py>, task_id: &[u8]) -> PyResult<(u64, i32, Option<Bound<'py, PyBytes>>)> {
        let id = self::task_id(task_id)?;
        let (revision, result) = self.read(py, |rows| query::task_result(rows, id))?;
        Ok((revision, result.status.map_or(-1, |status| status as i32), bytes_or_none(py, result.json)))
    }

    fn task_events<'py>(&self, py: Python<'py>, task_id: &[u8]) -> PyResult<Found<'py>> {
        let id = self::task_id(task_id)?;
        self.found(py, |rows| query::task_events(rows, id))
    }

    fn task_logs<'py>(&self, py: Python<'py>, task_id: &[u8], attempt: u32) -> PyResult<Found<'py>> {
        let id = self::task_id(task_id)?;
        self.found(py, |rows| query::task_logs(rows, id, attempt))
    }

    fn task_graph<'py>(&self, py: Python<'py>, task_id: &[u8]) -> PyResult<Found<'py>> {
        let id = self::task_id(task_id)?;
        self.found(py, |rows| query::task_graph(rows, id))
    }

    fn task_status(&self, py: Python<'_>, task_id: &[u8]) -> PyResult<(u64, i32, u32)> {
        let id = self::task_id(task_id)?;
        let (revision, found) = self.read(py, |rows| query::task_status(rows, id))?;
        let (status, epoch) = found.map_or((-1, 0), |(status, epoch)| (status as i32, epoch));
        Ok((revision, status, epoch))
    }

    fn agent<'py>(&self, py: Python<'py>, agent_id: &str) -> PyResult<Found<'py>> {
        self.found(py, |rows| query::agent(rows, agent_id))
    }

    fn agents<'py>(&self, py: Python<'py>, query: &[u8]) -> PyResult<Listed<'py>> {
        let query: AgentQuery = serde_json::from_slice(query).map_err(invalid)?;
        self.listed(py, |rows| query::agents(rows, &query))
    }

    fn agent_epoch(&self, py: Python<'_>, agent_id: &str) -> PyResult<(u64, u64, i32)> {
        let (revision, found) = self.read(py, |rows| query::agent_epoch(rows, agent_id))?;
        let (epoch, status) = found.map_or((0, -1), |(epoch, status)| (epoch, status as i32));
        Ok((revision, epoch, status))
    }

    fn assignments<'py>(
        &self,
        py: Python<'py>,
        agent_id: &str,
        held: &[u8],
        limit: usize,
    ) -> PyResult<(u64, Bound<'py, PyBytes>, Bound<'py, PyBytes>)> {
        let held = query::held(held).map_err(query_error)?;
        let (revision, answer) = self.read(py, |rows| query::assignments(rows, agent_id, &held, limit))?;
        Ok((revision, bytes(py, &answer.assignments), bytes(py, &answer.commands)))
    }

    fn key<'py>(&self, py: Python<'py>, tenant: &str, key: &str) -> PyResult<(u64, Option<Bound<'py, PyBytes>>, u64)> {
        let (revision, found) = self.read(py, |rows| query::key(rows, tenant, key))?;
        let key_revision = found.as_ref().map_or(0, |answer| answer.revision);
        Ok((revision, bytes_or_none(py, found.map(|answer| answer.json)), key_revision))
    }

    #[expect(clippy::type_complexity, reason = "the tuple is the Python signature")]
    fn events<'py>(
        &self,
        py: Python<'py>,
        from_revision: u64,
        limit: usize,
    ) -> PyResult<(u64, u64, Vec<(u64, Bound<'py, PyBytes>)>)> {
        let (_, events) = self.read(py, |rows| query::events(rows, from_revision, limit))?;
        let rows = events.rows.iter().map(|(revision, json)| (*revision, bytes(py, json))).collect();
        Ok((events.newest, events.oldest, rows))
    }

    fn raft_log<'py>(&self, py: Python<'py>, from_index: u64, limit: usize) -> PyResult<(u64, u64, Vec<Bound<'py, PyBytes>>)> {
        let handle = self.handle()?;
        let rows = released(py, || {
            let (view, base) = (handle.view(), handle.log_base_index());
            // The view is a little old; what was applied is committed, and its caller may ask for it at once.
            let applied = query::applied_index(&*handle.state())?;
            let (last, committed) = (view.last_index.max(applied), view.commit_index.max(applied));
            // An observer has no log: what it would show begins behind what it has applied.
            let base = if view.role == node::OBSERVER { last } else { base };
            report_damage(handle, query::log_rows(handle.log_reader(), base, last, committed, from_index, limit))
        })
        .map_err(query_error)?;
        Ok((rows.first, rows.committed, rows.rows.iter().map(|row| bytes(py, row)).collect()))
    }

    fn status<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        let handle = self.handle()?;
        let view = handle.view();
        let (_, json) = self.read(py, |rows| query::status(rows, &view, handle.transfers(), env!("CARGO_PKG_VERSION")))?;
        Ok(bytes(py, &json))
    }

    fn counters<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        let handle = self.handle()?;
        let json = released(py, || serde_json::to_vec(&handle.counters())).map_err(failed)?;
        Ok(bytes(py, &json))
    }

    // ---- policy --------------------------------------------------------------------------------

    fn policy_wait(&self, py: Python<'_>, timeout_ms: u64) -> PyResult<Option<PolicyBatch>> {
        let feed = self.handle()?.feed();
        Ok(released(py, || feed.wait(Duration::from_millis(timeout_ms))).map(PolicyBatch::from))
    }

    fn policy_assign(
        &self,
        term: u64,
        task_ids: &[u8],
        epochs: &[u8],
        agents: &[u8],
        agent_epochs: &[u8],
        terms: &[u8],
    ) -> PyResult<()> {
        let items = assignments(self.handle()?.feed(), task_ids, epochs, agents, agent_epochs, terms)?;
        self.handle()?.assign(term, items).map_err(busy)
    }
}
