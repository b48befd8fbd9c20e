//! Three whole nodes in one process, on real sockets and disks. Every wait is for a notice.

mod support;

use std::time::Duration;

use codec::command::{Body, PutKey};
use node::{ProposalEnd, Token};
use runtime::ring::Notice;
use runtime::{Config, Service};

use support::{Node, TIMEOUT, configs};

/// one node, empty → leads → put, read → stop → start → the key is there.
#[test]
fn a_single_node_keeps_what_it_acknowledged() {
    let directory = tempfile::tempdir().expect("a directory");
    let config = Config { node_id: "a".to_owned(), data_dir: directory.path().join("a"), ..Config::default() };
    let mut node = Node::start(&config);
    assert_eq!(node.wait_leader(), "a");
    let token = node.put("k", "1");
    assert_eq!(node.outcomes(token)[0].refusal, 0);
    assert!(node.read("k").is_some());
    assert!(node.handle.counters().fsync_us.count > 0);
    node.stop();
    let mut node = Node::start(&config);
    node.wait_leader();
    assert!(node.read("k").is_some());
    node.stop();
}

/// three nodes, empty → bootstrap → writes on each, read on each → the leader stops → another leads
/// at once → writes go on → it comes back and reads what it missed.
#[test]
fn three_nodes_elect_replicate_hand_over_and_catch_up() {
    let directory = tempfile::tempdir().expect("a directory");
    let configs = configs(directory.path(), |_| {});
    let mut nodes: Vec<Node> = configs.iter().map(Node::start).collect();
    let leader = nodes[0].wait_leader();
    for (at, node) in nodes.iter_mut().enumerate() {
        node.wait_leader();
        let tokens: Vec<Token> = (0..200).map(|n| node.put(&format!("{at}-{n}"), "1")).collect();
        for token in tokens {
            assert_eq!(node.outcomes(token)[0].refusal, 0);
        }
    }
    for node in &mut nodes {
        for at in 0..3 {
            assert!(node.read(&format!("{at}-199")).is_some());
        }
    }
    let at = nodes.iter().position(|n| n.handle.node_id() == leader).expect("a member leads");
    nodes.remove(at).stop();
    let token = nodes[0].put("after", "2");
    nodes[0].outcomes(token);
    let mut back = Node::start(&configs[at]);
    back.wait_leader();
    assert!(back.read("after").is_some());
    nodes.push(back);
    let revision = nodes[0].handle.view().revision;
    assert!(revision >= 601, "{revision}");
    for node in nodes {
        node.stop();
    }
}

/// a follower stops → the others write on, copy their state and cut their logs → it comes back, is
/// sent the snapshot, and reads.
#[test]
fn a_follower_behind_the_log_is_sent_a_snapshot() {
    let directory = tempfile::tempdir().expect("a directory");
    let configs = configs(directory.path(), |config| config.keep_entries = 10);
    let mut nodes: Vec<Node> = configs.iter().map(Node::start).collect();
    let leader = nodes[0].wait_leader();
    let behind = nodes.iter().position(|n| n.handle.node_id() != leader).expect("a follower");
    nodes.remove(behind).stop();
    let at = nodes.iter().position(|n| n.handle.node_id() == leader).expect("it leads");
    for n in 0..100 {
        let token = nodes[at].put(&format!("{n}"), "1");
        nodes[at].outcomes(token);
    }
    let token = nodes[at].handle.snapshot().expect("room");
    assert!(nodes[at].done(token).0);
    // The cut was asked for before this write, so it is done when the write is acknowledged.
    let token = nodes[at].put("last", "1");
    nodes[at].outcomes(token);
    assert!(nodes[at].handle.log_base_index() > 20, "the log was not cut");
    let mut back = Node::start(&configs[behind]);
    back.wait_leader();
    assert!(back.read("last").is_some());
    assert_eq!(back.handle.counters().snapshots_received, 1);
    nodes.push(back);
    for node in nodes {
        node.stop();
    }
}

/// transfer to a named node → it leads.
#[test]
fn leadership_moves_to_a_named_node() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut nodes: Vec<Node> = configs(directory.path(), |_| {}).iter().map(Node::start).collect();
    let leader = nodes[0].wait_leader();
    let at = nodes.iter().position(|n| n.handle.node_id() == leader).expect("it leads");
    let token = nodes[at].put("k", "1");
    nodes[at].outcomes(token);
    let target = if leader == "a" { "b" } else { "a" };
    let token = nodes[at].handle.transfer_leader(Some(target.to_owned()), TIMEOUT).expect("room");
    assert_eq!(nodes[at].done(token), (true, String::new()));
    for node in nodes {
        node.stop();
    }
}

/// one of three loses its disk and is started with the same flags → it does not vote, takes nothing,
/// and says the command that takes it in → the others go on.
#[test]
fn a_wiped_node_waits_and_says_what_to_do() {
    let directory = tempfile::tempdir().expect("a directory");
    let configs = configs(directory.path(), |_| {});
    let mut nodes: Vec<Node> = configs.iter().map(Node::start).collect();
    let leader = nodes[0].wait_leader();
    let token = nodes[0].put("k", "1");
    nodes[0].outcomes(token);
    let at = nodes.iter().position(|n| n.handle.node_id() != leader).expect("a follower");
    nodes.remove(at).stop();
    std::fs::remove_dir_all(&configs[at].data_dir).expect("removed");
    let mut wiped = Node::start(&configs[at]);
    let body = Body::PutKey(PutKey { tenant: "default".to_owned(), key: "w".to_owned(), ..PutKey::default() });
    let token = wiped.handle.propose(vec![body], Duration::from_millis(1_500)).expect("room");
    let answer = wiped.wait(token);
    assert!(matches!(answer, Notice::Proposed { end: ProposalEnd::NoLeader, .. }), "{answer:?}");
    assert!(wiped.handle.view().waiting.contains("cluster replace"), "{:?}", wiped.handle.view());
    let token = nodes[0].put("k", "2");
    assert_eq!(nodes[0].outcomes(token)[0].refusal, 0);
    nodes.push(wiped);
    for node in nodes {
        node.stop();
    }
}

/// A second process, or a directory of another node, is refused, and nothing changes.
#[test]
fn a_directory_has_one_owner() {
    let directory = tempfile::tempdir().expect("a directory");
    let config = Config { node_id: "a".to_owned(), data_dir: directory.path().join("a"), ..Config::default() };
    let mut node = Node::start(&config);
    node.wait_leader();
    let error = Service::open(config.clone()).err().expect("in use").to_string();
    assert!(error.contains("in use"), "{error}");
    node.stop();
    let foreign = Config { node_id: "b".to_owned(), ..config.clone() };
    let error = Service::open(foreign).err().expect("another node's").to_string();
    assert!(error.contains("Nothing was changed"), "{error}");
    let mut node = Node::start(&config);
    node.wait_leader();
    node.stop();
}
