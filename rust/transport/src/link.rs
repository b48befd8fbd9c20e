//! A peer that this node dials: which streams it has, and when it is dialed again.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use codec::peer::{Hello, Lane};

use crate::backoff::Backoff;

pub(crate) enum Dial {
    /// Not connected; dialed at this time.
    Waiting(Instant),
    /// The name is being looked up on a thread of its own.
    Resolving,
    /// The control stream is on its way or up.
    Active(SocketAddr),
}

pub(crate) struct Link {
    pub(crate) node_id: String,
    /// `host:port`
    pub(crate) address: String,
    pub(crate) dial: Dial,
    pub(crate) backoff: Backoff,
    /// Streams by lane, as tokens.
    pub(crate) streams: [Option<usize>; 4],
    /// Set while the peer is up.
    pub(crate) peer: Option<Hello>,
    /// The last failure, so that a standing one is told once.
    pub(crate) failure: String,
}

impl Link {
    pub(crate) fn new(node_id: String, address: String, seed: u64, now: Instant) -> Self {
        Self {
            node_id,
            address,
            dial: Dial::Waiting(now),
            backoff: Backoff::new(seed),
            streams: [None; 4],
            peer: None,
            failure: String::new(),
        }
    }

    pub(crate) fn stream(&mut self, lane: Lane) -> &mut Option<usize> {
        &mut self.streams[lane as usize]
    }

    /// Ends all that stands and waits before the next dial.
    pub(crate) fn down(&mut self, now: Instant) -> (Vec<usize>, Option<Hello>) {
        self.dial = Dial::Waiting(now + self.backoff.next_delay());
        (self.streams.iter_mut().filter_map(Option::take).collect(), self.peer.take())
    }

    pub(crate) fn due_in(&self, now: Instant) -> Option<Duration> {
        match self.dial {
            Dial::Waiting(at) => Some(at.saturating_duration_since(now)),
            _ => None,
        }
    }
}
