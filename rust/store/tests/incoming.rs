//! A snapshot on its way into a data directory, cut off at every step: nothing received is lost, and
//! nothing is used before it is whole.
#![allow(clippy::unwrap_used)]

mod common;

use std::path::Path;
use std::sync::Arc;

use codec::log::LogBase;
use codec::row::{Cf, StateRead};
use common::*;
use store::rocks::Opened;
use store::{LogStore, StateStore};

const OFFER: &[u8] = b"what is received";

/// A node with entries 1 to 10, and a checkpoint of another one at 33.
fn folders() -> (tempfile::TempDir, tempfile::TempDir) {
    let (sender, receiver) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    for (folder, last) in [(&sender, 40), (&receiver, 10)] {
        let mut opened = open(folder.path()).unwrap();
        opened.log.save_identity(&identity()).unwrap();
        opened.log.append(&entries(1..=last, 1), Some(&hard_state(1, 7, last))).unwrap();
        opened.log.sync_witness().unwrap();
    }
    let from = open(sender.path()).unwrap();
    from.state.write(&[put(Cf::Key, b"k", b"v"), meta(33)]).unwrap();
    from.state.checkpoint(&sender.path().join("snapshots/33")).unwrap();
    (sender, receiver)
}

fn receive(sender: &Path, to: &Opened) {
    let path = to.directory.begin_incoming(OFFER).unwrap();
    for entry in std::fs::read_dir(sender.join("snapshots/33")).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), path.join(entry.file_name())).unwrap();
    }
}

fn install(to: &mut Opened, name: &str) {
    let base = LogBase { index: 33, term: 1, chain: 0, state_dir: name.to_owned() };
    to.log.install(base, &hard_state(1, 7, 33)).unwrap();
}

/// The node as it was before the snapshot.
fn assert_old(to: &Opened) {
    assert_eq!(to.log.last_index(), 10);
    assert_eq!(to.state.get(Cf::Key, b"k").unwrap(), None);
}

/// mid-transfer → the next start has what was received and the offer that it belongs to.
#[test]
fn a_start_in_the_middle_of_a_transfer_keeps_what_is_there() {
    let (sender, receiver) = folders();
    receive(sender.path(), &open(receiver.path()).unwrap());
    let to = open(receiver.path()).unwrap();
    assert_old(&to);
    assert_eq!(to.directory.incoming_offer().unwrap().unwrap(), OFFER);
    assert!(to.directory.incoming_path().join("CURRENT").exists());
    // Another checkpoint is offered: what was there goes.
    to.directory.begin_incoming(b"another").unwrap();
    assert!(!to.directory.incoming_path().join("CURRENT").exists());
    assert_eq!(to.directory.incoming_offer().unwrap().unwrap(), b"another");
}

/// received, checked and renamed, not yet named by the log → the next start turns it back, whole and
/// unchanged, and the install can be done again.
#[test]
fn a_start_before_the_log_names_the_state_turns_it_back() {
    let (sender, receiver) = folders();
    let to = open(receiver.path()).unwrap();
    receive(sender.path(), &to);
    assert_eq!(to.directory.finish_incoming().unwrap(), "state-2");
    drop(to);
    let mut to = open(receiver.path()).unwrap();
    assert_old(&to);
    assert_eq!((to.report.taken_back.as_deref(), to.report.removed.len()), (Some("state-2"), 0));
    assert_eq!(to.directory.incoming_offer().unwrap().unwrap(), OFFER);
    for entry in std::fs::read_dir(sender.path().join("snapshots/33")).unwrap() {
        let entry = entry.unwrap();
        let received = std::fs::read(to.directory.incoming_path().join(entry.file_name())).unwrap();
        assert_eq!(received, std::fs::read(entry.path()).unwrap(), "{:?}", entry.file_name());
    }
    let name = to.directory.finish_incoming().unwrap();
    install(&mut to, &name);
    drop(to);
    let to = open(receiver.path()).unwrap();
    assert_eq!((to.log.last_index(), to.state.flushed_index()), (33, 33));
}

/// named by the log, memory not rebuilt, the old directory still there → the next start uses the new
/// state and deletes the old one.
#[test]
fn a_start_after_the_log_names_the_state_uses_it() {
    let (sender, receiver) = folders();
    let mut to = open(receiver.path()).unwrap();
    receive(sender.path(), &to);
    let name = to.directory.finish_incoming().unwrap();
    install(&mut to, &name);
    drop(to);
    let to = open(receiver.path()).unwrap();
    assert_eq!((to.report.taken_back.clone(), to.report.removed.clone()), (None, vec!["state-1".to_owned()]));
    assert_eq!((to.log.last_index(), to.state.flushed_index()), (33, 33));
    assert_eq!(to.state.get(Cf::Key, b"k").unwrap().unwrap(), b"v");
    to.directory.forget_offer(&name);
    drop(to);
    assert_eq!(open(receiver.path()).unwrap().report.taken_back, None);
}

/// A half-made directory (no whole offer) is of no use, and a discarded one is gone.
#[test]
fn what_cannot_be_resumed_is_not_offered() {
    let (sender, receiver) = folders();
    let to = open(receiver.path()).unwrap();
    std::fs::create_dir(receiver.path().join("incoming")).unwrap();
    assert_eq!(to.directory.incoming_offer().unwrap(), None);
    receive(sender.path(), &to);
    to.directory.discard_incoming().unwrap();
    to.directory.discard_incoming().unwrap();
    assert_eq!(to.directory.incoming_offer().unwrap(), None);
}

/// Verifying what was received must not change it, or it could not be resumed.
#[test]
fn reading_a_state_changes_none_of_its_files() {
    let (sender, receiver) = folders();
    let to = open(receiver.path()).unwrap();
    receive(sender.path(), &to);
    let list = |path: &Path| -> Vec<(String, Vec<u8>)> {
        let mut found: Vec<_> = std::fs::read_dir(path)
            .unwrap()
            .map(|e| (e.as_ref().unwrap().file_name().into_string().unwrap(), std::fs::read(e.unwrap().path()).unwrap()))
            .filter(|(name, _)| !name.starts_with("LOG"))
            .collect();
        found.sort();
        found
    };
    let before = list(&to.directory.incoming_path());
    let state = Arc::new(to.directory.read_state(&to.directory.incoming_path()).unwrap());
    assert_eq!(state.get(Cf::Key, b"k").unwrap().unwrap(), b"v");
    state.write(&[put(Cf::Key, b"k", b"w")]).unwrap_err();
    drop(state);
    assert_eq!(list(&to.directory.incoming_path()), before);
}
