//! [`Driver`]: the raft side of a node, `Event` in, `Effect` out.
//!
//! What always holds:
//! * nothing is sent, applied or answered in another order than the effects stand in;
//! * a proposal is answered only from this node's own applied state, or when its deadline passes;
//! * a node without a cluster neither votes nor campaigns.

use std::collections::{BTreeMap, BTreeSet};

use codec::command::Command;
use codec::log::{ConfState, HardState, Identity, LogBase, LogEntry};
use codec::peer::{Beat, BeatAnswer, BeatAnswers, Beats, Forward, Lane, PeerBody, ReadIndexAnswer, ReadIndexRequest};
use consensus::{Consensus, ConsensusError, Outgoing, Role, Round};

use crate::bootstrap::{Gathering, names_this_node};
use crate::clock::ClusterClock;
use crate::config::Config;
use crate::effect::Effect;
use crate::event::{AppliedReport, ApplyInput, Event, InstalledReport, Micros, Token};
use crate::guard::Guard;
use crate::housekeeping::Housekeeping;
use crate::leader::Leader;
use crate::leases::Leases;
use crate::membership::Membership;
use crate::observers::{OWN_TOKENS, Observers, is_tail_fetch};
use crate::peers::Peers;
use crate::reads::{Reader, Reads};
use crate::sessions::{Ended, Sessions};

const REPORT_US: Micros = 1_000_000;

/// What a node starts with, read from its directory.
pub struct Start {
    pub identity: Identity,
    pub hard_state: HardState,
    pub base: LogBase,
    /// The whole log behind the base.
    pub entries: Vec<LogEntry>,
    pub configuration: ConfState,
    /// What the apply side knows after loading; `None` while there is no cluster.
    pub loaded: Option<InstalledReport>,
    pub now_us: Micros,
    pub wall_us: u64,
}

/// A snapshot that has been received and is on its way through Raft.
pub(crate) struct Incoming {
    pub(crate) from: u64,
    pub(crate) transfer: u64,
    pub(crate) index: u64,
    pub(crate) state_dir: String,
}

pub struct Driver {
    pub(crate) config: Config,
    pub(crate) identity: Identity,
    pub(crate) gathering: Gathering,
    pub(crate) consensus: Option<Consensus>,
    pub(crate) peers: Peers,
    pub(crate) sessions: Sessions,
    pub(crate) session_open: bool,
    pub(crate) session_asked_us: Option<Micros>,
    pub(crate) reads: Reads,
    pub(crate) leases: Leases,
    pub(crate) leader: Leader,
    pub(crate) membership: Membership,
    pub(crate) clock: ClusterClock,
    pub(crate) keeping: Housekeeping,
    pub(crate) guard: Guard,
    pub(crate) now_us: Micros,
    pub(crate) wall_us: u64,
    pub(crate) next_tick_us: Micros,
    pub(crate) next_report_us: Micros,
    pub(crate) applied_index: u64,
    pub(crate) revision: u64,
    pub(crate) hash: [u8; 16],
    pub(crate) live_tasks: u64,
    /// Commands to pack (leader) in the order they came.
    pub(crate) incoming_commands: Vec<Command>,
    /// Beats of local agents that wait for an answer: token → deadline.
    pub(crate) local_beats: BTreeMap<Token, Micros>,
    pub(crate) transfers: Vec<(Token, u64, Micros)>,
    pub(crate) snapshot_tokens: Vec<Token>,
    pub(crate) offers: Vec<Incoming>,
    pub(crate) installing: Option<Incoming>,
    pub(crate) told_leader: (u64, u64),
    pub(crate) elections: u64,
    pub(crate) leader_changes: u64,
    pub(crate) alerts: BTreeSet<String>,
    pub(crate) stopping: Option<Micros>,
    pub(crate) own_load_bp: Option<[u32; 3]>,
    pub(crate) observers: Observers,
    pub(crate) effects: Vec<Effect>,
}

impl Driver {
    pub fn new(mut config: Config, start: Start) -> Result<Self, ConsensusError> {
        config.consensus.seed = config.incarnation;
        let mut driver = Self {
            sessions: Sessions::new(config.incarnation),
            reads: Reads::new(config.incarnation),
            keeping: Housekeeping::new(0, 0),
            guard: Guard::default(),
            identity: start.identity,
            gathering: Gathering::default(),
            consensus: None,
            peers: Peers::default(),
            session_open: false,
            session_asked_us: None,
            leases: Leases::default(),
            leader: Leader::default(),
            membership: Membership::default(),
            clock: ClusterClock::default(),
            now_us: start.now_us,
            wall_us: start.wall_us,
            next_tick_us: start.now_us + config.tick_us,
            next_report_us: start.now_us,
            applied_index: 0,
            revision: 0,
            hash: [0; 16],
            live_tasks: 0,
            incoming_commands: Vec::new(),
            local_beats: BTreeMap::new(),
            transfers: Vec::new(),
            snapshot_tokens: Vec::new(),
            offers: Vec::new(),
            installing: None,
            told_leader: (0, 0),
            elections: 0,
            leader_changes: 0,
            alerts: BTreeSet::new(),
            stopping: None,
            own_load_bp: None,
            observers: Observers::default(),
            effects: Vec::new(),
            config,
        };
        if driver.identity.cluster_id != 0 {
            let base = (start.base.index, start.base.term);
            let (hard_state, configuration, entries) = (start.hard_state, start.configuration, start.entries);
            match start.loaded {
                Some(loaded) => driver.start_consensus(hard_state, configuration, base, entries, loaded)?,
                None => driver.start_without_state(hard_state, base, entries)?,
            }
        } else {
            driver.try_bootstrap()?;
        }
        Ok(driver)
    }

    pub(crate) fn start_consensus(
        &mut self,
        hard_state: HardState,
        configuration: ConfState,
        base: (u64, u64),
        entries: Vec<LogEntry>,
        loaded: InstalledReport,
    ) -> Result<(), ConsensusError> {
        let applied_index = loaded.report.index;
        let mut keeping = Housekeeping::new(applied_index, base.0);
        entries.iter().for_each(|e| keeping.appended(e.index, e.data.len() as u64));
        let start = consensus::Start { raft_id: self.identity.raft_id, hard_state, configuration, base, entries, applied_index };
        let mut consensus = Consensus::new(&self.config.consensus, start)?;
        // Nobody to wait for: a single voter leads at once.
        if consensus.configuration().voters == [self.identity.raft_id] {
            consensus.campaign()?;
        }
        self.consensus = Some(consensus);
        self.keeping = keeping;
        // Rows without an entry hold no stamp yet.
        if let Some(bootstrap) = &self.identity.bootstrap {
            self.clock.observe(bootstrap.seed.as_ref().map_or(bootstrap.wall_us, |seed| seed.cluster_us), self.now_us);
        }
        self.effects.push(Effect::Apply(ApplyInput::Session { session: self.sessions.session() }));
        self.loaded(loaded);
        Ok(())
    }

    /// A member whose log is sound and whose state is not: fenced until it has installed another one.
    fn start_without_state(
        &mut self,
        hard_state: HardState,
        base: (u64, u64),
        entries: Vec<LogEntry>,
    ) -> Result<(), ConsensusError> {
        let raft_id = self.identity.raft_id;
        let configuration = ConfState::default();
        let mut keeping = Housekeeping::new(base.0, base.0);
        entries.iter().for_each(|e| keeping.appended(e.index, e.data.len() as u64));
        let start = consensus::Start { raft_id, hard_state, configuration, base, entries, applied_index: base.0 };
        let mut consensus = Consensus::new(&self.config.consensus, start)?;
        consensus.set_fenced(true);
        self.consensus = Some(consensus);
        self.keeping = keeping;
        self.guard = Guard::without_state();
        self.effects.push(Effect::Apply(ApplyInput::Session { session: self.sessions.session() }));
        Ok(())
    }

    pub(crate) fn loaded(&mut self, loaded: InstalledReport) {
        let report = loaded.report;
        self.applied_index = report.index;
        self.session_open = loaded.session_known;
        self.leases.reset_agents(&report.agents);
        let agents_known = AppliedReport { agents: Vec::new(), ..report };
        self.applied(agents_known);
        self.guard_loaded();
    }

    // ---- inputs ----------------------------------------------------------------------------

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
        for (agent_id, epoch, live) in &report.agents {
            self.leases.agent_changed(agent_id, *epoch, *live, self.now_us, self.config.lease_ms * 1_000);
        }
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

    // ---- output ----------------------------------------------------------------------------

    /// Everything to do now, in order.
    pub fn ready(&mut self) -> Vec<Effect> {
        self.route_commands();
        self.begin_reads();
        loop {
            let Some(round) = self.consensus.as_mut().and_then(Consensus::ready) else { break };
            self.round(round);
        }
        self.refuse_offers();
        self.serve_observers();
        self.fetch_and_snapshot();
        std::mem::take(&mut self.effects)
    }

    fn round(&mut self, round: Round) {
        round.entries.iter().for_each(|e| self.keeping.appended(e.index, e.data.len() as u64));
        let snapshot = round.snapshot;
        if let Some(meta) = snapshot {
            let at = self.offers.iter().position(|o| o.index == meta.index);
            let incoming = at.map(|at| self.offers.swap_remove(at));
            let state_dir = incoming.as_ref().map(|i| i.state_dir.clone()).unwrap_or_default();
            let base = LogBase { index: meta.index, term: meta.term, chain: 0, state_dir };
            let hard_state = round.hard_state.clone().unwrap_or_default();
            self.effects.push(Effect::InstallSnapshot { number: round.persist, base, hard_state });
            self.installing = incoming;
            if !round.entries.is_empty() {
                self.effects.push(Effect::Persist { number: round.persist, entries: round.entries, hard_state: None });
            }
        } else if round.persist != 0 {
            self.effects.push(Effect::Persist { number: round.persist, entries: round.entries, hard_state: round.hard_state });
        }
        for message in round.messages {
            self.send_raft(message);
        }
        if !round.committed.is_empty() && !self.guard.is_shut() {
            let (entries, configurations) = (round.committed, round.configurations);
            self.observers_committed(&entries);
            self.effects.push(Effect::Apply(ApplyInput::Entries { entries, configurations }));
        }
        for (id, index) in round.readable {
            self.confirmed_read(id, index);
        }
        if round.role_changed {
            self.role_changed();
        }
    }

    fn send_raft(&mut self, message: Outgoing) {
        let Outgoing { to, urgent, snapshot, bytes } = message;
        if snapshot {
            self.keeping.snapshot_sending(to, consensus::snapshot_index(&bytes).unwrap_or_default());
            self.effects.push(Effect::SendSnapshot { to, raft_message: bytes });
        } else {
            let lane = if urgent { Lane::Control } else { Lane::Append };
            self.effects.push(Effect::Send { to, lane, body: PeerBody::Raft(bytes) });
        }
    }

    fn role_changed(&mut self) {
        let Some(consensus) = &self.consensus else { return };
        let (leader, term, role) = (consensus.leader(), consensus.term(), consensus.role());
        if role == Role::Candidate {
            self.elections += 1;
        }
        if self.told_leader == (leader, term) {
            return;
        }
        self.told_leader = (leader, term);
        if leader != 0 {
            self.leader_changes += 1;
            self.sessions.resend_all();
            self.session_asked_us = None;
        }
        self.reads.forget_peers();
        self.leases.stop_leading();
        self.keeping.stop_sending();
        self.leader = Leader::default();
        self.membership.stop_leading();
        self.incoming_commands.retain(|c| c.session == 0 || leader == self.identity.raft_id);
        let is_self = leader == self.identity.raft_id;
        // The policy starts later, once the own term's first entry is applied.
        self.effects.push(Effect::Apply(ApplyInput::Role { leader: false, term }));
        let node_id = self.peers.node_id(leader).map(str::to_owned);
        self.effects.push(Effect::LeaderChanged { leader, node_id, term, is_self });
    }

    /// Local commands go to whoever leads: into the own packer, or over the forward lane.
    fn route_commands(&mut self) {
        let Some(consensus) = &self.consensus else { return };
        let leader = consensus.leader();
        if leader == 0 || self.guard.is_shut() {
            return;
        }
        let mut commands = Vec::new();
        if !self.session_open {
            let due = self.session_asked_us.is_none_or(|at| self.now_us >= at + 500_000);
            if due && !self.config.node_id.is_empty() {
                self.session_asked_us = Some(self.now_us);
                let body =
                    codec::command::Body::OpenSession(codec::command::OpenSession { node_id: self.config.node_id.clone() });
                commands.push(Command { session: self.sessions.session(), body: Some(body), ..Command::default() });
            }
        } else {
            commands = self.sessions.take_unsent(self.now_us);
        }
        if leader == self.identity.raft_id {
            self.incoming_commands.append(&mut commands);
            self.pack();
        } else {
            self.incoming_commands.clear();
            if !commands.is_empty() {
                self.send(leader, Lane::Forward, PeerBody::Forward(Forward { commands }));
            }
        }
    }

    fn begin_reads(&mut self) {
        let leading = self.is_leader();
        let leader = self.leader_peer();
        let Some(consensus) = &mut self.consensus else { return };
        if leading {
            let may_read = consensus.committed_in_term() || mutant::active("read-before-first-commit");
            if may_read && let Some(round) = self.reads.begin(self.now_us) {
                if mutant::active("read-before-round") {
                    let index = consensus.commit_index();
                    self.confirmed_read(round, index);
                } else if !consensus.read_index(round) {
                    self.reads.give_up();
                }
            }
        } else if let Some(leader) = leader
            && let Some(round) = self.reads.begin(self.now_us)
        {
            self.send(leader, Lane::Control, PeerBody::ReadIndexRequest(ReadIndexRequest { round }));
        }
    }

    pub(crate) fn send(&mut self, to: u64, lane: Lane, body: PeerBody) {
        self.effects.push(Effect::Send { to, lane, body });
    }

    pub(crate) fn halt(&mut self, reason: String) {
        self.effects.push(Effect::Halt { reason });
    }

    /// The consensus below: term, role, indexes, configuration. `None` without a cluster.
    pub fn consensus(&self) -> Option<&Consensus> {
        self.consensus.as_ref()
    }

    pub fn is_leader(&self) -> bool {
        self.consensus.as_ref().is_some_and(|c| c.role() == Role::Leader)
    }

    pub(crate) fn leader_peer(&self) -> Option<u64> {
        self.consensus.as_ref().map(Consensus::leader).filter(|id| *id != 0 && *id != self.identity.raft_id)
    }

    /// When the driver wants to be ticked next, in monotonic time.
    pub fn next_wake_us(&self) -> Micros {
        self.observers_due_us().map_or(self.next_tick_us, |due| due.clamp(self.now_us, self.next_tick_us))
    }

    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Number of this process's session.
    pub fn session(&self) -> u64 {
        self.sessions.session()
    }
}
