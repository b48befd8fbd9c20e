//! Every byte class of a data directory flipped, cut or lost (TRUST R5), one place at a time: the directory either opens with
//! everything that was synced, or says which file is damaged. It never opens short, and never with other rows than were written.

#![allow(clippy::unwrap_used)]

mod common;

use std::collections::BTreeMap;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use codec::log::HardState;
use codec::row::{Cf, MetaRow};
use common::*;
use store::rocks::{DataDirectory, Opened, RocksOptions};
use store::{LogStore, StateStore, StoreError, meta_of, state_hash};

const ENTRIES: u64 = 40;
const ROWS: u64 = 60;
/// Places flipped in each file; `FLIPS=n` in the environment takes another number.
const PLACES: u64 = 12;

fn places() -> u64 {
    std::env::var("FLIPS").ok().and_then(|n| n.parse().ok()).unwrap_or(PLACES)
}

/// A directory whose log is synced to its witness and whose state holds hashed rows. `tables`: the log lies in tables, else in
/// write-ahead files.
fn directory(tables: bool) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let mut opened = open(folder.path()).unwrap();
    opened.log.save_identity(&identity()).unwrap();
    opened.log.append(&entries(1..=ENTRIES, 1), Some(&hard_state(1, 7, 30))).unwrap();
    for row in 0..ROWS {
        let value: Vec<u8> = (0..200).map(|n| (row * 31 + n * n) as u8).collect();
        opened.state.write(&[put(Cf::Key, format!("key {row}").as_bytes(), &value)]).unwrap();
    }
    let hash = state_hash(opened.state.as_ref()).unwrap().to_be_bytes().to_vec();
    let meta = MetaRow { applied_index: 30, cluster_id: CLUSTER, hash, ..MetaRow::default() };
    opened.state.write(&[put(Cf::Meta, b"", &codec::row::encode(&meta))]).unwrap();
    opened.state.flush().unwrap();
    opened.log.sync_witness().unwrap();
    drop(opened);
    if tables {
        drop(open(folder.path()).unwrap());
    }
    folder
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// Files by path inside the directory, with their lengths.
fn files(folder: &Path) -> BTreeMap<PathBuf, u64> {
    let mut found = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in std::fs::read_dir(next).unwrap() {
            let entry = entry.unwrap();
            if entry.file_type().unwrap().is_dir() {
                folders.push(entry.path());
            } else if entry.file_name() != "LOCK" {
                found.insert(entry.path().strip_prefix(folder).unwrap().to_owned(), entry.metadata().unwrap().len());
            }
        }
    }
    found
}

#[derive(Debug, Clone, Copy)]
enum Damage {
    Flip { at: u64, bit: u8 },
    Cut(u64),
    Lost,
}

fn apply(path: &Path, damage: Damage) {
    match damage {
        Damage::Flip { at, bit } => {
            let file = std::fs::OpenOptions::new().read(true).write(true).open(path).unwrap();
            let mut byte = [0];
            file.read_exact_at(&mut byte, at).unwrap();
            file.write_all_at(&[byte[0] ^ (1 << bit)], at).unwrap();
        }
        Damage::Cut(length) => std::fs::OpenOptions::new().write(true).open(path).unwrap().set_len(length).unwrap(),
        Damage::Lost => std::fs::remove_file(path).unwrap(),
    }
}

fn damages(length: u64, seed: &mut u64) -> Vec<Damage> {
    let mut draw = |below: u64| {
        *seed ^= *seed << 13;
        *seed ^= *seed >> 7;
        *seed ^= *seed << 17;
        *seed % below
    };
    let mut all = vec![Damage::Lost];
    if length > 0 {
        all.extend([Damage::Cut(0), Damage::Cut(length / 2), Damage::Cut(length - 1)]);
        all.extend((0..places()).map(|_| Damage::Flip { at: draw(length), bit: draw(8) as u8 }));
    }
    all
}

/// Everything that was synced is there, and every row that can be read is the one that was written.
fn check_opened(opened: &Opened, what: &str) -> bool {
    assert_eq!(opened.log.last_index(), ENTRIES, "{what}: opened short");
    assert_eq!(opened.log.entries(1, ENTRIES + 1, u64::MAX).unwrap(), entries(1..=ENTRIES, 1), "{what}");
    assert_eq!(opened.log.identity(), Some(&identity()), "{what}");
    assert_eq!(opened.log.hard_state(), &HardState { term: 1, vote: 7, commit: 30 }, "{what}");
    let found = state_hash(opened.state.as_ref()).and_then(|hash| Ok((hash, meta_of(opened.state.as_ref())?)));
    let Ok((hash, meta)) = found else { return false };
    // A manifest that was cut before its last record names no table: the log, which begins at its first entry, brings all rows
    // back, and half a state would not do.
    let Some(meta) = meta else {
        assert_eq!((hash, opened.log.base().index), (0, 0), "{what}: the state lost its meta row alone");
        return true;
    };
    assert_eq!(meta.applied_index, 30, "{what}");
    assert_eq!(meta.hash, hash.to_be_bytes(), "{what}: other rows than were written");
    true
}

/// Damages one place after the other; returns how often the bytes were harmless, found by a read, found at open.
fn sweep(tables: bool) -> (u64, u64, u64) {
    let original = directory(tables);
    let (mut harmless, mut read, mut refused) = (0, 0, 0);
    let mut seed = 0x5eed_0000 + u64::from(tables);
    for (file, length) in files(original.path()) {
        for damage in damages(length, &mut seed) {
            let what = format!("{} {damage:?}", file.display());
            let folder = tempfile::tempdir().unwrap();
            copy(original.path(), folder.path());
            apply(&folder.path().join(&file), damage);
            match open(folder.path()) {
                Ok(opened) if check_opened(&opened, &what) => harmless += 1,
                Ok(_) => read += 1,
                Err(StoreError::Damaged(found)) => {
                    assert!(found.path.starts_with(folder.path()), "{what}: says {}", found.path.display());
                    refused += 1;
                }
                // A version byte flipped upward looks like a newer release's.
                Err(StoreError::Unusable(text)) => {
                    assert!(text.contains("version"), "{what}: {text}");
                    refused += 1;
                }
                Err(error) => panic!("{what}: neither opened nor damaged: {error}"),
            }
        }
    }
    (harmless, read, refused)
}

#[test]
fn a_log_in_write_ahead_files_opens_whole_or_says_what_is_damaged() {
    let (harmless, read, refused) = sweep(false);
    println!("{} places: {harmless} harmless, {read} found by a read, {refused} refused", harmless + read + refused);
    assert!(refused > 60, "the sweep finds no damage: {refused}");
}

#[test]
fn a_log_in_tables_opens_whole_or_says_what_is_damaged() {
    let (harmless, read, refused) = sweep(true);
    println!("{} places: {harmless} harmless, {read} found by a read, {refused} refused", harmless + read + refused);
    assert!(refused > 60 && read > 3, "the sweep finds no damage: {refused} {read}");
}

/// A node's own opening goes on without what is damaged: under its identity where the log is sound, under the next one where it
/// is not; every damaged byte is kept, and a second opening finds nothing more to repair.
#[test]
fn what_is_damaged_is_kept_aside_and_the_node_goes_on() {
    let open = |path: &Path| DataDirectory::open_repairing(path, "n1", &RocksOptions::default(), 99);
    for (file, keeps_identity) in [("witness", false), ("log/CURRENT", false), ("state-1/CURRENT", true), ("identity", true)] {
        let folder = directory(true);
        let damaged: Vec<u8> = if file.ends_with("CURRENT") { Vec::new() } else { vec![0x55; 9000] };
        std::fs::write(folder.path().join(file), &damaged).unwrap();
        let opened = open(folder.path()).unwrap();
        let raft_id = opened.log.identity().unwrap().raft_id;
        assert_eq!(raft_id, if keeps_identity { 7 } else { 99 }, "{file}");
        let kept = opened.directory.kept_aside().unwrap();
        if file != "identity" {
            assert_eq!(kept.len(), 1, "{file}");
            assert_eq!(std::fs::read(folder.path().join(&kept[0]).join(file)).unwrap(), damaged, "{file} is kept as it was");
            assert!(opened.report.repaired[0].contains(&kept[0]), "{:?}", opened.report.repaired);
        }
        if !keeps_identity {
            let identity = opened.log.identity().unwrap();
            assert_eq!((identity.retired.as_slice(), identity.former_cluster_id, identity.cluster_id), (&[7][..], CLUSTER, 0));
            assert_eq!(opened.log.last_index(), 0);
        }
        drop(opened);
        let again = open(folder.path()).unwrap();
        assert_eq!(again.log.identity().unwrap().raft_id, raft_id);
        assert_eq!(again.directory.kept_aside().unwrap(), kept, "{file}");
    }
}

/// A crash anywhere between the note and the new log is finished by the next opening.
#[test]
fn a_retirement_that_was_cut_off_is_finished() {
    let folder = directory(true);
    let opened = open(folder.path()).unwrap();
    opened.directory.retire("n1", 99, "entries are missing").unwrap();
    drop(opened);
    // The process ended after the first file had moved.
    let note = std::fs::read_dir(folder.path()).unwrap().map(|e| e.unwrap().path()).find(|p| p.extension().is_some()).unwrap();
    let aside = note.with_extension("");
    std::fs::create_dir(&aside).unwrap();
    std::fs::rename(folder.path().join("witness"), aside.join("witness")).unwrap();
    let opened = DataDirectory::open_repairing(folder.path(), "n1", &RocksOptions::default(), 55).unwrap();
    let identity = opened.log.identity().unwrap().clone();
    assert_eq!((identity.raft_id, identity.retired.as_slice()), (99, &[7][..]), "the identity that was noted, not another one");
    assert!(identity.damaged.contains("entries are missing") && !note.exists());
    for name in ["witness", "log/CURRENT", "state-1/CURRENT"] {
        assert!(aside.join(name).exists(), "{name} was lost");
    }
}

/// A marked state is not used again, and a log that holds everything brings its rows back.
#[test]
fn a_marked_state_is_set_aside_by_the_next_opening() {
    let folder = directory(true);
    let opened = open(folder.path()).unwrap();
    opened.directory.mark_state("state-1", "it differs from the others'").unwrap();
    drop(opened);
    assert!(matches!(open_error(folder.path()), StoreError::Damaged(d) if d.what.contains("differs")));
    let opened = DataDirectory::open_repairing(folder.path(), "n1", &RocksOptions::default(), 99).unwrap();
    assert_eq!(opened.log.last_index(), ENTRIES);
    assert!(opened.report.without_state.is_none() && meta_of(opened.state.as_ref()).unwrap().is_none());
    assert_eq!(opened.directory.kept_aside().unwrap().len(), 1);
}
