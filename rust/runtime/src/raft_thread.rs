//! The thread that owns the driver: drain events, step, execute the effects in order.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed, Ordering::Release};
use std::time::{Duration, Instant};

use codec::log::Identity;
use codec::peer::{Lane, PeerBody, SnapshotAnswer};
use crossbeam_channel::{Receiver, Sender, bounded, select_biased};
use node::{ApplyInput, Effect, Event, NodeDriver, NodeView, ProposalEnd, Token};
use parking_lot::Mutex;
use store::rocks::DataDirectory;
use transport::{NetHandle, PeerAddress, SendError};

use crate::apply_thread::ApplyRequest;
use crate::backup::seed_base;
use crate::clock::Clock;
use crate::disk_thread::{DiskRequest, Fetch};
use crate::feed::Feed;
use crate::log_writer::LogRequest;
use crate::metrics::Metrics;
use crate::ring::{Notice, Ring};
use crate::snapshot_out::SnapshotNews;
use crate::state_cell::StateCell;
use crate::trace::Trace;

/// Events taken before effects are executed.
const DRAIN_MAX: usize = 1_024;
/// The view is published with the first turn after this time: with the tick, it is at most 15 ms old.
const VIEW_INTERVAL: Duration = Duration::from_millis(5);
/// The same with more members than this: a view of a hundred costs a twentieth of a millisecond.
const VIEW_INTERVAL_MANY: Duration = Duration::from_millis(35);
const MEMBERS_MANY: usize = 16;
/// Entries whose append time is remembered for the commit latency.
const APPENDS_MAX: usize = 65_536;

/// What other threads of this node tell the raft thread. Answers only, so it needs no bound.
#[derive(Debug)]
pub(crate) enum ToRaft {
    Event(Box<Event>),
    /// This machine's load in basis points: cpu, memory, network.
    Load([u32; 3]),
    /// The node cannot go on.
    Halt(String),
}

impl ToRaft {
    pub(crate) fn event(event: Event) -> Self {
        Self::Event(Box::new(event))
    }
}

/// Numbers that other threads read.
#[derive(Default)]
pub(crate) struct Shared {
    /// Commands and bytes of local callers that are not complete.
    pub pending: AtomicUsize,
    pub pending_bytes: AtomicUsize,
    /// Requests that wait for the log writer and the apply thread.
    pub log_depth: AtomicUsize,
    pub apply_depth: AtomicUsize,
    pub revision: AtomicU64,
    pub view: Mutex<NodeView>,
    /// The node has fenced itself: nothing is served.
    pub fenced: AtomicBool,
    /// The node takes no new work.
    pub stopped: AtomicBool,
}

/// A group under way.
struct Waiting {
    since: Instant,
    commands: usize,
    bytes: usize,
}

pub(crate) struct RaftThread {
    pub driver: NodeDriver,
    pub clock: Clock,
    /// From callers and peers: bounded.
    pub inbox: Receiver<Event>,
    pub inner: Receiver<ToRaft>,
    pub log: Sender<LogRequest>,
    pub apply: Sender<ApplyRequest>,
    pub disk: Sender<DiskRequest>,
    pub reader: Sender<Fetch>,
    pub snapshots_out: Sender<SnapshotNews>,
    pub net: NetHandle,
    pub ring: Arc<Ring>,
    pub feed: Arc<Feed>,
    pub metrics: Arc<Metrics>,
    pub trace: Arc<Trace>,
    pub node_id: String,
    pub shared: Arc<Shared>,
    pub directory: Arc<DataDirectory>,
    pub state: Arc<StateCell>,
    pub work: Work,
}

/// What the raft thread remembers between turns.
#[derive(Default)]
pub(crate) struct Work {
    groups: HashMap<Token, Waiting>,
    reads: HashMap<Token, Instant>,
    /// Commands for peers whose forward lane was full, in order.
    deferred: BTreeMap<u64, VecDeque<PeerBody>>,
    /// Leader: when entries were appended.
    appends: VecDeque<(u64, Instant)>,
    notices: Vec<Notice>,
    viewed: Option<Instant>,
    view_due: bool,
    /// Members in the last view: what it costs to make one.
    members: usize,
    leads: bool,
    /// The cluster has removed this node.
    removed: bool,
    /// Since when no leader is known.
    leaderless: Option<Instant>,
}

/// Whether the thread goes on.
enum Next {
    Go,
    /// Everything was handed over.
    Ready,
    Halt(String),
}

impl RaftThread {
    /// Runs until the driver is ready to stop or cannot go on. When it returns, its senders are gone,
    /// so that the threads behind it finish what they have and end.
    pub(crate) fn run(mut self) {
        let end = loop {
            match self.turn() {
                Next::Go => {}
                Next::Ready => break None,
                Next::Halt(reason) => break Some(reason),
            }
        };
        failpoint::point!("runtime::raft_thread::stop");
        self.shared.stopped.store(true, Release);
        self.finish_waiting();
        self.publish_view();
        self.feed.stop();
        if let Some(reason) = end {
            eprintln!("taskquorum: this node stops: {reason}");
            self.ring.stopped(reason);
        }
    }

    fn turn(&mut self) -> Next {
        let wait = Duration::from_micros(self.driver.next_wake_us().saturating_sub(self.clock.now_us()));
        let mut first = None;
        select_biased! {
            recv(self.inner) -> message => match message {
                Ok(message) => first = Some(message),
                Err(_) => return Next::Halt("the threads behind the raft thread have ended".to_owned()),
            },
            recv(self.inbox) -> message => match message {
                Ok(event) => first = Some(ToRaft::event(event)),
                Err(_) => return Next::Halt("nobody can reach the raft thread any more".to_owned()),
            },
            default(wait) => {}
        }
        let started = Instant::now();
        let (now_us, wall_us) = (self.clock.now_us(), self.clock.wall_us());
        if now_us >= self.driver.next_wake_us() {
            self.driver.step(Event::Tick { now_us, wall_us });
        } else {
            self.driver.observe_time(now_us, wall_us);
        }
        for _ in 0..DRAIN_MAX {
            match first.take().map_or_else(|| self.inner.try_recv(), Ok) {
                Ok(ToRaft::Event(event)) => self.step(*event),
                Ok(ToRaft::Load(load_bp)) => self.driver.set_load(load_bp),
                Ok(ToRaft::Halt(reason)) => return Next::Halt(reason),
                Err(_) => match self.inbox.try_recv() {
                    Ok(event) => self.step(event),
                    Err(_) => break,
                },
            }
        }
        let next = self.execute_all();
        self.shared.log_depth.store(self.log.len(), Relaxed);
        self.shared.apply_depth.store(self.apply.len(), Relaxed);
        self.metrics.raft_round_us.record(started.elapsed().as_micros() as u64);
        next
    }

    fn step(&mut self, event: Event) {
        match &event {
            Event::Propose { token, bodies, .. } => {
                let bytes = bodies.iter().map(|b| b.encoded_len()).sum();
                self.work.groups.insert(*token, Waiting { since: Instant::now(), commands: bodies.len(), bytes });
                self.metrics.commands_proposed.fetch_add(bodies.len() as u64, Relaxed);
            }
            Event::ReadIndex { token, .. } => {
                self.work.reads.insert(*token, Instant::now());
            }
            Event::Applied(report) | Event::SnapshotInstalled(node::InstalledReport { report, .. }) => {
                self.shared.revision.store(report.revision, Release);
            }
            Event::PeerDown { raft_id } => {
                // The driver sends again what has no outcome once the peer is back.
                self.work.deferred.remove(raft_id);
            }
            _ => {}
        }
        failpoint::point!("runtime::raft_thread::step");
        let persisted = matches!(event, Event::Persisted { .. });
        if matches!(event, Event::TransferLeader { .. }) {
            failpoint::point!("runtime::raft_thread::transfer");
        }
        self.driver.step(event);
        if persisted {
            failpoint::point!("runtime::raft_thread::persisted");
        }
    }

    fn execute_all(&mut self) -> Next {
        failpoint::point!("runtime::raft_thread::ready");
        self.send_deferred();
        let mut next = Next::Go;
        for effect in self.driver.ready() {
            match self.execute(effect) {
                Next::Go => {}
                end => {
                    next = end;
                    break;
                }
            }
        }
        let interval = if self.work.members > MEMBERS_MANY { VIEW_INTERVAL_MANY } else { VIEW_INTERVAL };
        if self.work.view_due || self.work.viewed.is_none_or(|at| at.elapsed() >= interval) {
            self.publish_view();
        }
        if !self.work.notices.is_empty() {
            failpoint::point!("runtime::raft_thread::complete_before");
            self.ring.complete(self.work.notices.drain(..));
        }
        next
    }

    fn publish_view(&mut self) {
        let mut view = self.driver.view();
        self.shared.fenced.store(!view.fenced.is_empty(), Release);
        view.kept_aside = self.state.kept_aside();
        view.removed |= self.work.removed;
        self.work.members = view.members.len();
        *self.shared.view.lock() = view;
        self.work.viewed = Some(Instant::now());
        self.work.view_due = false;
    }

    /// A thread behind a closed channel has failed and said why: its `Halt` is on the way.
    fn execute(&mut self, effect: Effect) -> Next {
        match effect {
            Effect::Persist { number, entries, hard_state } => {
                if self.work.leads
                    && let Some(last) = entries.last()
                    && self.work.appends.len() < APPENDS_MAX
                {
                    self.work.appends.push_back((last.index, Instant::now()));
                }
                let _ = self.log.send(LogRequest::Persist { number, entries, hard_state });
            }
            Effect::Truncate { base_index } => drop(self.log.send(LogRequest::Truncate { base_index })),
            Effect::FetchEntries { fetch, low, high, bytes_max } => {
                let _ = self.reader.send(Fetch { fetch, low, high, bytes_max });
            }
            Effect::Send { to, lane, body } => self.send(to, lane, body),
            Effect::Apply(input) => {
                self.note_commit(&input);
                let _ = self.apply.send(ApplyRequest::Input(input));
            }
            Effect::CompleteProposal { token, end, outcomes } => self.complete_group(token, end, outcomes),
            Effect::CompleteRead { token, readable } => {
                if let Some(since) = self.work.reads.remove(&token) {
                    self.metrics.read_index_us.record(since.elapsed().as_micros() as u64);
                }
                self.work.notices.push(Notice::Readable { token, readable });
            }
            Effect::CompleteBeats(answers) => self.work.notices.extend(answers.into_iter().map(|a| Notice::Beaten {
                token: a.token,
                lease_ms: a.lease_ms,
                heartbeat_ms: a.heartbeat_ms,
                stale: a.stale,
                unknown: a.unknown,
            })),
            Effect::CompleteTask { token, done, detail } => {
                // What was asked for may show in the view: whoever is told looks there.
                self.work.view_due = true;
                self.work.notices.push(Notice::Done { token, done, detail });
            }
            Effect::LeaderChanged { leader, node_id, term, is_self } => {
                failpoint::point!("runtime::raft_thread::leader_changed");
                (self.work.leads, self.work.view_due) = (is_self, true);
                if leader == 0 {
                    self.work.leaderless.get_or_insert_with(Instant::now);
                } else if let Some(since) = self.work.leaderless.take() {
                    self.metrics.recovery_us.record(since.elapsed().as_micros() as u64);
                }
                self.work.appends.clear();
                self.ring.leader(node_id, term, is_self);
            }
            Effect::AgentLoads(loads) => self.feed.loads(&loads),
            Effect::Bootstrap(identity) => return self.bootstrap(identity),
            Effect::SaveIdentity(identity) => return self.save_identity(identity),
            Effect::MakeSnapshot => drop(self.disk.send(DiskRequest::Checkpoint)),
            Effect::SendSnapshot { to, raft_message } => {
                let _ = self.snapshots_out.send(SnapshotNews::Send { to, raft_message });
            }
            Effect::InstallSnapshot { number, base, hard_state } => {
                let (done, logged) = bounded(1);
                let (state_dir, index) = (base.state_dir.clone(), base.index);
                if state_dir.is_empty() {
                    return Next::Halt("a snapshot is to be installed that was never received".to_owned());
                }
                let _ = self.log.send(LogRequest::Install { number, base, hard_state, done });
                let _ = self.apply.send(ApplyRequest::Install { state_dir, index, logged });
            }
            Effect::DropSnapshot { state_dir } => drop(self.disk.send(DiskRequest::Remove { state_dir })),
            Effect::Flush => drop(self.disk.send(DiskRequest::Flush)),
            Effect::AnswerSnapshot { to, transfer, index, installed, reason } => {
                self.send(to, Lane::Control, PeerBody::SnapshotAnswer(SnapshotAnswer { transfer, index, installed, reason }));
            }
            Effect::DialPeers(peers) => {
                self.net.set_peers(peers.into_iter().map(|(node_id, address)| PeerAddress { node_id, address }).collect());
            }
            Effect::RefusePeer { raft_id } => self.net.refuse(raft_id),
            Effect::Fence { reason } => return self.fence(reason),
            Effect::Retire { reason } => return self.retire(reason),
            Effect::Removed { reason } => {
                self.work.removed = true;
                return Next::Halt(reason);
            }
            Effect::Halt { reason } => return Next::Halt(reason),
            Effect::StopReady => return Next::Ready,
        }
        Next::Go
    }

    /// Durable before the next effect: a restart must not serve this state either.
    fn fence(&mut self, reason: String) -> Next {
        let name = self.state.name();
        eprintln!(
            "taskquorum: this node has fenced itself: {reason}; its files in {name} are kept, and it takes the others' state"
        );
        self.work.view_due = true;
        match self.directory.mark_state(&name, &reason) {
            Ok(()) => Next::Go,
            Err(error) => Next::Halt(format!("the damaged state cannot be marked: {error}")),
        }
    }

    /// The next start goes on under a new identity.
    fn retire(&mut self, reason: String) -> Next {
        let noted = getrandom::u64()
            .map_err(|e| e.to_string())
            .and_then(|id| self.directory.retire(&self.driver.identity().node_id, id.max(1), &reason).map_err(|e| e.to_string()));
        match noted {
            Ok(()) => {
                Next::Halt(format!("{reason}. Start it again: it keeps these files aside and comes back under a new identity"))
            }
            Err(error) => Next::Halt(format!("{reason}. That it must not vote again could not be noted: {error}")),
        }
    }

    /// Synced, written and loaded before the next effect: a vote may follow.
    fn bootstrap(&mut self, identity: Identity) -> Next {
        let cluster_id = identity.cluster_id;
        let Some(bootstrap) = identity.bootstrap.clone() else {
            return Next::Halt("a cluster without a first configuration".to_owned());
        };
        failpoint::point!("runtime::raft_thread::bootstrap_before");
        let (done, saved) = bounded(1);
        let _ = self.log.send(LogRequest::SaveIdentity { identity: Box::new(identity), done });
        if saved.recv().is_err() {
            return self.reason_to_halt();
        }
        failpoint::point!("runtime::raft_thread::bootstrap_saved");
        let (done, written) = bounded(1);
        let _ = self.apply.send(ApplyRequest::Bootstrap { bootstrap: Box::new(bootstrap), done });
        let Ok(seeded) = written.recv() else { return self.reason_to_halt() };
        if let Some(state_dir) = seeded {
            // Entries follow behind it in both queues.
            let (base, hard_state) = seed_base(state_dir.clone());
            let (index, (done, logged)) = (base.index, bounded(1));
            let _ = self.log.send(LogRequest::Install { number: 0, base, hard_state, done });
            let _ = self.apply.send(ApplyRequest::Install { state_dir, index, logged });
        }
        failpoint::point!("runtime::raft_thread::bootstrap_after");
        self.net.set_cluster(cluster_id);
        self.work.view_due = true;
        Next::Go
    }

    /// An observer has met its cluster.
    fn save_identity(&mut self, identity: Identity) -> Next {
        let cluster_id = identity.cluster_id;
        let (done, saved) = bounded(1);
        let _ = self.log.send(LogRequest::SaveIdentity { identity: Box::new(identity), done });
        if saved.recv().is_err() {
            return self.reason_to_halt();
        }
        self.net.set_cluster(cluster_id);
        self.work.view_due = true;
        Next::Go
    }

    fn reason_to_halt(&self) -> Next {
        let reasons = self.inner.try_iter().filter_map(|m| if let ToRaft::Halt(reason) = m { Some(reason) } else { None });
        Next::Halt(reasons.last().unwrap_or_else(|| "the node cannot enter its cluster".to_owned()))
    }

    fn send(&mut self, to: u64, lane: Lane, body: PeerBody) {
        if lane == Lane::Forward && self.work.deferred.contains_key(&to) {
            return self.defer(to, body);
        }
        if lane == Lane::Forward {
            failpoint::point!("runtime::raft_thread::forward");
        }
        match self.net.send(to, lane, body) {
            Ok(()) => {}
            // Commands keep their order and wait for room; proposals_max bounds them.
            Err(SendError::Full(body)) if lane == Lane::Forward => self.defer(to, *body),
            // Raft, reads, beats and reports are sent again or time out.
            Err(_) => drop(self.metrics.raft_dropped.fetch_add(1, Relaxed)),
        }
    }

    fn defer(&mut self, to: u64, body: PeerBody) {
        self.work.deferred.entry(to).or_default().push_back(body);
    }

    fn send_deferred(&mut self) {
        let mut deferred = std::mem::take(&mut self.work.deferred);
        deferred.retain(|to, bodies| {
            while let Some(body) = bodies.pop_front() {
                match self.net.send(*to, Lane::Forward, body) {
                    Ok(()) => {}
                    Err(SendError::Full(body)) => {
                        bodies.push_front(*body);
                        return true;
                    }
                    Err(_) => return false,
                }
            }
            false
        });
        self.work.deferred = deferred;
    }

    fn note_commit(&mut self, input: &ApplyInput) {
        let ApplyInput::Entries { entries, .. } = input else { return };
        let Some((first, last)) = entries.first().zip(entries.last()) else { return };
        if self.work.leads {
            self.trace.record("commit", &self.node_id, first.index, last.index);
        }
        while let Some((_, since)) = self.work.appends.front().filter(|(index, _)| *index <= last.index) {
            self.metrics.commit_us.record(since.elapsed().as_micros() as u64);
            self.work.appends.pop_front();
        }
    }

    fn complete_group(&mut self, token: Token, end: ProposalEnd, outcomes: Vec<codec::Outcome>) {
        if let Some(waiting) = self.work.groups.remove(&token) {
            self.metrics.proposal_us.record(waiting.since.elapsed().as_micros() as u64);
            self.shared.pending.fetch_sub(waiting.commands, Relaxed);
            self.shared.pending_bytes.fetch_sub(waiting.bytes, Relaxed);
        }
        if end == ProposalEnd::OutcomeUnknown {
            self.metrics.proposals_unknown.fetch_add(1, Relaxed);
        }
        let revision = self.shared.revision.load(Relaxed);
        self.work.notices.push(Notice::Proposed { token, end, revision, outcomes });
    }

    /// Whoever still waits when the node stops hears that the outcome is unknown here.
    fn finish_waiting(&mut self) {
        let revision = self.shared.revision.load(Relaxed);
        let mut notices = std::mem::take(&mut self.work.notices);
        let ended = |token, end| Notice::Proposed { token, end, revision, outcomes: Vec::new() };
        notices.extend(std::mem::take(&mut self.work.groups).into_keys().map(|token| ended(token, ProposalEnd::OutcomeUnknown)));
        let reads = std::mem::take(&mut self.work.reads).into_keys();
        notices.extend(reads.map(|token| Notice::Readable { token, readable: false }));
        for event in self.inbox.try_iter() {
            match event {
                Event::Propose { token, .. } => notices.push(ended(token, ProposalEnd::NoLeader)),
                Event::ReadIndex { token, .. } => notices.push(Notice::Readable { token, readable: false }),
                Event::TransferLeader { token, .. } | Event::TakeSnapshot { token } | Event::AwaitMember { token, .. } => {
                    notices.push(Notice::Done { token, done: false, detail: "the node is stopping".to_owned() });
                }
                Event::Beats { beats, .. } => notices.extend(beats.iter().map(|beat| Notice::Beaten {
                    token: beat.token,
                    lease_ms: 0,
                    heartbeat_ms: 0,
                    stale: false,
                    unknown: false,
                })),
                _ => {}
            }
        }
        self.ring.complete(notices);
    }
}
