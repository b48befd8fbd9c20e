//! Counters and histograms of all threads: written with relaxed atomics, read whenever somebody asks.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use serde::Serialize;

/// Upper bounds of a histogram's buckets. For times they are µs: 50 µs to 10 s.
const BOUNDS: [u64; 20] = [
    1, 5, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000, 20_000, 50_000, 100_000, 200_000, 500_000, 1_000_000, 2_000_000,
    5_000_000, 10_000_000,
];

/// Values by size.
#[derive(Debug, Default)]
pub struct Histogram {
    /// One more than bounds: the last holds what is larger.
    counts: [AtomicU64; BOUNDS.len() + 1],
    sum: AtomicU64,
    max: AtomicU64,
}

impl Histogram {
    pub fn record(&self, value: u64) {
        let at = BOUNDS.partition_point(|bound| *bound < value);
        self.counts[at].fetch_add(1, Relaxed);
        self.sum.fetch_add(value, Relaxed);
        self.max.fetch_max(value, Relaxed);
    }

    pub fn view(&self) -> HistogramView {
        let counts = self.counts.iter().map(|c| c.load(Relaxed));
        let mut total = 0;
        let buckets: Vec<(Option<u64>, u64)> = BOUNDS
            .into_iter()
            .map(Some)
            .chain([None])
            .zip(counts)
            .map(|(bound, count)| {
                total += count;
                (bound, total)
            })
            .collect();
        HistogramView { count: total, sum: self.sum.load(Relaxed), max: self.max.load(Relaxed), buckets }
    }
}

/// A histogram at one moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct HistogramView {
    pub count: u64,
    pub sum: u64,
    pub max: u64,
    /// (upper bound, or null for none; values up to it), as Prometheus wants them.
    pub buckets: Vec<(Option<u64>, u64)>,
}

/// What the threads write.
#[derive(Debug, Default)]
pub(crate) struct Metrics {
    pub fsync_us: Histogram,
    pub log_batch_entries: Histogram,
    pub log_batch_bytes: Histogram,
    pub apply_us: Histogram,
    pub apply_batch_entries: Histogram,
    pub commit_us: Histogram,
    pub proposal_us: Histogram,
    pub read_index_us: Histogram,
    pub raft_round_us: Histogram,
    pub flush_us: Histogram,
    pub checkpoint_us: Histogram,
    pub assignment_us: Histogram,
    pub propagation_us: Histogram,
    pub recovery_us: Histogram,
    pub slots_total: AtomicU64,
    pub slots_taken: AtomicU64,
    pub slots_waited_for: AtomicU64,
    pub entries_applied: AtomicU64,
    pub commands_proposed: AtomicU64,
    pub proposals_busy: AtomicU64,
    pub proposals_unknown: AtomicU64,
    pub snapshots_sent: AtomicU64,
    pub snapshots_received: AtomicU64,
    pub snapshots_resumed: AtomicU64,
    pub snapshot_bytes_sent: AtomicU64,
    pub snapshot_bytes_received: AtomicU64,
    pub snapshot_chunks_refused: AtomicU64,
    pub quarantined: AtomicU64,
    pub raft_dropped: AtomicU64,
}

/// What [`crate::Handle::counters`] returns. Histograms named `_us` are in µs.
#[derive(Clone, Debug, Serialize)]
pub struct Counters {
    /// One log sync: entries, hard state and the disk's fsync.
    pub fsync_us: HistogramView,
    pub log_batch_entries: HistogramView,
    pub log_batch_bytes: HistogramView,
    /// Apply and write of one batch.
    pub apply_us: HistogramView,
    pub apply_batch_entries: HistogramView,
    /// Leader: from an entry's append to its commit.
    pub commit_us: HistogramView,
    /// From propose to completion, on the node that took the commands.
    pub proposal_us: HistogramView,
    pub read_index_us: HistogramView,
    /// One turn of the raft thread.
    pub raft_round_us: HistogramView,
    pub flush_us: HistogramView,
    pub checkpoint_us: HistogramView,
    /// From ready to the applied Assign, in cluster time, for every task this node has applied.
    pub assignment_us: HistogramView,
    /// From the leader's stamp on an entry to its apply on this node, by the two nodes' wall clocks.
    pub propagation_us: HistogramView,
    /// From the loss of a known leader to the next one, as this node saw it.
    pub recovery_us: HistogramView,
    /// Slots of agents that are up, those taken, and those that ready tasks ask for (their number:
    /// one slot each); looked at once a second while entries are applied.
    pub slots_total: u64,
    pub slots_taken: u64,
    pub slots_waited_for: u64,
    pub entries_applied: u64,
    pub commands_proposed: u64,
    /// Proposals, reads and beats refused because a bound was reached.
    pub proposals_busy: u64,
    /// Groups whose outcome was unknown at their deadline.
    pub proposals_unknown: u64,
    pub snapshots_sent: u64,
    pub snapshots_received: u64,
    /// Transfers that went on where an earlier one had stopped.
    pub snapshots_resumed: u64,
    /// Bytes of files, without those that a resumed transfer did not need.
    pub snapshot_bytes_sent: u64,
    pub snapshot_bytes_received: u64,
    /// Chunks that were out of place or did not add up.
    pub snapshot_chunks_refused: u64,
    /// Checkpoints that stand on the disk for others.
    pub checkpoints_held: u64,
    /// The log behind its base.
    pub log_bytes: u64,
    /// Commands refused by an invariant and kept for study.
    pub quarantined: u64,
    /// Raft messages that found no room or no peer; Raft sends them again.
    pub raft_dropped: u64,
    pub elections: u64,
    pub leader_changes: u64,
    pub commit_index: u64,
    pub applied_index: u64,
    /// Entries known to be committed that this node has not applied.
    pub lag_entries: u64,
    pub revision: u64,
    pub live_tasks: u64,
    pub live_agents: u64,
    /// Depths of the queues now.
    pub inbox_depth: u64,
    pub log_queue_depth: u64,
    pub apply_queue_depth: u64,
    pub proposals_pending: u64,
    pub proposal_bytes_pending: u64,
    /// Memory of the state store that is not flushed.
    pub unflushed_bytes: u64,
    pub net_bytes_sent: u64,
    pub net_bytes_received: u64,
    pub net_messages_sent: u64,
    pub net_messages_received: u64,
    pub net_dropped: u64,
    pub net_dials: u64,
    pub net_refused: u64,
    pub net_malformed: u64,
    pub peers_up: u64,
    /// 1 if a peer's state hash differs from this node's at an equal index.
    pub state_hash_differs: u64,
    /// 1 if this node has fenced itself, and how often it has.
    pub fenced: u64,
    pub fences: u64,
    /// 1 if no majority agrees on the state, so that nobody takes writes.
    pub writes_stopped: u64,
    /// Directories with damaged files that are kept for study.
    pub kept_aside: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_cumulative_and_end_with_everything() {
        let histogram = Histogram::default();
        for value in [1, 60, 100, 101, 30_000_000] {
            histogram.record(value);
        }
        let view = histogram.view();
        let at = |bound| view.buckets.iter().find(|(b, _)| *b == bound).expect("bucket").1;
        assert_eq!((at(Some(1)), at(Some(50)), at(Some(100)), at(Some(200)), at(Some(10_000_000)), at(None)), (1, 1, 3, 4, 4, 5));
        assert_eq!((view.count, view.sum, view.max), (5, 30_000_262, 30_000_000));
    }
}
