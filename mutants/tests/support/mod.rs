//! One mutant at a time, and a group of members in memory whose disks and links obey the test.
#![allow(dead_code, clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Mutex;

use bytes::Bytes;
use codec::log::{ConfState, HardState, LogEntry};
use consensus::{Consensus, ConsensusConfig, Start};

static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// Asserts that `broken` happens with the mutant and never without it: what every hook must show.
pub fn only_with(mutant: &str, broken: impl Fn() -> bool) {
    let _guard = ONE_AT_A_TIME.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    mutant::select(None).unwrap();
    assert!(!broken(), "{mutant}: it happens without the mutant");
    mutant::select(Some(mutant)).unwrap();
    let happened = broken();
    mutant::select(None).unwrap();
    assert!(happened, "{mutant}: the hook changes nothing");
}

/// Members 1, 2, …; what they send waits on the wire until it is delivered.
#[derive(Default)]
pub struct Group {
    pub members: BTreeMap<u64, Consensus>,
    pub wire: VecDeque<(u64, u64, Bytes)>,
    pub cut: BTreeSet<u64>,
    /// Members whose disk takes rounds and finishes none.
    pub held: BTreeSet<u64>,
    pub waiting: BTreeMap<u64, Vec<u64>>,
    pub logs: BTreeMap<u64, Vec<LogEntry>>,
    pub applied: BTreeMap<u64, Vec<LogEntry>>,
    /// (member, round, index)
    pub readable: Vec<(u64, u64, u64)>,
}

impl Group {
    pub fn new(count: u64) -> Self {
        let mut group = Self::default();
        for raft_id in 1..=count {
            let start = Start {
                raft_id,
                hard_state: HardState::default(),
                configuration: ConfState { voters: (1..=count).collect(), ..ConfState::default() },
                base: (0, 0),
                entries: Vec::new(),
                applied_index: 0,
            };
            group.members.insert(raft_id, Consensus::new(&ConsensusConfig::default(), start).unwrap());
        }
        group
    }

    pub fn at(&mut self, member: u64) -> &mut Consensus {
        self.members.get_mut(&member).unwrap()
    }

    /// Carries out everything that the member wants done.
    pub fn drain(&mut self, member: u64) {
        while let Some(round) = self.at(member).ready() {
            let messages = round.messages.into_iter().map(|m| (member, m.to, m.bytes));
            self.wire.extend(messages);
            self.readable.extend(round.readable.into_iter().map(|(id, index)| (member, id, index)));
            if let Some(first) = round.entries.first() {
                let log = self.logs.entry(member).or_default();
                log.retain(|e| e.index < first.index);
                log.extend(round.entries);
            }
            for entry in round.committed {
                self.at(member).applied(entry.index);
                self.applied.entry(member).or_default().push(entry);
            }
            if round.persist != 0 {
                self.waiting.entry(member).or_default().push(round.persist);
                if !self.held.contains(&member) {
                    self.sync(member);
                }
            }
        }
    }

    /// The member's disk finishes what it has taken.
    pub fn sync(&mut self, member: u64) {
        for number in std::mem::take(self.waiting.entry(member).or_default()) {
            self.at(member).persisted(number);
        }
        self.drain(member);
    }

    /// Delivers until nothing is under way; what a cut member sends or should get is lost.
    pub fn settle(&mut self) {
        while let Some((from, to, bytes)) = self.wire.pop_front() {
            if !self.cut.contains(&from) && !self.cut.contains(&to) {
                self.give(to, &bytes);
            }
        }
    }

    pub fn give(&mut self, to: u64, bytes: &[u8]) {
        self.at(to).step(bytes).unwrap();
        self.drain(to);
    }

    /// `member` becomes leader and commits an entry of its term.
    pub fn elect(&mut self, member: u64) {
        self.at(member).campaign().unwrap();
        self.drain(member);
        self.settle();
        assert!(self.at(member).committed_in_term(), "member {member} leads");
    }

    pub fn propose(&mut self, member: u64, text: &str) {
        self.at(member).propose(text.as_bytes().to_vec()).unwrap();
        self.drain(member);
    }

    pub fn tick_all(&mut self, ticks: usize) {
        for _ in 0..ticks {
            for member in self.members.keys().copied().collect::<Vec<_>>() {
                self.at(member).tick();
                self.drain(member);
            }
        }
    }
}
