//! Flushes of keys that only grow leave no row of small tables behind them.

#![allow(clippy::unwrap_used)]

mod common;

use std::path::Path;

use codec::row::{Cf, StateRead};
use common::*;
use store::StateStore;
use store::rocks::{RocksOptions, RocksState};

const FLUSHES: u64 = 300;

/// A state that was written and flushed so often, each time with greater keys in two families.
fn flushed(path: &Path, after_each: impl Fn(&RocksState)) -> RocksState {
    let state = RocksState::open(path, &RocksOptions::default(), true).unwrap();
    for number in 0..FLUSHES {
        let key = number.to_be_bytes();
        state.write(&[put(Cf::Event, &key, &[7; 300]), put(Cf::Task, &key, b"t"), meta(number + 1)]).unwrap();
        state.flush().unwrap();
        after_each(&state);
    }
    state
}

fn tables(path: &Path) -> usize {
    let names = std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().file_name());
    names.filter(|name| name.to_string_lossy().ends_with(".sst")).count()
}

#[test]
fn small_tables_are_merged_and_every_row_stays() {
    let folder = tempfile::tempdir().unwrap();
    let (left, tidied) = (folder.path().join("left"), folder.path().join("tidied"));
    drop(flushed(&left, |_| ()));
    assert!(tables(&left) > FLUSHES as usize, "RocksDB merges them by itself: {}", tables(&left));
    let state = flushed(&tidied, |state| {
        state.merge_small_tables().unwrap();
    });
    for family in [Cf::Event, Cf::Task] {
        let mut rows = 0;
        state
            .scan(family, &[], &[], &mut |key, _| {
                assert_eq!(key, &u64::to_be_bytes(rows)[..]);
                rows += 1;
                true
            })
            .unwrap();
        assert_eq!(rows, FLUSHES);
    }
    drop(state);
    assert!(tables(&tidied) < 100, "{} tables", tables(&tidied));
    // A directory that has grown many before is tidied by one call.
    let state = RocksState::open(&left, &RocksOptions::default(), false).unwrap();
    assert!(state.merge_small_tables().unwrap() > FLUSHES as usize);
    assert_eq!(state.merge_small_tables().unwrap(), 0, "once is enough");
    drop(state);
    assert!(tables(&left) < 100, "{} tables", tables(&left));
}
