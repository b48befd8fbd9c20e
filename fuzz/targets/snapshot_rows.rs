//! Rows of a foreign snapshot, in every column family: loading them is an error or gives a machine, never a panic.
#![no_main]

#[path = "../../rust/machine/tests/common/mod.rs"]
mod common;

use codec::row::{Cf, Change};
use libfuzzer_sys::fuzz_target;
use machine::{LoadPath, Machine};

#[derive(Debug, arbitrary::Arbitrary)]
struct Row {
    family: u8,
    key: Vec<u8>,
    /// Behind a row's version byte.
    value: Vec<u8>,
}

fuzz_target!(|rows: Vec<Row>| {
    let mut store = common::first_rows();
    for Row { family, key, value } in rows {
        let cf = Cf::ALL[usize::from(family) % Cf::ALL.len()];
        store.write(&[Change { cf, key, value: Some(value) }]);
    }
    let _ = Machine::load_by(&store, LoadPath::Sweep);
    let _ = Machine::load_by(&store, LoadPath::Index);
    let _ = Machine::hash_of_rows(&store);
});
