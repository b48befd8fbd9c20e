//! The only place that reads clocks for the driver.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// Monotonic time since this was made, and wall time; both in µs.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    start: Instant,
}

impl Clock {
    pub fn start() -> Self {
        Self { start: Instant::now() }
    }

    /// Never 0, so that 0 can mean "never".
    pub fn now_us(&self) -> u64 {
        self.start.elapsed().as_micros() as u64 + 1
    }

    pub fn wall_us(&self) -> u64 {
        SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_micros() as u64)
    }
}
