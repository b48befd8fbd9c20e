//! Controllers that keep the log short and snapshots at hand: flush, truncation, snapshot.

use std::collections::BTreeMap;

use codec::log::ConfState;

use crate::config::Config;
use crate::driver::{Driver, Incoming};
use crate::effect::Effect;
use crate::event::{InstalledReport, Micros};
use crate::log_sizes::LogSizes;

/// While a snapshot is on its way, or may be resumed, the log behind it is kept up to so many times
/// `keep_bytes`, whatever its number of entries.
const SENDING_KEEP_FACTOR: u64 = 4;
/// A transfer that broke may be resumed for this long.
pub const RESUME_US: Micros = 600_000_000;

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
    sizes: LogSizes,
    /// Peer → the snapshot it is being sent, and since when the transfer is broken.
    sending: BTreeMap<u64, (u64, Option<Micros>)>,
}

impl Housekeeping {
    /// `base_index` is that of the log; its entries follow by [`Housekeeping::appended`].
    pub fn new(applied_index: u64, base_index: u64) -> Self {
        Self { flushed_index: applied_index, sizes: LogSizes::new(base_index), ..Self::default() }
    }

    /// An entry is on its way to the log.
    pub fn appended(&mut self, index: u64, data_bytes: u64) {
        self.sizes.appended(index, data_bytes);
    }

    /// Bytes of the log, as counted here.
    pub fn log_bytes(&self) -> u64 {
        self.sizes.bytes()
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

    /// Flush now, whatever is dirty; false while one is under way.
    pub fn flush_now(&mut self) -> bool {
        !std::mem::replace(&mut self.flushing, true)
    }

    pub fn flushed(&mut self, applied_index: u64) {
        self.flushing = false;
        self.flushed_index = self.flushed_index.max(applied_index);
    }

    pub fn flushed_index(&self) -> u64 {
        self.flushed_index
    }

    /// A snapshot at `index` is on its way to a peer: what follows it is kept, so that the peer can go
    /// on behind it.
    pub fn snapshot_sending(&mut self, to: u64, index: u64) {
        self.sending.insert(to, (index, None));
    }

    /// The transfer has ended; one that broke may be resumed for [`RESUME_US`].
    pub fn snapshot_sent(&mut self, to: u64, installed: bool, now_us: Micros) {
        if installed {
            self.sending.remove(&to);
        } else if let Some((_, broken)) = self.sending.get_mut(&to) {
            broken.get_or_insert(now_us);
        }
    }

    /// Peers whose logs reach to their snapshot need nothing kept.
    pub fn caught_up(&mut self, matched: impl Fn(u64) -> Option<u64>) {
        self.sending.retain(|peer, (index, _)| matched(*peer).is_none_or(|at| at < *index));
    }

    /// Only a leader sends snapshots.
    pub fn stop_sending(&mut self) {
        self.sending.clear();
    }

    /// The index up to which the log can be cut, if that is worth it. What is kept is bounded twice:
    /// a follower that is more than `keep_entries` or `keep_bytes` behind gets a snapshot.
    pub fn truncate_to(&mut self, config: &Config, base_index: u64, last_index: u64, now_us: Micros) -> Option<u64> {
        self.sending.retain(|_, (_, broken)| broken.is_none_or(|since| now_us < since + RESUME_US));
        let by_count = last_index.saturating_sub(config.keep_entries);
        let wanted = by_count.max(self.sizes.index_within(config.keep_bytes));
        let wanted = match self.sending.values().map(|(index, _)| *index).min() {
            None => wanted,
            Some(sending) => {
                let bound = self.sizes.index_within(config.keep_bytes.saturating_mul(SENDING_KEEP_FACTOR));
                wanted.min(sending.max(bound))
            }
        };
        let to = self.flushed_index.min(wanted);
        let worth = to > base_index + config.keep_entries / 4 || self.sizes.bytes() > config.keep_bytes / 4 * 5;
        (worth && to > base_index).then_some(to)
    }

    /// The log was cut.
    pub fn truncated(&mut self, base_index: u64) {
        self.sizes.cut(base_index);
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
        *self = Self::new(index, index);
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
        let progress = consensus.progress();
        self.keeping.caught_up(|peer| progress.iter().find(|p| p.raft_id == peer).map(|p| p.match_index));
        if let Some(to) = self.keeping.truncate_to(&self.config, base_index, consensus.last_index(), self.now_us) {
            consensus.truncate_prefix(to);
            self.keeping.truncated(to);
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
        self.guard_installed();
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
        for Incoming { from, transfer, index, state_dir } in std::mem::take(&mut self.offers) {
            self.effects.push(Effect::DropSnapshot { state_dir });
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
    use super::{Housekeeping, RESUME_US};
    use crate::Config;

    /// 9,990 entries of 1,000 bytes behind index 10.
    fn filled() -> Housekeeping {
        let mut keeping = Housekeeping::new(10, 10);
        (11..=10_000).for_each(|index| keeping.appended(index, 1_000));
        keeping
    }

    #[test]
    fn the_log_is_cut_below_the_flushed_index_only() {
        let mut config = Config::new("n", 1);
        config.keep_entries = 100;
        let mut keeping = filled();
        assert_eq!(keeping.truncate_to(&config, 10, 10_000, 0), None, "nothing is flushed");
        keeping.flushed(5_000);
        assert_eq!(keeping.truncate_to(&config, 10, 10_000, 0), Some(5_000));
        keeping.flushed(9_990);
        assert_eq!(keeping.truncate_to(&config, 5_000, 10_000, 0), Some(9_900), "and some are kept for followers");
    }

    #[test]
    fn the_log_is_cut_by_bytes_when_they_are_reached_first() {
        let mut config = Config::new("n", 1);
        config.keep_bytes = 1 << 20;
        let mut keeping = filled();
        keeping.flushed(10_000);
        let to = keeping.truncate_to(&config, 10, 10_000, 0).expect("10 MiB are too many");
        assert!((8_900..9_100).contains(&to), "{to}");
        keeping.truncated(to);
        assert!(keeping.log_bytes() < 5 << 18, "{}", keeping.log_bytes());
        assert_eq!(keeping.truncate_to(&config, to, 10_000, 0), None, "not again for a few bytes");
    }

    /// a snapshot at 2,000 is on its way → what follows it stays, up to four times the bytes → it
    /// breaks → the same for ten minutes → the log is cut as before.
    #[test]
    fn what_follows_a_snapshot_on_its_way_is_kept() {
        let mut config = Config::new("n", 1);
        (config.keep_entries, config.keep_bytes) = (100, 3 << 20);
        let mut keeping = filled();
        keeping.flushed(10_000);
        keeping.snapshot_sending(7, 2_000);
        assert_eq!(keeping.truncate_to(&config, 10, 10_000, 0), Some(2_000));
        config.keep_bytes = 1 << 20;
        let to = keeping.truncate_to(&config, 10, 10_000, 0).expect("more than four times the bound");
        assert!((5_900..6_200).contains(&to), "{to}");
        config.keep_bytes = 3 << 20;
        keeping.snapshot_sent(7, false, 5);
        assert_eq!(keeping.truncate_to(&config, 10, 10_000, RESUME_US), Some(2_000), "it may be resumed");
        assert_eq!(keeping.truncate_to(&config, 10, 10_000, RESUME_US + 5), Some(9_900));
        keeping.snapshot_sending(7, 2_000);
        keeping.snapshot_sent(7, true, 5);
        assert_eq!(keeping.truncate_to(&config, 10, 10_000, 5), Some(9_900));
    }

    #[test]
    fn a_flush_is_asked_for_once() {
        let config = Config::new("n", 1);
        let mut keeping = Housekeeping::new(0, 0);
        assert!(!keeping.start_flush(&config, 0));
        keeping.applied(config.flush_log_bytes, 0);
        assert!(keeping.start_flush(&config, 1));
        keeping.applied(config.flush_log_bytes, 2);
        assert!(!keeping.start_flush(&config, 3), "one flush at a time");
    }
}
