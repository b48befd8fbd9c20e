//! Real sockets on loopback: nodes find each other, exchange messages in order, notice each other's
//! end and come back. Every wait is for an event.

use std::net::SocketAddr;
use std::thread::JoinHandle;
use std::time::Duration;

use codec::peer::{Forward, Hello, Lane, PeerBody, ReadIndexRequest, SnapshotChunk};
use crossbeam_channel::{Receiver, bounded, unbounded};
use transport::{Net, NetConfig, NetEvent, NetHandle, PeerAddress, SendError};

const PATIENCE: Duration = Duration::from_secs(20);

struct Node {
    net: NetHandle,
    address: SocketAddr,
    events: Receiver<NetEvent>,
    thread: Option<JoinHandle<()>>,
}

impl Node {
    fn start(name: &str, raft_id: u64, cluster_id: u64, listen: &str) -> Self {
        Self::start_bounded(name, raft_id, cluster_id, listen, None)
    }

    /// A node that nobody dials: its own streams carry both ways.
    fn start_duplex(name: &str, raft_id: u64, cluster_id: u64) -> Self {
        Self::start_with(name, raft_id, cluster_id, "127.0.0.1:0", None, true)
    }

    /// With `room`, messages beyond that many wait at the sender.
    fn start_bounded(name: &str, raft_id: u64, cluster_id: u64, listen: &str, room: Option<usize>) -> Self {
        Self::start_with(name, raft_id, cluster_id, listen, room, false)
    }

    fn start_with(name: &str, raft_id: u64, cluster_id: u64, listen: &str, room: Option<usize>, duplex: bool) -> Self {
        let node_id = name.to_owned();
        let hello = Hello { cluster_id, node_id, raft_id, incarnation: raft_id * 10, duplex, ..Default::default() };
        let (net, handle, address) =
            Net::bind(NetConfig { listen: listen.parse().expect("an address"), hello, peers: Vec::new() }).expect("binds");
        let (sender, events) = room.map_or_else(unbounded, bounded);
        let sink = move |event| match event {
            NetEvent::Received { .. } => sender.try_send(event).err().map(|e| e.into_inner()),
            // A test that has ended listens no longer.
            event => {
                let _ = sender.send(event);
                None
            }
        };
        let thread = std::thread::spawn(move || net.run(sink).expect("polls"));
        Self { net: handle, address, events, thread: Some(thread) }
    }

    fn peers(&self, peers: &[(&str, SocketAddr)]) {
        let peer =
            |(name, address): &(&str, SocketAddr)| PeerAddress { node_id: (*name).to_owned(), address: address.to_string() };
        self.net.set_peers(peers.iter().map(peer).collect());
    }

    fn wait<T>(&self, mut pick: impl FnMut(NetEvent) -> Option<T>) -> T {
        loop {
            if let Some(found) = pick(self.events.recv_timeout(PATIENCE).expect("the event never came")) {
                return found;
            }
            self.net.resume();
        }
    }

    fn wait_up(&self, node_id: &str) -> Hello {
        self.wait(|event| match event {
            NetEvent::PeerUp { hello } if hello.node_id == node_id => Some(hello),
            _ => None,
        })
    }

    fn wait_message(&self) -> (u64, Lane, PeerBody) {
        self.wait(|event| match event {
            NetEvent::Received { from, lane, body } => Some((from, lane, body)),
            _ => None,
        })
    }

    fn wait_failure(&self) -> String {
        self.wait(|event| match event {
            NetEvent::Failed { reason, .. } => Some(reason),
            _ => None,
        })
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.net.stop();
        if let Some(thread) = self.thread.take() {
            thread.join().expect("no panic");
        }
    }
}

fn read_index(round: u64) -> PeerBody {
    PeerBody::ReadIndexRequest(ReadIndexRequest { round })
}

/// a and b dial each other → both are up → messages of each lane arrive in order, with their sender.
#[test]
fn messages_arrive_in_order_on_every_lane() {
    let (a, b) = (Node::start("a", 1, 7, "127.0.0.1:0"), Node::start("b", 2, 7, "127.0.0.1:0"));
    a.peers(&[("a", a.address), ("b", b.address)]);
    b.peers(&[("a", a.address), ("b", b.address)]);
    assert_eq!(a.wait_up("b").raft_id, 2);
    assert_eq!(b.wait_up("a").raft_id, 1);
    for lane in Lane::ALL {
        for round in 0..500 {
            a.net.send(2, lane, read_index(round)).unwrap();
        }
        for round in 0..500 {
            assert_eq!(b.wait_message(), (1, lane, read_index(round)));
        }
    }
    let large = PeerBody::Raft(vec![5; 9 << 20].into());
    a.net.send(2, Lane::Append, large.clone()).unwrap();
    assert_eq!(b.wait_message(), (1, Lane::Append, large));
    assert!(matches!(a.net.send(9, Lane::Control, read_index(0)), Err(SendError::Unreachable)));
    assert!(matches!(a.net.send(2, Lane::Control, PeerBody::Raft(vec![5; 9 << 20].into())), Err(SendError::TooLarge(_))));
}

/// b stops → a is told → b comes back at the same address as a new incarnation → a is told, and
/// messages flow again.
#[test]
fn a_peer_that_ends_is_noticed_and_found_again() {
    let a = Node::start("a", 1, 7, "127.0.0.1:0");
    let b = Node::start("b", 2, 7, "127.0.0.1:0");
    let address = b.address;
    a.peers(&[("b", address)]);
    a.wait_up("b");
    drop(b);
    a.wait(|e| matches!(e, NetEvent::PeerDown { raft_id: 2 }).then_some(()));
    assert!(!a.net.is_up(2));
    let b = Node::start("b", 2, 7, &address.to_string());
    a.wait_up("b");
    a.net.send(2, Lane::Control, read_index(1)).unwrap();
    assert_eq!(b.wait_message(), (1, Lane::Control, read_index(1)));
}

/// Two clusters never exchange a message; both sides can say why.
#[test]
fn a_foreign_cluster_is_refused_with_the_reason() {
    let (a, b) = (Node::start("a", 1, 7, "127.0.0.1:0"), Node::start("b", 2, 8, "127.0.0.1:0"));
    a.peers(&[("b", b.address)]);
    b.peers(&[("a", a.address)]);
    for node in [&a, &b] {
        let reason = node.wait_failure();
        assert!(reason.contains("belongs to cluster") || reason.contains("closed"), "{reason}");
    }
    assert!(!a.net.is_up(2) && !b.net.is_up(1));
    assert!(a.net.counters().refused.load(std::sync::atomic::Ordering::Relaxed) > 0);
}

/// Both empty → up → b is told its cluster → a hears it on the same stream.
#[test]
fn an_empty_node_says_hello_again_when_it_joins_a_cluster() {
    let (a, b) = (Node::start("a", 1, 0, "127.0.0.1:0"), Node::start("b", 2, 0, "127.0.0.1:0"));
    a.peers(&[("b", b.address)]);
    assert_eq!(a.wait_up("b").cluster_id, 0);
    b.net.set_cluster(7);
    assert_eq!(a.wait_up("b").cluster_id, 7);
    a.net.send(2, Lane::Control, read_index(3)).unwrap();
    assert_eq!(b.wait_message().2, read_index(3));
}

/// b takes nothing for a while: a's queue fills to its bound, says so, and nothing is lost or
/// reordered once b takes again.
#[test]
fn a_slow_receiver_pushes_back_and_loses_nothing() {
    let (a, b) = (Node::start("a", 1, 7, "127.0.0.1:0"), Node::start_bounded("b", 2, 7, "127.0.0.1:0", Some(2)));
    a.peers(&[("b", b.address)]);
    a.wait_up("b");
    let chunk = |offset| SnapshotChunk { transfer: 1, file: 0, offset, data: vec![1; 256 << 10].into(), crc32c: None };
    let mut sent = 0;
    while a.net.send(2, Lane::Snapshot, PeerBody::SnapshotChunk(chunk(sent))).is_ok() {
        sent += 1;
        assert!(sent < 10_000, "the queue has no bound");
    }
    let sender = std::thread::spawn({
        let net = a.net.clone();
        move || net.send_waiting(2, Lane::Snapshot, PeerBody::SnapshotChunk(chunk(sent)), PATIENCE)
    });
    for offset in 0..=sent {
        assert_eq!(b.wait_message().2, PeerBody::SnapshotChunk(chunk(offset)));
    }
    sender.join().unwrap().unwrap();
}

/// an observer dials a voter, which does not dial it → both are up → messages go both ways on every
/// lane → the observer ends → the voter is told → it comes back, and messages flow again.
#[test]
fn a_duplex_stream_carries_both_ways_and_is_not_dialed_back() {
    let voter = Node::start("voter", 1, 7, "127.0.0.1:0");
    for round in 0..2 {
        let observer = Node::start_duplex("observer", 9, 7);
        observer.peers(&[("voter", voter.address)]);
        observer.wait_up("voter");
        assert!(voter.wait_up("observer").duplex);
        for lane in Lane::ALL {
            voter.net.send(9, lane, read_index(round)).unwrap();
            assert_eq!(observer.wait_message(), (1, lane, read_index(round)));
            observer.net.send(1, lane, read_index(round)).unwrap();
            assert_eq!(voter.wait_message(), (9, lane, read_index(round)));
        }
        drop(observer);
        voter.wait(|e| matches!(e, NetEvent::PeerDown { raft_id: 9 }).then_some(()));
        assert!(!voter.net.is_up(9));
    }
    assert_eq!(voter.net.counters().dials.load(std::sync::atomic::Ordering::Relaxed), 0);
}

/// two observers dial each other (one feeds the other, and then the other way round) → each hears what
/// the other sends, once → one lets go → both hear of it, and the other's streams work on.
#[test]
fn two_duplex_nodes_that_dial_each_other_end_up_with_one_way_out() {
    let (a, b) = (Node::start_duplex("a", 1, 7), Node::start_duplex("b", 2, 7));
    a.peers(&[("b", b.address)]);
    a.wait_up("b");
    b.wait_up("a");
    b.peers(&[("a", a.address)]);
    b.wait_up("a");
    b.net.send(1, Lane::Append, read_index(1)).unwrap();
    assert_eq!(a.wait_message(), (2, Lane::Append, read_index(1)));
    a.peers(&[]);
    b.wait(|e| matches!(e, NetEvent::PeerDown { raft_id: 1 }).then_some(()));
    b.wait_up("a");
    a.wait_up("b");
    b.net.send(1, Lane::Control, read_index(2)).unwrap();
    assert_eq!(a.wait_message(), (2, Lane::Control, read_index(2)));
    a.net.send(2, Lane::Append, read_index(3)).unwrap();
    assert_eq!(b.wait_message(), (1, Lane::Append, read_index(3)));
}

/// Bytes that are no frame close the stream, and a message before `Hello` does too.
#[test]
fn a_stream_of_garbage_is_closed() {
    use std::io::{Read, Write};
    let a = Node::start("a", 1, 7, "127.0.0.1:0");
    let early = transport::framing::encode(PeerBody::Forward(Forward::default()));
    for bytes in [b"GET / HTTP/1.1\r\nHost: a\r\n\r\n".to_vec(), early] {
        let mut stream = std::net::TcpStream::connect(a.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(&bytes).unwrap();
        let mut rest = Vec::new();
        // The end of the stream or a reset, and not one byte of answer.
        let _ = stream.read_to_end(&mut rest);
        assert!(rest.is_empty());
    }
    assert_eq!(a.net.counters().malformed.load(std::sync::atomic::Ordering::Relaxed), 2);
}

/// What a network that repeats and reorders whole frames can do to a stream: messages come as often and in the order in which
/// the frames come (the protocols above allow for both), a repeated Hello changes nothing, a message ahead of Hello, another
/// identity or another lane closes the stream.
#[test]
fn repeated_and_reordered_frames_are_taken_as_they_come_or_the_stream_is_closed() {
    use std::io::{Read, Write};
    let a = Node::start("a", 1, 7, "127.0.0.1:0");
    let hello = Hello {
        cluster_id: 7,
        node_id: "b".to_owned(),
        raft_id: 2,
        incarnation: 20,
        protocol_version: transport::PROTOCOL_VERSION,
        lane: Lane::Control as u32,
        ..Default::default()
    };
    let frame = |body: PeerBody| transport::framing::encode(body);
    let say = |frames: &[Vec<u8>]| {
        let mut stream = std::net::TcpStream::connect(a.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(&frames.concat()).unwrap();
        stream
    };
    let same = frame(PeerBody::Hello(hello.clone()));
    let stream =
        say(&[same.clone(), frame(read_index(2)), same.clone(), frame(read_index(1)), frame(read_index(1)), same.clone()]);
    let got: Vec<PeerBody> = (0..3).map(|_| a.wait_message().2).collect();
    assert_eq!(got, [read_index(2), read_index(1), read_index(1)]);
    drop(stream);
    let other = frame(PeerBody::Hello(Hello { raft_id: 3, ..hello.clone() }));
    let later = frame(PeerBody::Hello(Hello { incarnation: 21, ..hello.clone() }));
    let elsewhere = frame(PeerBody::Hello(Hello { lane: Lane::Append as u32, ..hello.clone() }));
    for frames in [[frame(read_index(9)), same.clone()], [same.clone(), other], [same.clone(), later], [same.clone(), elsewhere]]
    {
        let ended = say(&frames).read_to_end(&mut Vec::new());
        let closed = ended.as_ref().map_or_else(|error| error.kind() == std::io::ErrorKind::ConnectionReset, |_| true);
        assert!(closed, "the stream stays open: {ended:?}");
    }
    // Nothing of it was delivered under either identity.
    let mut stream = say(&[same, frame(read_index(3))]);
    assert_eq!(a.wait_message(), (2, Lane::Control, read_index(3)));
    stream.write_all(&[0xff; 64]).unwrap();
    let _ = stream.read_to_end(&mut Vec::new());
}

/// A name is looked up off the net thread.
#[test]
fn names_are_resolved() {
    let (a, b) = (Node::start("a", 1, 7, "127.0.0.1:0"), Node::start("b", 2, 7, "127.0.0.1:0"));
    a.net.set_peers(vec![PeerAddress { node_id: "b".to_owned(), address: format!("localhost:{}", b.address.port()) }]);
    a.wait_up("b");
}

/// Both are up → a's cluster removes b → b's streams end, and each time it comes back it is told why;
/// another directory of the same name is taken.
#[test]
fn a_removed_peer_is_told_so_when_it_comes_back() {
    let (a, b) = (Node::start("a", 1, 7, "127.0.0.1:0"), Node::start("b", 2, 7, "127.0.0.1:0"));
    a.peers(&[("b", b.address)]);
    b.peers(&[("a", a.address)]);
    a.wait_up("b");
    assert!(!b.wait_up("a").you_were_removed);
    a.net.refuse(2);
    a.wait(|e| matches!(e, NetEvent::PeerDown { raft_id: 2 }).then_some(()));
    for _ in 0..2 {
        b.wait(|e| matches!(e, NetEvent::PeerUp { hello } if hello.you_were_removed).then_some(()));
    }
    assert!(!a.net.is_up(2));
    let address = b.address;
    drop(b);
    let b = Node::start("b", 22, 7, &address.to_string());
    b.peers(&[("a", a.address)]);
    assert!(!b.wait_up("a").you_were_removed);
    a.wait(|e| matches!(e, NetEvent::PeerUp { hello } if hello.raft_id == 22).then_some(()));
}

/// Three nets on this thread dial a voter → each hears what the voter sends it, and only that.
#[test]
fn many_nets_are_driven_by_one_thread() {
    let voter = Node::start("voter", 1, 7, "127.0.0.1:0");
    let mut group = transport::NetGroup::new(3).unwrap();
    let mut nets = Vec::new();
    for raft_id in 10..13 {
        let hello = Hello { cluster_id: 7, node_id: format!("o{raft_id}"), raft_id, duplex: true, ..Default::default() };
        let peers = vec![PeerAddress { node_id: "voter".to_owned(), address: voter.address.to_string() }];
        let (net, _, _) = Net::bind(NetConfig { listen: "127.0.0.1:0".parse().unwrap(), hello, peers }).unwrap();
        group.add(nets.len(), &net).unwrap();
        nets.push(net);
    }
    let sender = std::thread::spawn({
        let net = voter.net.clone();
        move || {
            for raft_id in 10..13 {
                loop {
                    match net.send(raft_id, Lane::Append, read_index(raft_id)) {
                        Ok(()) => break,
                        Err(_) => std::thread::yield_now(),
                    }
                }
            }
        }
    });
    let mut heard = std::collections::BTreeMap::new();
    let until = std::time::Instant::now() + PATIENCE;
    let mut ready: Vec<usize> = (0..nets.len()).collect();
    while heard.len() < nets.len() {
        assert!(std::time::Instant::now() < until, "{heard:?}");
        let due = nets.iter().filter_map(Net::due_in).min().unwrap_or(PATIENCE);
        group.wait(due, &mut ready).unwrap();
        let due: Vec<usize> = (0..nets.len()).filter(|key| nets[*key].due_in().is_some_and(|d| d.is_zero())).collect();
        ready.extend(due);
        for key in ready.drain(..) {
            let mut sink = |event| {
                if let NetEvent::Received { body, .. } = event {
                    heard.insert(key, body);
                }
                None
            };
            nets[key].turn(&mut sink, Some(Duration::ZERO)).unwrap();
        }
    }
    sender.join().unwrap();
    for (key, raft_id) in (0..3).zip(10..13) {
        assert_eq!(heard[&key], read_index(raft_id));
    }
}
