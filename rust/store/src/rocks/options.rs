//! How the two databases are tuned. What always holds: the log syncs each batch and recovers to
//! the last whole one; the state has no WAL, so all its column families flush together.

use codec::row::Cf;
use rocksdb::{BlockBasedOptions, Cache, ColumnFamilyDescriptor, DBCompressionType, DBRecoveryMode, Options};

use super::keys;
use crate::StoreError;

const MIB: usize = 1 << 20;

/// Memory of one node's databases. The defaults stay below 64 MiB when full and a few MiB when idle.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RocksOptions {
    /// Unflushed log: one WAL file is about this large. Bounds 1 MiB to 1 GiB.
    pub log_write_buffer_bytes: usize,
    /// Unflushed rows of all column families together; full means an atomic flush. Bounds 1 MiB to 4 GiB.
    pub state_write_buffers_bytes: usize,
    /// Blocks, indexes and filters of both databases. Bounds 1 MiB to 64 GiB.
    pub cache_bytes: usize,
    /// Open table files of each database. Bounds 32 to 65,536.
    pub open_files_max: u32,
}

impl Default for RocksOptions {
    fn default() -> Self {
        Self { log_write_buffer_bytes: 16 * MIB, state_write_buffers_bytes: 32 * MIB, cache_bytes: 32 * MIB, open_files_max: 256 }
    }
}

impl RocksOptions {
    pub fn validate(&self) -> Result<(), StoreError> {
        let check = |name: &str, value: usize, low: usize, high: usize| match (low..=high).contains(&value) {
            true => Ok(()),
            false => Err(StoreError::Unusable(format!("{name} is {value}, outside [{low}, {high}]"))),
        };
        check("log_write_buffer_bytes", self.log_write_buffer_bytes, MIB, 1024 * MIB)?;
        check("state_write_buffers_bytes", self.state_write_buffers_bytes, MIB, 4096 * MIB)?;
        check("cache_bytes", self.cache_bytes, MIB, 65_536 * MIB)?;
        check("open_files_max", self.open_files_max as usize, 32, 65_536)
    }

    pub(super) fn cache(&self) -> Cache {
        Cache::new_lru_cache(self.cache_bytes)
    }

    fn common(&self, create: bool) -> Options {
        let mut options = Options::default();
        options.create_if_missing(create);
        options.create_missing_column_families(create);
        options.set_paranoid_checks(true);
        options.set_max_background_jobs(2);
        options.set_max_open_files(self.open_files_max as i32);
        options.set_keep_log_file_num(2);
        options.set_max_log_file_size(MIB);
        options.set_stats_dump_period_sec(0);
        options.set_stats_persist_period_sec(0);
        options.set_bytes_per_sync(MIB as u64);
        options
    }

    pub(super) fn log_database(&self, create: bool) -> Options {
        let mut options = self.common(create);
        // A torn last batch was never acknowledged and is dropped. Opening silently short on a bad
        // record in the middle is what the witness is for.
        options.set_wal_recovery_mode(DBRecoveryMode::PointInTime);
        options.set_recycle_log_file_num(2);
        // The hard state's column family hardly grows: without this bound it would pin old WALs.
        options.set_max_total_wal_size(2 * self.log_write_buffer_bytes as u64);
        options
    }

    pub(super) fn log_families(&self, cache: &Cache) -> Vec<ColumnFamilyDescriptor> {
        [rocksdb::DEFAULT_COLUMN_FAMILY_NAME, keys::ENTRIES, keys::META]
            .into_iter()
            .map(|name| {
                let mut options = self.family(cache, self.log_write_buffer_bytes);
                // Most entries are deleted before a compaction would have paid for itself.
                options.set_compression_type(DBCompressionType::None);
                options.set_level_zero_file_num_compaction_trigger(8);
                ColumnFamilyDescriptor::new(name, options)
            })
            .collect()
    }

    pub(super) fn state_database(&self, create: bool) -> Options {
        let mut options = self.common(create);
        options.set_atomic_flush(true);
        options.set_db_write_buffer_size(self.state_write_buffers_bytes);
        options
    }

    pub(super) fn state_families(&self, cache: &Cache) -> Vec<ColumnFamilyDescriptor> {
        std::iter::once(rocksdb::DEFAULT_COLUMN_FAMILY_NAME)
            .chain(Cf::ALL.into_iter().map(Cf::name))
            .map(|name| {
                let mut options = self.family(cache, self.state_write_buffers_bytes / 2);
                options.set_compression_type(DBCompressionType::Lz4);
                ColumnFamilyDescriptor::new(name, options)
            })
            .collect()
    }

    fn family(&self, cache: &Cache, write_buffer_bytes: usize) -> Options {
        let mut table = BlockBasedOptions::default();
        table.set_block_cache(cache);
        // The newest that `inspect`'s library reads; RocksDB's own default is beyond it.
        table.set_format_version(6);
        table.set_cache_index_and_filter_blocks(true);
        table.set_pin_l0_filter_and_index_blocks_in_cache(true);
        // Whole keys only, no prefix extractor: a filter then never hides rows from a scan.
        table.set_bloom_filter(10.0, false);
        let mut options = Options::default();
        options.set_block_based_table_factory(&table);
        options.set_write_buffer_size(write_buffer_bytes);
        options.set_max_write_buffer_number(2);
        options.set_arena_block_size(256 << 10);
        options.set_level_compaction_dynamic_level_bytes(true);
        options
    }
}
