//! When entries were committed and applied, for measuring how far nodes on one machine lie apart.
//!
//! Off unless `Config::apply_trace` names a file. One line a batch:
//! `<commit|apply> <node id> <first index> <last index> <CLOCK_MONOTONIC in µs>`; the clock is the same
//! for all processes of a machine. A trace that cannot be written says so once and stops.

use std::fs::{File, OpenOptions};
use std::io::{BufWriter, Write};
use std::path::Path;

use parking_lot::Mutex;

/// Written by the raft and apply threads of one or more nodes; lines reach the disk in blocks, the last
/// ones when it is dropped.
#[derive(Default)]
pub(crate) struct Trace {
    file: Option<Mutex<Option<BufWriter<File>>>>,
}

impl Trace {
    /// An empty path: nothing is ever written.
    pub(crate) fn open(path: &Path) -> std::io::Result<Self> {
        if path.as_os_str().is_empty() {
            return Ok(Self::default());
        }
        let file = OpenOptions::new().create(true).append(true).open(path)?;
        Ok(Self { file: Some(Mutex::new(Some(BufWriter::with_capacity(64 << 10, file)))) })
    }

    pub(crate) fn record(&self, what: &str, node_id: &str, first: u64, last: u64) {
        let Some(file) = &self.file else { return };
        let now_us = monotonic_us();
        let mut file = file.lock();
        let failed = file.as_mut().and_then(|f| writeln!(f, "{what} {node_id} {first} {last} {now_us}").err());
        if let Some(error) = failed {
            eprintln!("taskquorum: the trace ends: {error}");
            *file = None;
        }
    }
}

fn monotonic_us() -> u64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: a valid `timespec`, and a clock that always exists.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut now) };
    now.tv_sec as u64 * 1_000_000 + now.tv_nsec as u64 / 1_000
}
