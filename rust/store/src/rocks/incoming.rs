//! The directory that a snapshot is received into. It outlives the process, so that the transfer can
//! go on where it stopped.
//!
//! What always holds: the offer's bytes are durable before the first file; the directory becomes a
//! state directory by one rename, after everything in it is synced; until the log's base names it,
//! the next open turns it back.

use std::path::{Path, PathBuf};

use super::{DataDirectory, files, keys};
use crate::StoreError;

/// In the directory beside the files: what is being received.
const OFFER_FILE: &str = "OFFER";

fn failed(what: &str, path: &Path, error: std::io::Error) -> StoreError {
    StoreError::failed(format!("cannot {what} {}", path.display()), error)
}

impl DataDirectory {
    /// Where the files are written.
    pub fn incoming_path(&self) -> PathBuf {
        self.path().join(keys::INCOMING_DIR)
    }

    /// Begins anew: what was there goes. `offer` says what will be received; opaque here.
    pub fn begin_incoming(&self, offer: &[u8]) -> Result<PathBuf, StoreError> {
        self.discard_incoming()?;
        let path = self.incoming_path();
        files::make_directory(&path)?;
        failpoint::point!("store::incoming::made");
        files::write_durably(&path, &path.join(OFFER_FILE), offer)?;
        Ok(path)
    }

    /// The offer of an unfinished transfer, if there is one.
    pub fn incoming_offer(&self) -> Result<Option<Vec<u8>>, StoreError> {
        let path = self.incoming_path().join(OFFER_FILE);
        match std::fs::read(&path) {
            Ok(offer) => Ok(Some(offer)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(failed("read", &path, error)),
        }
    }

    /// Syncs everything received and makes it a state directory, whose name is returned: to be named
    /// by `LogStore::install` next.
    pub fn finish_incoming(&self) -> Result<String, StoreError> {
        failpoint::point!("store::incoming::sync_before", |reason: String| Err(StoreError::failed(
            "cannot sync a snapshot",
            reason
        )));
        files::sync_tree(&self.incoming_path())?;
        failpoint::point!("store::incoming::synced");
        let name = self.next_state_dir()?;
        let path = self.path().join(&name);
        std::fs::rename(self.incoming_path(), &path).map_err(|e| failed("rename", &path, e))?;
        files::sync_directory(self.path())?;
        failpoint::point!("store::incoming::named");
        Ok(name)
    }

    /// The state directory is in use: the offer is not needed any more. Failing changes nothing.
    pub fn forget_offer(&self, name: &str) {
        let _ = std::fs::remove_file(self.path().join(name).join(OFFER_FILE));
    }

    pub fn discard_incoming(&self) -> Result<(), StoreError> {
        match self.incoming_path().exists() {
            true => files::remove_directory(&self.incoming_path()),
            false => Ok(()),
        }
    }

    /// A start between [`DataDirectory::finish_incoming`] and the log's naming it: the received files
    /// are kept, as still to be installed. True if `name` is gone now.
    pub(super) fn take_back(&self, name: &str) -> Result<bool, StoreError> {
        let path = self.path().join(name);
        if !path.join(OFFER_FILE).exists() || self.incoming_path().exists() {
            return Ok(false);
        }
        std::fs::rename(&path, self.incoming_path()).map_err(|e| failed("rename", &path, e))?;
        files::sync_directory(self.path())?;
        Ok(true)
    }
}
