//! [`ObserverDriver`]: a node that tails the committed log and is no part of Raft (DESIGN §1).
//!
//! It speaks the vocabulary of [`crate::Driver`] (`Event` in, `Effect` out), so that a host executes
//! either: what a host needs for a voter is enough. Of the effects it never asks for `Persist`,
//! `Truncate`, `FetchEntries` or `Bootstrap`: an observer has no log. It asks for one that voters do
//! not: [`Effect::SaveIdentity`] (it has met its cluster), and its streams are duplex: nobody dials it
//! but its children. A simulator hosts it like this:
//!
//! * start it by [`ObserverStart`] with the seeds in `Config::expected_nodes` and `Config::observer`
//!   set; an empty one has `loaded: None`;
//! * for `DialPeers`, connect both ways and step `PeerUp` at *both* ends, the observer's `Hello` with
//!   `duplex: true`; a peer that is no longer listed goes down;
//! * `InstallSnapshot` is answered by `SnapshotInstalled` alone, and also makes the apply side of a
//!   node that had none.
//!
//! What always holds:
//! * entries are applied in order, without a gap, and only committed ones;
//! * nothing is answered but from this node's own applied state; writes, linearizable reads and beats
//!   go straight to the leader, and wait while none is known;
//! * a state that differs from a voter's at an equal index is replaced, never served on from there
//!   without an alert.

mod callers;
mod follow;
mod state;
mod view;

use std::collections::{BTreeMap, BTreeSet};

use codec::log::{ConfState, Identity};
use codec::peer::{BeatAnswers, Hello, Lane, PeerBody, ReadIndexAnswer};
use codec::row::MemberRole;
use codec::tail::{ObserverRegister, ObserverReport, ObserverReports, Placement, TailReason};

use crate::clock::ClusterClock;
use crate::config::Config;
use crate::driver::Incoming;
use crate::effect::Effect;
use crate::event::{Event, InstalledReport, Micros, Token};
use crate::housekeeping::Housekeeping;
use crate::leases::Leases;
use crate::membership::removed_reason;
use crate::peers::Peers;
use crate::reads::Reads;
use crate::sessions::Sessions;
use crate::tail::{Source, Tail, TailEffect};

pub(crate) use view::show_observer;

use follow::{Follow, Position};

/// (name, host:port)
type PeerName = (String, String);

/// Reports climb the tree this often.
const REPORT_US: Micros = 1_000_000;
/// Asks to be made a member this often, until it is.
const REGISTER_US: Micros = 500_000;
/// The longest time without a tick.
const TICK_US: Micros = 50_000;
/// A leader that was needed stays connected for so long.
const LEADER_LINK_US: Micros = 30_000_000;
/// Voters dialed at a time by a node that follows nobody; others come in turn.
const SEARCH_LINKS: usize = 2;
const SEARCH_TURN_US: Micros = 1_000_000;

/// What an observer starts with, read from its directory.
pub struct ObserverStart {
    pub identity: Identity,
    pub configuration: ConfState,
    /// What the apply side knows after loading; `None` while there is no state.
    pub loaded: Option<InstalledReport>,
    pub now_us: Micros,
    pub wall_us: u64,
}

pub struct ObserverDriver {
    config: Config,
    identity: Identity,
    configuration: ConfState,
    follow: Follow,
    tail: Tail,
    sessions: Sessions,
    session_open: bool,
    session_asked_us: Option<Micros>,
    reads: Reads,
    leases: Leases,
    peers: Peers,
    clock: ClusterClock,
    keeping: Housekeeping,
    now_us: Micros,
    wall_us: u64,
    next_tick_us: Micros,
    next_report_us: Micros,
    next_register_us: Micros,
    leader_needed_us: Option<Micros>,
    position: Position,
    revision: u64,
    live_tasks: u64,
    local_beats: BTreeMap<Token, Micros>,
    snapshot_tokens: Vec<Token>,
    installing: Option<Incoming>,
    /// Nodes with streams that are up, by raft id.
    links: BTreeSet<u64>,
    dialed: Vec<PeerName>,
    told_leader: (u64, u64),
    leader_changes: u64,
    was_member: bool,
    alerts: BTreeSet<String>,
    own_load_bp: Option<[u32; 3]>,
    stopping: bool,
    effects: Vec<Effect>,
}

impl ObserverDriver {
    pub fn new(config: Config, start: ObserverStart) -> Self {
        let loaded = start.loaded.unwrap_or_default();
        let position = position_of(&loaded.report);
        let mut driver = Self {
            follow: Follow::new(start.identity.raft_id, position, config.incarnation << 16 | 1),
            tail: Tail::of_observer(),
            sessions: Sessions::new(config.incarnation),
            session_open: false,
            session_asked_us: None,
            reads: Reads::new(config.incarnation),
            leases: Leases::default(),
            peers: Peers::default(),
            clock: ClusterClock::default(),
            keeping: Housekeeping::new(position.index, position.index),
            now_us: start.now_us,
            wall_us: start.wall_us,
            next_tick_us: start.now_us + TICK_US,
            next_report_us: start.now_us,
            next_register_us: start.now_us,
            leader_needed_us: None,
            position,
            revision: 0,
            live_tasks: 0,
            local_beats: BTreeMap::new(),
            snapshot_tokens: Vec::new(),
            installing: None,
            links: BTreeSet::new(),
            dialed: Vec::new(),
            told_leader: (0, 0),
            leader_changes: 0,
            was_member: false,
            alerts: BTreeSet::new(),
            own_load_bp: None,
            stopping: false,
            effects: Vec::new(),
            identity: start.identity,
            configuration: start.configuration,
            config,
        };
        driver.session_effect();
        if position.index > 0 {
            driver.loaded(loaded);
        }
        driver
    }

    // ---- inputs ----------------------------------------------------------------------------

    /// Takes one event. Effects gather until [`ObserverDriver::ready`].
    pub fn step(&mut self, event: Event) {
        match event {
            Event::Tick { now_us, wall_us } => self.tick(now_us, wall_us),
            Event::PeerUp { hello } => self.peer_up(hello),
            Event::PeerDown { raft_id } => {
                self.links.remove(&raft_id);
                self.tail.left(raft_id, None);
                self.follow.down(raft_id, self.now_us);
                if raft_id == self.told_leader.0 {
                    self.reads.give_up();
                }
            }
            Event::Received { from, body } => self.received(from, body),
            Event::Propose { token, bodies, deadline_us } => self.sessions.propose(token, bodies, deadline_us),
            Event::ReadIndex { token, deadline_us } => self.read(token, deadline_us),
            Event::Beats { beats, deadline_us } => self.local_beats(beats, deadline_us),
            Event::Applied(report) => self.applied(report),
            Event::Flushed { applied_index } => self.keeping.flushed(applied_index),
            Event::SnapshotMade { index, term, configuration: _ } => self.snapshot_made(index, term),
            Event::SnapshotFailed { reason } => self.snapshot_failed(&reason),
            Event::SnapshotReceived { from, transfer, state_dir, raft_message } => {
                self.snapshot_received(from, transfer, state_dir, &raft_message);
            }
            Event::SnapshotInstalled(installed) => self.snapshot_installed(installed),
            Event::TransferLeader { token, .. } => {
                let detail = "an observer does not lead".into();
                self.effects.push(Effect::CompleteTask { token, done: false, detail });
            }
            Event::Verify { token, .. } => {
                let detail = "an observer verifies nothing: ask a voter".into();
                self.effects.push(Effect::CompleteTask { token, done: false, detail });
            }
            Event::LogDamaged { reason } | Event::StateDamaged { reason } => self.effects.push(Effect::Halt { reason }),
            Event::TakeSnapshot { token } => self.take_snapshot(token),
            Event::Stop => self.stop(),
            // The policy's and the log's: an observer has neither.
            _ => {}
        }
    }

    /// This node's own utilisation in basis points: cpu, memory, network.
    pub fn set_load(&mut self, load_bp: [u32; 3]) {
        self.own_load_bp = Some(load_bp);
    }

    /// Tells the time without ticking.
    pub fn observe_time(&mut self, now_us: Micros, wall_us: u64) {
        assert!(now_us >= self.now_us, "monotonic time ran backwards");
        self.now_us = now_us;
        self.wall_us = wall_us;
    }

    fn tick(&mut self, now_us: Micros, wall_us: u64) {
        self.observe_time(now_us, wall_us);
        self.next_tick_us = now_us + TICK_US;
        self.expire_callers();
        if self.stopping {
            return;
        }
        let roots = if self.follow.searches(now_us) { self.roots() } else { Vec::new() };
        self.follow.tick(self.position, &roots, now_us);
        if now_us >= self.next_register_us {
            self.next_register_us = now_us + REGISTER_US;
            self.register();
        }
        if now_us >= self.next_report_us {
            self.next_report_us = now_us + REPORT_US;
            self.report();
        }
        if self.position.index > 0 && self.keeping.start_flush(&self.config, now_us) {
            self.effects.push(Effect::Flush);
        }
    }

    fn peer_up(&mut self, hello: Hello) {
        if hello.you_were_removed {
            if hello.cluster_id == self.identity.cluster_id {
                self.effects.push(Effect::Removed { reason: removed_reason(&self.identity, &self.config.node_id) });
            }
            return;
        }
        let raft_id = hello.raft_id;
        if self.identity.cluster_id == 0 && hello.cluster_id != 0 && !hello.duplex {
            self.identity.cluster_id = hello.cluster_id;
            self.effects.push(Effect::SaveIdentity(self.identity.clone()));
        }
        self.links.insert(raft_id);
        self.peers.heard(raft_id, self.now_us, self.wall_us);
        self.follow.up(raft_id, self.position, self.now_us);
        if raft_id == self.leader() {
            self.sessions.resend_all();
            self.session_asked_us = None;
            self.reads.give_up();
        }
        self.register();
        self.give_placement(raft_id);
    }

    fn received(&mut self, from: u64, body: PeerBody) {
        self.peers.heard(from, self.now_us, self.wall_us);
        match body {
            PeerBody::TailBatch(batch) => {
                let taken = self.follow.batch(from, batch, self.now_us);
                if self.installing.is_none() {
                    self.take_entries(taken.entries);
                }
                self.compare();
            }
            PeerBody::TailEnd(end) if end.reason == TailReason::Left as i32 => {
                self.tail.left(from, Some(end.subscription));
                self.follow.ended(from, &end, self.now_us);
            }
            PeerBody::TailEnd(end) => self.follow.ended(from, &end, self.now_us),
            PeerBody::TailSubscribe(asked) => {
                let source = self.source();
                self.tail.subscribe(from, asked, &source, self.now_us);
            }
            PeerBody::TailAck(ack) => self.tail.acknowledged(from, &ack, self.now_us),
            PeerBody::Placement(placement) => self.placed(&placement),
            PeerBody::ObserverReports(ObserverReports { reports }) => self.tail.reported(from, reports, self.now_us),
            PeerBody::ReadIndexAnswer(ReadIndexAnswer { round, index }) => self.read_answered(round, index),
            PeerBody::BeatAnswers(BeatAnswers { answers }) => self.answer_local_beats(answers),
            // Whoever takes this node for the leader finds out: commands are handed over again.
            _ => {}
        }
    }

    // ---- output ----------------------------------------------------------------------------

    /// Everything to do now, in order.
    pub fn ready(&mut self) -> Vec<Effect> {
        self.tell_leader();
        self.route_commands();
        self.begin_reads();
        for (to, lane, body) in self.follow.take_sends() {
            self.send(to, lane, body);
        }
        let source = self.source();
        for effect in self.tail.serve(&source, |index| self.peers.hash_at(index), self.now_us) {
            match effect {
                TailEffect::Send { to, lane, body } => self.effects.push(Effect::Send { to, lane, body }),
                // Only for those who have a log.
                TailEffect::Fetch { .. } | TailEffect::MakeSnapshot | TailEffect::SendSnapshot { .. } => {}
            }
        }
        self.dial();
        std::mem::take(&mut self.effects)
    }

    /// What children are told: this node passes on what it hears, and nothing once it hears nothing.
    fn source(&self) -> Source {
        let (root, pulse) = self.follow.pulse();
        Source {
            leader: if self.follow.hears(self.now_us) { self.follow.leader } else { 0 },
            term: self.follow.term,
            root,
            pulse,
            depth: self.follow.depth,
            commit_index: self.follow.commit_index,
            applied_index: self.position.index,
            hash: self.position.hash,
            base_index: None,
        }
    }

    /// Passes a newer placement on.
    fn placed(&mut self, placement: &Placement) {
        if self.follow.placed(placement) {
            let children: Vec<u64> = self.tail.children().collect();
            children.into_iter().for_each(|child| self.give_placement(child));
        }
    }

    fn give_placement(&mut self, to: u64) {
        if let Some(placement) = self.follow.placement()
            && self.tail.children().any(|child| child == to)
        {
            let body = PeerBody::Placement(placement.clone());
            self.send(to, Lane::Control, body);
        }
    }

    /// Voters and learners that are known: from the applied rows, else from the placement.
    fn roots(&self) -> Vec<u64> {
        self.root_names().into_iter().map(|(id, _)| id).filter(|id| *id != 0).collect()
    }

    fn root_names(&self) -> Vec<(u64, PeerName)> {
        let members = self.peers.members().iter().filter(|m| m.role != MemberRole::Observer && m.raft_id != 0);
        let mut names: Vec<(u64, PeerName)> = members.map(|m| (m.raft_id, (m.node_id.clone(), m.address.clone()))).collect();
        if let Some(placement) = self.follow.placement().filter(|_| names.is_empty()) {
            names.extend(placement.voters.iter().map(|v| (v.raft_id, (v.node_id.clone(), v.address.clone()))));
        }
        if names.is_empty() {
            let seeds = self.config.expected_nodes.iter().filter(|(name, _)| *name != self.config.node_id);
            names.extend(seeds.map(|(name, address)| (0, (name.clone(), address.clone()))));
        }
        names
    }

    fn name_of(&self, raft_id: u64) -> Option<PeerName> {
        let member = self.peers.members().iter().find(|m| m.raft_id == raft_id);
        let member = member.map(|m| (m.node_id.clone(), m.address.clone()));
        member.or_else(|| self.root_names().into_iter().find(|(id, _)| *id == raft_id).map(|(_, name)| name))
    }

    /// Says whom to dial: the parent, the leader while it is needed, and some voters while this node
    /// follows nobody or knows no leader.
    fn dial(&mut self) {
        let mut wanted: Vec<PeerName> = Vec::new();
        wanted.extend(self.follow.asked().and_then(|id| self.name_of(id)));
        let leader = self.leader();
        if leader != 0 && self.leader_needed_us.is_some_and(|at| self.now_us < at + LEADER_LINK_US) {
            wanted.extend(self.name_of(leader));
        }
        if !self.stopping && !self.follow.hears(self.now_us) {
            let roots = self.root_names();
            let turn = (self.identity.raft_id ^ (self.now_us / SEARCH_TURN_US)) as usize;
            let chosen = (0..SEARCH_LINKS.min(roots.len())).map(|at| roots[(turn + at) % roots.len()].1.clone());
            wanted.extend(chosen.collect::<Vec<_>>());
        }
        wanted.sort();
        wanted.dedup();
        if wanted != self.dialed {
            self.dialed = wanted.clone();
            self.effects.push(Effect::DialPeers(wanted));
        }
    }

    /// Asks voters to be made a member until the applied rows say that it is one.
    fn register(&mut self) {
        if self.is_member() || self.identity.cluster_id == 0 || self.stopping {
            return;
        }
        let ask = ObserverRegister {
            raft_id: self.identity.raft_id,
            node_id: self.config.node_id.clone(),
            address: self.config.address.clone(),
        };
        let links: Vec<u64> = self.links.iter().copied().collect();
        for to in links {
            self.send(to, Lane::Control, PeerBody::ObserverRegister(ask.clone()));
        }
    }

    fn report(&mut self) {
        let Some(parent) = self.follow.asked().filter(|_| self.follow.parent() != 0) else { return };
        let mut reports = self.tail.reports(self.now_us, crate::tree::REPORT_US_MAX);
        reports.push(ObserverReport {
            raft_id: self.identity.raft_id,
            parent,
            applied_index: self.position.index,
            age_us: 0,
            load_bp: self.own_load_bp.map(|l| l.to_vec()).unwrap_or_default(),
            http_address: self.config.http_address.clone(),
            version: self.config.version.clone(),
        });
        self.send(parent, Lane::Control, PeerBody::ObserverReports(ObserverReports { reports }));
    }

    fn stop(&mut self) {
        self.stopping = true;
        self.tail.end_all(TailReason::Left);
        self.follow.stop(self.now_us);
        self.effects.push(Effect::StopReady);
    }

    fn send(&mut self, to: u64, lane: Lane, body: PeerBody) {
        self.effects.push(Effect::Send { to, lane, body });
    }

    pub fn is_leader(&self) -> bool {
        false
    }

    /// When the driver wants to be ticked next, in monotonic time.
    pub fn next_wake_us(&self) -> Micros {
        self.tail.due_us().map_or(self.next_tick_us, |due| due.min(self.next_tick_us)).max(self.now_us)
    }

    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Number of this process's session.
    pub fn session(&self) -> u64 {
        self.sessions.session()
    }

    /// Raft id of the node that feeds this one; 0 for none.
    pub fn parent(&self) -> u64 {
        self.follow.parent()
    }
}

fn position_of(report: &crate::event::AppliedReport) -> Position {
    Position { index: report.index, term: report.term, hash: report.hash }
}
