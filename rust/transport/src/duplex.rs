//! Duplex streams: a peer that dials this node and is not dialed back (observers). What this node
//! sends to it goes out on the streams that it dialed, lane by lane.
//!
//! What always holds: a peer has one set of queues. While this node has dialed it too (an observer
//! that feeds it), those streams are the way out, and the accepted ones are only read. When the way
//! out ends, all streams of the peer end, so that both sides begin anew.

use std::sync::Arc;

use codec::peer::{Hello, Lane};

use crate::conn::Side;
use crate::event::NetEvent;
use crate::handshake::Refused;
use crate::net::Net;

impl Net {
    /// A duplex peer said `Hello` on an accepted stream (again, if it has joined a cluster since).
    pub(crate) fn duplex_hello(&mut self, token: usize, theirs: Hello, lane: Lane, first: bool) -> Result<(), Refused> {
        let raft_id = theirs.raft_id;
        let dialed = self.links.values().any(|l| l.peer.as_ref().is_some_and(|p| p.raft_id == raft_id));
        if dialed {
            return Ok(());
        }
        if lane == Lane::Control {
            if first {
                let queues = self.shared.open(raft_id);
                if let Some(conn) = self.conns.get_mut(&token) {
                    conn.queues = Some(queues);
                }
            }
            self.events.push_back(NetEvent::PeerUp { hello: theirs });
            return Ok(());
        }
        let queues = self.shared.peers.lock().get(&raft_id).cloned();
        let Some(conn) = self.conns.get_mut(&token) else { return Ok(()) };
        match queues {
            Some(queues) => conn.queues = Some(queues),
            // Its control stream ended meanwhile: it begins anew.
            None => return Err(Refused::Malformed { node_id: theirs.node_id, what: "another lane than control first" }),
        }
        Ok(())
    }

    /// An accepted stream was closed: if it was a way out, the peer is down with all of them.
    pub(crate) fn duplex_closed(&mut self, raft_id: u64, queues: &Arc<crate::outbox::PeerQueues>) {
        let same = |q: &Option<Arc<crate::outbox::PeerQueues>>| q.as_ref().is_some_and(|q| Arc::ptr_eq(q, queues));
        let others: Vec<usize> =
            self.conns.iter().filter(|(_, c)| matches!(c.side, Side::Accepted) && same(&c.queues)).map(|(t, _)| *t).collect();
        self.drop_accepted(others);
        if same(&self.shared.peers.lock().get(&raft_id).cloned()) {
            self.shared.close(raft_id);
        }
        self.events.push_back(NetEvent::PeerDown { raft_id });
    }

    /// The streams that this node dialed are the way out from now on.
    pub(crate) fn duplex_superseded(&mut self, raft_id: u64) {
        for conn in self.conns.values_mut().filter(|c| matches!(c.side, Side::Accepted)) {
            if conn.peer.as_ref().is_some_and(|p| p.duplex && p.raft_id == raft_id) {
                conn.queues = None;
            }
        }
    }

    /// The way out to a peer that this node dialed is gone: a duplex peer dials anew.
    pub(crate) fn end_duplex(&mut self, raft_id: u64) {
        let of_peer = |c: &crate::conn::Conn| {
            matches!(c.side, Side::Accepted) && c.peer.as_ref().is_some_and(|p| p.duplex && p.raft_id == raft_id)
        };
        let tokens: Vec<usize> = self.conns.iter().filter(|(_, c)| of_peer(c)).map(|(t, _)| *t).collect();
        self.drop_accepted(tokens);
    }

    fn drop_accepted(&mut self, tokens: Vec<usize>) {
        for token in tokens {
            if let Some(mut conn) = self.conns.remove(&token) {
                self.again.remove(&token);
                self.accepted -= 1;
                // A closed descriptor leaves the poll by itself; an error here changes nothing.
                let _ = self.poll.registry().deregister(&mut conn.stream);
            }
        }
    }
}
