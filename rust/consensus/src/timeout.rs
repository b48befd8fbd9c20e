//! Election timeouts, drawn from a seed.
//!
//! The crate `raft` draws them from the thread's random generator, so that two runs of the same
//! events differ. Here every draw follows from the seed, the member and how often it has drawn: a
//! new one for each term and each change of role, so that members that collided once part.

use raft::{Raft, StateRole, Storage};

use crate::config::ConsensusConfig;

pub(crate) struct ElectionTimeout {
    seed: u64,
    draws: u64,
    ticks_min: usize,
    ticks_max: usize,
    /// Ticks of the draw that counts, and what it was drawn for.
    ticks: usize,
    drawn_for: Option<(u64, StateRole)>,
}

impl ElectionTimeout {
    pub(crate) fn new(config: &ConsensusConfig, raft_id: u64) -> Self {
        let (ticks_min, ticks_max) = (config.election_ticks_min, config.election_ticks_max);
        Self { seed: config.seed ^ raft_id.rotate_left(23), draws: 0, ticks_min, ticks_max, ticks: ticks_min, drawn_for: None }
    }

    /// Puts this draw in place of the crate's own, which it makes whenever it changes role.
    pub(crate) fn keep<S: Storage>(&mut self, raft: &mut Raft<S>) {
        let wanted = Some((raft.term, raft.state));
        let kept = mutant::active("election-timeout-once") && self.draws > 0;
        if self.drawn_for != wanted && !kept {
            self.drawn_for = wanted;
            self.draws += 1;
            let range = (self.ticks_max - self.ticks_min) as u64;
            self.ticks = self.ticks_min + (splitmix(self.seed.wrapping_add(self.draws)) % range) as usize;
        }
        if raft.randomized_election_timeout() != self.ticks {
            raft.set_randomized_election_timeout(self.ticks);
        }
    }
}

/// SplitMix64 (Steele, Lea, Flood, OOPSLA 2014), twice: neighbouring counters of neighbouring seeds
/// must not give neighbouring draws.
fn splitmix(seed: u64) -> u64 {
    let mut z = seed;
    for _ in 0..2 {
        z = z.wrapping_add(0x9e37_79b9_7f4a_7c15);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^= z >> 31;
    }
    z
}
