//! What other threads give to the net thread: queues of the peers that are up, and requests.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use codec::frame::{FrameKind, to_frame};
use codec::peer::{Lane, PeerBody, PeerMessage};
use mio::Waker;
use parking_lot::{Condvar, Mutex};
use thiserror::Error;

use crate::event::PeerAddress;
use crate::queue::{Class, SendQueue};
use crate::{frame_bytes_max, queue_bytes_max};

/// Why a message was not queued.
#[derive(Debug, PartialEq, Error)]
pub enum SendError {
    /// The peer is not connected. A `PeerUp` follows when it is.
    #[error("the peer is not connected")]
    Unreachable,
    /// The lane's queue is full: send again after a pause.
    #[error("the peer's queue is full")]
    Full(Box<PeerBody>),
    /// No lane takes a frame of this size: a bug at the caller.
    #[error("a frame of {0} bytes is over the lane's limit")]
    TooLarge(usize),
}

/// Totals since the start.
#[derive(Debug, Default)]
pub struct NetCounters {
    pub bytes_sent: AtomicU64,
    pub bytes_received: AtomicU64,
    pub messages_sent: AtomicU64,
    pub messages_received: AtomicU64,
    /// Messages that found no room.
    pub messages_dropped: AtomicU64,
    pub dials: AtomicU64,
    /// Streams refused at the handshake.
    pub refused: AtomicU64,
    /// Streams closed for a malformed frame.
    pub malformed: AtomicU64,
    /// Peers that are up now.
    pub peers_up: AtomicU64,
}

/// The lanes' queues of one peer while it is up.
pub(crate) struct PeerQueues {
    lanes: [Mutex<SendQueue>; 4],
    room: Condvar,
    /// The peer went down: nobody will empty the queues.
    closed: AtomicBool,
}

impl PeerQueues {
    pub(crate) fn new() -> Self {
        let lanes = Lane::ALL.map(|lane| Mutex::new(SendQueue::new(queue_bytes_max(lane))));
        Self { lanes, room: Condvar::new(), closed: AtomicBool::new(false) }
    }

    pub(crate) fn lane(&self, lane: Lane) -> &Mutex<SendQueue> {
        &self.lanes[lane as usize]
    }

    pub(crate) fn notify_room(&self) {
        self.room.notify_all();
    }

    fn close(&self) {
        self.closed.store(true, Ordering::Release);
        // Whoever checked `closed` before it was set still holds its lane's lock until it waits.
        for lane in &self.lanes {
            drop(lane.lock());
        }
        self.room.notify_all();
    }
}

/// What the net thread is asked to do.
pub(crate) enum Request {
    Peers(Vec<PeerAddress>),
    Cluster(u64),
    Refuse(u64),
    Resolved { link: usize, address: Result<std::net::SocketAddr, String> },
    Stop,
}

pub(crate) struct Shared {
    pub(crate) peers: Mutex<BTreeMap<u64, Arc<PeerQueues>>>,
    pub(crate) requests: Mutex<Vec<Request>>,
    pub(crate) counters: NetCounters,
    waker: Waker,
    /// The net thread has been woken and has not looked yet.
    woken: AtomicBool,
}

impl Shared {
    pub(crate) fn new(waker: Waker) -> Self {
        Self {
            peers: Mutex::default(),
            requests: Mutex::default(),
            counters: NetCounters::default(),
            waker,
            woken: AtomicBool::new(false),
        }
    }

    pub(crate) fn wake(&self) {
        if !self.woken.swap(true, Ordering::AcqRel) {
            // An eventfd write fails only when its counter is full, and then the thread is awake.
            let _ = self.waker.wake();
        }
    }

    /// Called by the net thread before it looks at queues and requests.
    pub(crate) fn awake(&self) {
        self.woken.store(false, Ordering::Release);
    }

    pub(crate) fn request(&self, request: Request) {
        self.requests.lock().push(request);
        self.wake();
    }

    pub(crate) fn open(&self, raft_id: u64) -> Arc<PeerQueues> {
        let queues = Arc::new(PeerQueues::new());
        let mut peers = self.peers.lock();
        if let Some(old) = peers.insert(raft_id, queues.clone()) {
            old.close();
        }
        self.counters.peers_up.store(peers.len() as u64, Ordering::Relaxed);
        queues
    }

    pub(crate) fn close(&self, raft_id: u64) {
        let mut peers = self.peers.lock();
        if let Some(queues) = peers.remove(&raft_id) {
            queues.close();
        }
        self.counters.peers_up.store(peers.len() as u64, Ordering::Relaxed);
    }
}

/// Sends to peers from any thread.
#[derive(Clone)]
pub struct NetHandle {
    pub(crate) shared: Arc<Shared>,
}

impl NetHandle {
    /// Queues a message for a peer; never blocks.
    ///
    /// # Errors
    /// See [`SendError`]; a message that comes back was not queued.
    pub fn send(&self, to: u64, lane: Lane, body: PeerBody) -> Result<(), SendError> {
        self.send_waiting(to, lane, body, Duration::ZERO)
    }

    /// Like [`NetHandle::send`], but waits up to `timeout` for room: for threads that may block.
    pub fn send_waiting(&self, to: u64, lane: Lane, body: PeerBody, timeout: Duration) -> Result<(), SendError> {
        let counters = &self.shared.counters;
        let Some(queues) = self.shared.peers.lock().get(&to).cloned() else {
            counters.messages_dropped.fetch_add(1, Ordering::Relaxed);
            return Err(SendError::Unreachable);
        };
        let class = if matches!(body, PeerBody::Raft(_)) { Class::Droppable } else { Class::Kept };
        let message = PeerMessage { body: Some(body) };
        let frame = to_frame(FrameKind::Peer, &message);
        if frame.len() > frame_bytes_max(lane) {
            return Err(SendError::TooLarge(frame.len()));
        }
        let mut queue = queues.lane(lane).lock();
        if !timeout.is_zero() && queue.bytes() + frame.len() > queue_bytes_max(lane) {
            let enough = queue_bytes_max(lane).saturating_sub(frame.len());
            let full = |q: &mut SendQueue| q.bytes() > enough && !q.is_empty() && !queues.closed.load(Ordering::Acquire);
            queues.room.wait_while_for(&mut queue, full, timeout);
        }
        if queues.closed.load(Ordering::Acquire) {
            return Err(SendError::Unreachable);
        }
        if !queue.push(frame, class) {
            drop(queue);
            counters.messages_dropped.fetch_add(1, Ordering::Relaxed);
            return Err(message.body.map_or(SendError::Unreachable, |body| SendError::Full(Box::new(body))));
        }
        drop(queue);
        counters.messages_sent.fetch_add(1, Ordering::Relaxed);
        self.shared.wake();
        Ok(())
    }

    /// Whether messages to this peer are queued now.
    pub fn is_up(&self, raft_id: u64) -> bool {
        self.shared.peers.lock().contains_key(&raft_id)
    }

    /// Replaces the peers to dial. Streams of those that stay with the same address go on.
    pub fn set_peers(&self, peers: Vec<PeerAddress>) {
        self.shared.request(Request::Peers(peers));
    }

    /// This node belongs to a cluster now: all peers are told by a new `Hello` on their streams.
    pub fn set_cluster(&self, cluster_id: u64) {
        self.shared.request(Request::Cluster(cluster_id));
    }

    /// The raft id was removed from the cluster: its streams are closed, and it is told so whenever it
    /// comes back.
    pub fn refuse(&self, raft_id: u64) {
        self.shared.request(Request::Refuse(raft_id));
    }

    /// A sink that had pushed back has room again.
    pub fn resume(&self) {
        self.shared.wake();
    }

    pub fn counters(&self) -> &NetCounters {
        &self.shared.counters
    }

    /// Ends [`crate::Net::run`].
    pub fn stop(&self) {
        self.shared.request(Request::Stop);
    }
}
