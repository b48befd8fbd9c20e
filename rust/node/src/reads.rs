//! Linearizable reads: one read index round at a time for the whole cluster (DESIGN rule 2).
//!
//! Waiters gather while a round is under way and join the next one, so a read never uses a round
//! that began before it. Followers ask the leader; the leader merges its own and the others' reads.

use std::collections::BTreeMap;

use crate::event::{Micros, Token};

/// A round that heard nothing for this long is given up, and a new one begins.
const ROUND_US: Micros = 150_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reader {
    /// A caller of this node.
    Local { token: Token, deadline_us: Micros },
    /// A follower's round.
    Peer { raft_id: u64, round: u64 },
    /// The leader itself, to know that a quorum still follows it.
    Lease,
}

#[derive(Debug)]
struct Round {
    id: u64,
    begun_us: Micros,
    readers: Vec<Reader>,
}

#[derive(Debug)]
pub struct Reads {
    next_round: u64,
    waiting: Vec<Reader>,
    round: Option<Round>,
    /// Confirmed local readers, by the index that must be applied first.
    confirmed: BTreeMap<u64, Vec<Token>>,
}

/// A round that a quorum has confirmed.
#[derive(Debug, PartialEq, Eq)]
pub struct Confirmed {
    pub begun_us: Micros,
    /// Followers to answer: (raft id, their round).
    pub peers: Vec<(u64, u64)>,
}

impl Reads {
    /// `incarnation` keeps rounds of different processes apart.
    pub fn new(incarnation: u64) -> Self {
        Self { next_round: incarnation << 32 | 1, waiting: Vec::new(), round: None, confirmed: BTreeMap::new() }
    }

    pub fn wait(&mut self, reader: Reader) {
        if reader != Reader::Lease || !self.waiting.contains(&Reader::Lease) {
            self.waiting.push(reader);
        }
    }

    /// Whether anybody waits for this round or the next.
    pub fn any_waits(&self) -> bool {
        !self.waiting.is_empty() || self.round.is_some()
    }

    /// Begins a round with everybody who waits, if none is under way; returns its number.
    pub fn begin(&mut self, now_us: Micros) -> Option<u64> {
        if let Some(round) = &self.round {
            if now_us < round.begun_us + ROUND_US {
                return None;
            }
            self.give_up();
        }
        if self.waiting.is_empty() {
            return None;
        }
        let id = self.next_round;
        if !mutant::active("read-context-reused") {
            self.next_round += 1;
        }
        self.round = Some(Round { id, begun_us: now_us, readers: std::mem::take(&mut self.waiting) });
        Some(id)
    }

    /// The round under way will not be answered: its readers wait for the next one.
    pub fn give_up(&mut self) {
        if let Some(mut round) = self.round.take() {
            round.readers.append(&mut self.waiting);
            self.waiting = round.readers;
        }
    }

    /// Leadership moved: followers that asked this node ask the new leader themselves.
    pub fn forget_peers(&mut self) {
        self.give_up();
        self.waiting.retain(|r| matches!(r, Reader::Local { .. }));
    }

    /// Round `id` is safe to read at `index`. Another number is an old round's: ignored.
    pub fn confirm(&mut self, id: u64, index: u64) -> Option<Confirmed> {
        if self.round.as_ref().is_none_or(|r| r.id != id) {
            return None;
        }
        let round = self.round.take()?;
        let mut peers = Vec::new();
        for reader in round.readers {
            match reader {
                Reader::Local { token, .. } => self.confirmed.entry(index).or_default().push(token),
                Reader::Peer { raft_id, round } => peers.push((raft_id, round)),
                Reader::Lease => {}
            }
        }
        Some(Confirmed { begun_us: round.begun_us, peers })
    }

    /// Readers that the state applied up to `applied` can answer.
    pub fn take_readable(&mut self, applied: u64) -> Vec<Token> {
        let later = self.confirmed.split_off(&(applied + 1));
        std::mem::replace(&mut self.confirmed, later).into_values().flatten().collect()
    }

    /// Local readers whose deadline passed before their round was confirmed.
    pub fn expire(&mut self, now_us: Micros) -> Vec<Token> {
        let mut expired = Vec::new();
        let mut keep = |reader: &Reader| match reader {
            Reader::Local { token, deadline_us } if *deadline_us <= now_us => {
                expired.push(*token);
                false
            }
            _ => true,
        };
        self.waiting.retain(&mut keep);
        if let Some(round) = &mut self.round {
            round.readers.retain(&mut keep);
        }
        expired
    }
}

#[cfg(test)]
mod tests {
    use super::{Reader, Reads};

    fn local(token: u64) -> Reader {
        Reader::Local { token, deadline_us: 1_000_000 }
    }

    #[test]
    fn a_read_that_comes_during_a_round_joins_the_next() {
        let mut reads = Reads::new(1);
        reads.wait(local(1));
        let first = reads.begin(0).expect("a round");
        reads.wait(local(2));
        assert_eq!(reads.begin(10), None, "one round at a time");
        assert!(reads.confirm(first, 5).is_some());
        assert_eq!(reads.take_readable(5), [1]);
        let second = reads.begin(20).expect("the next round");
        assert_ne!(first, second, "a round's number is never used twice");
        assert!(reads.confirm(first, 9).is_none(), "an old round confirms nothing");
        assert!(reads.confirm(second, 7).is_some());
        assert!(reads.take_readable(6).is_empty(), "not before the index is applied");
        assert_eq!(reads.take_readable(7), [2]);
    }

    #[test]
    fn a_lost_round_is_begun_again_under_a_new_number() {
        let mut reads = Reads::new(1);
        reads.wait(local(1));
        let first = reads.begin(0).expect("a round");
        let second = reads.begin(super::ROUND_US).expect("a new one");
        assert_ne!(first, second);
        assert_eq!(reads.expire(1_000_000), [1]);
    }
}
