//! The thread that owns the driver: drain events, step, execute the effects in order.
//!
//! The loop and what other threads see of it; how an effect is executed is in `effects`.

mod effects;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed, Ordering::Release};
use std::time::{Duration, Instant};

use codec::peer::PeerBody;
use crossbeam_channel::{Receiver, Sender, select_biased};
use node::{Event, NodeDriver, NodeView, ProposalEnd, Token};
use parking_lot::Mutex;
use store::rocks::DataDirectory;
use transport::NetHandle;

use crate::apply_thread::ApplyRequest;
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
