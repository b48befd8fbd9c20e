//! Cluster time: moved by the leader's monotonic clock, carried by the log (DESIGN §3 "Time").

use crate::event::Micros;

/// Estimates cluster time between stamps. It never runs backwards, and moves toward the wall
/// clock by at most 5 % of the time that passes.
#[derive(Clone, Copy, Debug, Default)]
pub struct ClusterClock {
    cluster_us: u64,
    at_us: Micros,
}

impl ClusterClock {
    /// A stamp was seen in the log at monotonic time `now_us`.
    pub fn observe(&mut self, stamp_us: u64, now_us: Micros) {
        if stamp_us > self.cluster_us {
            self.cluster_us = stamp_us;
            self.at_us = now_us;
        }
    }

    /// The time now, without moving the clock.
    pub fn now(&self, now_us: Micros, wall_us: u64) -> u64 {
        let passed = now_us.saturating_sub(self.at_us);
        let straight = self.cluster_us + passed;
        let slew = passed / 20;
        wall_us.clamp(straight - slew, straight + slew)
    }

    /// The time now, as the stamp of a new entry.
    pub fn stamp(&mut self, now_us: Micros, wall_us: u64) -> u64 {
        self.cluster_us = self.now(now_us, wall_us);
        self.at_us = now_us;
        self.cluster_us
    }
}

#[cfg(test)]
mod tests {
    use super::ClusterClock;

    #[test]
    fn slews_toward_the_wall_by_at_most_five_percent() {
        let mut clock = ClusterClock::default();
        clock.observe(1_000_000, 0);
        assert_eq!(clock.now(100_000, u64::MAX), 1_105_000);
        assert_eq!(clock.now(100_000, 0), 1_095_000);
        assert_eq!(clock.now(100_000, 1_101_000), 1_101_000);
    }

    #[test]
    fn an_older_stamp_does_not_turn_it_back() {
        let mut clock = ClusterClock::default();
        clock.observe(5_000, 0);
        clock.observe(4_000, 10);
        assert_eq!(clock.stamp(10, 5_010), 5_010);
    }

    #[test]
    fn the_same_stamp_again_does_not_hold_it() {
        let mut clock = ClusterClock::default();
        clock.observe(5_000, 0);
        clock.observe(5_000, 1_000_000);
        assert_eq!(clock.now(1_000_000, 1_005_000), 1_005_000, "a report without a new stamp says nothing of the time");
    }
}
