//! Golden files: bytes that a release wrote. Every later release reads them and, as long as a type
//! has not grown, still writes them.
//!
//! A file is never written again. When a type grows, its file stays and is read by a test of its
//! own, and the sample gets a new name. `UPDATE=1` creates files that are missing, nothing else.

mod common;

use std::collections::BTreeSet;
use std::path::PathBuf;

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("testdata")
}

#[test]
fn golden_files_are_read_and_written() {
    for sample in common::samples() {
        let path = folder().join(format!("{}.bin", sample.name));
        if std::env::var_os("UPDATE").is_some() && !path.exists() {
            std::fs::write(&path, &sample.bytes).expect("the file can be written");
        }
        let golden = std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        assert!((sample.reads_back)(&golden), "{} is read as something else", sample.name);
        assert_eq!(golden, sample.bytes, "{} is written differently", sample.name);
    }
}

#[test]
fn every_file_has_a_sample() {
    let samples: BTreeSet<String> = common::samples().into_iter().map(|s| format!("{}.bin", s.name)).collect();
    let files = std::fs::read_dir(folder()).expect("the folder").map(|e| e.expect("an entry").file_name());
    let files: BTreeSet<String> = files.map(|name| name.to_string_lossy().into_owned()).filter(|n| n.ends_with(".bin")).collect();
    assert_eq!(samples, files);
}

/// A command without a sample would have no golden file: the oneof's tags are counted by decoding.
#[test]
fn every_command_has_a_sample() {
    use codec::{Command, Message};
    let known: BTreeSet<&str> = (1..200u32)
        .filter_map(|tag| {
            let mut bytes = Vec::new();
            prost::encoding::encode_key(tag, prost::encoding::WireType::LengthDelimited, &mut bytes);
            bytes.push(0);
            Command::decode(bytes.as_slice()).ok()?.body.map(|body| body.name())
        })
        .collect();
    let sampled: BTreeSet<&str> = common::commands::bodies().iter().map(codec::command::Body::name).collect();
    assert_eq!(sampled, known);
    assert_eq!(sampled.len(), common::commands::bodies().len());
}
