//! A node's clocks: a monotonic one that runs a little fast or slow, and a wall clock that is off.

use crate::queue::Time;
use crate::rng::Rng;

/// Wall time at the start of every simulation.
pub const WALL_US: u64 = 1_700_000_000_000_000;
/// Monotonic clocks run within this many parts per million of true time: two of them drift by
/// at most 0.5 %, half of what the lease rule allows for.
const DRIFT_PPM_MAX: i64 = 2_500;

#[derive(Clone, Copy, Debug)]
pub struct Clock {
    ppm: i64,
    /// The monotonic clock starts anew with each process.
    started: Time,
    offset_us: u64,
    /// Wall clock minus true wall time.
    pub wall_off_us: i64,
}

impl Clock {
    pub fn new(rng: &mut Rng, skew_ms_max: u64) -> Self {
        let ppm = rng.below(2 * DRIFT_PPM_MAX as u64 + 1) as i64 - DRIFT_PPM_MAX;
        let skew_us = skew_ms_max * 1_000;
        let wall_off_us = rng.below(2 * skew_us + 1) as i64 - skew_us as i64;
        Self { ppm, started: 0, offset_us: 0, wall_off_us }
    }

    /// A new process: its monotonic clock shows some other number.
    pub fn restart(&mut self, now: Time, rng: &mut Rng) {
        self.started = now;
        self.offset_us = 1_000_000 + rng.below(1 << 40);
    }

    pub fn mono_us(&self, now: Time) -> u64 {
        let passed = now - self.started;
        self.offset_us + (passed as i64 + passed as i64 * self.ppm / 1_000_000) as u64
    }

    pub fn wall_us(&self, now: Time) -> u64 {
        ((WALL_US + now) as i64 + self.wall_off_us) as u64
    }

    /// The first true time at which the monotonic clock shows at least `mono_us`.
    pub fn when(&self, mono_us: u64, now: Time) -> Time {
        let passed = mono_us.saturating_sub(self.offset_us);
        let mut at = self.started + (passed as i64 - passed as i64 * self.ppm / 1_000_000).max(0) as u64;
        at = at.max(now);
        while self.mono_us(at) < mono_us {
            at += (mono_us - self.mono_us(at)).max(1);
        }
        at
    }
}
