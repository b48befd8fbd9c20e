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
    let mut sum = 0u128;
    for cf in Cf::ALL.into_iter().filter(|cf| cf.hashed()) {
        rows.scan(cf, b"", b"", &mut |key, value| {
            sum = sum.wrapping_add(row::row_hash(cf, key, value));
            true
        })?;
    }
    Ok(sum)
}
