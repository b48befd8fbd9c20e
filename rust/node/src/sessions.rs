//! The proposals of this node's callers, each applied at most once (DESIGN §3 "Sessions").
//!
//! A command gets the next sequence when there is room in the window, is handed to whoever leads,
//! and handed over again until its outcome has been applied here. A caller whose deadline passes
//! is told what is known; its sequences then count as resolved, so that a late arrival is refused.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use codec::command::{Body, Command};
use codec::{Outcome, Refusal};

use crate::effect::ProposalEnd;
use crate::event::{Micros, Token};

/// Sequences above the low-water mark: as many outcomes as the machine keeps for a session.
pub const WINDOW: u64 = 4_096;
const RESEND_US: Micros = 1_000_000;

struct Pending {
    token: Token,
    position: usize,
    body: Body,
    resend_at_us: Micros,
    sent: u32,
}

struct Group {
    deadline_us: Micros,
    missing: usize,
    outcomes: Vec<Option<Outcome>>,
    sequences: Vec<u64>,
    /// Some command of the group may be in a log.
    sent: bool,
}

/// A group that can be answered.
#[derive(Debug, PartialEq)]
pub struct Ended {
    pub token: Token,
    pub end: ProposalEnd,
    pub outcomes: Vec<Outcome>,
}

pub struct Sessions {
    session: u64,
    next_sequence: u64,
    pending: BTreeMap<u64, Pending>,
    unsent: BTreeSet<u64>,
    resend: BTreeSet<(Micros, u64)>,
    queue: VecDeque<(Token, usize, Body)>,
    groups: BTreeMap<Token, Group>,
    deadlines: BTreeSet<(Micros, Token)>,
}

impl Sessions {
    pub fn new(session: u64) -> Self {
        Self {
            session,
            next_sequence: 1,
            pending: BTreeMap::new(),
            unsent: BTreeSet::new(),
            resend: BTreeSet::new(),
            queue: VecDeque::new(),
            groups: BTreeMap::new(),
            deadlines: BTreeSet::new(),
        }
    }

    pub fn session(&self) -> u64 {
        self.session
    }

    /// Commands waiting or under way.
    pub fn count(&self) -> usize {
        self.queue.len() + self.pending.len()
    }

    pub fn propose(&mut self, token: Token, bodies: Vec<Body>, deadline_us: Micros) {
        assert!(!bodies.is_empty(), "a group of proposals holds at least one command");
        let group =
            Group { deadline_us, missing: bodies.len(), outcomes: vec![None; bodies.len()], sequences: Vec::new(), sent: false };
        self.deadlines.insert((deadline_us, token));
        let before = self.groups.insert(token, group);
        assert!(before.is_none(), "token {token} is in use");
        self.queue.extend(bodies.into_iter().enumerate().map(|(position, body)| (token, position, body)));
    }

    fn resolved_below(&self) -> u64 {
        self.pending.first_key_value().map_or(self.next_sequence, |(sequence, _)| *sequence)
    }

    /// Commands to hand to the leader now: new ones as the window allows, and those due again.
    pub fn take_unsent(&mut self, now_us: Micros) -> Vec<Command> {
        while let Some(&(at_us, sequence)) = self.resend.first() {
            if at_us > now_us {
                break;
            }
            self.resend.pop_first();
            self.unsent.insert(sequence);
        }
        while self.next_sequence < self.resolved_below() + WINDOW {
            let Some((token, position, body)) = self.queue.pop_front() else { break };
            let Some(group) = self.groups.get_mut(&token) else { continue };
            let sequence = self.next_sequence;
            self.next_sequence += 1;
            group.sequences.push(sequence);
            self.pending.insert(sequence, Pending { token, position, body, resend_at_us: 0, sent: 0 });
            self.unsent.insert(sequence);
        }
        let resolved_below = self.resolved_below();
        let mut commands = Vec::with_capacity(self.unsent.len());
        for sequence in std::mem::take(&mut self.unsent) {
            let Some(pending) = self.pending.get_mut(&sequence) else { continue };
            if let Some(group) = self.groups.get_mut(&pending.token) {
                group.sent = true;
            }
            pending.resend_at_us = now_us + (RESEND_US << pending.sent.min(4));
            pending.sent += 1;
            self.resend.insert((pending.resend_at_us, sequence));
            let body = Some(pending.body.clone());
            commands.push(Command { session: self.session, sequence, resolved_below, term: 0, body });
        }
        commands
    }

    /// Hands everything under way over again: the leader has changed or come back.
    pub fn resend_all(&mut self) {
        self.resend.clear();
        self.unsent.extend(self.pending.keys());
    }

    /// An outcome of this session was applied. Sequences no longer waited for are ignored.
    pub fn resolve(&mut self, sequence: u64, outcome: Outcome) -> Option<Ended> {
        let pending = self.pending.remove(&sequence)?;
        self.resend.remove(&(pending.resend_at_us, sequence));
        self.unsent.remove(&sequence);
        let group = self.groups.get_mut(&pending.token)?;
        if outcome.refusal == Refusal::SessionUnknown as i32 || outcome.refusal == Refusal::Forgotten as i32 {
            return self.end(pending.token, ProposalEnd::OutcomeUnknown);
        }
        let slot = &mut group.outcomes[pending.position];
        if slot.is_none() {
            *slot = Some(outcome);
            group.missing -= 1;
        }
        if group.missing == 0 { self.end(pending.token, ProposalEnd::Applied) } else { None }
    }

    /// Ends every group whose deadline has passed.
    pub fn expire(&mut self, now_us: Micros) -> Vec<Ended> {
        let mut ended = Vec::new();
        while let Some(&(deadline_us, token)) = self.deadlines.first() {
            if deadline_us > now_us {
                break;
            }
            let sent = self.groups.get(&token).is_some_and(|g| g.sent);
            ended.extend(self.end(token, if sent { ProposalEnd::OutcomeUnknown } else { ProposalEnd::NoLeader }));
        }
        ended
    }

    fn end(&mut self, token: Token, end: ProposalEnd) -> Option<Ended> {
        let group = self.groups.remove(&token)?;
        self.deadlines.remove(&(group.deadline_us, token));
        if end != ProposalEnd::Applied {
            for sequence in &group.sequences {
                if let Some(pending) = self.pending.remove(sequence) {
                    self.resend.remove(&(pending.resend_at_us, *sequence));
                    self.unsent.remove(sequence);
                }
            }
        }
        Some(Ended { token, end, outcomes: group.outcomes.into_iter().map(Option::unwrap_or_default).collect() })
    }
}

#[cfg(test)]
mod tests {
    use codec::command::{Body, Retry};
    use codec::{Outcome, Refusal};

    use super::{ProposalEnd, Sessions, WINDOW};

    fn body() -> Body {
        Body::Retry(Retry::default())
    }

    #[test]
    fn a_group_ends_with_its_last_outcome_in_the_order_of_its_commands() {
        let mut sessions = Sessions::new(7);
        sessions.propose(1, vec![body(), body()], 1_000);
        let sent = sessions.take_unsent(0);
        assert_eq!(sent.iter().map(|c| c.sequence).collect::<Vec<_>>(), [1, 2]);
        assert_eq!(sessions.resolve(2, Outcome::accepted(20)), None);
        let ended = sessions.resolve(1, Outcome::accepted(10)).expect("both are there");
        assert_eq!(ended.end, ProposalEnd::Applied);
        assert_eq!(ended.outcomes.iter().map(|o| o.revision).collect::<Vec<_>>(), [10, 20]);
    }

    #[test]
    fn a_new_leader_gets_what_is_under_way_again_with_the_same_sequences() {
        let mut sessions = Sessions::new(7);
        sessions.propose(1, vec![body()], 10_000_000);
        assert_eq!(sessions.take_unsent(0).len(), 1);
        assert!(sessions.take_unsent(10).is_empty());
        sessions.resend_all();
        assert_eq!(sessions.take_unsent(20)[0].sequence, 1);
        assert!(sessions.take_unsent(20).is_empty());
        assert_eq!(sessions.take_unsent(3_000_000)[0].sequence, 1, "and again when nothing is heard");
    }

    #[test]
    fn a_deadline_tells_unknown_from_never_taken() {
        let mut sessions = Sessions::new(7);
        sessions.propose(1, vec![body()], 100);
        let ended = sessions.expire(100);
        assert_eq!(ended[0].end, ProposalEnd::NoLeader);
        sessions.propose(2, vec![body()], 200);
        assert_eq!(sessions.take_unsent(150).len(), 1);
        assert_eq!(sessions.expire(200)[0].end, ProposalEnd::OutcomeUnknown);
        assert_eq!(sessions.resolve(1, Outcome::accepted(1)), None, "a late outcome finds nobody");
    }

    #[test]
    fn the_window_holds_back_and_the_low_water_mark_moves() {
        let mut sessions = Sessions::new(7);
        sessions.propose(1, vec![body(); WINDOW as usize + 5], u64::MAX);
        assert_eq!(sessions.take_unsent(0).len(), WINDOW as usize);
        assert!(sessions.take_unsent(0).is_empty());
        assert_eq!(sessions.resolve(1, Outcome::accepted(1)), None);
        let more = sessions.take_unsent(0);
        assert_eq!(more.len(), 1);
        assert_eq!(more[0].resolved_below, 2);
    }

    #[test]
    fn a_retired_session_leaves_the_outcome_unknown() {
        let mut sessions = Sessions::new(7);
        sessions.propose(1, vec![body()], u64::MAX);
        sessions.take_unsent(0);
        let ended = sessions.resolve(1, Outcome::refused(Refusal::SessionUnknown, "", "")).expect("ends");
        assert_eq!(ended.end, ProposalEnd::OutcomeUnknown);
    }
}
