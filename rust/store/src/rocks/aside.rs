//! Damaged files are kept aside, and the node goes on without them (DESIGN rule 4).
//!
//! What always holds:
//! * nothing damaged is deleted: it is renamed into `damaged-<unix seconds>/`, with a `REASON` beside it;
//! * a damaged *log* (entries, hard state, witness or identity) ends its raft id for ever: the next identity,
//!   which names it as retired, is durable before the first file moves, and a crash in between is finished
//!   by the next open;
//! * a damaged *state* beside a sound log does not: everything that was promised is in the log, so the node
//!   keeps its identity, and its vote as soon as it has a state again.

use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use codec::frame::to_frame;
use codec::log::Identity;
use codec::{Frame, FrameKind};

use super::directory::DataDirectory;
use super::{files, keys, log};
use crate::{Damage, StoreError};

/// Beginning of the names of directories with damaged files.
const ASIDE_PREFIX: &str = "damaged-";
/// The next identity, while damaged files are moved: `damaged-<t>.retiring`.
const RETIRING_SUFFIX: &str = ".retiring";
/// Why the files beside it were moved; in a state directory: why it must not be used.
const REASON_FILE: &str = "REASON";
const MARK_FILE: &str = "DAMAGED";
/// Retired raft ids that an identity remembers.
const RETIRED_MAX: usize = 16;

impl DataDirectory {
    /// Notes, durably, that a state directory must not be used; it is set aside by the next open, or when
    /// another one has taken its place.
    ///
    /// # Errors
    /// The disk's.
    pub fn mark_state(&self, name: &str, reason: &str) -> Result<(), StoreError> {
        let path = self.path().join(name);
        files::write_durably(&path, &path.join(MARK_FILE), reason.as_bytes())
    }

    /// Why a state directory must not be used, if it was marked.
    pub(super) fn mark_of(&self, name: &str) -> Option<String> {
        let path = self.path().join(name).join(MARK_FILE);
        path.exists().then(|| std::fs::read(path).map(|b| String::from_utf8_lossy(&b).into_owned()).unwrap_or_default())
    }

    /// The directories with damaged files, oldest first.
    pub fn kept_aside(&self) -> Result<Vec<String>, StoreError> {
        Ok(files::directories(self.path())?.into_iter().filter(|name| name.starts_with(ASIDE_PREFIX)).collect())
    }

    /// The damage lies in a state directory, and the log beside it was sound.
    pub(super) fn is_of_state(&self, damage: &Damage) -> Option<String> {
        let name = damage.path.strip_prefix(self.path()).ok()?.iter().next()?.to_str()?;
        keys::state_dir_number(name).map(|_| name.to_owned())
    }

    /// Moves a state directory aside; returns where it is now. One that is not there needs no move.
    pub(super) fn set_aside_state(&self, name: &str, reason: &str) -> Result<Option<String>, StoreError> {
        let from = self.path().join(name);
        if !from.exists() {
            return Ok(None);
        }
        let aside = self.new_aside()?;
        let to = self.path().join(&aside);
        files::make_directory(&to)?;
        files::write_durably(&to, &to.join(REASON_FILE), reason.as_bytes())?;
        files::rename(&from, &to.join(name))?;
        files::sync_directory(&to)?;
        files::sync_directory(self.path())?;
        Ok(Some(aside))
    }

    /// Notes, durably, that the directory's identity must never vote again; [`DataDirectory::open_repairing`]
    /// moves its files aside and begins under the next one, `raft_id`.
    ///
    /// # Errors
    /// The disk's.
    pub fn retire(&self, node_id: &str, raft_id: u64, reason: &str) -> Result<(), StoreError> {
        let former = self.former_identity();
        let aside = self.new_aside()?;
        let mut retired = former.as_ref().map(|f| f.retired.clone()).unwrap_or_default();
        retired.push(former.as_ref().map_or(0, |f| f.raft_id));
        let excess = retired.len().saturating_sub(RETIRED_MAX);
        retired.drain(..excess);
        let cluster = former.as_ref().map(|f| if f.cluster_id != 0 { f.cluster_id } else { f.former_cluster_id });
        let next = Identity {
            raft_id,
            node_id: node_id.to_owned(),
            retired,
            damaged: format!("{reason}. Its files are kept in {}", self.path().join(&aside).display()),
            former_cluster_id: cluster.unwrap_or_default(),
            ..Identity::default()
        };
        let path = self.path().join(format!("{aside}{RETIRING_SUFFIX}"));
        files::write_durably(self.path(), &path, &to_frame(FrameKind::Identity, &next))
    }

    /// Whether [`DataDirectory::retire`] was called and not finished.
    pub(super) fn is_retiring(&self) -> Result<bool, StoreError> {
        Ok(files::names(self.path())?.iter().any(|n| n.ends_with(RETIRING_SUFFIX)))
    }

    /// Finishes what [`DataDirectory::retire`] began: moves the files, and returns the identity to save in
    /// the directory that is now empty. `retired` ends it.
    pub(super) fn move_retired(&self) -> Result<Option<(PathBuf, Identity)>, StoreError> {
        let Some(note) = files::names(self.path())?.into_iter().find(|n| n.ends_with(RETIRING_SUFFIX)) else { return Ok(None) };
        let path = self.path().join(&note);
        let bytes = files::read(&path)?;
        let next: Identity = Frame::decode_message(FrameKind::Identity, &bytes).map_err(|e| {
            StoreError::damaged(&path, format!("what to do with the damaged files beside it cannot be read: {e}"))
        })?;
        let to = self.path().join(note.trim_end_matches(RETIRING_SUFFIX));
        if !to.join(REASON_FILE).exists() {
            files::make_directory(&to)?;
            for name in files::names(self.path())? {
                if name != keys::LOCK_FILE && !name.starts_with(ASIDE_PREFIX) && name != keys::REBUILDING_DIR {
                    files::rename(&self.path().join(&name), &to.join(&name))?;
                }
            }
            files::sync_directory(&to)?;
            files::sync_directory(self.path())?;
            // Last: from here on what lies in the directory is new.
            files::write_durably(&to, &to.join(REASON_FILE), next.damaged.as_bytes())?;
        }
        Ok(Some((path, next)))
    }

    /// Who lived in a directory that may be damaged: from the file beside the log, else from the log.
    fn former_identity(&self) -> Option<Identity> {
        read_identity(&self.path().join(keys::IDENTITY_FILE)).or_else(|| {
            let log = self.path().join(keys::LOG_DIR);
            log::read_identity(&log, self.options()).ok().flatten()
        })
    }

    fn new_aside(&self) -> Result<String, StoreError> {
        let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
        let taken = files::names(self.path())?;
        let free = |name: &String| !taken.iter().any(|t| t == name || t.strip_suffix(RETIRING_SUFFIX) == Some(name));
        let names =
            (0..).map(|n| if n == 0 { format!("{ASIDE_PREFIX}{seconds}") } else { format!("{ASIDE_PREFIX}{seconds}-{n}") });
        Ok(names.into_iter().find(free).unwrap_or_default())
    }
}

/// The identity in the small file beside the log; `None` if it is not whole.
pub(super) fn read_identity(path: &Path) -> Option<Identity> {
    Frame::decode_message(FrameKind::Identity, &std::fs::read(path).ok()?).ok()
}

/// Keeps a copy of the identity beside the log, for the day on which the log cannot be read.
pub(super) fn keep_identity(directory: &Path, identity: &Identity) -> Result<(), StoreError> {
    files::write_durably(directory, &directory.join(keys::IDENTITY_FILE), &to_frame(FrameKind::Identity, identity))
}
