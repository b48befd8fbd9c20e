//! A file system that forgets what was not synced: power loss for tests, with the semantics of LazyFS.
//!
//! What always holds: a file's bytes are durable once `fsync` of that file has answered, a name (create, rename, unlink)
//! once `fsync` of its directory has; everything else may be lost or torn by [`model::Model::lose`], and by nothing else.
//! All content lies in memory: the backing directory is read at the start and written at a clean end, so that no test
//! waits for a real disk.
//!
//! ```text
//! model    inodes, what is current and what is durable, power loss (pure)
//! rules    which operation fails, is short, slow, or freezes the file system (pure)
//! disk     the gate that every operation passes: now, later or never
//! fs       the FUSE edge
//! control  one line a command over a Unix socket
//! image    the backing directory
//! ```

pub mod control;
pub mod disk;
pub mod fs;
pub mod image;
pub mod model;
pub mod rules;
