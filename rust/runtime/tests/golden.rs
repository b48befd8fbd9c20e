//! Data directories that earlier releases wrote (tests/golden): they open, hold the state that was
//! recorded when they were made, and their logs replay to it.

use std::path::{Path, PathBuf};
use std::process::Command;

use codec::log::{ConfState, LogEntry};
use machine::{Machine, RetentionLimits};
use node::{ApplyDriver, ApplyInput};
use store::rocks::{DataDirectory, RocksOptions};
use store::{LogStore, StateStore, meta_of};

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden")
}

fn releases() -> Vec<PathBuf> {
    let entries = std::fs::read_dir(golden()).expect("tests/golden").map(|e| e.expect("an entry").path());
    let found: Vec<PathBuf> = entries.filter(|path| path.join("expected.json").exists()).collect();
    assert!(!found.is_empty());
    found
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// for each release and way of ending → open → apply the rest of the log → the recorded hash and
/// revision, and the rows add up to them.
#[test]
fn directories_of_earlier_releases_open_and_replay_to_their_recorded_state() {
    for release in releases() {
        let json = std::fs::read(release.join("expected.json")).expect("readable");
        let expected: serde_json::Value = serde_json::from_slice(&json).expect("JSON");
        for (kind, seen) in expected.as_object().expect("an object") {
            let folder = tempfile::tempdir().expect("a directory");
            let archive = release.join(format!("{kind}.tar.gz"));
            let unpacked = Command::new("tar").arg("-xzf").arg(&archive).arg("-C").arg(folder.path()).status().expect("tar");
            assert!(unpacked.success(), "{}", archive.display());
            let opened = DataDirectory::open(&folder.path().join("node-1"), "node-1", &RocksOptions::default()).expect("opens");
            let rows = opened.state.as_ref();
            if meta_of(rows).expect("readable").is_none() {
                let bootstrap = opened.log.identity().and_then(|i| i.bootstrap.clone()).expect("its first configuration");
                rows.write(&Machine::bootstrap_rows(&bootstrap)).expect("written");
            }
            let mut driver = ApplyDriver::load(rows, 1, RetentionLimits::default()).expect("loads");
            let entries: Vec<LogEntry> = opened
                .log
                .entries(driver.machine().applied_index() + 1, opened.log.last_index() + 1, u64::MAX)
                .expect("the log is whole");
            let replayed = entries.len();
            let configurations: Vec<(u64, ConfState)> = Vec::new();
            let batch = driver.step(rows, ApplyInput::Entries { entries, configurations }).expect("applies");
            rows.write(&batch.changes).expect("written");
            let machine = driver.machine();
            let place = format!("{} {kind}, {replayed} entries replayed", release.display());
            assert_eq!(hex(&machine.hash()), seen["state_hash"].as_str().expect("a hash"), "{place}");
            assert_eq!(machine.revision(), seen["revision"].as_u64().expect("a revision"), "{place}");
            assert_eq!(machine.hash(), Machine::hash_of_rows(rows).expect("readable"), "{place}");
            // A directory that was stopped in order needs little replay, one that was killed all of it.
            assert!((kind == "clean") == (replayed <= 5), "{place}");
        }
    }
}
