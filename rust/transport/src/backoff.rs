//! How long to wait before the next dial.

use std::time::Duration;

const DELAY_MS_MIN: u64 = 40;
/// A peer that comes back is reached within this time.
const DELAY_MS_MAX: u64 = 1_000;

/// Doubles with each failure from 40 ms to 1 s, with a jitter of ± 25 %, so that the nodes of a
/// cluster do not dial in step.
#[derive(Debug)]
pub struct Backoff {
    delay_ms: u64,
    random: u64,
}

impl Backoff {
    /// `seed` should differ between nodes and peers.
    pub fn new(seed: u64) -> Self {
        Self { delay_ms: DELAY_MS_MIN, random: seed | 1 }
    }

    /// The wait before the next attempt, after one that failed.
    pub fn next_delay(&mut self) -> Duration {
        // xorshift64 (Marsaglia 2003): jitter needs no better.
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        let base = self.delay_ms * 3 / 4;
        let delay = base + self.random % (self.delay_ms / 2 + 1);
        self.delay_ms = (self.delay_ms * 2).min(DELAY_MS_MAX);
        Duration::from_millis(delay)
    }

    /// After a success the next failure starts small again.
    pub fn reset(&mut self) {
        self.delay_ms = DELAY_MS_MIN;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn stays_within_its_bounds_and_starts_small_again(seed in any::<u64>(), failures in 1usize..40) {
            let mut backoff = Backoff::new(seed);
            for attempt in 0..failures {
                let full = (DELAY_MS_MIN << attempt.min(10)).min(DELAY_MS_MAX);
                let delay = backoff.next_delay().as_millis() as u64;
                prop_assert!((full * 3 / 4..=full * 5 / 4).contains(&delay), "{delay} for {full}");
            }
            backoff.reset();
            prop_assert!(backoff.next_delay().as_millis() as u64 <= DELAY_MS_MIN * 5 / 4);
        }
    }
}
