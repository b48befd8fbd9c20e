//! What voters and learners do for observers: feed children, pass reports up and placements down; and
//! what the leader does: make them members, and publish who hangs below whom.
//!
//! What always holds: a placement is published under the leader's term with a growing version; a node
//! passes on only one that is newer than what it has. Nothing here is in the log but membership.

use std::collections::{BTreeMap, BTreeSet};

use codec::command::{AddMember, AdmitMember, Body, RemoveMember, SettleMember};
use codec::log::{ConfState, LogEntry};
use codec::peer::{Hello, Lane, PeerBody};
use codec::row::{MemberRole, MemberState};
use codec::tail::{ObserverRegister, ObserverReports, PlacedObserver, PlacedVoter, Placement, TailReason};
use consensus::{Consensus, SnapshotMeta};

use crate::driver::Driver;
use crate::effect::Effect;
use crate::event::{Member, Micros, Token};
use crate::observer::show_observer;
use crate::tail::{FETCH_BIT, Source, Tail, TailEffect};
use crate::tree::{REPORT_US_MAX, Root, Seat, place};
use crate::view::MemberView;

/// Reports go to the leader, and a placement is published, at least this often.
const REPORT_US: Micros = 1_000_000;
/// A placement that has changed is published at most this often.
const PUBLISH_US: Micros = 100_000;
/// An observer that was told another parent has gone there, and its report has climbed, after this.
const SETTLE_US: Micros = 4_000_000;
/// A step of a registration that came to nothing is tried again after this pause.
const REGISTER_RETRY_US: Micros = 1_000_000;
const REGISTER_TIMEOUT_US: Micros = 5_000_000;
/// Observers that wait to be made members at a time.
const REGISTERING_MAX: usize = 1_024;
/// Tokens of the node's own proposals: no caller waits for them.
pub(crate) const OWN_TOKENS: Token = 1 << 63;

struct Registering {
    ask: ObserverRegister,
    /// The step that was taken, and when.
    tried: Option<(&'static str, Micros)>,
}

#[derive(Default)]
pub(crate) struct Observers {
    tail: Tail,
    /// Observers whose streams to this node are up.
    links: BTreeSet<u64>,
    /// The newest placement: published by this node or heard.
    placement: Option<Placement>,
    /// Observer → parent, and since when.
    parents: BTreeMap<u64, (u64, Micros)>,
    version: u64,
    publish_at_us: Micros,
    changed: bool,
    next_report_us: Micros,
    registering: BTreeMap<u64, Registering>,
    next_token: u64,
    /// Configuration inside the newest checkpoint.
    snapshot_configuration: ConfState,
}

impl Driver {
    // ---- what happens ------------------------------------------------------------------------

    /// A stream of an observer is up; false if the peer is none.
    pub(crate) fn observer_up(&mut self, hello: &Hello) -> bool {
        if !hello.duplex {
            return false;
        }
        self.peers.up(hello);
        self.peers.heard(hello.raft_id, self.now_us, self.wall_us);
        self.observers.links.insert(hello.raft_id);
        if let Some(placement) = self.observers.placement.clone() {
            self.send(hello.raft_id, Lane::Control, PeerBody::Placement(placement));
        }
        true
    }

    pub(crate) fn observer_down(&mut self, raft_id: u64) {
        self.observers.links.remove(&raft_id);
        self.observers.tail.left(raft_id, None);
    }

    pub(crate) fn observer_message(&mut self, from: u64, body: PeerBody) {
        match body {
            PeerBody::TailSubscribe(asked) => {
                let source = self.tail_source();
                self.observers.tail.subscribe(from, asked, &source, self.now_us);
            }
            PeerBody::TailAck(ack) => self.observers.tail.acknowledged(from, &ack, self.now_us),
            PeerBody::TailEnd(end) => self.observers.tail.left(from, Some(end.subscription)),
            PeerBody::ObserverReports(ObserverReports { reports }) => {
                self.observers.tail.reported(from, reports, self.now_us);
            }
            PeerBody::Placement(placement) => self.placement_heard(placement),
            PeerBody::ObserverRegister(ask) => self.register_observer(ask),
            // An observer feeds no voter.
            _ => {}
        }
    }

    pub(crate) fn observers_fetched(&mut self, fetch: u64, entries: Vec<LogEntry>) {
        let source = self.tail_source();
        self.observers.tail.fetched(fetch, entries, &source, self.now_us);
    }

    pub(crate) fn observers_snapshot_made(&mut self, index: u64, term: u64, configuration: &ConfState) {
        self.observers.snapshot_configuration = configuration.clone();
        self.observers.tail.snapshot_made(index, term);
    }

    pub(crate) fn observers_checkpoint_dropped(&mut self, index: u64) {
        self.observers.tail.checkpoint_dropped(index);
    }

    pub(crate) fn observers_snapshot_failed(&mut self) {
        self.observers.tail.snapshot_failed(self.now_us);
    }

    /// Whether the snapshot went to an observer; Raft is then not told.
    pub(crate) fn observers_snapshot_sent(&mut self, to: u64, installed: bool) -> bool {
        self.observers.tail.snapshot_sent(to, installed, self.now_us)
    }

    pub(crate) fn observers_committed(&mut self, entries: &[LogEntry]) {
        self.observers.tail.committed(entries);
    }

    pub(crate) fn observers_state_replaced(&mut self) {
        self.observers.tail.forget_window();
    }

    pub(crate) fn observers_members_changed(&mut self) {
        self.observers.changed = true;
    }

    /// Children look for another parent before this node stops.
    pub(crate) fn leave_observers(&mut self) {
        self.observers.tail.end_all(TailReason::Left);
    }

    // ---- what is done ------------------------------------------------------------------------

    fn tail_source(&self) -> Source {
        let leader = self.consensus.as_ref().map_or(0, Consensus::leader);
        Source {
            leader,
            term: self.consensus.as_ref().map_or(0, Consensus::term),
            root: self.identity.raft_id ^ self.config.incarnation,
            pulse: self.now_us,
            depth: 0,
            commit_index: self.consensus.as_ref().map_or(0, Consensus::commit_index),
            applied_index: self.applied_index,
            hash: self.hash,
            base_index: Some(self.consensus.as_ref().map_or(0, |c| c.base().0)),
        }
    }

    pub(crate) fn serve_observers(&mut self) {
        if self.consensus.is_none() {
            return;
        }
        let source = self.tail_source();
        for effect in self.observers.tail.serve(&source, |index| self.peers.hash_at(index), self.now_us) {
            match effect {
                TailEffect::Send { to, lane, body } => self.send(to, lane, body),
                TailEffect::Fetch { fetch, low, high, bytes_max } => {
                    self.effects.push(Effect::FetchEntries { fetch, low, high, bytes_max });
                }
                TailEffect::MakeSnapshot => self.make_snapshot(),
                TailEffect::SendSnapshot { to, index, term } => {
                    self.keeping.snapshot_sending(to, index);
                    let meta = SnapshotMeta { index, term, configuration: self.observers.snapshot_configuration.clone() };
                    let raft_message = consensus::snapshot_message(self.identity.raft_id, to, &meta);
                    self.effects.push(Effect::SendSnapshot { to, raft_message });
                }
            }
        }
    }

    /// When children want to be fed although nothing happens.
    pub(crate) fn observers_due_us(&self) -> Option<Micros> {
        self.observers.tail.due_us()
    }

    /// Part of a tick.
    pub(crate) fn keep_observers(&mut self) {
        if self.is_leader() {
            self.step_registrations();
            self.publish();
        } else if self.now_us >= self.observers.next_report_us {
            self.observers.next_report_us = self.now_us + REPORT_US;
            let reports = self.observers.tail.reports(self.now_us, REPORT_US_MAX);
            if let Some(leader) = self.leader_peer()
                && !reports.is_empty()
            {
                self.send(leader, Lane::Control, PeerBody::ObserverReports(ObserverReports { reports }));
            }
        }
    }

    fn placement_heard(&mut self, placement: Placement) {
        let newer = |p: &Placement| (placement.term, placement.version) > (p.term, p.version);
        if self.is_leader() || !self.observers.placement.as_ref().is_none_or(newer) {
            return;
        }
        self.observers.parents = placement.observers.iter().map(|o| (o.raft_id, (o.parent, self.now_us))).collect();
        self.give_placement(placement);
    }

    fn give_placement(&mut self, placement: Placement) {
        for to in self.observers.links.clone() {
            self.send(to, Lane::Control, PeerBody::Placement(placement.clone()));
        }
        self.observers.placement = Some(placement);
    }

    // ---- the leader's --------------------------------------------------------------------------

    fn publish(&mut self) {
        let Some(consensus) = &self.consensus else { return };
        let observers: Vec<&Member> = self.peers.members().iter().filter(|m| is_seated(m)).collect();
        if observers.is_empty() && self.observers.placement.as_ref().is_none_or(|p| p.observers.is_empty()) {
            return;
        }
        let last = self.observers.publish_at_us;
        let due = self.now_us >= last + REPORT_US || (self.observers.changed && self.now_us >= last + PUBLISH_US);
        if !due {
            return;
        }
        let (own, term) = (self.identity.raft_id, consensus.term());
        let reports = self.observers.tail.reports(self.now_us, REPORT_US_MAX);
        let report_of = |raft_id: u64| reports.iter().find(|r| r.raft_id == raft_id);
        let configuration = consensus.configuration();
        let roots = configuration.voters.iter().chain(&configuration.learners);
        let roots: Vec<Root> =
            roots.map(|id| Root { raft_id: *id, alive: *id == own || self.peers.fresh(*id, self.now_us) }).collect();
        let seat = |m: &&Member| {
            let report = report_of(m.raft_id);
            let actual = report.map_or(0, |r| r.parent);
            let (told, since) = self.observers.parents.get(&m.raft_id).copied().unwrap_or_default();
            // What it reports is from before it was told, until its next reports have climbed the tree.
            let settled = self.now_us >= since + SETTLE_US;
            Seat { raft_id: m.raft_id, alive: report.is_some(), wanted: if settled { [actual, told] } else { [told, actual] } }
        };
        let seats: Vec<Seat> = observers.iter().map(seat).collect();
        let parents = place(own, &roots, &seats);
        let placed = |m: &&Member| PlacedObserver {
            raft_id: m.raft_id,
            parent: parents.get(&m.raft_id).copied().unwrap_or(0),
            report: report_of(m.raft_id).cloned(),
        };
        let placement = Placement {
            term,
            version: self.observers.version + 1,
            leader: own,
            observers: observers.iter().map(placed).collect(),
            voters_healthy: self.peers.healthy(&configuration.voters, own, self.now_us) as u32,
            voters: roots.iter().filter_map(|root| self.placed_voter(root, consensus)).collect(),
        };
        self.observers.version += 1;
        self.observers.publish_at_us = self.now_us;
        self.observers.changed = false;
        let since = |(child, parent): (u64, u64)| match self.observers.parents.get(&child) {
            Some((before, since)) if *before == parent => (child, (parent, *since)),
            _ => (child, (parent, self.now_us)),
        };
        self.observers.parents = parents.into_iter().map(since).collect();
        for to in self.peers.others(own) {
            self.send(to, Lane::Control, PeerBody::Placement(placement.clone()));
        }
        self.give_placement(placement);
    }

    fn placed_voter(&self, root: &Root, consensus: &Consensus) -> Option<PlacedVoter> {
        let member = self.peers.members().iter().find(|m| m.raft_id == root.raft_id)?;
        let is_self = root.raft_id == self.identity.raft_id;
        let matched = consensus.progress().iter().find(|p| p.raft_id == root.raft_id).map_or(0, |p| p.match_index);
        Some(PlacedVoter {
            raft_id: root.raft_id,
            node_id: member.node_id.clone(),
            address: member.address.clone(),
            alive: root.alive,
            match_index: if is_self { consensus.last_index() } else { matched },
            http_address: if is_self { self.config.http_address.clone() } else { self.peers.http_address(root.raft_id) },
        })
    }

    /// Takes note of an observer that wants to be a member; a follower passes it on.
    fn register_observer(&mut self, ask: ObserverRegister) {
        if !self.is_leader() {
            if let Some(leader) = self.leader_peer() {
                self.send(leader, Lane::Control, PeerBody::ObserverRegister(ask));
            }
            return;
        }
        let known = self.observers.registering.contains_key(&ask.raft_id);
        if !known && self.observers.registering.len() < REGISTERING_MAX {
            self.observers.registering.insert(ask.raft_id, Registering { ask, tried: None });
        }
    }

    /// The next step of each registration, by what the applied rows say: add, admit, settle; one whose
    /// directory is new takes the place of its older self, once that has been silent.
    fn step_registrations(&mut self) {
        for (raft_id, mut registering) in std::mem::take(&mut self.observers.registering) {
            let ask = &registering.ask;
            let member = self.peers.members().iter().find(|m| m.node_id == ask.node_id);
            let node_id = ask.node_id.clone();
            let settle = |m: &Member| {
                let (state, role) = (m.state as i32, m.role as i32);
                Body::SettleMember(SettleMember { node_id: m.node_id.clone(), raft_id: m.raft_id, state, role })
            };
            let (step, body) = match member {
                None => {
                    let (address, role) = (ask.address.clone(), MemberRole::Observer as i32);
                    ("add", Body::AddMember(AddMember { node_id, address, role, alive: Vec::new() }))
                }
                // The name is a voter's or learner's: nothing for it here.
                Some(m) if m.role != MemberRole::Observer => continue,
                Some(m) if m.state == MemberState::Leaving => ("leave", settle(m)),
                Some(m) if m.raft_id == 0 => ("admit", Body::AdmitMember(AdmitMember { node_id, raft_id, retires: 0 })),
                Some(m) if m.raft_id != raft_id => {
                    let reports = self.observers.tail.reports(self.now_us, REPORT_US_MAX);
                    if reports.iter().any(|r| r.raft_id == m.raft_id) {
                        continue;
                    }
                    ("remove", Body::RemoveMember(RemoveMember { node_id, alive: Vec::new() }))
                }
                Some(m) if m.state == MemberState::Joining => ("settle", settle(m)),
                Some(_) => continue,
            };
            let again = |(tried, at): (&str, Micros)| tried != step || self.now_us >= at + REGISTER_RETRY_US;
            if registering.tried.is_none_or(again) {
                registering.tried = Some((step, self.now_us));
                self.propose_own(body);
            }
            self.observers.registering.insert(raft_id, registering);
        }
    }

    /// Proposes a command of this leader: leader-only ones under its term, others in its session.
    fn propose_own(&mut self, body: Body) {
        if body.leader_only() {
            self.leader.push(body);
            return;
        }
        self.observers.next_token += 1;
        let token = OWN_TOKENS | self.observers.next_token;
        self.sessions.propose(token, vec![body], self.now_us + REGISTER_TIMEOUT_US);
    }

    /// Fills in what is known of an observer among the members' views.
    pub(crate) fn observer_view(&self, view: &mut MemberView, member: &Member) {
        let placed = self.observers.placement.as_ref().and_then(|p| p.observers.iter().find(|o| o.raft_id == member.raft_id));
        show_observer(view, placed, member.drain, self.wall_us, |id| self.peers.node_id(id).map(str::to_owned));
    }
}

/// An observer that has a place in the tree.
fn is_seated(member: &Member) -> bool {
    member.role == MemberRole::Observer && member.raft_id != 0 && member.state != MemberState::Leaving
}

/// Whether the fetch is the tail's and not Raft's.
pub(crate) fn is_tail_fetch(fetch: u64) -> bool {
    fetch & FETCH_BIT != 0
}
