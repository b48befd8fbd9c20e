//! What a power loss takes and what it leaves, without FUSE.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::ffi::OsStr;

use lossyfs::model::{Ino, Loss, Model, ROOT};

fn name(text: &str) -> &OsStr {
    OsStr::new(text)
}

/// A file that is durable with its name, holding `content`.
fn durable_file(model: &mut Model, called: &str, content: &[u8]) -> Ino {
    let ino = model.make(ROOT, name(called), false, 0o644, 0).unwrap();
    model.write(ino, 0, content.to_vec(), 0).unwrap();
    model.sync(ino).unwrap();
    model.sync(ROOT).unwrap();
    ino
}

fn content(model: &Model, called: &str) -> Option<Vec<u8>> {
    let ino = model.lookup(ROOT, name(called)).ok()?;
    Some(model.file(ino).unwrap().current.clone())
}

/// write a, sync · write b → power loss: a is there, b is not.
#[test]
fn a_synced_write_stays_and_an_unsynced_one_goes() {
    let mut model = Model::default();
    let file = durable_file(&mut model, "f", b"kept");
    model.write(file, 4, b" and lost".to_vec(), 0).unwrap();
    assert_eq!(content(&model, "f").unwrap(), b"kept and lost");
    let lost = model.lose(Loss::Clear, 1);
    assert_eq!(content(&model, "f").unwrap(), b"kept");
    assert_eq!((lost.operations_lost, lost.bytes_lost), (1, 9));
    assert!(model.file(file).is_err(), "the old number must not lead anywhere");
}

/// A truncation is no more durable than a write.
#[test]
fn an_unsynced_truncation_goes() {
    let mut model = Model::default();
    let file = durable_file(&mut model, "f", b"content");
    model.resize(file, 2, 0).unwrap();
    assert_eq!(content(&model, "f").unwrap(), b"co");
    model.lose(Loss::Clear, 1);
    assert_eq!(content(&model, "f").unwrap(), b"content");
}

/// rename · power loss → the old name. rename, sync of the directory · power loss → the new one.
#[test]
fn a_rename_is_durable_once_its_directory_is_synced() {
    for synced in [false, true] {
        let mut model = Model::default();
        durable_file(&mut model, "CURRENT", b"old");
        durable_file(&mut model, "draft", b"new");
        model.rename(ROOT, name("draft"), ROOT, name("CURRENT")).unwrap();
        assert_eq!(content(&model, "CURRENT").unwrap(), b"new");
        if synced {
            model.sync(ROOT).unwrap();
        }
        model.lose(Loss::Clear, 1);
        let wanted: &[u8] = if synced { b"new" } else { b"old" };
        assert_eq!(content(&model, "CURRENT").unwrap(), wanted);
        assert_eq!(content(&model, "draft").is_some(), !synced);
    }
}

/// A synced file whose name is not durable is gone; a removed one whose removal is not durable is back.
#[test]
fn names_are_durable_by_their_directory_alone() {
    let mut model = Model::default();
    durable_file(&mut model, "removed", b"back");
    model.unlink(ROOT, name("removed"), false).unwrap();
    let new = model.make(ROOT, name("new"), false, 0o644, 0).unwrap();
    model.write(new, 0, b"synced".to_vec(), 0).unwrap();
    model.sync(new).unwrap();
    model.lose(Loss::Clear, 1);
    assert_eq!(content(&model, "new"), None);
    assert_eq!(content(&model, "removed").unwrap(), b"back");
}

/// A second name keeps a file, as RocksDB's checkpoints need.
#[test]
fn a_hard_link_keeps_its_file() {
    let mut model = Model::default();
    let file = durable_file(&mut model, "a", b"x");
    let dir = model.make(ROOT, name("d"), true, 0o755, 0).unwrap();
    model.link(file, dir, name("b")).unwrap();
    model.sync(dir).unwrap();
    model.unlink(ROOT, name("a"), false).unwrap();
    model.sync(ROOT).unwrap();
    model.lose(Loss::Clear, 1);
    let dir = model.lookup(ROOT, name("d")).unwrap();
    let file = model.lookup(dir, name("b")).unwrap();
    assert_eq!(model.file(file).unwrap().current, b"x");
    assert_eq!(model.inode(file).unwrap().links, 1);
}

/// sync fails · sync again answers well → the data of the first is lost all the same; what came later is kept.
#[test]
fn data_of_a_failed_sync_is_never_written() {
    let mut model = Model::default();
    let file = durable_file(&mut model, "f", b"");
    model.write(file, 0, b"lost".to_vec(), 0).unwrap();
    model.fail_sync(file).unwrap();
    model.write(file, 4, b"kept".to_vec(), 0).unwrap();
    model.sync(file).unwrap();
    assert_eq!(content(&model, "f").unwrap(), b"lostkept", "it stays visible until the power goes");
    model.lose(Loss::Clear, 1);
    assert_eq!(content(&model, "f").unwrap(), b"\0\0\0\0kept");
}

/// One write of four sectors → over many seeds each subset of sectors survives, and nothing between.
#[test]
fn a_torn_write_keeps_some_sectors() {
    let mut seen = BTreeSet::new();
    for seed in 0..400 {
        let mut model = Model::default();
        let file = durable_file(&mut model, "f", &[0; 2048]);
        model.write(file, 0, vec![1; 2048], 0).unwrap();
        model.lose(Loss::TornOp, seed);
        let after = content(&model, "f").unwrap();
        let kept: Vec<u8> = after.chunks(512).map(|sector| sector[0]).collect();
        assert!(after.chunks(512).all(|sector| sector.iter().all(|byte| *byte == sector[0])), "a sector is written whole");
        seen.insert(kept);
    }
    assert_eq!(seen.len(), 16, "none, all, and everything between");
}

/// Three writes → over many seeds every subset survives, also the third without the first.
#[test]
fn a_torn_sequence_keeps_any_of_the_writes() {
    let mut seen = BTreeSet::new();
    for seed in 0..200 {
        let mut model = Model::default();
        let file = durable_file(&mut model, "f", b"---");
        for at in 0..3 {
            model.write(file, at, vec![b'x'], 0).unwrap();
        }
        model.lose(Loss::TornSequence, seed);
        seen.insert(content(&model, "f").unwrap());
    }
    assert_eq!(seen.len(), 8);
    assert!(seen.contains(b"--x".as_slice()));
}

/// The same seed tears alike: a run can be repeated.
#[test]
fn a_loss_follows_its_seed() {
    let run = |seed| {
        let mut model = Model::default();
        let file = durable_file(&mut model, "f", &[0; 8192]);
        for at in 0..20u64 {
            model.write(file, at * 300, vec![at as u8; 700], 0).unwrap();
            model.make(ROOT, name(&format!("n{at}")), false, 0o644, 0).unwrap();
        }
        let lost = model.lose(Loss::TornOp, seed);
        (lost, content(&model, "f").unwrap(), model.dir(ROOT).unwrap().current.keys().cloned().collect::<Vec<_>>())
    };
    assert_eq!(run(7), run(7));
    assert_ne!(run(7), run(8));
}
