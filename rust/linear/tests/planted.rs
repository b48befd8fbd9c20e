//! Histories planted in testdata/: every bad one must be rejected, by the operations that make it bad, every good one taken.
#![allow(clippy::unwrap_used)]

use std::fs::{self, File};
use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::process::Command;

use linear::check::{Report, check};
use linear::history;
use linear::search::Budget;

fn files(kind: &str) -> Vec<PathBuf> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata").join(kind);
    let mut files: Vec<_> = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

fn report(file: &Path, budget: Budget) -> Report {
    check(&history::read(BufReader::new(File::open(file).unwrap())).unwrap(), budget)
}

#[test]
fn every_planted_bad_history_is_rejected() {
    let files = files("bad");
    assert!(files.len() >= 24);
    for file in files {
        let report = report(&file, Budget::default());
        assert_eq!((report.violations.len(), report.unknown.len()), (1, 0), "{}", file.display());
        let finding = &report.violations[0];
        assert!(!finding.lines.is_empty() && finding.text.contains("NOT linearizable"), "{}: {finding:?}", file.display());
    }
}

/// The explanation names the two operations that contradict each other, and leaves out what lies after them.
#[test]
fn the_offending_operations_are_named() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/bad");
    let cases = [
        ("key-stale-read", vec![3, 4]),
        ("key-lost-update", vec![3, 4]),
        ("key-unknown-seen-then-unseen", vec![4, 5]),
        ("task-double-hand-over", vec![3, 4]),
        // The second completion of this file is not needed: the first was by an attempt that had lost the task.
        ("task-completed-twice", vec![4, 5]),
    ];
    for (name, lines) in cases {
        assert_eq!(report(&directory.join(name).with_extension("jsonl"), Budget::default()).violations[0].lines, lines, "{name}");
    }
}

#[test]
fn every_planted_good_history_is_taken() {
    for file in files("good") {
        let report = report(&file, Budget::default());
        assert!(report.violations.is_empty() && report.unknown.is_empty(), "{}: {:?}", file.display(), report.violations);
    }
}

/// A budget too small for the search makes it say so, not guess.
#[test]
fn without_a_budget_the_verdict_is_unknown() {
    for file in files("bad").into_iter().chain(files("good")) {
        for budget in [Budget { steps_max: 1, ..Budget::default() }, Budget { cache_max: 0, ..Budget::default() }] {
            let report = report(&file, budget);
            // An answer that no first operation could give is decided without a single state remembered.
            assert!(report.violations.len() + report.unknown.len() == 1, "{}", file.display());
            if file.to_string_lossy().contains("good") {
                assert_eq!(report.unknown.len(), 1, "{}", file.display());
            }
        }
    }
}

/// The binary's exit codes: 0 linearizable, 1 not, 2 not decided, 3 not readable.
#[test]
fn the_exit_code_tells_the_verdict() {
    let code = |arguments: &[&str]| {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata");
        Command::new(env!("CARGO_BIN_EXE_linear-check")).current_dir(directory).args(arguments).output().unwrap().status.code()
    };
    let (good, bad) = ("good/key-concurrent-writes.jsonl", "bad/key-lost-update.jsonl");
    assert_eq!(code(&[good]), Some(0));
    assert_eq!(code(&[good, bad]), Some(1));
    assert_eq!(code(&["--steps-max", "1", good]), Some(2));
    assert_eq!(code(&["--steps-max", "1", good, "missing.jsonl"]), Some(3));
    assert_eq!(code(&["--steps-max", "0", good]), Some(3));
    assert_eq!(code(&[]), Some(3));
}

#[test]
fn what_is_malformed_is_named() {
    let good = r#"{"process":1,"call_us":0,"return_us":9,"object":"key","name":"k","operation":"get","outcome":"answered","answer":{"ok":true}}"#;
    assert_eq!(history::read(good.as_bytes()).unwrap().operations, 1);
    let cases = [
        (good.replace(":9", ":null"), "return_us"),
        (good.replace(":0,", ":10,"), "return_us"),
        (good.replace("\"get\"", "\"got\""), "operation"),
        (good.replace("true", "1"), "answer"),
        (good.replace("answered", "unknown"), "answer"),
        (good.replace("process", "proces"), "proces"),
        (format!("{good}\n{}", good.replace(":9", ":8")), "process 1"),
        (good[..40].to_owned(), "line 1"),
    ];
    for (text, words) in cases {
        let error = history::read(text.as_bytes()).unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    }
}
