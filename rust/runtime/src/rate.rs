//! A token bucket: how long to wait so that bytes leave at a rate.

use std::time::{Duration, Instant};

/// The bucket holds the bytes of this time, so that a short pause is made up for.
const BURST: Duration = Duration::from_millis(100);

/// Bytes per second. Time is handed in, so it decides without a clock.
#[derive(Debug)]
pub(crate) struct TokenBucket {
    bytes_per_s: f64,
    /// Below zero: bytes that were taken ahead of time.
    tokens: f64,
    at: Instant,
}

impl TokenBucket {
    pub(crate) fn new(bytes_per_s: u64, now: Instant) -> Self {
        Self { bytes_per_s: bytes_per_s as f64, tokens: 0.0, at: now }
    }

    /// Takes `bytes`, and says how long to wait before the next are taken.
    pub(crate) fn take(&mut self, bytes: usize, now: Instant) -> Duration {
        let earned = now.saturating_duration_since(self.at).as_secs_f64() * self.bytes_per_s;
        let burst = BURST.as_secs_f64() * self.bytes_per_s;
        self.tokens = (self.tokens + earned).min(burst) - bytes as f64;
        self.at = now;
        Duration::from_secs_f64((-self.tokens / self.bytes_per_s).max(0.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 10 MB/s, chunks of 100 kB: whoever waits as told is never faster, and a pause gives at most
    /// the burst back.
    #[test]
    fn the_rate_holds_over_chunks_and_pauses() {
        let start = Instant::now();
        let (mut bucket, mut now) = (TokenBucket::new(10_000_000, start), start);
        for _ in 0..100 {
            now += bucket.take(100_000, now);
        }
        let took = now.duration_since(start);
        assert!((Duration::from_millis(990)..Duration::from_millis(1_010)).contains(&took), "{took:?}");
        now += Duration::from_secs(60);
        let mut free = 0;
        while bucket.take(100_000, now).is_zero() {
            free += 1;
        }
        assert_eq!(free, 10, "the bucket holds 100 ms");
    }
}
