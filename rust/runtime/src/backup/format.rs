//! A backup: one file that proves itself (docs/backup.md describes it byte by byte).
//!
//! ```text
//! offset      size  field
//!      0         8  "TQBACKUP"
//!      8         4  format version, little-endian: 1
//!     12         4  length m of the manifest, little-endian
//!     16         4  CRC32C of bytes 0..16 and of the manifest, little-endian
//!     20         m  manifest, JSON
//! 20 + m         …  the files, one after the other, in the manifest's order
//!      …        16  XXH3-128 of everything before, big-endian
//!      …         8  "TQBKEND1"
//! ```

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::Path;

use serde::{Deserialize, Serialize};
use thiserror::Error;
use xxhash_rust::xxh3::Xxh3;

pub(super) const MAGIC: &[u8; 8] = b"TQBACKUP";
pub(super) const END: &[u8; 8] = b"TQBKEND1";
pub(super) const FORMAT: u32 = 1;
const HEAD_BYTES: usize = 20;
const MANIFEST_BYTES_MAX: usize = 64 << 20;
const BUFFER_BYTES: usize = 1 << 20;

/// Why a file is not taken. Nothing was written.
#[derive(Debug, Error)]
pub enum BackupError {
    #[error("it is no backup of taskquorum: it does not begin with {:?}", "TQBACKUP")]
    NotABackup,
    #[error("its format is version {found}, this release reads version {FORMAT}: use the release that made it, or a newer one")]
    Version { found: u32 },
    #[error("it is cut off after {at} bytes, in {what}: the backup was not finished, or its end is lost")]
    Truncated { at: u64, what: String },
    #[error("it is damaged: {0}")]
    Damaged(String),
    #[error("{0}")]
    Refused(String),
    #[error("{what}: {error}")]
    Io { what: String, error: io::Error },
}

impl BackupError {
    pub(super) fn io(what: impl ToString) -> impl FnOnce(io::Error) -> Self {
        let what = what.to_string();
        move |error| Self::Io { what, error }
    }
}

/// What a backup holds. Numbers of 128 and of 64 random bits are hexadecimal text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// Of the cluster that was backed up.
    pub cluster_id: String,
    /// The node that was asked.
    pub node_id: String,
    /// The release that made it.
    pub release: String,
    pub machine_version: u32,
    /// The state is the one after this revision, whole.
    pub revision: u64,
    pub index: u64,
    pub term: u64,
    /// Recomputed over all rows when the backup was made.
    pub state_hash: String,
    pub cluster_us: u64,
    pub wall_us: u64,
    pub bytes: u64,
    pub files: Vec<BackupFile>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackupFile {
    pub name: String,
    pub bytes: u64,
    pub crc32c: u32,
}

/// Everything before the files.
pub(super) fn header(manifest: &Manifest) -> Result<Vec<u8>, BackupError> {
    let json = serde_json::to_vec(manifest).map_err(|e| BackupError::Refused(e.to_string()))?;
    let mut out = Vec::with_capacity(HEAD_BYTES + json.len());
    out.extend_from_slice(MAGIC);
    out.extend_from_slice(&FORMAT.to_le_bytes());
    out.extend_from_slice(&(json.len() as u32).to_le_bytes());
    let crc32c = crc32c::crc32c_append(crc32c::crc32c(&out), &json);
    out.extend_from_slice(&crc32c.to_le_bytes());
    out.extend_from_slice(&json);
    Ok(out)
}

/// Reads a backup from its beginning to its end, checking everything.
pub(super) struct Reading {
    reader: BufReader<File>,
    digest: Xxh3,
    at: u64,
    pub manifest: Manifest,
}

impl Reading {
    pub(super) fn open(path: &Path) -> Result<Self, BackupError> {
        let file = File::open(path).map_err(BackupError::io("it cannot be opened"))?;
        let empty = Manifest {
            cluster_id: String::new(),
            node_id: String::new(),
            release: String::new(),
            machine_version: 0,
            revision: 0,
            index: 0,
            term: 0,
            state_hash: String::new(),
            cluster_us: 0,
            wall_us: 0,
            bytes: 0,
            files: Vec::new(),
        };
        let reader = BufReader::with_capacity(BUFFER_BYTES, file);
        let mut reading = Self { reader, digest: Xxh3::new(), at: 0, manifest: empty };
        reading.read_header()?;
        Ok(reading)
    }

    fn take(&mut self, buffer: &mut [u8], what: &str) -> Result<(), BackupError> {
        self.take_uncounted(buffer, what)?;
        self.digest.update(buffer);
        Ok(())
    }

    fn take_uncounted(&mut self, buffer: &mut [u8], what: &str) -> Result<(), BackupError> {
        match self.reader.read_exact(buffer) {
            Ok(()) => self.at += buffer.len() as u64,
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                return Err(BackupError::Truncated { at: self.at, what: what.to_owned() });
            }
            Err(error) => return Err(BackupError::io("it cannot be read")(error)),
        }
        Ok(())
    }

    fn read_header(&mut self) -> Result<(), BackupError> {
        let mut head = [0; HEAD_BYTES];
        match self.take(&mut head[..8], "the beginning") {
            Err(BackupError::Truncated { .. }) => return Err(BackupError::NotABackup),
            result => result?,
        }
        if head[..8] != *MAGIC {
            return Err(BackupError::NotABackup);
        }
        self.take(&mut head[8..], "the beginning")?;
        let number = |at: usize| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
        if number(8) != FORMAT {
            return Err(BackupError::Version { found: number(8) });
        }
        let length = number(12) as usize;
        if length > MANIFEST_BYTES_MAX {
            return Err(BackupError::Damaged(format!("a manifest of {length} bytes")));
        }
        let mut json = vec![0; length];
        self.take(&mut json, "the manifest")?;
        if crc32c::crc32c_append(crc32c::crc32c(&head[..16]), &json) != number(16) {
            return Err(BackupError::Damaged("the manifest does not add up to its checksum".to_owned()));
        }
        self.manifest = serde_json::from_slice(&json).map_err(|e| BackupError::Damaged(format!("the manifest: {e}")))?;
        Ok(())
    }

    /// Reads all files, giving their bytes to `sink` (position in the manifest, bytes), then the end;
    /// returns the digest of the whole.
    pub(super) fn files(
        &mut self,
        mut sink: impl FnMut(usize, &[u8]) -> Result<(), BackupError>,
    ) -> Result<[u8; 16], BackupError> {
        let mut buffer = vec![0; BUFFER_BYTES];
        for (at, file) in self.manifest.files.clone().iter().enumerate() {
            let (mut left, mut crc32c) = (file.bytes, 0);
            while left > 0 {
                let length = left.min(BUFFER_BYTES as u64) as usize;
                self.take(&mut buffer[..length], &file.name)?;
                crc32c = crc32c::crc32c_append(crc32c, &buffer[..length]);
                sink(at, &buffer[..length])?;
                left -= length as u64;
            }
            if crc32c != file.crc32c {
                return Err(BackupError::Damaged(format!("{} does not add up to its checksum", file.name)));
            }
        }
        let digest = self.digest.digest128().to_be_bytes();
        let mut end = [0; 24];
        self.take_uncounted(&mut end, "the final checksum")?;
        if end[..16] != digest || end[16..] != *END {
            return Err(BackupError::Damaged("the whole does not add up to its final checksum".to_owned()));
        }
        let mut more = [0; 1];
        match self.reader.read(&mut more) {
            Ok(0) => Ok(digest),
            Ok(_) => Err(BackupError::Damaged("bytes follow its end".to_owned())),
            Err(error) => Err(BackupError::io("it cannot be read")(error)),
        }
    }
}

/// Reads a whole backup; nothing is kept.
///
/// # Errors
/// What is wrong with it.
pub fn verify(path: &Path) -> Result<Manifest, BackupError> {
    let mut reading = Reading::open(path)?;
    reading.files(|_, _| Ok(()))?;
    Ok(reading.manifest)
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
