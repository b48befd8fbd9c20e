//! What becomes due by itself: delays, hand-overs not claimed, timeouts, deadlines, the grace of a
//! cancel. The leader asks what is due and proposes it; apply checks each item again.

use std::collections::BTreeSet;

use codec::TaskId;
use codec::command::{ExpireReason, ExpiredTask};
use codec::row::{Status, TaskRow};

use crate::limits::UNCLAIMED_US;
use crate::task::status_of;

/// When a task's timers fire; 0 for never. Cluster and wall times in µs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Timers {
    /// The one that belongs to the status, and its reason as a number.
    step_at: u64,
    step_reason: u8,
    total_at: u64,
    delay_wall_at: u64,
    deadline_wall_at: u64,
}

fn after_ms(from_us: u64, ms: u64) -> u64 {
    from_us.saturating_add(ms.saturating_mul(1_000))
}

impl Timers {
    /// The timers of a row; an ended task has none.
    pub(crate) fn of(row: &TaskRow) -> Self {
        let status = status_of(row);
        if status.ended() {
            return Self::default();
        }
        let mut timers = Self { deadline_wall_at: row.deadline_wall_us, ..Self::default() };
        if row.total_ms > 0 {
            timers.total_at = after_ms(row.created_cluster_us, row.total_ms);
        }
        let step = match status {
            Status::Delayed if row.delayed_until_cluster_us > 0 => Some((row.delayed_until_cluster_us, ExpireReason::Delay)),
            Status::Delayed => {
                timers.delay_wall_at = row.not_before_wall_us.max(1);
                None
            }
            Status::Ready if row.queue_ms > 0 => Some((after_ms(row.ready_cluster_us, row.queue_ms), ExpireReason::Deadline)),
            Status::Assigned => Some((row.assigned_cluster_us.saturating_add(UNCLAIMED_US), ExpireReason::Unclaimed)),
            Status::Running if row.run_ms > 0 => Some((after_ms(row.started_cluster_us, row.run_ms), ExpireReason::RunTimeout)),
            Status::Cancelling => Some((row.grace_until_cluster_us, ExpireReason::CancelGrace)),
            _ => None,
        };
        if let Some((at, reason)) = step {
            timers.step_at = at.max(1);
            timers.step_reason = reason as u8;
        }
        timers
    }

    /// Whether the timer of `reason` has passed.
    pub(crate) fn is_due(&self, reason: ExpireReason, cluster_us: u64, wall_us: u64) -> bool {
        let passed = |at: u64, now: u64| at > 0 && at <= now;
        let step = self.step_reason == reason as u8 && passed(self.step_at, cluster_us);
        match reason {
            ExpireReason::Deadline => step || passed(self.total_at, cluster_us) || passed(self.deadline_wall_at, wall_us),
            ExpireReason::Delay => step || passed(self.delay_wall_at, wall_us),
            ExpireReason::Unclaimed | ExpireReason::RunTimeout | ExpireReason::CancelGrace => step,
        }
    }

    fn cluster(&self) -> impl Iterator<Item = (u64, u8)> {
        [(self.step_at, self.step_reason), (self.total_at, ExpireReason::Deadline as u8)].into_iter().filter(|(at, _)| *at > 0)
    }

    fn wall(&self) -> impl Iterator<Item = (u64, u8)> {
        [(self.delay_wall_at, ExpireReason::Delay as u8), (self.deadline_wall_at, ExpireReason::Deadline as u8)]
            .into_iter()
            .filter(|(at, _)| *at > 0)
    }
}

/// All live tasks' timers in order of time.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct TimerQueue {
    cluster: BTreeSet<(u64, TaskId, u8)>,
    wall: BTreeSet<(u64, TaskId, u8)>,
}

impl TimerQueue {
    pub(crate) fn replace(&mut self, id: TaskId, old: Option<&Timers>, new: Option<&Timers>) {
        if old == new {
            return;
        }
        if let Some(old) = old {
            old.cluster().for_each(|(at, reason)| {
                self.cluster.remove(&(at, id, reason));
            });
            old.wall().for_each(|(at, reason)| {
                self.wall.remove(&(at, id, reason));
            });
        }
        if let Some(new) = new {
            self.cluster.extend(new.cluster().map(|(at, reason)| (at, id, reason)));
            self.wall.extend(new.wall().map(|(at, reason)| (at, id, reason)));
        }
    }

    /// Up to `limit` due timers, earliest first, cluster time before wall time; the caller adds
    /// the epoch.
    pub(crate) fn due(&self, cluster_us: u64, wall_us: u64, limit: usize, epoch_of: impl Fn(TaskId) -> u32) -> Vec<ExpiredTask> {
        let cluster = self.cluster.iter().take_while(|(at, ..)| *at <= cluster_us);
        let wall = self.wall.iter().take_while(|(at, ..)| *at <= wall_us);
        cluster
            .chain(wall)
            .take(limit)
            .map(|(_, id, reason)| ExpiredTask { task_id: id.to_vec(), epoch: epoch_of(*id), reason: i32::from(*reason) })
            .collect()
    }

    /// Cluster and wall time of the earliest timer.
    pub(crate) fn next(&self) -> (Option<u64>, Option<u64>) {
        (self.cluster.first().map(|t| t.0), self.wall.first().map(|t| t.0))
    }
}
