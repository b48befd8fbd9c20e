//! Controllers that keep the log short and snapshots at hand: flush, truncation, snapshot.

use codec::log::ConfState;

use crate::config::Config;
use crate::driver::{Driver, Incoming};
use crate::effect::Effect;
use crate::event::{InstalledReport, Micros};

/// Decides when the state store is flushed, how far the log may be cut, and when a checkpoint is
/// made. Truncation stays below the *flushed* applied index (DESIGN rule 7).
#[derive(Default)]
pub struct Housekeeping {
    log_bytes_unflushed: u64,
    dirty_since_us: Option<Micros>,
    flushing: bool,
    flushed_index: u64,
    snapshotting: bool,
    snapshot_index: u64,
}

impl Housekeeping {
    pub fn new(applied_index: u64) -> Self {
        Self { flushed_index: applied_index, ..Self::default() }
    }

    pub fn applied(&mut self, log_bytes: u64, now_us: Micros) {
        self.log_bytes_unflushed += log_bytes;
        self.dirty_since_us.get_or_insert(now_us);
    }

    /// Whether to flush now; the answer is `flushed`.
    pub fn start_flush(&mut self, config: &Config, now_us: Micros) -> bool {
        let old = self.dirty_since_us.is_some_and(|since| now_us >= since + config.flush_dirty_ms * 1_000);
        if self.flushing || !(old || self.log_bytes_unflushed >= config.flush_log_bytes) {
            return false;
        }
        self.flushing = true;
        self.log_bytes_unflushed = 0;
        self.dirty_since_us = None;
        true
    }

    pub fn flushed(&mut self, applied_index: u64) {
        self.flushing = false;
        self.flushed_index = self.flushed_index.max(applied_index);
    }

    pub fn flushed_index(&self) -> u64 {
        self.flushed_index
    }

    /// The index up to which the log can be cut, if that is worth it: a follower that is more than
    /// `keep_entries` behind gets a snapshot.
    pub fn truncate_to(&self, config: &Config, base_index: u64, last_index: u64) -> Option<u64> {
        let to = self.flushed_index.min(last_index.saturating_sub(config.keep_entries));
        (to > base_index + config.keep_entries / 4).then_some(to)
    }

    /// A checkpoint is wanted; true if it must be made now.
    pub fn start_snapshot(&mut self) -> bool {
        !std::mem::replace(&mut self.snapshotting, true)
    }

    pub fn snapshot_made(&mut self, index: u64) {
        self.snapshotting = false;
        self.snapshot_index = self.snapshot_index.max(index);
        self.flushed(index);
    }

    pub fn snapshot_failed(&mut self) {
        self.snapshotting = false;
    }

    /// State and log start over behind an installed snapshot.
    pub fn installed(&mut self, index: u64) {
        *self = Self::new(index);
    }
}

impl Driver {
    pub(crate) fn flushed(&mut self, applied_index: u64) {
        self.keeping.flushed(applied_index);
        self.truncate();
    }

    pub(crate) fn truncate(&mut self) {
        let Some(consensus) = &mut self.consensus else { return };
        if mutant::active("truncate-above-flushed") {
            self.keeping.flushed_index = self.applied_index;
        }
        let (base_index, _) = consensus.base();
        if let Some(to) = self.keeping.truncate_to(&self.config, base_index, consensus.last_index()) {
            consensus.truncate_prefix(to);
            self.effects.push(Effect::Truncate { base_index: to });
        }
    }

    pub(crate) fn make_snapshot(&mut self) {
        if self.keeping.start_snapshot() {
            self.effects.push(Effect::MakeSnapshot);
        }
    }

    pub(crate) fn snapshot_made(&mut self, index: u64, term: u64, configuration: ConfState) {
        self.keeping.snapshot_made(index);
        self.observers_snapshot_made(index, term, &configuration);
        if let Some(consensus) = &mut self.consensus {
            consensus.offer_snapshot(&consensus::SnapshotMeta { index, term, configuration });
        }
        for token in std::mem::take(&mut self.snapshot_tokens) {
            self.effects.push(Effect::CompleteTask { token, done: true, detail: format!("index {index}") });
        }
        self.truncate();
    }

    pub(crate) fn snapshot_installed(&mut self, installed: InstalledReport) {
        let index = installed.report.index;
        self.keeping.installed(index);
        self.observers_state_replaced();
        self.loaded(installed);
        if let Some(incoming) = self.installing.take() {
            self.effects.push(Effect::AnswerSnapshot {
                to: incoming.from,
                transfer: incoming.transfer,
                index,
                installed: true,
                reason: String::new(),
            });
        }
        if !self.session_open {
            self.session_asked_us = None;
        }
        self.sessions.resend_all();
    }

    /// Received snapshots that Raft did not take: this node is already past them.
    pub(crate) fn refuse_offers(&mut self) {
        for Incoming { from, transfer, index, .. } in std::mem::take(&mut self.offers) {
            let reason = format!("this node is already past index {index}");
            self.effects.push(Effect::AnswerSnapshot { to: from, transfer, index, installed: false, reason });
        }
    }

    pub(crate) fn fetch_and_snapshot(&mut self) {
        let Some(consensus) = &mut self.consensus else { return };
        for (fetch, low, high, bytes_max) in consensus.wanted_entries() {
            self.effects.push(Effect::FetchEntries { fetch, low, high, bytes_max });
        }
        if consensus.snapshot_wanted() {
            self.make_snapshot();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Housekeeping;
    use crate::Config;

    #[test]
    fn the_log_is_cut_below_the_flushed_index_only() {
        let mut config = Config::new("n", 1);
        config.keep_entries = 100;
        let mut keeping = Housekeeping::new(0);
        assert_eq!(keeping.truncate_to(&config, 0, 10_000), None, "nothing is flushed");
        keeping.flushed(5_000);
        assert_eq!(keeping.truncate_to(&config, 0, 10_000), Some(5_000));
        keeping.flushed(9_990);
        assert_eq!(keeping.truncate_to(&config, 5_000, 10_000), Some(9_900), "and some are kept for followers");
    }

    #[test]
    fn a_flush_is_asked_for_once() {
        let config = Config::new("n", 1);
        let mut keeping = Housekeeping::new(0);
        assert!(!keeping.start_flush(&config, 0));
        keeping.applied(config.flush_log_bytes, 0);
        assert!(keeping.start_flush(&config, 1));
        keeping.applied(config.flush_log_bytes, 2);
        assert!(!keeping.start_flush(&config, 3), "one flush at a time");
    }
}
