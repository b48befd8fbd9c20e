//! The state store in use: readers take it, the apply thread replaces it after an install.

use std::collections::BTreeSet;
use std::sync::Arc;

use parking_lot::{Mutex, RwLock};
use store::rocks::RocksState;

/// Shared by the apply thread, which alone replaces, and everybody who reads.
pub struct StateCell {
    current: RwLock<(Arc<RocksState>, String)>,
    /// Directories that a snapshot is received into, or that wait to be used.
    coming: Mutex<BTreeSet<String>>,
    /// Directories with damaged files.
    kept_aside: Mutex<Vec<String>>,
}

impl StateCell {
    /// `name` is that of the store's directory.
    pub fn new(state: Arc<RocksState>, name: String) -> Self {
        Self { current: RwLock::new((state, name)), coming: Mutex::default(), kept_aside: Mutex::default() }
    }

    pub fn get(&self) -> Arc<RocksState> {
        self.current.read().0.clone()
    }

    /// Name of the directory in use.
    pub fn name(&self) -> String {
        self.current.read().1.clone()
    }

    pub fn kept_aside(&self) -> Vec<String> {
        self.kept_aside.lock().clone()
    }

    pub fn set_kept_aside(&self, names: Vec<String>) {
        *self.kept_aside.lock() = names;
    }

    /// A directory that must not be deleted, although nothing names it yet.
    pub fn expect(&self, name: String) {
        self.coming.lock().insert(name);
    }

    /// Ends [`StateCell::expect`].
    pub fn forget(&self, name: &str) {
        self.coming.lock().remove(name);
    }

    /// The directories to keep.
    pub fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = self.coming.lock().iter().cloned().collect();
        names.push(self.current.read().1.clone());
        names
    }

    /// Returns the store that was in use: it is open until its last reader lets go.
    pub fn replace(&self, state: Arc<RocksState>, name: String) -> Arc<RocksState> {
        self.coming.lock().remove(&name);
        std::mem::replace(&mut *self.current.write(), (state, name)).0
    }
}
