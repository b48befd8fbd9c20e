//! Small tables of the state, merged now and then.
//!
//! Most keys only grow (ids and revisions), so the tables of two flushes do not overlap, and RocksDB moves such tables down
//! its levels as they are, without merging them: every flush would leave a table in each family, for ever. Ten thousand of
//! them make a directory slow to open, to copy and to send, whatever it holds.

use rocksdb::{BottommostLevelCompaction, CompactOptions, LiveFile};

use super::state::RocksState;
use crate::StoreError;

/// A table below this size is small.
const SMALL_BYTES: usize = 1 << 20;
/// So many small tables in a row are merged. Merged ones may be small again: a byte is rewritten about
/// log(1 MiB / a flush's table) / log(32) times until it lies in a large one.
const ROW_TABLES: usize = 32;

impl RocksState {
    /// To be called after a flush: merges rows of 32 or more neighbouring tables below 1 MiB each, and returns how many
    /// were merged. Writes and reads go on meanwhile.
    ///
    /// # Errors
    /// `Failed` if the tables cannot be listed. A merge that fails is told by the next write.
    pub fn merge_small_tables(&self) -> Result<usize, StoreError> {
        let mut tables = self.db.live_files().map_err(|e| StoreError::failed("cannot list the tables of the state", e))?;
        // The first level holds what was just flushed; RocksDB takes it down by itself.
        tables.retain(|table| table.level > 0);
        tables.sort_by(|a, b| (&a.column_family_name, &a.start_key).cmp(&(&b.column_family_name, &b.start_key)));
        let together = |a: &LiveFile, b: &LiveFile| a.column_family_name == b.column_family_name && small(a) == small(b);
        let mut merged = 0;
        for row in tables.chunk_by(together).filter(|row| small(&row[0]) && row.len() >= ROW_TABLES) {
            self.merge(row);
            merged += row.len();
        }
        Ok(merged)
    }

    fn merge(&self, row: &[LiveFile]) {
        let (Some(first), Some(last)) = (row.first(), row.last()) else { return };
        let Some(family) = self.db.cf_handle(&first.column_family_name) else { return };
        let mut options = CompactOptions::default();
        options.set_exclusive_manual_compaction(false);
        options.set_bottommost_level_compaction(BottommostLevelCompaction::ForceOptimized);
        self.db.compact_range_cf_opt(family, first.start_key.as_deref(), last.end_key.as_deref(), &options);
    }
}

fn small(table: &LiveFile) -> bool {
    table.size < SMALL_BYTES
}
