//! Builders shared by the tests of the stores.
#![allow(dead_code, clippy::unwrap_used)]

use std::path::Path;

use bytes::Bytes;
use codec::log::{Bootstrap, EntryKind, HardState, Identity, LogEntry};
use codec::row::{Cf, Change, MetaRow};
use store::StoreError;
use store::rocks::{DataDirectory, Opened, RocksOptions};

pub const CLUSTER: u64 = 0xC1;

pub fn entry(index: u64, term: u64) -> LogEntry {
    LogEntry { index, term, kind: EntryKind::Normal, data: Bytes::from(format!("entry {index} of term {term}")) }
}

pub fn entries(range: std::ops::RangeInclusive<u64>, term: u64) -> Vec<LogEntry> {
    range.map(|index| entry(index, term)).collect()
}

pub fn hard_state(term: u64, vote: u64, commit: u64) -> HardState {
    HardState { term, vote, commit }
}

pub fn identity() -> Identity {
    let bootstrap = Some(Bootstrap { cluster_id: CLUSTER, ..Bootstrap::default() });
    Identity { raft_id: 7, node_id: "n1".to_owned(), cluster_id: CLUSTER, bootstrap, ..Identity::default() }
}

pub fn put(cf: Cf, key: &[u8], value: &[u8]) -> Change {
    Change { cf, key: key.to_vec(), value: Some(value.to_vec()) }
}

pub fn delete(cf: Cf, key: &[u8]) -> Change {
    Change { cf, key: key.to_vec(), value: None }
}

pub fn meta(applied_index: u64) -> Change {
    let row = MetaRow { applied_index, cluster_id: CLUSTER, ..MetaRow::default() };
    put(Cf::Meta, b"", &codec::row::encode(&row))
}

pub fn open(path: &Path) -> Result<Opened, StoreError> {
    DataDirectory::open(path, "n1", &RocksOptions::default())
}

/// The error of an open that must fail.
pub fn open_error(path: &Path) -> StoreError {
    open(path).map(|opened| opened.report).expect_err("the directory must be refused")
}
