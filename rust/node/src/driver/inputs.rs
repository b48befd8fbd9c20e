//! What a node takes in: events, peers' messages, time, and what was applied.
//!
//! Each input goes to the part of the driver that it concerns; what is to be done about it gathers
//! until the next [`Driver::ready`].

use codec::peer::{Beat, BeatAnswer, BeatAnswers, Beats, Forward, Lane, PeerBody, ReadIndexAnswer, ReadIndexRequest};
use consensus::ConsensusError;

use super::{Driver, Incoming};
use crate::bootstrap::names_this_node;
use crate::effect::Effect;
use crate::event::{AppliedReport, Event, Micros};
use crate::observers::{OWN_TOKENS, is_tail_fetch};
use crate::reads::Reader;
use crate::sessions::Ended;

const REPORT_US: Micros = 1_000_000;

impl Driver {
    /// Takes one event. Effects gather until [`Driver::ready`].
    pub fn step(&mut self, event: Event) {
        match event {
            Event::Tick { now_us, wall_us } => self.tick(now_us, wall_us),
            Event::PeerUp { hello } => self.peer_up(hello),
            Event::PeerDown { raft_id } => {
                self.gathering.peer_down(raft_id);
                self.membership.gone(raft_id);
                self.peers.down(raft_id);
                self.observer_down(raft_id);
                if let Some(consensus) = &mut self.consensus {
                    consensus.report_unreachable(raft_id);
                }
            }
            Event::Received { from, body } => self.received(from, body),
            Event::Propose { token, bodies, .. } if self.refuses(token, &bodies) => {}
            Event::Propose { token, bodies, deadline_us } => self.sessions.propose(token, bodies, deadline_us),
            Event::ReadIndex { token, .. } if self.guard.fenced().is_some() => {
                self.effects.push(Effect::CompleteRead { token, readable: false });
            }
            Event::ReadIndex { token, deadline_us } => self.reads.wait(Reader::Local { token, deadline_us }),
            Event::Beats { beats, deadline_us } => self.local_beats(beats, deadline_us),
            Event::Assign { term, items } => self.assign(term, items),
            Event::Persisted { number } => {
                if let Some(consensus) = &mut self.consensus {
                    consensus.persisted(number);
                }
            }
            Event::EntriesFetched { fetch, entries } if is_tail_fetch(fetch) => self.observers_fetched(fetch, entries),
            Event::EntriesFetched { fetch, entries } => {
                if let Some(consensus) = &mut self.consensus {
                    consensus.fetched(fetch, entries);
                }
            }
            Event::Applied(report) => self.applied(report),
            Event::Flushed { applied_index } => self.flushed(applied_index),
            Event::SnapshotMade { index, term, configuration } => self.snapshot_made(index, term, configuration),
            Event::SnapshotFailed { reason } => {
                self.keeping.snapshot_failed();
                self.observers_snapshot_failed();
                for token in std::mem::take(&mut self.snapshot_tokens) {
                    self.effects.push(Effect::CompleteTask { token, done: false, detail: reason.clone() });
                }
            }
            Event::SnapshotReceived { from, transfer, state_dir, raft_message } => {
                let index = consensus::snapshot_index(&raft_message).unwrap_or_default();
                self.offers.push(Incoming { from, transfer, index, state_dir });
                self.step_raft(&raft_message);
            }
            Event::SnapshotInstalled(report) => self.snapshot_installed(report),
            Event::SnapshotSent { to, installed } => {
                self.keeping.snapshot_sent(to, installed, self.now_us);
                if !self.observers_snapshot_sent(to, installed)
                    && let Some(consensus) = &mut self.consensus
                {
                    consensus.report_snapshot(to, installed);
                }
            }
            Event::CheckpointDropped { index } => {
                self.observers_checkpoint_dropped(index);
                if let Some(consensus) = &mut self.consensus {
                    consensus.withdraw_snapshot(index);
                }
            }
            Event::TransferLeader { token, to, deadline_us } => self.transfer_leader(token, to.as_deref(), deadline_us),
            Event::TakeSnapshot { token } => {
                if self.consensus.is_none() {
                    let detail = "the node belongs to no cluster yet".into();
                    self.effects.push(Effect::CompleteTask { token, done: false, detail });
                    return;
                }
                self.snapshot_tokens.push(token);
                self.make_snapshot();
            }
            Event::AwaitMember { token, node_id, deadline_us } => self.await_member(token, node_id, deadline_us),
            Event::Verify { token, deadline_us } => self.verify(token, deadline_us),
            Event::Verified(result) => self.verified(result),
            Event::StateDamaged { reason } => self.state_damaged(reason),
            Event::LogDamaged { reason } => self.halt(reason),
            Event::Stop => self.stop(),
        }
    }

    /// This node's own utilisation in basis points: cpu, memory, network.
    pub fn set_load(&mut self, load_bp: [u32; 3]) {
        self.own_load_bp = Some(load_bp);
    }

    /// Tells the time without ticking: before events are taken, so that stamps and deadlines are exact.
    pub fn observe_time(&mut self, now_us: Micros, wall_us: u64) {
        assert!(now_us >= self.now_us, "monotonic time ran backwards");
        self.now_us = now_us;
        self.wall_us = wall_us;
    }

    fn tick(&mut self, now_us: Micros, wall_us: u64) {
        self.observe_time(now_us, wall_us);
        let mut ticks = 0;
        while self.next_tick_us <= now_us {
            self.next_tick_us += self.config.tick_us;
            if ticks < self.config.ticks_after_stall_max
                && let Some(consensus) = &mut self.consensus
            {
                consensus.tick();
                ticks += 1;
            } else {
                // A stall is not silence of the others: the rest of it is not reported.
                self.next_tick_us = self.next_tick_us.max(now_us.saturating_sub(self.config.tick_us) + 1);
            }
        }
        for ended in self.sessions.expire(now_us) {
            self.complete(ended);
        }
        for token in self.reads.expire(now_us) {
            self.effects.push(Effect::CompleteRead { token, readable: false });
        }
        self.expire_beats();
        self.check_transfers();
        self.tick_membership();
        if self.stopping.is_some_and(|at| now_us >= at) {
            self.stopping = None;
            self.effects.push(Effect::StopReady);
        }
        self.lead();
        self.keep_observers();
        self.guard_tick();
        if now_us >= self.next_report_us {
            self.next_report_us = now_us + REPORT_US;
            self.report();
        }
        if self.keeping.start_flush(&self.config, now_us) {
            self.effects.push(Effect::Flush);
        }
    }

    fn received(&mut self, from: u64, body: PeerBody) {
        if self.is_refused(from) {
            return;
        }
        if matches!(body, PeerBody::Raft(_) | PeerBody::NodeReport(_)) {
            self.refuse_unknown(from);
        }
        self.peers.heard(from, self.now_us, self.wall_us);
        match body {
            PeerBody::Raft(message) => self.step_raft(&message),
            PeerBody::Forward(Forward { commands }) => self.incoming_commands.extend(commands),
            PeerBody::ReadIndexRequest(ReadIndexRequest { round }) => {
                if self.is_leader() {
                    self.reads.wait(Reader::Peer { raft_id: from, round });
                } else {
                    self.send(from, Lane::Control, PeerBody::ReadIndexAnswer(ReadIndexAnswer { round, index: 0 }));
                }
            }
            PeerBody::ReadIndexAnswer(ReadIndexAnswer { round, index }) => {
                if index == 0 {
                    self.reads.give_up();
                } else {
                    self.reads.confirm(round, index);
                    self.complete_reads();
                }
            }
            PeerBody::Beats(Beats { beats }) => self.beats(Some(from), beats),
            PeerBody::BeatAnswers(BeatAnswers { answers }) => self.answer_local_beats(answers),
            PeerBody::Bootstrap(bootstrap) => {
                if self.identity.cluster_id == 0
                    && names_this_node(&bootstrap, &self.config, self.identity.raft_id)
                    && let Err(error) = self.enter_cluster(bootstrap)
                {
                    self.halt(format!("the first configuration cannot be used: {error}"));
                }
            }
            PeerBody::NodeReport(report) => {
                match report.fenced.is_empty() {
                    true => self.hash_heard(from, report.hash_index, &report.hash),
                    false => self.peers.hashes.forget(from),
                }
                self.peers.reported(from, report, self.wall_us);
            }
            PeerBody::TailSubscribe(_)
            | PeerBody::TailBatch(_)
            | PeerBody::TailAck(_)
            | PeerBody::TailEnd(_)
            | PeerBody::Placement(_)
            | PeerBody::ObserverRegister(_)
            | PeerBody::ObserverReports(_) => self.observer_message(from, body),
            PeerBody::Welcome(welcome) => self.welcome(welcome),
            body @ (PeerBody::StateHash(_)
            | PeerBody::VerifyRequest(_)
            | PeerBody::VerifyResult(_)
            | PeerBody::Acknowledged(_)) => self.guard_received(from, body),
            // The runtime moves snapshot files and answers by itself; Hello never reaches the driver.
            PeerBody::Hello(_)
            | PeerBody::SnapshotOffer(_)
            | PeerBody::SnapshotResume(_)
            | PeerBody::SnapshotChunk(_)
            | PeerBody::SnapshotAnswer(_) => {}
        }
    }

    fn step_raft(&mut self, message: &[u8]) {
        if self.lacks_rows_for(message) {
            return;
        }
        let Some(consensus) = &mut self.consensus else { return };
        if let Err(error) = consensus.step(message) {
            match error {
                ConsensusError::Malformed(_) => {
                    self.alerts.insert("a peer sent a malformed Raft message".into());
                }
                ConsensusError::LostEntries { .. } => self.retire(&error.to_string()),
                error => self.halt(error.to_string()),
            }
        }
    }

    fn local_beats(&mut self, beats: Vec<Beat>, deadline_us: Micros) {
        self.local_beats.extend(beats.iter().map(|b| (b.token, deadline_us)));
        if self.guard.fenced().is_some() {
            return self.give_up_beats();
        }
        if self.is_leader() {
            self.beats(None, beats);
            return;
        }
        match self.leader_peer() {
            Some(leader) => self.send(leader, Lane::Control, PeerBody::Beats(Beats { beats })),
            None => {
                self.answer_local_beats(beats.iter().map(|b| BeatAnswer { token: b.token, ..BeatAnswer::default() }).collect())
            }
        }
    }

    pub(crate) fn answer_local_beats(&mut self, answers: Vec<BeatAnswer>) {
        let answers: Vec<_> = answers.into_iter().filter(|a| self.local_beats.remove(&a.token).is_some()).collect();
        if !answers.is_empty() {
            self.effects.push(Effect::CompleteBeats(answers));
        }
    }

    /// No lease is extended, and whoever waits is told at once.
    pub(crate) fn give_up_beats(&mut self) {
        let waiting: Vec<_> = self.local_beats.keys().copied().collect();
        self.answer_local_beats(waiting.into_iter().map(|token| BeatAnswer { token, ..BeatAnswer::default() }).collect());
    }

    fn expire_beats(&mut self) {
        let now_us = self.now_us;
        let late: Vec<_> =
            self.local_beats.iter().filter(|(_, deadline)| **deadline <= now_us).map(|(token, _)| *token).collect();
        self.answer_local_beats(late.into_iter().map(|token| BeatAnswer { token, ..BeatAnswer::default() }).collect());
    }

    pub(crate) fn applied(&mut self, report: AppliedReport) {
        self.applied_index = report.index;
        self.revision = report.revision;
        self.hash = report.hash;
        self.live_tasks = report.live_tasks;
        if let Some(consensus) = &mut self.consensus {
            consensus.applied(report.index);
        }
        if report.log_bytes > 0 {
            self.keeping.applied(report.log_bytes, self.now_us);
        }
        if mutant::active("truncate-above-flushed") {
            self.truncate();
        }
        self.clock.observe(report.cluster_us, self.now_us);
        self.guard_applied(report.hashes, &report.checks);
        if let Some(members) = report.members {
            self.members_changed(members);
            self.observers_members_changed();
        }
        if report.session_opened {
            self.session_open = true;
        }
        self.leases.agents_changed(&report.agents, self.now_us, self.config.lease_ms * 1_000);
        for (sequence, outcome) in report.resolved {
            if let Some(ended) = self.sessions.resolve(sequence, outcome) {
                self.complete(ended);
            }
        }
        self.complete_reads();
        self.answer_awaiting(false);
        self.leader.applied(report.due, report.retention, report.looked, report.next_due_cluster_us, report.next_due_wall_us);
        self.answer_waiting_beats();
    }

    fn complete(&mut self, ended: Ended) {
        if ended.token & OWN_TOKENS != 0 {
            return;
        }
        self.effects.push(Effect::CompleteProposal { token: ended.token, end: ended.end, outcomes: ended.outcomes });
    }

    pub(crate) fn complete_reads(&mut self) {
        for token in self.reads.take_readable(self.applied_index) {
            self.effects.push(Effect::CompleteRead { token, readable: true });
        }
    }
}
