//! Observers as whole nodes: they join by themselves, follow, take writes and reads, and come back.

mod support;

use std::net::TcpListener;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use node::Token;
use runtime::{Config, HostConfig, NodeRole, ObserverHost};
use support::{Node, PATIENCE, configs};

fn observer(directory: &Path, name: &str, voters: &[Config]) -> Config {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("bound").to_string();
    Config {
        node_id: name.to_owned(),
        data_dir: directory.join(name),
        role: NodeRole::Observer,
        raft_listen: address.clone(),
        raft_advertise: address,
        cluster: voters[0].cluster.clone(),
        ..Config::default()
    }
}

/// The observer's linearizable read of a key, which waits until it follows.
fn reads(node: &mut Node, key: &str) -> bool {
    node.wait_leader();
    node.read(key).is_some()
}

/// three voters, two empty observers → they register, take a snapshot each, and follow → a write
/// through one is read at the other → one restarts and resumes without a snapshot → the leader stops,
/// and writes through an observer go on.
#[test]
fn observers_join_follow_and_come_back() {
    let directory = tempfile::tempdir().expect("a directory");
    let configs = configs(directory.path(), |_| {});
    let mut nodes: Vec<Node> = configs.iter().map(Node::start).collect();
    let leader = nodes[0].wait_leader();
    let token = nodes[0].put("before", "1");
    nodes[0].outcomes(token);
    let settings: Vec<Config> = ["o1", "o2"].iter().map(|name| observer(directory.path(), name, &configs)).collect();
    let mut observers: Vec<Node> = settings.iter().map(Node::start).collect();
    for node in &mut observers {
        assert!(reads(node, "before"));
    }
    let tokens: Vec<Token> = (0..100).map(|n| observers[0].put(&format!("o{n}"), "1")).collect();
    for token in tokens {
        assert_eq!(observers[0].outcomes(token)[0].refusal, 0);
    }
    assert!(reads(&mut observers[1], "o99"), "what one took is read at the other");
    observers.remove(0).stop();
    let token = nodes[0].put("missed", "1");
    nodes[0].outcomes(token);
    let mut back = Node::start(&settings[0]);
    assert!(reads(&mut back, "missed"));
    assert_eq!(back.handle.counters().snapshots_received, 0, "it resumed by index");
    let at = nodes.iter().position(|n| n.handle.node_id() == leader).expect("a member leads");
    nodes.remove(at).stop();
    let token = back.put("after", "2");
    assert_eq!(back.outcomes(token)[0].refusal, 0);
    assert!(reads(&mut observers[0], "after"));
    observers.push(back);
    wait_listed(&mut nodes[0], &["o1", "o2"]);
    for node in nodes.into_iter().chain(observers) {
        node.stop();
    }
}

/// one process hosts six observers on one thread → all are listed with a parent → it stops and starts
/// again → they follow as who they were, and no seventh appears.
#[test]
fn a_host_runs_many_observers_on_one_thread() {
    let directory = tempfile::tempdir().expect("a directory");
    let configs = configs(directory.path(), |_| {});
    let mut nodes: Vec<Node> = configs.iter().map(Node::start).collect();
    nodes[0].wait_leader();
    let each = Config { data_dir: directory.path().join("host"), cluster: configs[0].cluster.clone(), ..Config::default() };
    let config = HostConfig { prefix: "o".to_owned(), first: 1, count: 6, node: each };
    let names: Vec<String> = (1..=6).map(|n| format!("o-{n}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    for _ in 0..2 {
        let host = ObserverHost::open(&config).expect("opens");
        let stop = Arc::new(AtomicBool::new(false));
        let running = std::thread::spawn({
            let stop = stop.clone();
            move || host.run(&stop)
        });
        wait_listed(&mut nodes[0], &names);
        stop.store(true, Ordering::Release);
        assert_eq!(running.join().expect("no panic").expect("polls"), 0, "none had to stop by itself");
    }
    let view = nodes[0].handle.view();
    assert_eq!(view.members.iter().filter(|m| m.role == "observer").count(), 6);
    for node in nodes {
        node.stop();
    }
}

/// Until the node's view shows these as observers with a parent and little lag.
fn wait_listed(node: &mut Node, names: &[&str]) {
    let until = Instant::now() + PATIENCE;
    let listed = |node: &Node| {
        let view = node.handle.view();
        names.iter().all(|name| {
            view.members.iter().any(|m| m.node_id == *name && m.role == "observer" && m.parent.is_some() && m.lag.is_some())
        })
    };
    let mut writes = 0;
    while !listed(node) {
        assert!(Instant::now() < until, "{:?}", node.handle.view());
        let token = node.put(&format!("w{writes}"), "1");
        node.outcomes(token);
        writes += 1;
    }
}
