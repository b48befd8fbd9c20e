//! Makes a backup of a running node: a checkpoint, read as one stream.
//!
//! What always holds: it is the state at one revision; its rows were added up before the first byte
//! left; the copy goes when the stream ends, however it ends.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use codec::row::StateRead;
use machine::Machine;
use store::rocks::{RocksOptions, RocksState};
use store::{StateStore, meta_of};
use xxhash_rust::xxh3::Xxh3;

use super::format::{BackupError, BackupFile, END, Manifest, header, hex};
use crate::rate::TokenBucket;
use crate::snapshot_out::file_names;

/// Backups of one node that may be under way: each holds a copy of the state on the disk.
pub(crate) const BACKUPS_MAX: usize = 2;
/// Checksums are worked out at most so fast, so that a backup leaves the disk to others.
const HASH_BYTES_PER_S: u64 = 256 << 20;
const READ_BYTES: usize = 1 << 20;

/// Counts the copies; gives its place back.
struct Place(Arc<AtomicUsize>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// The copy on the disk; deletes it.
struct Copy {
    path: PathBuf,
    _place: Place,
}

impl Drop for Copy {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.path) {
            // The next start deletes it.
            eprintln!("taskquorum: {}: {error}", self.path.display());
        }
    }
}

/// A backup, read once from its beginning to its end.
pub struct Backup {
    manifest: Manifest,
    copy: Copy,
    digest: Xxh3,
    /// Bytes made and not yet read.
    ready: Vec<u8>,
    /// Position in the files of the one being read.
    file: usize,
    open: Option<(File, u64, u32)>,
    ended: bool,
}

impl Backup {
    /// Copies the state and adds everything up: takes as long as reading all of it. For a thread of
    /// its own.
    ///
    /// # Errors
    /// Too many backups are under way; the disk fails; the rows do not add up.
    pub(crate) fn make(
        state: &RocksState,
        folder: &Path,
        options: &RocksOptions,
        node_id: &str,
        places: &Arc<AtomicUsize>,
    ) -> Result<Self, BackupError> {
        let place = Place(places.clone());
        if places.fetch_add(1, Ordering::AcqRel) >= BACKUPS_MAX {
            return Err(BackupError::Refused(format!("{BACKUPS_MAX} backups of this node are under way: wait for one to end")));
        }
        let number = getrandom::u64().map_err(|e| BackupError::Refused(e.to_string()))?;
        let copy = Copy { path: folder.join(format!("{number:016x}")), _place: place };
        state.checkpoint(&copy.path).map_err(|e| BackupError::Refused(e.to_string()))?;
        let manifest = manifest(&copy.path, options, node_id)?;
        let ready = header(&manifest)?;
        let mut digest = Xxh3::new();
        digest.update(&ready);
        Ok(Self { manifest, copy, digest, ready, file: 0, open: None, ended: false })
    }

    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The next bytes, at most about 1 MiB; none at the end. For a thread that may wait for the disk.
    ///
    /// # Errors
    /// A file cannot be read, or is not what it was: the backup cannot be finished.
    pub fn read(&mut self) -> Result<Vec<u8>, BackupError> {
        if !self.ready.is_empty() || self.ended {
            return Ok(std::mem::take(&mut self.ready));
        }
        while let Some(file) = self.manifest.files.get(self.file) {
            let path = self.copy.path.join(&file.name);
            let failed = || BackupError::io(path.display());
            if self.open.is_none() {
                self.open = Some((File::open(&path).map_err(failed())?, file.bytes, 0));
            }
            let Some((open, left, crc32c)) = &mut self.open else { continue };
            if *left == 0 {
                if *crc32c != file.crc32c {
                    return Err(BackupError::Damaged(format!("{} changed while it was read", path.display())));
                }
                self.open = None;
                self.file += 1;
                continue;
            }
            let mut bytes = vec![0; (*left).min(READ_BYTES as u64) as usize];
            open.read_exact(&mut bytes).map_err(failed())?;
            *left -= bytes.len() as u64;
            *crc32c = crc32c::crc32c_append(*crc32c, &bytes);
            self.digest.update(&bytes);
            return Ok(bytes);
        }
        self.ended = true;
        let mut end = self.digest.digest128().to_be_bytes().to_vec();
        end.extend_from_slice(END);
        Ok(end)
    }
}

fn manifest(path: &Path, options: &RocksOptions, node_id: &str) -> Result<Manifest, BackupError> {
    let refused = |e: String| BackupError::Refused(format!("the copy cannot be read: {e}"));
    let state = RocksState::open_read_only(path, options).map_err(|e| refused(e.to_string()))?;
    let rows: &dyn StateRead = &state;
    let meta = meta_of(rows).map_err(|e| refused(e.to_string()))?;
    let meta = meta.ok_or_else(|| BackupError::Refused("this node belongs to no cluster yet".to_owned()))?;
    let found = Machine::hash_of_rows(rows).map_err(|e| refused(e.to_string()))?;
    if meta.hash != found {
        let problem = "this node's rows do not add up to their state hash: they are damaged; back up another node";
        return Err(BackupError::Refused(problem.to_owned()));
    }
    drop(state);
    let mut files = Vec::new();
    let mut bucket = TokenBucket::new(HASH_BYTES_PER_S, Instant::now());
    let mut buffer = vec![0; READ_BYTES];
    for name in file_names(path).map_err(BackupError::io(path.display()))? {
        let at = path.join(&name);
        let failed = || BackupError::io(at.display());
        let mut file = File::open(&at).map_err(failed())?;
        let (mut bytes, mut crc32c) = (0, 0);
        loop {
            let length = file.read(&mut buffer).map_err(failed())?;
            if length == 0 {
                break;
            }
            crc32c = crc32c::crc32c_append(crc32c, &buffer[..length]);
            bytes += length as u64;
            let wait = bucket.take(length, Instant::now());
            if wait > Duration::ZERO {
                std::thread::sleep(wait);
            }
        }
        files.push(BackupFile { name, bytes, crc32c });
    }
    Ok(Manifest {
        cluster_id: format!("{:016x}", meta.cluster_id),
        node_id: node_id.to_owned(),
        release: env!("CARGO_PKG_VERSION").to_owned(),
        machine_version: meta.machine_version,
        revision: meta.revision,
        index: meta.applied_index,
        term: meta.applied_term,
        state_hash: hex(&meta.hash),
        cluster_us: meta.cluster_us,
        wall_us: meta.wall_us,
        bytes: files.iter().map(|f| f.bytes).sum(),
        files,
    })
}
