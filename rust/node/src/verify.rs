//! Verification on demand: every member recomputes its hash over all rows as of one entry, and compares
//! it with the hash that apply had kept and with the others'.
//!
//! The leader proposes a `HashCheck` with a number; whoever applies it reads its rows as of that entry
//! in the background and tells all members what came out.

use std::collections::{BTreeMap, VecDeque};

use codec::integrity::VerifyResult;

use crate::event::{Micros, Token};
use crate::integrity::{Count, Hash, count};

/// Rounds whose results are kept.
const ROUNDS_MAX: usize = 4;
/// Requests that wait at the leader, and askers that wait at a node.
pub const WAITING_MAX: usize = 16;
/// A request that no applied entry has answered is sent again.
pub const ASK_AGAIN_US: Micros = 500_000;

/// A caller of this node that waits for a round.
#[derive(Debug)]
pub struct Asker {
    pub token: Token,
    pub verify: u64,
    pub deadline_us: Micros,
    pub asked_us: Option<Micros>,
}

/// One verification of the whole cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VerifyRound {
    pub verify: u64,
    /// Applied index at which every member reads its rows; 0 until this node has applied it.
    pub index: u64,
    /// By raft id.
    pub results: BTreeMap<u64, VerifyResult>,
}

impl VerifyRound {
    /// This node has applied a check with the round's number. One that was proposed twice counts where it
    /// was applied last: only what was read at one index is ever compared.
    pub fn applied(&mut self, index: u64) {
        self.index = self.index.max(index);
        let index = self.index;
        self.results.retain(|_, result| result.index >= index);
    }

    pub fn heard(&mut self, raft_id: u64, result: VerifyResult) {
        let newest = self.results.values().map(|r| r.index).max().unwrap_or(0).max(self.index);
        if result.index >= newest {
            self.results.retain(|_, r| r.index >= result.index);
            self.results.insert(raft_id, result);
        }
    }

    /// What voters' rows add up to.
    fn votes(&self, voters: &[u64]) -> Vec<(u64, Hash)> {
        let computed = |id: &u64| self.results.get(id).and_then(|r| Hash::try_from(r.computed.as_slice()).ok());
        voters.iter().filter_map(|id| computed(id).map(|hash| (*id, hash))).collect()
    }

    pub fn count(&self, voters: &[u64]) -> Count {
        count(&self.votes(voters), voters.len())
    }

    /// Voters whose rows add up to this hash.
    pub fn agreeing(&self, voters: &[u64], hash: Hash) -> Vec<u64> {
        self.votes(voters).into_iter().filter(|(_, h)| *h == hash).map(|(id, _)| id).collect()
    }

    /// Whether a member's rows could be read, add up to the hash it had kept, and to the majority's.
    pub fn is_sound(&self, raft_id: u64, voters: &[u64]) -> bool {
        let Some(result) = self.results.get(&raft_id) else { return false };
        let kept = result.error.is_empty() && result.kept == result.computed;
        kept && matches!(self.count(voters), Count::Majority(hash) if hash.as_slice() == result.computed.as_slice())
    }

    /// Every one of these members has answered.
    pub fn is_complete(&self, members: &[u64]) -> bool {
        self.index != 0 && members.iter().all(|id| self.results.contains_key(id))
    }

    /// Every one of these members answered and is sound.
    pub fn agrees(&self, members: &[u64], voters: &[u64]) -> bool {
        self.is_complete(members) && self.results.keys().all(|id| self.is_sound(*id, voters))
    }
}

/// Rounds, askers, and what the leader has been asked for.
#[derive(Debug, Default)]
pub struct Verifies {
    pub rounds: VecDeque<VerifyRound>,
    pub askers: Vec<Asker>,
    /// Leader: numbers to propose.
    pub requested: Vec<u64>,
    /// Leader: the newest number that was proposed, and when.
    pub proposed: Option<(u64, Micros)>,
    asked: u64,
}

impl Verifies {
    /// A number for a new round: never 0, and unlike other nodes' by the incarnation in it.
    pub fn number(&mut self, incarnation: u64) -> u64 {
        self.asked += 1;
        (incarnation.rotate_left(23) ^ self.asked).max(1)
    }

    pub fn round(&mut self, verify: u64) -> &mut VerifyRound {
        let at = match self.rounds.iter().position(|r| r.verify == verify) {
            Some(at) => at,
            None => {
                self.rounds.push_back(VerifyRound { verify, ..VerifyRound::default() });
                if self.rounds.len() > ROUNDS_MAX {
                    self.rounds.pop_front();
                }
                self.rounds.len() - 1
            }
        };
        &mut self.rounds[at]
    }

    /// The newest round that this node has applied.
    pub fn newest(&self) -> Option<&VerifyRound> {
        self.rounds.iter().filter(|r| r.index != 0).max_by_key(|r| r.index)
    }

    pub fn request(&mut self, verify: u64) {
        let proposed = self.proposed.is_some_and(|(number, _)| number == verify);
        let known =
            proposed || self.requested.contains(&verify) || self.rounds.iter().any(|r| r.verify == verify && r.index != 0);
        if !known && self.requested.len() < WAITING_MAX {
            self.requested.push(verify);
        }
    }
}

#[cfg(test)]
mod tests {
    use codec::integrity::VerifyResult;

    use super::{Count, VerifyRound};

    fn result(index: u64, hash: u8) -> VerifyResult {
        VerifyResult { verify: 1, index, kept: vec![hash; 16], computed: vec![hash; 16], ..VerifyResult::default() }
    }

    /// A check that was proposed twice is read at two indexes, where the states differ as they should.
    #[test]
    fn only_what_was_read_at_one_index_is_compared() {
        let mut round = VerifyRound { verify: 1, ..VerifyRound::default() };
        round.applied(10);
        round.heard(1, result(10, 1));
        round.heard(2, result(12, 2));
        round.heard(3, result(10, 1));
        assert_eq!(round.count(&[1, 2, 3]), Count::Open, "two of three were read elsewhere");
        round.applied(12);
        round.heard(1, result(12, 2));
        assert_eq!(round.count(&[1, 2, 3]), Count::Majority([2; 16]));
        assert!(round.is_sound(1, &[1, 2, 3]) && !round.is_complete(&[1, 2, 3]));
    }
}
