//! Reads all rows of the state in the background and adds up their hash, at a bounded rate.
//!
//! What always holds: the rows are those of one moment, that of the check that asked: the apply thread waits until
//! the view is taken, and no longer.

use std::sync::Arc;
use std::time::{Duration, Instant};

use codec::integrity::VerifyResult;
use crossbeam_channel::{Receiver, Sender, bounded};
use node::{CheckApplied, Event};
use store::rocks::RocksState;
use store::{StateStore, meta_of, state_hash_paced};

use crate::raft_thread::ToRaft;

/// Time a view may take; a verifier that is busy with an older one is not waited for.
const VIEW_TIMEOUT: Duration = Duration::from_secs(1);
/// The rate is kept over pieces of this many bytes.
const PACE_BYTES: u64 = 1 << 20;

/// Rows to read as of now.
pub(crate) struct VerifyJob {
    pub state: Arc<RocksState>,
    pub checks: Vec<CheckApplied>,
    pub taken: Sender<()>,
}

/// Asks the verifier to read the rows as they are; returns once it has its view. A busy verifier reads nothing:
/// whoever asked hears from the other nodes only, and asks again.
pub(crate) fn verify_now(verifier: &Sender<VerifyJob>, state: Arc<RocksState>, checks: Vec<CheckApplied>) {
    let (taken, viewed) = bounded(1);
    if verifier.try_send(VerifyJob { state, checks, taken }).is_ok() {
        let _ = viewed.recv_timeout(VIEW_TIMEOUT);
    }
}

pub(crate) struct Verifier {
    pub jobs: Receiver<VerifyJob>,
    pub raft: Sender<ToRaft>,
    pub bytes_per_s: u64,
}

impl Verifier {
    /// Runs until all senders are gone.
    pub(crate) fn run(self) {
        while let Ok(VerifyJob { state, checks, taken }) = self.jobs.recv() {
            let result = self.read(&state, &taken);
            drop(state);
            for check in checks {
                let result = VerifyResult { verify: check.verify, index: check.at, ..result.clone() };
                if self.raft.send(ToRaft::event(Event::Verified(result))).is_err() {
                    return;
                }
            }
        }
    }

    fn read(&self, state: &RocksState, taken: &Sender<()>) -> VerifyResult {
        let view = state.view();
        // The apply thread waits for this, unless it has given up.
        let _ = taken.send(());
        let mut pace = Pace::new(self.bytes_per_s);
        let kept = meta_of(&*view).map(|meta| meta.map(|m| m.hash).unwrap_or_default());
        let found = kept.and_then(|kept| state_hash_paced(&*view, &mut |bytes| pace.read(bytes)).map(|hashed| (kept, hashed)));
        match found {
            Err(error) => VerifyResult { error: error.to_string(), ..VerifyResult::default() },
            Ok((kept, hashed)) => VerifyResult {
                kept,
                computed: hashed.sum.to_be_bytes().to_vec(),
                rows: hashed.rows,
                bytes: hashed.bytes,
                ..VerifyResult::default()
            },
        }
    }
}

/// Keeps reading below a rate.
struct Pace {
    bytes_per_s: u64,
    begun: Instant,
    bytes: u64,
    paused_at: u64,
}

impl Pace {
    fn new(bytes_per_s: u64) -> Self {
        Self { bytes_per_s: bytes_per_s.max(1), begun: Instant::now(), bytes: 0, paused_at: 0 }
    }

    fn read(&mut self, bytes: u64) {
        self.bytes += bytes;
        if self.bytes < self.paused_at + PACE_BYTES {
            return;
        }
        self.paused_at = self.bytes;
        let due = Duration::from_secs_f64(self.bytes as f64 / self.bytes_per_s as f64);
        std::thread::sleep(due.saturating_sub(self.begun.elapsed()));
    }
}
