//! Whether the replicas agree: hashes of the state, compared at equal indexes (DESIGN rule 10).
//!
//! What always holds:
//! * a member is judged only by what voters said of the same applied index, so one that lags, was just
//!   started or has just installed a snapshot is never taken for one that differs;
//! * a majority of *all* voters decides, not of those that happen to answer;
//! * what was judged at an index is final: later checks look at later indexes only.

use std::collections::{BTreeMap, VecDeque};

pub type Hash = [u8; 16];

/// Own hashes kept, one an applied entry: how far behind a peer may be and still be compared.
const OWN_MAX: usize = 16_384;
/// Hashes kept of each peer, for this node to reach their indexes.
const HEARD_MAX: usize = 256;
/// Every member tells its hash at multiples of this index.
pub const CHECK_ENTRIES: u64 = 4_096;

/// What can be said at the newest index at which anything can.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing new is known.
    Open,
    /// A majority shares this node's hash; `differing` do not.
    Agreed { index: u64, differing: Vec<u64> },
    /// A majority shares a hash that is not this node's.
    Minority { index: u64, own: Hash, majority: Hash, agreeing: Vec<u64> },
    /// Voters differ, and those not heard of yet decide who is right.
    Disputed { index: u64, hashes: Vec<(u64, Hash)> },
    /// No hash can have a majority any more.
    Split { index: u64, hashes: Vec<(u64, Hash)> },
}

/// Own and heard hashes.
#[derive(Debug, Default)]
pub struct Hashes {
    own: VecDeque<(u64, Hash)>,
    heard: BTreeMap<u64, BTreeMap<u64, Hash>>,
    judged: u64,
}

impl Hashes {
    /// Own hashes after applied entries, in order of their indexes.
    pub fn applied(&mut self, hashes: impl IntoIterator<Item = (u64, Hash)>) {
        for (index, hash) in hashes {
            if self.own.back().is_none_or(|(last, _)| *last < index) {
                self.own.push_back((index, hash));
            }
        }
        let excess = self.own.len().saturating_sub(OWN_MAX);
        self.own.drain(..excess);
    }

    /// The state was replaced: what was known of the old one says nothing of the new.
    pub fn replaced(&mut self) {
        self.own.clear();
    }

    pub fn heard(&mut self, raft_id: u64, index: u64, hash: &[u8]) {
        let Ok(hash) = Hash::try_from(hash) else { return };
        let heard = self.heard.entry(raft_id).or_default();
        heard.insert(index, hash);
        while heard.len() > HEARD_MAX {
            heard.pop_first();
        }
    }

    /// What a peer said before it started again, or fenced itself, counts no longer.
    pub fn forget(&mut self, raft_id: u64) {
        self.heard.remove(&raft_id);
    }

    pub fn own_at(&self, index: u64) -> Option<Hash> {
        let at = self.own.binary_search_by_key(&index, |(i, _)| *i).ok()?;
        self.own.get(at).map(|(_, hash)| *hash)
    }

    /// The newest hash of a peer that can be compared with this node's: (index, hash, whether they agree).
    pub fn compared(&self, raft_id: u64) -> Option<(u64, Hash, bool)> {
        let heard = self.heard.get(&raft_id)?;
        heard.iter().rev().find_map(|(index, hash)| self.own_at(*index).map(|own| (*index, *hash, own == *hash)))
    }

    /// `Some(false)` if any peer's newest comparable hash differs from this node's.
    pub fn agrees(&self) -> Option<bool> {
        let mut compared = self.heard.keys().filter_map(|id| self.compared(*id)).map(|(_, _, agrees)| agrees);
        let first = compared.next()?;
        Some(first && compared.all(|agrees| agrees))
    }

    /// Judges the newest index that the voters' hashes decide; what is final is not judged again.
    pub fn judge(&mut self, own_id: u64, voters: &[u64]) -> Verdict {
        let mut indexes: Vec<u64> = self.heard.values().flat_map(|h| h.range(self.judged + 1..).map(|(i, _)| *i)).collect();
        indexes.sort_unstable();
        indexes.dedup();
        let mut disputed = Verdict::Open;
        for index in indexes.into_iter().rev() {
            let Some(own) = self.own_at(index) else { continue };
            match self.judge_at(index, own_id, own, voters) {
                Verdict::Open => {}
                Verdict::Disputed { index, hashes } => {
                    if disputed == Verdict::Open {
                        disputed = Verdict::Disputed { index, hashes };
                    }
                }
                decided => {
                    self.judged = index;
                    return decided;
                }
            }
        }
        disputed
    }

    fn judge_at(&self, index: u64, own_id: u64, own: Hash, voters: &[u64]) -> Verdict {
        let heard = |id: &u64| self.heard.get(id).and_then(|h| h.get(&index)).copied();
        let vote = |id: &u64| if *id == own_id { Some(own) } else { heard(id) };
        let hashes: Vec<(u64, Hash)> = voters.iter().filter_map(|id| vote(id).map(|hash| (*id, hash))).collect();
        match count(&hashes, voters.len()) {
            Count::Majority(majority) => {
                let side = |agrees: bool| hashes.iter().filter(|(_, h)| (*h == majority) == agrees).map(|(id, _)| *id).collect();
                match own == majority {
                    true => Verdict::Agreed { index, differing: side(false) },
                    false => Verdict::Minority { index, own, majority, agreeing: side(true) },
                }
            }
            Count::Impossible => Verdict::Split { index, hashes },
            Count::Open if hashes.iter().any(|(_, h)| *h != own) => Verdict::Disputed { index, hashes },
            Count::Open => Verdict::Open,
        }
    }
}

/// What votes of some of the voters come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Count {
    Majority(Hash),
    Open,
    /// Whatever the others say, no hash gets a majority.
    Impossible,
}

pub fn count(votes: &[(u64, Hash)], voters: usize) -> Count {
    let mut counts: BTreeMap<Hash, usize> = BTreeMap::new();
    for (_, hash) in votes {
        *counts.entry(*hash).or_default() += 1;
    }
    let (best, most) = counts.iter().max_by_key(|(_, n)| **n).map_or(([0; 16], 0), |(hash, n)| (*hash, *n));
    let unheard = voters.saturating_sub(votes.len());
    match (most > voters / 2, most + unheard > voters / 2) {
        (true, _) => Count::Majority(best),
        (false, true) => Count::Open,
        (false, false) => Count::Impossible,
    }
}

/// The first bytes of a hash, for people.
pub fn short(hash: &[u8]) -> String {
    hash.iter().take(6).map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::{Hashes, Verdict};

    const A: [u8; 16] = [1; 16];
    const B: [u8; 16] = [2; 16];
    const C: [u8; 16] = [3; 16];

    fn hashes(own: [u8; 16], heard: &[(u64, u64, [u8; 16])]) -> Hashes {
        let mut hashes = Hashes::default();
        hashes.applied((1..=20).map(|index| (index, own)));
        heard.iter().for_each(|(id, index, hash)| hashes.heard(*id, *index, hash));
        hashes
    }

    #[test]
    fn one_of_three_that_differs_is_the_minority() {
        let mut other = hashes(B, &[(1, 10, A), (2, 10, A)]);
        assert_eq!(other.judge(3, &[1, 2, 3]), Verdict::Minority { index: 10, own: B, majority: A, agreeing: vec![1, 2] });
        let mut sound = hashes(A, &[(2, 10, A), (3, 10, B)]);
        assert_eq!(sound.judge(1, &[1, 2, 3]), Verdict::Agreed { index: 10, differing: vec![3] });
        assert_eq!(sound.judge(1, &[1, 2, 3]), Verdict::Open, "what was judged is final");
    }

    #[test]
    fn two_that_differ_wait_for_the_third() {
        let mut one = hashes(A, &[(2, 10, B)]);
        assert!(matches!(one.judge(1, &[1, 2, 3]), Verdict::Disputed { index: 10, .. }));
        one.heard(3, 10, &A);
        assert_eq!(one.judge(1, &[1, 2, 3]), Verdict::Agreed { index: 10, differing: vec![2] });
    }

    #[test]
    fn three_hashes_of_three_voters_are_a_split() {
        let mut one = hashes(A, &[(2, 10, B), (3, 10, C)]);
        assert!(matches!(one.judge(1, &[1, 2, 3]), Verdict::Split { index: 10, .. }));
    }

    #[test]
    fn a_split_of_four_voters_needs_no_third_hash() {
        let mut one = hashes(A, &[(2, 10, A), (3, 10, B), (4, 10, B)]);
        assert!(matches!(one.judge(1, &[1, 2, 3, 4]), Verdict::Split { .. }));
    }

    /// A peer that is behind, or ahead, or was told of at an index that this node has forgotten, is not
    /// compared at all; nor is one that is no voter.
    #[test]
    fn only_equal_indexes_and_voters_count() {
        let mut one = hashes(A, &[(2, 40, B), (3, 50, C), (4, 10, B)]);
        assert_eq!(one.judge(1, &[1, 2, 3]), Verdict::Open);
        assert_eq!(one.compared(2), None);
        one.replaced();
        one.heard(2, 10, &B);
        assert_eq!(one.judge(1, &[1, 2, 3]), Verdict::Open, "an installed state has no past");
    }

    #[test]
    fn a_member_without_a_vote_is_judged_by_the_voters() {
        let mut learner = hashes(B, &[(1, 10, A), (2, 10, A)]);
        assert!(matches!(learner.judge(9, &[1, 2, 3]), Verdict::Minority { .. }));
    }

    #[test]
    fn the_newest_index_counts() {
        let mut one = hashes(A, &[(2, 5, B), (3, 5, B), (2, 10, A), (3, 10, A)]);
        assert_eq!(one.judge(1, &[1, 2, 3]), Verdict::Agreed { index: 10, differing: vec![] });
        assert_eq!(one.agrees(), Some(true));
    }
}
