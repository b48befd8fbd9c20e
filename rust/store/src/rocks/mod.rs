//! The stores on RocksDB.
//!
//! ```text
//! <data directory>/
//!    LOCK           held by the process that uses it
//!    witness        how far the log had certainly come
//!    identity       who this directory is, beside the record in the log
//!    log/           log database: entries, hard state, base, identity
//!    state-<n>/     state database; the log's base names the current one
//!    snapshots/     checkpoints on their way to other nodes
//!    incoming/      a snapshot that is being received
//!    backups/       checkpoints on their way into a backup
//!    seed/          a restored backup, until the cluster it begins is made
//!    observer       an observer's record, in place of witness and log
//!    damaged-<t>/   files that were found damaged, and why: see [`aside`]
//! ```

mod aside;
mod checks;
mod directory;
mod files;
mod incoming;
mod keys;
mod log;
mod observer;
mod options;
mod record;
mod state;
mod tables;
mod witness;

pub use directory::{DataDirectory, OpenReport, Opened};
pub use keys::SEED_DIR;
pub use log::RocksLog;
pub use observer::{ObserverRecord, OpenedObserver};
pub use options::RocksOptions;
pub use state::RocksState;
