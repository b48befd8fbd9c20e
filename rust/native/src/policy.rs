//! The policy's batches and decisions as packed columns.

use codec::command::Assignment;
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use runtime::feed::{Batch, Feed};

use crate::convert::invalid;

/// Terms of a score (SCHEDULING §3: M, P, L, F, D, Z).
const TERMS: usize = 6;

/// Deltas since the last batch; `_native.pyi` documents each column.
#[pyclass(frozen, module = "taskquorum._native")]
pub struct PolicyBatch(Batch);

impl From<Batch> for PolicyBatch {
    fn from(batch: Batch) -> Self {
        Self(batch)
    }
}

/// Getters of columns: each copies its buffer once into a `bytes`.
macro_rules! columns {
    ($($name:ident),*) => {
        #[pymethods]
        impl PolicyBatch {
            #[getter]
            fn reset(&self) -> bool {
                self.0.reset
            }
            #[getter]
            fn leader(&self) -> bool {
                self.0.leader
            }
            #[getter]
            fn term(&self) -> u64 {
                self.0.term
            }
            #[getter]
            fn cluster_us(&self) -> u64 {
                self.0.cluster_us
            }
            #[getter]
            fn wall_us(&self) -> u64 {
                self.0.wall_us
            }
            #[getter]
            fn klass<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
                PyBytes::new(py, &self.0.columns.class)
            }
            #[getter]
            fn classes<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
                json_array(py, &self.0.columns.classes)
            }
            #[getter]
            fn agents<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
                json_array(py, &self.0.columns.agents)
            }
            #[getter]
            fn graphs<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
                json_array(py, &self.0.columns.graphs)
            }
            #[getter]
            fn excluded<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
                json_array(py, &self.0.columns.excluded)
            }
            fn __len__(&self) -> usize {
                self.0.columns.len()
            }
            $(
                #[getter]
                fn $name<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
                    PyBytes::new(py, &self.0.columns.$name)
                }
            )*
        }
    };
}

columns!(
    op,
    task,
    epoch,
    agent,
    priority,
    tenant,
    unit,
    order,
    position,
    deadline_us,
    ready_us,
    run_us,
    size_hint,
    success,
    load_agent,
    load_bp,
    graphs_ended
);

fn json_array<'py>(py: Python<'py>, items: &[String]) -> Bound<'py, PyBytes> {
    PyBytes::new(py, format!("[{}]", items.join(",")).as_bytes())
}

/// The columns of `policy_assign` as assignments. An agent number of an earlier leadership is left out.
///
/// # Errors
/// `ValueError` unless all columns have one length.
pub fn assignments(
    feed: &Feed,
    task_ids: &[u8],
    epochs: &[u8],
    agents: &[u8],
    agent_epochs: &[u8],
    terms: &[u8],
) -> PyResult<Vec<Assignment>> {
    let n = task_ids.len() / 16;
    let lengths = [task_ids.len(), epochs.len(), agents.len(), agent_epochs.len(), terms.len()];
    if lengths != [n * 16, n * 4, n * 4, n * 8, n * 2 * TERMS] {
        return Err(invalid(format!("columns of {lengths:?} bytes are not {n} assignments")));
    }
    let numbers: Vec<u32> = words(agents).map(u32::from_le_bytes).collect();
    let (mut epochs, mut agent_epochs) = (words(epochs).map(u32::from_le_bytes), words(agent_epochs).map(u64::from_le_bytes));
    let mut items = Vec::with_capacity(n);
    for (at, agent_id) in feed.agent_ids(&numbers).into_iter().enumerate() {
        let (Some(epoch), Some(agent_epoch)) = (epochs.next(), agent_epochs.next()) else { break };
        let terms = &terms[at * 2 * TERMS..(at + 1) * 2 * TERMS];
        items.extend(agent_id.map(|agent_id| Assignment {
            task_id: task_ids[at * 16..(at + 1) * 16].to_vec(),
            epoch,
            agent_id: agent_id.to_string(),
            agent_epoch,
            terms: words(terms).map(|term| i16::from_le_bytes(term).into()).collect(),
        }));
    }
    Ok(items)
}

/// Little-endian words of `N` bytes.
fn words<const N: usize>(column: &[u8]) -> impl Iterator<Item = [u8; N]> + '_ {
    column.as_chunks::<N>().0.iter().copied()
}
