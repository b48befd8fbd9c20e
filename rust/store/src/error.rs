//! Why a store refused.

use std::path::PathBuf;

use thiserror::Error;

/// Bytes on the disk that cannot be what was written. The files stay as they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// The file or directory that is damaged.
    pub path: PathBuf,
    /// What is wrong with it, with the positions involved.
    pub what: String,
}

/// A failure of a store. Only [`StoreError::Compacted`] and [`StoreError::Unavailable`] are part
/// of normal work; after any other the node does not go on.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum StoreError {
    /// The node must neither vote nor campaign with this directory.
    #[error(
        "{}: {}. This node's copy is damaged: it must not vote with it. Nothing was deleted; move the data directory \
         aside, start the node on an empty one, and run `taskquorum cluster replace` to take it in again",
        .0.path.display(), .0.what
    )]
    Damaged(Damage),
    #[error("{} is in use by {}: stop that process first, or give this node a data directory of its own",
        .path.display(), holder(.pid))]
    Locked { path: PathBuf, pid: Option<u32> },
    /// The directory belongs to someone else.
    #[error("{}: {what}. Nothing was changed; start this node with its own data directory", .path.display())]
    Foreign { path: PathBuf, what: String },
    /// A newer release wrote it, or an option is out of bounds.
    #[error("{0}")]
    Unusable(String),
    /// The entries asked for are no longer in the log.
    #[error("entries from {low} on were compacted: the log begins after {base}")]
    Compacted { low: u64, base: u64 },
    /// The entries asked for are not in the log yet.
    #[error("entries below {high} were asked for, but the log ends with {last}")]
    Unavailable { high: u64, last: u64 },
    /// The caller broke a rule of the log; nothing was written.
    #[error("refused to write: {0}")]
    Rejected(String),
    /// The disk or the database failed; the store is poisoned from here on.
    #[error("{what}: {cause}")]
    Failed { what: String, cause: String },
    /// An earlier write failed, so what the disk holds is unknown.
    #[error("an earlier write failed ({0}): this node must stop, and start again from its disk")]
    Poisoned(String),
}

fn holder(pid: &Option<u32>) -> String {
    match pid {
        Some(pid) => format!("process {pid}"),
        None => "another process".to_owned(),
    }
}

impl StoreError {
    pub(crate) fn failed(what: impl Into<String>, cause: impl ToString) -> Self {
        Self::Failed { what: what.into(), cause: cause.to_string() }
    }

    pub(crate) fn damaged(path: impl Into<PathBuf>, what: impl Into<String>) -> Self {
        Self::Damaged(Damage { path: path.into(), what: what.into() })
    }

    /// Whether the node must stop: true for all but reads outside the log.
    pub fn stops_node(&self) -> bool {
        !matches!(self, Self::Compacted { .. } | Self::Unavailable { .. })
    }
}
