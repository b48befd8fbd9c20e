//! The replicated state as a node sees it.

use std::path::Path;

use codec::row::{self, Cf, Change, MetaRow, ReadError, StateRead};

use crate::StoreError;

/// Rows of the state machine. Any thread reads; the apply thread alone writes.
pub trait StateStore: StateRead + Send + Sync {
    /// Writes the changes of one or more entries together. Not durable before a flush, but never
    /// partly: after a crash either all of them are there or none.
    ///
    /// # Errors
    /// Any failure poisons the store.
    fn write(&self, changes: &[Change]) -> Result<(), StoreError>;

    /// Makes every row written before the call durable, and returns the applied index that was
    /// stored when it began (0 if none): the log may be cut up to it. Blocks for the disk; other
    /// threads go on reading and writing.
    ///
    /// # Errors
    /// Any failure poisons the store.
    fn flush(&self) -> Result<u64, StoreError>;

    /// Applied index that is known to be durable: that of the last finished flush, or found at open.
    fn flushed_index(&self) -> u64;

    /// Writes a copy of the rows, as of one moment, into the new directory `dir` and syncs it.
    /// Index, term and configuration are those of the meta row inside the copy.
    fn checkpoint(&self, dir: &Path) -> Result<(), StoreError>;

    /// A view of one moment, for reads that must agree with each other. It holds space on the disk
    /// until it is dropped.
    fn view(&self) -> Box<dyn StateRead + Send + Sync + '_>;
}

/// The meta row, or `None` before the first rows were written.
pub fn meta_of(rows: &dyn StateRead) -> Result<Option<MetaRow>, ReadError> {
    let Some(value) = rows.get(Cf::Meta, b"")? else { return Ok(None) };
    row::decode(&value).map(Some).map_err(|error| ReadError(format!("the meta row: {error}")))
}

/// The state hash by a full scan: the sum modulo 2¹²⁸ of [`row::row_hash`] over all hashed rows.
/// O(bytes stored): for install, backup and verify.
pub fn state_hash(rows: &dyn StateRead) -> Result<u128, ReadError> {
    state_hash_paced(rows, &mut |_| {}).map(|hashed| hashed.sum)
}

/// What a full scan has added up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Hashed {
    pub sum: u128,
    /// Rows of hashed column families, and their bytes.
    pub rows: u64,
    pub bytes: u64,
}

/// [`state_hash`], with a call after each row that gets its bytes and may wait.
pub fn state_hash_paced(rows: &dyn StateRead, pace: &mut dyn FnMut(u64)) -> Result<Hashed, ReadError> {
    let mut hashed = Hashed::default();
    for cf in Cf::ALL.into_iter().filter(|cf| cf.hashed()) {
        rows.scan(cf, b"", b"", &mut |key, value| {
            hashed.sum = hashed.sum.wrapping_add(row::row_hash(cf, key, value));
            let bytes = (key.len() + value.len()) as u64;
            (hashed.rows, hashed.bytes) = (hashed.rows + 1, hashed.bytes + bytes);
            pace(bytes);
            true
        })?;
    }
    // Families that no hash covers are read as well: their checksums count.
    for cf in Cf::ALL.into_iter().filter(|cf| !cf.hashed()) {
        rows.scan(cf, b"", b"", &mut |key, value| {
            pace((key.len() + value.len()) as u64);
            true
        })?;
    }
    Ok(hashed)
}
