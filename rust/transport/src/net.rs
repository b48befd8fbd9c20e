//! The net thread: one poll loop over the listener and all streams.
//!
//! The loop, its timers, requests and the listener; what goes over the streams is in `streams`.

mod streams;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use codec::peer::{Hello, PeerBody};
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token, Waker};

use crate::conn::{Conn, Side};
use crate::event::{NetConfig, NetEvent, PeerAddress, Sink};
use crate::handshake::{self, Refused};
use crate::link::Link;
use crate::outbox::{NetHandle, Request, Shared};

const LISTENER: Token = Token(0);
const WAKER: Token = Token(1);
const FIRST_STREAM: usize = 2;
/// Streams accepted at a time beyond this are closed at once. 101 members use 4 each.
const ACCEPTED_MAX: usize = 1_024;
const EVENTS_MAX: usize = 256;
const SCRATCH_BYTES: usize = 256 << 10;
/// Removed raft ids that are remembered.
const REFUSED_MAX: usize = 1_024;
/// A sink that pushed back is asked again after this time even if nobody calls `resume`.
const PARKED_RETRY: Duration = Duration::from_millis(20);

/// The poll loop, to be run on a thread of its own.
pub struct Net {
    pub(crate) poll: Poll,
    listener: TcpListener,
    pub(crate) shared: Arc<Shared>,
    pub(crate) hello: Hello,
    pub(crate) links: BTreeMap<usize, Link>,
    pub(crate) conns: BTreeMap<usize, Conn>,
    pub(crate) accepted: usize,
    next_link: usize,
    pub(crate) next_token: usize,
    /// Streams with more to read although the poll will not say so again.
    pub(crate) again: BTreeSet<usize>,
    /// Closed in this turn: the reasons, told after their streams are gone.
    pub(crate) events: VecDeque<NetEvent>,
    scratch: Vec<u8>,
    /// Raft ids that were removed from the cluster.
    refused: BTreeSet<u64>,
    stopping: bool,
    /// Kept between turns.
    polled: Option<Events>,
}

impl Net {
    /// Binds the listener. Nothing is accepted or dialed before [`Net::run`].
    ///
    /// # Errors
    /// The address cannot be bound, or the process is out of descriptors.
    pub fn bind(config: NetConfig) -> io::Result<(Self, NetHandle, SocketAddr)> {
        let poll = Poll::new()?;
        let mut listener = TcpListener::bind(config.listen)?;
        let address = listener.local_addr()?;
        poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
        let shared = Arc::new(Shared::new(Waker::new(poll.registry(), WAKER)?));
        let hello = Hello { protocol_version: handshake::PROTOCOL_VERSION, ..config.hello };
        let handle = NetHandle { shared: shared.clone() };
        let mut net = Self {
            poll,
            listener,
            shared,
            hello,
            links: BTreeMap::new(),
            conns: BTreeMap::new(),
            accepted: 0,
            next_link: 0,
            next_token: FIRST_STREAM,
            again: BTreeSet::new(),
            events: VecDeque::new(),
            scratch: vec![0; SCRATCH_BYTES],
            refused: BTreeSet::new(),
            stopping: false,
            polled: None,
        };
        net.set_peers(config.peers, Instant::now());
        Ok((net, handle, address))
    }

    /// Runs until [`NetHandle::stop`]; what is queued then is written as far as the streams take it.
    ///
    /// # Errors
    /// The poll itself failed: the node is cut off and should stop.
    pub fn run(mut self, mut sink: impl Sink) -> io::Result<()> {
        while self.turn(&mut sink, None)? {}
        let up: Vec<u64> = self.shared.peers.lock().keys().copied().collect();
        for raft_id in up {
            self.shared.close(raft_id);
        }
        Ok(())
    }

    /// One turn of the loop, for a thread that drives several nets ([`crate::NetGroup`]): waits until
    /// something happens or is due, at most for `longest`. False once it was stopped.
    ///
    /// # Errors
    /// As [`Net::run`].
    pub fn turn(&mut self, sink: &mut impl Sink, longest: Option<Duration>) -> io::Result<bool> {
        let due = self.timeout(Instant::now());
        let timeout = due.map_or(longest, |due| Some(longest.map_or(due, |longest| longest.min(due))));
        let mut events = self.polled.take().unwrap_or_else(|| Events::with_capacity(EVENTS_MAX));
        match self.poll.poll(&mut events, timeout) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {
                self.polled = Some(events);
                return Ok(true);
            }
            result => result?,
        }
        let now = Instant::now();
        self.shared.awake();
        let mut readable = std::mem::take(&mut self.again);
        for event in &events {
            match event.token() {
                LISTENER => self.accept(now),
                WAKER => {}
                Token(token) => {
                    if event.is_writable() {
                        self.writable(token, now);
                    }
                    if event.is_readable() || event.is_read_closed() || event.is_error() {
                        readable.insert(token);
                    }
                }
            }
        }
        self.polled = Some(events);
        self.requests(now);
        readable.extend(self.conns.iter().filter(|(_, c)| c.parked.is_some()).map(|(t, _)| *t));
        for token in readable {
            self.readable(token, sink, now);
        }
        self.timers(now);
        self.write_all(now);
        self.tell(sink);
        Ok(!self.stopping)
    }

    /// When the next turn is due although nothing happens.
    pub fn due_in(&self) -> Option<Duration> {
        self.timeout(Instant::now())
    }

    fn timeout(&self, now: Instant) -> Option<Duration> {
        if !self.again.is_empty() {
            return Some(Duration::ZERO);
        }
        let dials = self.links.values().filter_map(|l| l.due_in(now));
        let hellos = self.conns.values().filter(|c| c.peer.is_none()).map(|c| c.deadline.saturating_duration_since(now));
        let parked = self.conns.values().any(|c| c.parked.is_some()).then_some(PARKED_RETRY);
        // The poll rounds down to a millisecond: one more, so that it does not spin.
        dials.chain(hellos).chain(parked).min().map(|d| if d.is_zero() { d } else { d + Duration::from_millis(1) })
    }

    fn tell(&mut self, sink: &mut impl Sink) {
        while let Some(event) = self.events.pop_front() {
            assert!(sink.deliver(event).is_none(), "a sink pushed back what is not a message");
        }
    }

    fn requests(&mut self, now: Instant) {
        let requests = std::mem::take(&mut *self.shared.requests.lock());
        for request in requests {
            match request {
                Request::Peers(peers) => self.set_peers(peers, now),
                Request::Cluster(cluster_id) => self.set_cluster(cluster_id),
                Request::Refuse(raft_id) => self.refuse(raft_id, now),
                Request::Resolved { link, address } => self.resolved(link, address, now),
                Request::Stop => self.stopping = true,
            }
        }
    }

    fn set_peers(&mut self, peers: Vec<PeerAddress>, now: Instant) {
        let gone = |l: &Link| !peers.iter().any(|p| p.node_id == l.node_id && p.address == l.address);
        let gone: Vec<usize> = self.links.iter().filter(|(_, l)| gone(l)).map(|(k, _)| *k).collect();
        for key in gone {
            self.link_down(key, now, String::new());
            self.links.remove(&key);
        }
        for peer in peers {
            let known = self.links.values().any(|l| l.node_id == peer.node_id);
            if known || peer.node_id == self.hello.node_id {
                continue;
            }
            let seed = self.hello.incarnation ^ (self.next_link as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            self.links.insert(self.next_link, Link::new(peer.node_id, peer.address, seed, now));
            self.next_link += 1;
        }
    }

    fn set_cluster(&mut self, cluster_id: u64) {
        self.hello.cluster_id = cluster_id;
        for conn in self.conns.values_mut().filter(|c| c.peer.is_some()) {
            let lane = conn.lane.map_or(0, |l| l as u32);
            conn.push(PeerBody::Hello(Hello { lane, ..self.hello.clone() }));
        }
    }

    fn refuse(&mut self, raft_id: u64, now: Instant) {
        if self.refused.len() >= REFUSED_MAX {
            // Which one is forgotten does not matter: its cluster refuses it again when it hears it.
            self.refused.pop_first();
        }
        self.refused.insert(raft_id);
        let of_it = |c: &Conn| c.peer.as_ref().is_some_and(|p| p.raft_id == raft_id);
        let streams: Vec<usize> = self.conns.iter().filter(|(_, c)| of_it(c)).map(|(t, _)| *t).collect();
        for token in streams {
            self.close(token, now, Refused::Removed { raft_id }.to_string());
        }
    }

    fn accept(&mut self, now: Instant) {
        loop {
            match self.listener.accept() {
                Ok((stream, _)) => {
                    failpoint::point!("transport::net::accepted");
                    self.take_in(stream, now);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // WouldBlock: all taken. Anything else (no descriptors): the next event tries again.
                Err(_) => return,
            }
        }
    }

    fn take_in(&mut self, mut stream: TcpStream, now: Instant) {
        if self.accepted >= ACCEPTED_MAX {
            return;
        }
        let token = self.next_token;
        self.next_token += 1;
        if self.poll.registry().register(&mut stream, Token(token), Interest::READABLE | Interest::WRITABLE).is_err() {
            return;
        }
        let conn = Conn::new(stream, Side::Accepted, None, now);
        if conn.set_options().is_ok() {
            self.conns.insert(token, conn);
            self.accepted += 1;
        }
    }
}
