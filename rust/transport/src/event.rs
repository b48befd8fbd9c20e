//! What the net thread is told when it starts, and what it tells.

use std::net::SocketAddr;

use codec::peer::{Hello, Lane, PeerBody};

/// A peer to dial.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerAddress {
    pub node_id: String,
    /// `host:port`
    pub address: String,
}

pub struct NetConfig {
    /// Where others dial this node. Port 0 takes a free one.
    pub listen: SocketAddr,
    /// What this node says of itself; `lane` and `protocol_version` are set here.
    pub hello: Hello,
    pub peers: Vec<PeerAddress>,
}

#[derive(Debug)]
pub enum NetEvent {
    /// A peer's outgoing streams can be used. Told again when it says something new of itself (it
    /// joined a cluster).
    PeerUp {
        hello: Hello,
    },
    /// What was queued for the peer is gone.
    PeerDown {
        raft_id: u64,
    },
    Received {
        from: u64,
        lane: Lane,
        body: PeerBody,
    },
    /// The snapshot stream to a peer broke with what was queued for it.
    SnapshotLaneDown {
        raft_id: u64,
    },
    /// A peer cannot be reached or was refused; told once until the reason changes.
    Failed {
        node_id: String,
        address: String,
        reason: String,
    },
}

/// Takes what happens on the net thread.
pub trait Sink: Send {
    /// Gives an event back that it has no room for. Only a [`NetEvent::Received`] may come back: its
    /// stream is not read until it is taken, which is tried again after [`NetHandle::resume`].
    fn deliver(&mut self, event: NetEvent) -> Option<NetEvent>;
}

impl<F: FnMut(NetEvent) -> Option<NetEvent> + Send> Sink for F {
    fn deliver(&mut self, event: NetEvent) -> Option<NetEvent> {
        self(event)
    }
}
