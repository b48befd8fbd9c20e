//! Damage on the disk (TRUST R5): a byte flipped or cut, a file lost, a second owner. What was
//! acknowledged and is gone must be noticed; what was never acknowledged must not stop a node; and
//! whatever is found, every file stays.

#![allow(clippy::unwrap_used)]

mod common;

use std::collections::BTreeMap;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use codec::log::LogBase;
use codec::row::Cf;
use common::*;
use store::rocks::{DataDirectory, RocksOptions};
use store::{LogStore, StateStore, StoreError};

/// A directory with 40 entries of 300 bytes, of which the first `witnessed` are in the witness.
fn directory(witnessed: u64) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let mut opened = open(folder.path()).unwrap();
    opened.log.save_identity(&identity()).unwrap();
    for index in 1..=40 {
        let mut entry = entry(index, 1);
        entry.data = vec![index as u8; 300].into();
        opened.log.append(&[entry], (index == 1).then(|| hard_state(1, 7, 0)).as_ref()).unwrap();
        if index == witnessed {
            opened.log.sync_witness().unwrap();
        }
    }
    folder
}

fn files_with(folder: &Path, ending: &str) -> Vec<PathBuf> {
    let mut found: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.to_string_lossy().ends_with(ending) && path.metadata().unwrap().len() > 0)
        .collect();
    found.sort();
    found
}

/// The WAL file that holds the entries.
fn wal(folder: &Path) -> PathBuf {
    let files = files_with(&folder.join("log"), ".log");
    files.into_iter().max_by_key(|path| path.metadata().unwrap().len()).unwrap()
}

fn flip(path: &Path, at: u64) {
    let file = std::fs::OpenOptions::new().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 0x10], at).unwrap();
}

fn cut(path: &Path, length: u64) {
    std::fs::OpenOptions::new().write(true).open(path).unwrap().set_len(length).unwrap();
}

/// Where the data of entry `index` begins in `path`.
fn place_of(path: &Path, index: u64) -> u64 {
    let bytes = std::fs::read(path).unwrap();
    bytes.windows(100).position(|window| window.iter().all(|b| *b == index as u8)).unwrap() as u64
}

/// All files that hold data, with their contents.
fn contents(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut all = BTreeMap::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() {
            all.extend(contents(&path));
        } else if !name.starts_with("LOG") && name != "LOCK" {
            all.insert(path.clone(), std::fs::read(&path).unwrap());
        }
    }
    all
}

/// Opening is refused as damage, says `what`, and leaves every file as it is.
fn assert_damaged(folder: &Path, what: &str) {
    let before = contents(folder);
    let error = open_error(folder);
    assert!(matches!(error, StoreError::Damaged(_)), "{error}");
    let text = error.to_string();
    assert!(text.contains(what), "{text}");
    assert!(text.contains("cluster replace"), "{text}");
    assert!(contents(folder) == before, "opening changed a file");
    assert_eq!(open_error(folder), error, "the second attempt finds the same");
}

#[test]
fn a_bad_record_in_the_middle_is_found_by_the_witness() {
    let folder = directory(40);
    let wal = wal(folder.path());
    flip(&wal, place_of(&wal, 20));
    assert_damaged(folder.path(), "the log ends with entry 19, but entry 40 had been synced");
}

#[test]
fn a_cut_log_is_found_by_the_witness() {
    let folder = directory(40);
    let wal = wal(folder.path());
    cut(&wal, place_of(&wal, 31));
    assert_damaged(folder.path(), "the log ends with entry 30, but entry 40 had been synced");
}

#[test]
fn a_torn_tail_beyond_the_witness_is_accepted() {
    let folder = directory(30);
    let wal = wal(folder.path());
    cut(&wal, place_of(&wal, 40) + 50);
    let opened = open(folder.path()).unwrap();
    assert_eq!(opened.log.last_index(), 39);
    assert_eq!(opened.log.entries(1, 40, u64::MAX).unwrap().len(), 39);
}

#[test]
fn a_flipped_byte_in_a_table_is_found() {
    let folder = directory(40);
    // Reopening moves the entries from the WAL to a table.
    drop(open(folder.path()).unwrap());
    let table = files_with(&folder.path().join("log"), ".sst").into_iter().max_by_key(|p| p.metadata().unwrap().len()).unwrap();
    flip(&table, place_of(&table, 20));
    assert_damaged(folder.path(), "orruption");
}

#[test]
fn a_lost_table_is_found() {
    let folder = directory(40);
    drop(open(folder.path()).unwrap());
    for table in files_with(&folder.path().join("log"), ".sst") {
        std::fs::remove_file(table).unwrap();
    }
    let error = open_error(folder.path());
    assert!(error.stops_node() && !matches!(error, StoreError::Locked { .. }), "{error}");
}

#[test]
fn one_torn_slot_of_the_witness_leaves_the_other() {
    let folder = directory(40);
    for slot in [0, 4096] {
        let witness = folder.path().join("witness");
        flip(&witness, slot + 14);
        assert_eq!(open(folder.path()).unwrap().log.last_index(), 40);
        flip(&witness, slot + 14);
    }
}

#[test]
fn a_witness_without_a_whole_slot_is_damage() {
    let folder = directory(40);
    flip(&folder.path().join("witness"), 14);
    flip(&folder.path().join("witness"), 4096 + 14);
    assert_damaged(folder.path(), "neither slot");
    cut(&folder.path().join("witness"), 0);
    assert_damaged(folder.path(), "neither slot");
    std::fs::remove_file(folder.path().join("witness")).unwrap();
    assert_damaged(folder.path(), "the witness file is missing");
}

#[test]
fn a_lost_log_is_damage_and_not_a_new_node() {
    let folder = directory(40);
    std::fs::remove_dir_all(folder.path().join("log")).unwrap();
    assert_damaged(folder.path(), "the log is not there");
}

/// An older copy of the log put back under a newer witness, of the same length.
#[test]
fn another_log_of_the_same_length_is_found() {
    let folder = directory(40);
    let other = tempfile::tempdir().unwrap();
    let mut opened = open(other.path()).unwrap();
    opened.log.save_identity(&identity()).unwrap();
    opened.log.append(&entries(1..=40, 1), Some(&hard_state(1, 7, 0))).unwrap();
    drop(opened);
    std::fs::remove_dir_all(folder.path().join("log")).unwrap();
    std::fs::rename(other.path().join("log"), folder.path().join("log")).unwrap();
    assert_damaged(folder.path(), "entry 40 is of term 1 with chain hash");
}

/// A vote whose record goes bad must not be forgotten: the node would vote twice in its term.
#[test]
fn a_lost_vote_is_found() {
    let folder = directory(40);
    let length = wal(folder.path()).metadata().unwrap().len();
    let mut opened = open(folder.path()).unwrap();
    opened.log.append(&[], Some(&hard_state(9, 8, 0))).unwrap();
    drop(opened);
    let wal = files_with(&folder.path().join("log"), ".log").pop().unwrap();
    assert!(wal.metadata().unwrap().len() < length);
    flip(&wal, 12);
    assert_damaged(folder.path(), "are older than term 9 and vote 8, which had been synced");
}

/// The witness is lowered before a conflicting tail is cut, so that the shorter log opens.
#[test]
fn a_witness_follows_a_shorter_log() {
    let folder = directory(40);
    let mut opened = open(folder.path()).unwrap();
    opened.log.append(&[entry(20, 2)], None).unwrap();
    drop(opened);
    let mut opened = open(folder.path()).unwrap();
    assert_eq!((opened.log.last_index(), opened.log.last_term()), (20, 2));
    assert!(!opened.log.witness_behind());
    opened.log.append(&[entry(21, 2)], None).unwrap();
    opened.log.tick_witness().unwrap();
    assert!(opened.log.witness_behind(), "100 ms have not passed");
    opened.log.sync_witness().unwrap();
    assert!(!opened.log.witness_behind());
    drop(opened);
    let wal = files_with(&folder.path().join("log"), ".log").pop().unwrap();
    flip(&wal, 12);
    assert_damaged(folder.path(), "but entry 21 had been synced");
}

#[test]
fn a_state_beyond_the_log_is_damage() {
    let folder = directory(40);
    let opened = open(folder.path()).unwrap();
    opened.state.write(&[meta(41)]).unwrap();
    opened.state.flush().unwrap();
    drop(opened);
    assert_applied_refused(folder.path(), "the state has applied and flushed entry 41");
}

#[test]
fn a_state_behind_the_base_is_damage() {
    let folder = directory(40);
    let mut opened = open(folder.path()).unwrap();
    opened.state.write(&[meta(5)]).unwrap();
    opened.state.flush().unwrap();
    opened.log.append(&[], Some(&hard_state(1, 7, 30))).unwrap();
    opened.log.truncate_prefix(6).unwrap();
    drop(opened);
    assert_applied_refused(folder.path(), "it ends with entry 5, but the log begins after 6");
}

fn assert_applied_refused(folder: &Path, what: &str) {
    let error = open_error(folder);
    assert!(matches!(error, StoreError::Damaged(_)) && error.to_string().contains(what), "{error}");
}

#[test]
fn a_lost_state_is_damage_once_the_log_was_cut() {
    let folder = directory(40);
    let mut opened = open(folder.path()).unwrap();
    opened.state.write(&[meta(10)]).unwrap();
    opened.state.flush().unwrap();
    opened.log.append(&[], Some(&hard_state(1, 7, 30))).unwrap();
    opened.log.truncate_prefix(6).unwrap();
    opened.log.append(&entries(41..=41, 1), None).unwrap();
    drop(opened);
    std::fs::remove_dir_all(folder.path().join("state-1")).unwrap();
    assert_damaged(folder.path(), "the state database is not there");
}

#[test]
fn a_flipped_byte_in_the_state_is_found_on_read() {
    let folder = directory(40);
    let opened = open(folder.path()).unwrap();
    opened.state.write(&[meta(3)]).unwrap();
    // Bytes that compression leaves as they are, so that they can be found.
    let mut seed = 1u32;
    let noise = std::iter::repeat_with(|| {
        seed ^= seed << 13;
        seed ^= seed >> 17;
        seed ^= seed << 5;
        seed as u8
    });
    let noise: Vec<u8> = noise.take(20_000).collect();
    opened.state.write(&[put(Cf::Blob, b"noise", &noise)]).unwrap();
    opened.state.flush().unwrap();
    drop(opened);
    let state = folder.path().join("state-1");
    let table = files_with(&state, ".sst")
        .into_iter()
        .find(|path| std::fs::read(path).unwrap().windows(64).any(|w| w == &noise[1000..1064]))
        .unwrap();
    let at = std::fs::read(&table).unwrap().windows(64).position(|w| w == &noise[1000..1064]).unwrap();
    flip(&table, at as u64);
    let opened = open(folder.path()).unwrap();
    let error = codec::row::StateRead::get(opened.state.as_ref(), Cf::Blob, b"noise").unwrap_err();
    assert!(error.to_string().contains("orruption"), "{error}");
    assert!(store::state_hash(opened.state.as_ref()).is_err());
}

#[test]
fn a_foreign_cluster_or_node_is_refused() {
    let folder = directory(40);
    let refused = |what: &str, error: StoreError| {
        assert!(matches!(error, StoreError::Foreign { .. }) && error.to_string().contains(what), "{error}");
    };
    let other = DataDirectory::open(folder.path(), "n2", &RocksOptions::default());
    refused("belongs to node \"n1\", not to \"n2\"", other.map(|o| o.report).unwrap_err());
    let opened = open(folder.path()).unwrap();
    let row = codec::row::MetaRow { cluster_id: 0xBAD, applied_index: 1, ..Default::default() };
    opened.state.write(&[put(Cf::Meta, b"", &codec::row::encode(&row))]).unwrap();
    opened.state.flush().unwrap();
    drop(opened);
    refused("of cluster 0000000000000bad", open_error(folder.path()));
}

#[test]
fn a_second_owner_is_told_who_holds_it() {
    let folder = directory(40);
    let opened = open(folder.path()).unwrap();
    let error = open_error(folder.path());
    assert_eq!(error, StoreError::Locked { path: folder.path().to_owned(), pid: Some(std::process::id()) });
    assert!(error.to_string().contains(&format!("in use by process {}", std::process::id())));
    drop(opened);
    open(folder.path()).unwrap();
}

/// An install that was cut off leaves a directory that nobody names; it goes after a good open.
#[test]
fn leftovers_of_an_install_go_after_a_good_open() {
    let folder = directory(40);
    let opened = open(folder.path()).unwrap();
    let (name, path) = opened.directory.new_state_dir().unwrap();
    assert_eq!(name, "state-2");
    std::fs::write(path.join("half.sst"), b"half").unwrap();
    drop(opened);
    flip(&folder.path().join("witness"), 14);
    flip(&folder.path().join("witness"), 4096 + 14);
    open_error(folder.path());
    assert!(path.exists(), "nothing is deleted by an open that is refused");
    flip(&folder.path().join("witness"), 14);
    let opened = open(folder.path()).unwrap();
    assert_eq!(opened.report.removed, ["state-2"]);
    assert!(!path.exists());
}

/// A whole install: checkpoint, transfer, switch, old directory gone, and the next start uses it.
#[test]
fn an_installed_state_is_used_from_then_on() {
    let (sender, receiver) = (directory(40), directory(10));
    let from = open(sender.path()).unwrap();
    from.state.write(&[put(Cf::Key, b"k", b"v"), meta(33)]).unwrap();
    let snapshot = from.directory.snapshot_path(33);
    from.state.checkpoint(&snapshot).unwrap();

    let mut to = open(receiver.path()).unwrap();
    let (name, path) = to.directory.new_state_dir().unwrap();
    for entry in std::fs::read_dir(&snapshot).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), path.join(entry.file_name())).unwrap();
    }
    to.directory.sync_state_dir(&name).unwrap();
    let state = to.directory.open_state(&name).unwrap();
    assert_eq!(state.flushed_index(), 33);
    to.log.install(LogBase { index: 33, term: 1, chain: 5, state_dir: name.clone() }, &hard_state(1, 7, 33)).unwrap();
    to.state = std::sync::Arc::new(state);
    assert_eq!(to.directory.remove_unnamed(&[name]).unwrap(), ["state-1"]);
    drop(to);

    let to = open(receiver.path()).unwrap();
    assert_eq!((to.log.last_index(), to.state.flushed_index()), (33, 33));
    assert_eq!(codec::row::StateRead::get(to.state.as_ref(), Cf::Key, b"k").unwrap().unwrap(), b"v");
    from.directory.remove_snapshots(&[]).unwrap();
    assert!(!snapshot.exists());
}

/// RocksDB turns recycling off silently under some recovery modes (DESIGN rule 7).
#[test]
fn wal_files_are_recycled_and_recovery_is_point_in_time() {
    let folder = directory(1);
    let options =
        files_with(&folder.path().join("log"), "").into_iter().filter(|p| p.to_string_lossy().contains("OPTIONS-")).max();
    let text = std::fs::read_to_string(options.unwrap()).unwrap();
    assert!(text.contains("recycle_log_file_num=2"), "{text}");
    assert!(text.contains("wal_recovery_mode=kPointInTimeRecovery"), "{text}");
    let state =
        files_with(&folder.path().join("state-1"), "").into_iter().filter(|p| p.to_string_lossy().contains("OPTIONS-")).max();
    assert!(std::fs::read_to_string(state.unwrap()).unwrap().contains("atomic_flush=true"));
}

#[test]
fn options_out_of_bounds_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let options = RocksOptions { cache_bytes: 5, ..RocksOptions::default() };
    let error = DataDirectory::open(folder.path(), "n1", &options).map(|o| o.report).unwrap_err();
    assert_eq!(error.to_string(), "cache_bytes is 5, outside [1048576, 68719476736]");
}

/// The newest entry is gone, and the commit index that was saved after it is there.
#[test]
fn a_log_that_ends_before_its_own_commit_index_is_damaged() {
    let folder = directory(40);
    open(folder.path()).unwrap().log.append(&[], Some(&hard_state(1, 7, 40))).unwrap();
    {
        let (options, path) = (rocksdb::Options::default(), folder.path().join("log"));
        let families = rocksdb::DB::list_cf(&options, &path).unwrap();
        let db = rocksdb::DB::open_cf(&options, &path, families).unwrap();
        let entries = db.cf_handle("entries").unwrap();
        let (newest, _) = db.iterator_cf(entries, rocksdb::IteratorMode::End).next().unwrap().unwrap();
        db.delete_cf(entries, newest).unwrap();
    }
    let before = contents(folder.path());
    let error = open(folder.path()).err().unwrap();
    assert!(error.to_string().contains("the log ends with entry 39, but entry 40 had been committed"), "{error}");
    assert_eq!(contents(folder.path()).len(), before.len(), "every file stays");
}
