//! Writes, linearizable reads and agents' beats of this node's callers: all go to the leader.

use codec::command::{Body, Command, OpenSession};
use codec::peer::{Beat, BeatAnswer, Beats, Forward, Lane, PeerBody, ReadIndexRequest};

use super::ObserverDriver;
use crate::effect::Effect;
use crate::event::{ApplyInput, Micros, Token};
use crate::reads::Reader;
use crate::sessions::Ended;

/// Asks for the session again after this pause.
const SESSION_US: Micros = 500_000;

impl ObserverDriver {
    /// Raft id of the leader while this node hears the cluster; 0 for none.
    pub(super) fn leader(&self) -> u64 {
        self.told_leader.0
    }

    /// The leader, if it can be reached now. That it is needed keeps its streams up.
    fn leader_link(&mut self) -> Option<u64> {
        let leader = self.leader();
        self.leader_needed_us = Some(self.now_us);
        (leader != 0 && self.links.contains(&leader)).then_some(leader)
    }

    /// Tells callers when the leader changes, or when this node has not heard of one for too long.
    pub(super) fn tell_leader(&mut self) {
        let heard = self.follow.hears(self.now_us);
        let now = if heard { (self.follow.leader, self.follow.term) } else { (0, self.follow.term) };
        if now == self.told_leader {
            return;
        }
        self.told_leader = now;
        let (leader, term) = now;
        self.reads.give_up();
        if leader != 0 {
            self.leader_changes += 1;
            self.sessions.resend_all();
            self.session_asked_us = None;
        }
        let known = self.name_of(leader).map(|(node_id, _)| node_id);
        self.effects.push(Effect::LeaderChanged { leader, node_id: known, term, is_self: false });
    }

    pub(super) fn session_effect(&mut self) {
        self.effects.push(Effect::Apply(ApplyInput::Session { session: self.sessions.session() }));
    }

    pub(super) fn route_commands(&mut self) {
        if self.sessions.count() == 0 || self.position.index == 0 {
            return;
        }
        let Some(leader) = self.leader_link() else { return };
        let commands = if self.session_open {
            self.sessions.take_unsent(self.now_us)
        } else if self.session_asked_us.is_none_or(|at| self.now_us >= at + SESSION_US) {
            self.session_asked_us = Some(self.now_us);
            let body = Some(Body::OpenSession(OpenSession { node_id: self.config.node_id.clone() }));
            vec![Command { session: self.sessions.session(), body, ..Command::default() }]
        } else {
            return;
        };
        if !commands.is_empty() {
            self.send(leader, Lane::Forward, PeerBody::Forward(Forward { commands }));
        }
    }

    pub(super) fn read(&mut self, token: Token, deadline_us: Micros) {
        self.reads.wait(Reader::Local { token, deadline_us });
    }

    pub(super) fn begin_reads(&mut self) {
        if !self.reads.any_waits() {
            return;
        }
        if let Some(leader) = self.leader_link()
            && let Some(round) = self.reads.begin(self.now_us)
        {
            self.send(leader, Lane::Control, PeerBody::ReadIndexRequest(ReadIndexRequest { round }));
        }
    }

    pub(super) fn read_answered(&mut self, round: u64, index: u64) {
        if index == 0 {
            self.reads.give_up();
        } else {
            self.reads.confirm(round, index);
            self.complete_reads();
        }
    }

    pub(super) fn complete_reads(&mut self) {
        for token in self.reads.take_readable(self.position.index) {
            self.effects.push(Effect::CompleteRead { token, readable: true });
        }
    }

    pub(super) fn local_beats(&mut self, beats: Vec<Beat>, deadline_us: Micros) {
        self.local_beats.extend(beats.iter().map(|b| (b.token, deadline_us)));
        match self.leader_link() {
            Some(leader) => self.send(leader, Lane::Control, PeerBody::Beats(Beats { beats })),
            None => {
                self.answer_local_beats(beats.iter().map(|b| BeatAnswer { token: b.token, ..BeatAnswer::default() }).collect())
            }
        }
    }

    pub(super) fn answer_local_beats(&mut self, answers: Vec<BeatAnswer>) {
        let answers: Vec<_> = answers.into_iter().filter(|a| self.local_beats.remove(&a.token).is_some()).collect();
        if !answers.is_empty() {
            self.effects.push(Effect::CompleteBeats(answers));
        }
    }

    pub(super) fn expire_callers(&mut self) {
        let now_us = self.now_us;
        for ended in self.sessions.expire(now_us) {
            self.complete(ended);
        }
        for token in self.reads.expire(now_us) {
            self.effects.push(Effect::CompleteRead { token, readable: false });
        }
        let late = self.local_beats.iter().filter(|(_, deadline)| **deadline <= now_us).map(|(token, _)| *token);
        let late: Vec<_> = late.map(|token| BeatAnswer { token, ..BeatAnswer::default() }).collect();
        self.answer_local_beats(late);
    }

    pub(super) fn complete(&mut self, ended: Ended) {
        self.effects.push(Effect::CompleteProposal { token: ended.token, end: ended.end, outcomes: ended.outcomes });
    }
}
