//! Backup of a running node, and restore into a new cluster.

mod format;
mod make;
mod restore;

pub use format::{BackupError, BackupFile, Manifest, verify};
pub use make::Backup;
pub use restore::restore;
pub(crate) use restore::{finish_seeding, make_seeded_state, seed_base, seed_of};
