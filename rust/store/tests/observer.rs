//! An observer's directory: who it is survives, and nobody else's directory is taken for it.

use codec::log::{HardState, Identity, LogBase};
use codec::row::{Cf, Change, MetaRow, encode};
use store::rocks::{DataDirectory, RocksOptions};
use store::{LogStore, StateStore, StoreError};

fn identity(node_id: &str) -> Identity {
    Identity { raft_id: 9, node_id: node_id.to_owned(), cluster_id: 7, ..Identity::default() }
}

/// empty → who it is and a snapshot's directory are saved → opened again: both are there.
#[test]
fn it_opens_again_as_what_it_was() {
    let directory = tempfile::tempdir().unwrap();
    let options = RocksOptions::default();
    {
        let mut opened = DataDirectory::open_observer(directory.path(), "o", &options).unwrap();
        assert!(opened.record.identity().is_none());
        opened.record.save_identity(&identity("o")).unwrap();
        let (name, _) = opened.directory.new_state_dir().unwrap();
        let base = LogBase { index: 0, term: 1, chain: 0, state_dir: name };
        opened.record.install(base, &HardState::default()).unwrap();
    }
    let opened = DataDirectory::open_observer(directory.path(), "o", &options).unwrap();
    assert_eq!(opened.record.identity(), Some(&identity("o")));
    assert_eq!(opened.record.base().state_dir, "state-2");
    assert!(!directory.path().join("state-1").exists(), "nothing names it any more");
}

#[test]
fn another_nodes_directory_is_refused_and_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let options = RocksOptions::default();
    let mut opened = DataDirectory::open_observer(directory.path(), "o", &options).unwrap();
    opened.record.save_identity(&identity("o")).unwrap();
    drop(opened);
    let refused = |result: Option<StoreError>, words: &str| {
        let text = result.expect(words).to_string();
        assert!(text.contains(words), "{text}");
    };
    refused(DataDirectory::open_observer(directory.path(), "p", &options).err(), "belongs to node o");
    refused(DataDirectory::open(directory.path(), "o", &options).err(), "an observer");
    let voter = tempfile::tempdir().unwrap();
    drop(DataDirectory::open(voter.path(), "v", &options).unwrap());
    refused(DataDirectory::open_observer(voter.path(), "v", &options).err(), "voter");
    DataDirectory::open_observer(directory.path(), "o", &options).unwrap();
}

/// a record that is cut or gone, or rows of another cluster → refused as damage, with the file named.
#[test]
fn damage_is_told_and_nothing_is_made_anew() {
    let options = RocksOptions::default();
    let make = || {
        let directory = tempfile::tempdir().unwrap();
        let mut opened = DataDirectory::open_observer(directory.path(), "o", &options).unwrap();
        opened.record.save_identity(&identity("o")).unwrap();
        directory
    };
    let damaged = |directory: &tempfile::TempDir| {
        let error = DataDirectory::open_observer(directory.path(), "o", &options).err().expect("damage");
        assert!(matches!(error, StoreError::Damaged(_)), "{error}");
    };
    let cut = make();
    let path = cut.path().join("observer");
    let bytes = std::fs::read(&path).unwrap();
    std::fs::write(&path, &bytes[..bytes.len() - 3]).unwrap();
    damaged(&cut);
    let gone = make();
    std::fs::remove_file(gone.path().join("observer")).unwrap();
    damaged(&gone);
    let foreign = make();
    let opened = DataDirectory::open_observer(foreign.path(), "o", &options).unwrap();
    let meta = MetaRow { applied_index: 5, cluster_id: 8, ..MetaRow::default() };
    let rows = [Change { cf: Cf::Meta, key: Vec::new(), value: Some(encode(&meta)) }];
    opened.state.write(&rows).unwrap();
    opened.state.flush().unwrap();
    drop(opened);
    damaged(&foreign);
}
