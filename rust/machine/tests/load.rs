//! Rows that no machine has written: loading them is an error, and ends.

mod common;

use codec::row::{Cf, Change, index};
use machine::{LoadError, LoadPath, Machine};

fn with_index_key(key: Vec<u8>) -> Result<Machine, LoadError> {
    let mut rows = common::first_rows();
    rows.write(&[Change { cf: Cf::Index, key, value: Some(Vec::new()) }]);
    Machine::load_by(&rows, LoadPath::Index)
}

/// Scenario: an index key with the status 0xff, behind which no jump leads → refused, where the search for tenants once
/// found the same tenant again and again until memory ran out.
#[test]
fn an_index_key_with_an_impossible_status_is_refused() {
    let key = [&[index::BY_STATUS, 1, b't', 0xff, 0xff][..], &[0; 24]].concat();
    assert!(matches!(with_index_key(key), Err(LoadError::Contradiction(_))));
}

#[test]
fn an_index_key_that_is_cut_off_is_refused() {
    assert!(matches!(with_index_key(vec![index::BY_STATUS, 9, b't']), Err(LoadError::Contradiction(_))));
}
