//! Dialing peers: name lookup, connecting, backoff, and what ends with a link.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::atomic::Ordering;
use std::time::Instant;

use codec::peer::{Hello, Lane, PeerBody};
use mio::net::TcpStream;
use mio::{Interest, Token};

use crate::conn::{Conn, Side};
use crate::event::NetEvent;
use crate::link::{Dial, Link};
use crate::net::Net;
use crate::outbox::Request;
use crate::queue::SendQueue;

impl Net {
    pub(crate) fn timers(&mut self, now: Instant) {
        let due: Vec<usize> =
            self.links.iter().filter(|(_, l)| l.due_in(now).is_some_and(|d| d.is_zero())).map(|(k, _)| *k).collect();
        for key in due {
            self.resolve(key, now);
        }
        let late: Vec<usize> =
            self.conns.iter().filter(|(_, c)| c.peer.is_none() && c.deadline <= now).map(|(t, _)| *t).collect();
        for token in late {
            self.close(token, now, "no Hello in time".to_owned());
        }
        let wanted = |l: &Link| l.streams[Lane::Snapshot as usize].is_none();
        let snapshots: Vec<(usize, u64)> =
            self.links.iter().filter(|(_, l)| wanted(l)).filter_map(|(k, l)| Some((*k, l.peer.as_ref()?.raft_id))).collect();
        for (key, raft_id) in snapshots {
            let queues = self.shared.peers.lock().get(&raft_id).cloned();
            if queues.is_some_and(|q| !q.lane(Lane::Snapshot).lock().is_empty()) {
                self.dial(key, Lane::Snapshot, now);
            }
        }
    }

    fn resolve(&mut self, key: usize, now: Instant) {
        let Some(link) = self.links.get_mut(&key) else { return };
        if let Ok(address) = link.address.parse() {
            link.dial = Dial::Active(address);
            return self.dial(key, Lane::Control, now);
        }
        // A name server may take seconds: not on this thread.
        link.dial = Dial::Resolving;
        let (name, shared) = (link.address.clone(), self.shared.clone());
        let lookup = move || {
            let address = match name.to_socket_addrs() {
                Ok(mut found) => found.next().ok_or_else(|| "the name has no address".to_owned()),
                Err(error) => Err(error.to_string()),
            };
            shared.request(Request::Resolved { link: key, address });
        };
        if let Err(error) = std::thread::Builder::new().name("tq-resolve".to_owned()).spawn(lookup) {
            self.link_down(key, now, error.to_string());
        }
    }

    pub(crate) fn resolved(&mut self, key: usize, address: Result<SocketAddr, String>, now: Instant) {
        let Some(link) = self.links.get_mut(&key).filter(|l| matches!(l.dial, Dial::Resolving)) else { return };
        match address {
            Ok(address) => {
                link.dial = Dial::Active(address);
                self.dial(key, Lane::Control, now);
            }
            Err(reason) => self.link_down(key, now, reason),
        }
    }

    pub(crate) fn dial(&mut self, key: usize, lane: Lane, now: Instant) {
        let Some(link) = self.links.get_mut(&key) else { return };
        let Dial::Active(address) = link.dial else { return };
        let token = self.next_token;
        self.next_token += 1;
        self.shared.counters.dials.fetch_add(1, Ordering::Relaxed);
        failpoint::point!("transport::dial::connect");
        let stream = TcpStream::connect(address).and_then(|mut stream| {
            self.poll.registry().register(&mut stream, Token(token), Interest::READABLE | Interest::WRITABLE)?;
            Ok(stream)
        });
        match stream {
            Ok(stream) => {
                *link.stream(lane) = Some(token);
                self.conns.insert(token, Conn::new(stream, Side::Dialed { link: key }, Some(lane), now));
            }
            Err(error) => self.link_down(key, now, error.to_string()),
        }
    }

    /// The first writability of a dialed stream says how the connect ended.
    pub(crate) fn writable(&mut self, token: usize, now: Instant) {
        let Some(conn) = self.conns.get_mut(&token) else { return };
        if !conn.connected {
            let connected = match conn.stream.take_error() {
                Ok(Some(error)) | Err(error) => Err(error),
                Ok(None) => conn.stream.peer_addr().and_then(|_| conn.set_options()),
            };
            if let Err(error) = connected {
                if error.kind() != io::ErrorKind::NotConnected {
                    self.close(token, now, error.to_string());
                }
                return;
            }
            failpoint::point!("transport::dial::connected");
            conn.connected = true;
            let lane = conn.lane.map_or(0, |l| l as u32);
            conn.push(PeerBody::Hello(Hello { lane, ..self.hello.clone() }));
        }
        conn.set_writable();
    }

    pub(crate) fn snapshot_down(&mut self, key: usize) {
        let Some(link) = self.links.get_mut(&key) else { return };
        *link.stream(Lane::Snapshot) = None;
        let Some(peer) = &link.peer else { return };
        if let Some(queues) = self.shared.peers.lock().get(&peer.raft_id) {
            *queues.lane(Lane::Snapshot).lock() = SendQueue::new(crate::queue_bytes_max(Lane::Snapshot));
            queues.notify_room();
        }
        self.events.push_back(NetEvent::SnapshotLaneDown { raft_id: peer.raft_id });
    }

    pub(crate) fn link_down(&mut self, key: usize, now: Instant, reason: String) {
        let Some(link) = self.links.get_mut(&key) else { return };
        let (streams, peer) = link.down(now);
        for token in streams {
            if let Some(mut conn) = self.conns.remove(&token) {
                self.again.remove(&token);
                let _ = self.poll.registry().deregister(&mut conn.stream);
            }
        }
        if let Some(peer) = peer {
            self.shared.close(peer.raft_id);
            self.end_duplex(peer.raft_id);
            self.events.push_back(NetEvent::PeerDown { raft_id: peer.raft_id });
        }
        let Some(link) = self.links.get_mut(&key) else { return };
        if !reason.is_empty() && link.failure != reason {
            link.failure = reason.clone();
            let (node_id, address) = (link.node_id.clone(), link.address.clone());
            self.events.push_back(NetEvent::Failed { node_id, address, reason });
        }
    }
}
