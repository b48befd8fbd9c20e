//! Between Rust and Python values.

use codec::{Outcome, TaskId};
use pyo3::IntoPyObjectExt;
use pyo3::create_exception;
use pyo3::exceptions::{PyException, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList, PyTuple};
use runtime::query::QueryError;
use runtime::ring::Notice;

create_exception!(_native, NativeError, PyException, "A node cannot open, start or go on.");
create_exception!(_native, Busy, PyException, "A bounded queue is full: nothing was taken.");

/// Runs `work` without the GIL: the only place that releases it.
pub fn released<T: Send>(py: Python<'_>, work: impl FnOnce() -> T + Send) -> T {
    py.detach(work)
}

/// A bug or damage of the node's, with its text.
pub fn failed(error: impl std::fmt::Display) -> PyErr {
    NativeError::new_err(error.to_string())
}

/// What the caller passed is wrong.
pub fn invalid(error: impl std::fmt::Display) -> PyErr {
    PyValueError::new_err(error.to_string())
}

pub fn busy(error: impl std::fmt::Display) -> PyErr {
    Busy::new_err(error.to_string())
}

pub fn query_error(error: QueryError) -> PyErr {
    match error {
        QueryError::Query(detail) => PyValueError::new_err(detail),
        other => failed(other),
    }
}

/// A task id from its 16 bytes.
pub fn task_id(bytes: &[u8]) -> PyResult<TaskId> {
    TaskId::from_slice(bytes).map_err(invalid)
}

pub fn bytes<'py>(py: Python<'py>, bytes: &[u8]) -> Bound<'py, PyBytes> {
    PyBytes::new(py, bytes)
}

pub fn bytes_or_none<'py>(py: Python<'py>, bytes: Option<Vec<u8>>) -> Option<Bound<'py, PyBytes>> {
    bytes.map(|bytes| PyBytes::new(py, &bytes))
}

/// The failure of a proposal as the number that `_native.pyi` documents.
fn proposal_end(end: ::node::ProposalEnd) -> u8 {
    match end {
        ::node::ProposalEnd::Applied => 0,
        ::node::ProposalEnd::OutcomeUnknown => 1,
        ::node::ProposalEnd::NoLeader => 2,
        ::node::ProposalEnd::Refused => 3,
    }
}

/// A notice as the tuple that `_native.pyi` documents for `Node.drain`.
pub fn notice(py: Python<'_>, notice: Notice) -> PyResult<Bound<'_, PyAny>> {
    match notice {
        Notice::Proposed { token, end, revision, outcomes } => {
            let outcomes = outcomes.iter().map(|o| outcome(py, o)).collect::<PyResult<Vec<_>>>()?;
            (0, token, proposal_end(end), revision, PyList::new(py, outcomes)?).into_bound_py_any(py)
        }
        Notice::Readable { token, readable } => (1, token, readable).into_bound_py_any(py),
        Notice::Beaten { token, lease_ms, heartbeat_ms, stale, unknown } => {
            (2, token, lease_ms, heartbeat_ms, stale, unknown).into_bound_py_any(py)
        }
        Notice::Task { task, status } => (3, bytes(py, &task.0), status as i32).into_bound_py_any(py),
        Notice::Agent { agent_id } => (4, &*agent_id).into_bound_py_any(py),
        Notice::Events { revision } => (5, revision).into_bound_py_any(py),
        Notice::Done { token, done, detail } => (6, token, done, detail).into_bound_py_any(py),
        Notice::Leader { node_id, term, is_self } => (7, node_id, term, is_self).into_bound_py_any(py),
        Notice::Stopped { detail } => (8, detail).into_bound_py_any(py),
    }
}

/// (refusal, revision, status, epoch, agent_id, agent_epoch, ids, names, replayed, field, detail, key_revision,
/// create_revision, key_version); ids are 16 bytes each.
fn outcome<'py>(py: Python<'py>, o: &Outcome) -> PyResult<Bound<'py, PyTuple>> {
    let ids: Vec<_> = o.task_ids.iter().map(|id| bytes(py, id)).collect();
    let items = [
        o.refusal.into_bound_py_any(py)?,
        o.revision.into_bound_py_any(py)?,
        o.status.into_bound_py_any(py)?,
        o.epoch.into_bound_py_any(py)?,
        o.agent_id.as_str().into_bound_py_any(py)?,
        o.agent_epoch.into_bound_py_any(py)?,
        ids.into_bound_py_any(py)?,
        o.names.as_slice().into_bound_py_any(py)?,
        o.replayed.into_bound_py_any(py)?,
        o.field.as_str().into_bound_py_any(py)?,
        o.detail.as_str().into_bound_py_any(py)?,
        o.key_revision.into_bound_py_any(py)?,
        o.create_revision.into_bound_py_any(py)?,
        o.key_version.into_bound_py_any(py)?,
    ];
    PyTuple::new(py, items)
}
