//! What goes over the streams: Hello first, then messages, until a stream closes.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use codec::peer::{Hello, Lane, PeerBody};

use super::Net;
use crate::conn::{Conn, READ_BYTES_MAX, ReadEnd, Side};
use crate::event::{NetEvent, Sink};
use crate::handshake::{self, Refused};
use crate::link::Dial;

impl Net {
    pub(super) fn write_all(&mut self, now: Instant) {
        let mut broken = Vec::new();
        for (token, conn) in &mut self.conns {
            match conn.write() {
                Ok(0) => {}
                Ok(bytes) => add(&self.shared.counters.bytes_sent, bytes),
                Err(error) => broken.push((*token, error.to_string())),
            }
        }
        for (token, reason) in broken {
            self.close(token, now, reason);
        }
    }

    pub(super) fn readable(&mut self, token: usize, sink: &mut impl Sink, now: Instant) {
        let mut left = READ_BYTES_MAX;
        loop {
            if !self.take_messages(token, sink, now) {
                return;
            }
            let Some(conn) = self.conns.get_mut(&token).filter(|c| c.connected) else { return };
            if left == 0 {
                self.again.insert(token);
                return;
            }
            match conn.read(&mut self.scratch) {
                Ok((bytes, ReadEnd::More)) => {
                    add(&self.shared.counters.bytes_received, bytes as u64);
                    left = left.saturating_sub(bytes);
                }
                Ok((_, ReadEnd::Drained)) => return,
                Ok((_, ReadEnd::Closed)) => return self.close(token, now, "the peer closed the stream".to_owned()),
                Err(error) => return self.close(token, now, error.to_string()),
            }
        }
    }

    /// Delivers all complete messages; false when the stream is closed or its sink is full.
    fn take_messages(&mut self, token: usize, sink: &mut impl Sink, now: Instant) -> bool {
        loop {
            let Some(conn) = self.conns.get_mut(&token) else { return false };
            if let Some(event) = conn.parked.take()
                && let Some(event) = sink.deliver(event)
            {
                conn.parked = Some(event);
                return false;
            }
            let body = match conn.next_message() {
                Ok(Some(body)) => body,
                Ok(None) => return true,
                Err(error) => {
                    add(&self.shared.counters.malformed, 1);
                    self.close(token, now, format!("malformed message: {error}"));
                    return false;
                }
            };
            match (body, &conn.peer, &conn.side, conn.lane) {
                (PeerBody::Hello(hello), ..) => {
                    if let Err(refused) = self.hello(token, hello, now) {
                        add(&self.shared.counters.refused, 1);
                        // The other side is told too: it finds the same reason in our Hello.
                        self.write_all(now);
                        self.close(token, now, refused.to_string());
                        return false;
                    }
                    // A link that came up is told before what its peer says.
                    self.tell(sink);
                }
                (body, Some(peer), side, Some(lane)) if self.hello.duplex || matches!(side, Side::Accepted) => {
                    add(&self.shared.counters.messages_received, 1);
                    conn.parked = Some(NetEvent::Received { from: peer.raft_id, lane, body });
                }
                _ => {
                    add(&self.shared.counters.malformed, 1);
                    self.close(token, now, Refused::NoHello.to_string());
                    return false;
                }
            }
        }
    }

    fn hello(&mut self, token: usize, theirs: Hello, now: Instant) -> Result<(), Refused> {
        failpoint::point!("transport::net::hello");
        let Some(conn) = self.conns.get_mut(&token) else { return Ok(()) };
        match conn.side {
            Side::Accepted => {
                let first = conn.peer.is_none();
                let you_were_removed = self.refused.contains(&theirs.raft_id);
                if first {
                    conn.push(PeerBody::Hello(Hello { lane: theirs.lane, you_were_removed, ..self.hello.clone() }));
                }
                if you_were_removed {
                    return Err(Refused::Removed { raft_id: theirs.raft_id });
                }
                let lane = handshake::check(&self.hello, &theirs, None)?;
                // It may say Hello again, when it has joined a cluster; it stays who it is.
                if let Some(peer) = &conn.peer
                    && ((peer.raft_id, peer.incarnation) != (theirs.raft_id, theirs.incarnation) || conn.lane != Some(lane))
                {
                    return Err(Refused::Malformed { node_id: theirs.node_id, what: "another identity or lane than at first" });
                }
                let (raft_id, node_id) = (theirs.raft_id, theirs.node_id.clone());
                conn.established(theirs.clone(), lane);
                if first {
                    self.replace_older(token, raft_id, lane, now);
                    self.hasten(&node_id, now);
                }
                if theirs.duplex { self.duplex_hello(token, theirs, lane, first) } else { Ok(()) }
            }
            Side::Dialed { link } => self.hello_from_dialed(token, link, theirs, now),
        }
    }

    fn hello_from_dialed(&mut self, token: usize, key: usize, theirs: Hello, now: Instant) -> Result<(), Refused> {
        let (Some(conn), Some(link)) = (self.conns.get_mut(&token), self.links.get_mut(&key)) else { return Ok(()) };
        let lane = handshake::check(&self.hello, &theirs, Some(&link.node_id))?;
        if self.refused.contains(&theirs.raft_id) {
            return Err(Refused::Removed { raft_id: theirs.raft_id });
        }
        if theirs.you_were_removed {
            let raft_id = self.hello.raft_id;
            self.events.push_back(NetEvent::PeerUp { hello: theirs });
            return Err(Refused::Removed { raft_id });
        }
        let malformed = |what| Err(Refused::Malformed { node_id: theirs.node_id.clone(), what });
        if conn.lane != Some(lane) {
            return malformed("another lane than was dialed");
        }
        if let Some(peer) = &link.peer
            && (peer.raft_id, peer.incarnation) != (theirs.raft_id, theirs.incarnation)
        {
            return malformed("another incarnation than on its control lane");
        }
        conn.established(theirs.clone(), lane);
        if lane != Lane::Control {
            conn.queues = self.shared.peers.lock().get(&theirs.raft_id).cloned();
            return Ok(());
        }
        let first = link.peer.is_none();
        link.peer = Some(theirs.clone());
        link.backoff.reset();
        link.failure.clear();
        if first {
            conn.queues = Some(self.shared.open(theirs.raft_id));
            self.duplex_superseded(theirs.raft_id);
            self.dial(key, Lane::Append, now);
            self.dial(key, Lane::Forward, now);
            if self.hello.duplex {
                // The peer cannot dial it when it has a snapshot to send.
                self.dial(key, Lane::Snapshot, now);
            }
        }
        self.events.push_back(NetEvent::PeerUp { hello: theirs });
        Ok(())
    }

    /// A peer that dials again has given its older stream up, even if this side has not noticed.
    fn replace_older(&mut self, token: usize, raft_id: u64, lane: Lane, now: Instant) {
        let same = |c: &Conn| {
            matches!(c.side, Side::Accepted) && c.lane == Some(lane) && c.peer.as_ref().is_some_and(|p| p.raft_id == raft_id)
        };
        let older: Vec<usize> = self.conns.iter().filter(|(t, c)| **t != token && same(c)).map(|(t, _)| *t).collect();
        for token in older {
            self.close(token, now, "replaced by a newer stream".to_owned());
        }
    }

    /// A peer that dials us is there: no reason to wait before dialing it.
    fn hasten(&mut self, node_id: &str, now: Instant) {
        for link in self.links.values_mut().filter(|l| l.node_id == node_id) {
            if let Dial::Waiting(at) = &mut link.dial {
                *at = now;
            }
        }
    }

    pub(crate) fn close(&mut self, token: usize, now: Instant, reason: String) {
        let Some(mut conn) = self.conns.remove(&token) else { return };
        self.again.remove(&token);
        // A closed descriptor leaves the poll by itself; an error here changes nothing.
        let _ = self.poll.registry().deregister(&mut conn.stream);
        match (conn.side, conn.lane) {
            (Side::Accepted, _) => {
                self.accepted -= 1;
                if let (Some(peer), Some(queues)) = (conn.peer, conn.queues) {
                    self.duplex_closed(peer.raft_id, &queues);
                }
            }
            (Side::Dialed { link }, Some(Lane::Snapshot)) if !self.hello.duplex => self.snapshot_down(link),
            (Side::Dialed { link }, _) => self.link_down(link, now, reason),
        }
    }
}

fn add(counter: &AtomicU64, by: u64) {
    counter.fetch_add(by, Ordering::Relaxed);
}
