//! Backups for Python: one that is being read, and files of them.

use std::path::PathBuf;

use parking_lot::Mutex;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::convert::{bytes, failed, released};

/// A backup of a node, read once from its beginning to its end.
#[pyclass(frozen, module = "taskquorum._native")]
pub struct Backup {
    /// Locked only without the GIL; `None` once closed.
    inner: Mutex<Option<runtime::backup::Backup>>,
}

impl From<runtime::backup::Backup> for Backup {
    fn from(backup: runtime::backup::Backup) -> Self {
        Self { inner: Mutex::new(Some(backup)) }
    }
}

#[pymethods]
impl Backup {
    fn manifest<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        let json = released(py, || match &*self.inner.lock() {
            Some(backup) => serde_json::to_vec(backup.manifest()).map_err(|e| e.to_string()),
            None => Err("the backup is closed".to_owned()),
        });
        Ok(bytes(py, &json.map_err(failed)?))
    }

    fn read<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        let piece = released(py, || match &mut *self.inner.lock() {
            Some(backup) => backup.read().map_err(|e| e.to_string()),
            None => Err("the backup is closed".to_owned()),
        });
        Ok(bytes(py, &piece.map_err(failed)?))
    }

    fn close(&self, py: Python<'_>) {
        released(py, || drop(self.inner.lock().take()));
    }
}

/// The manifest of a backup that was read from its beginning to its end.
#[pyfunction]
pub fn verify_backup<'py>(py: Python<'py>, path: PathBuf) -> PyResult<Bound<'py, PyBytes>> {
    let json = released(py, || {
        let manifest = runtime::backup::verify(&path).map_err(|e| format!("{}: {e}", path.display()))?;
        serde_json::to_vec(&manifest).map_err(|e| e.to_string())
    });
    Ok(bytes(py, &json.map_err(failed)?))
}

/// Restores a backup into a new data directory; returns the manifest.
#[pyfunction]
pub fn restore_backup<'py>(
    py: Python<'py>,
    path: PathBuf,
    data_dir: PathBuf,
    node_id: &str,
    cluster: Vec<String>,
) -> PyResult<Bound<'py, PyBytes>> {
    let json = released(py, || {
        let manifest = runtime::backup::restore(&path, &data_dir, node_id, &cluster).map_err(|e| e.to_string())?;
        serde_json::to_vec(&manifest).map_err(|e| e.to_string())
    });
    Ok(bytes(py, &json.map_err(failed)?))
}
