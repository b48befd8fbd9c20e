//! Whole nodes in this process, on real sockets and disks. Every wait is for a notice.
#![allow(dead_code, reason = "each test file uses its part")]

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::path::Path;
use std::time::{Duration, Instant};

use codec::Outcome;
use codec::command::{Body, PutKey};
use node::{ProposalEnd, Token};
use runtime::ring::Notice;
use runtime::{Config, Handle, Service};
use store::StateStore;

pub const PATIENCE: Duration = Duration::from_secs(20);
pub const TIMEOUT: Duration = Duration::from_secs(10);

pub struct Node {
    pub service: Service,
    pub handle: Handle,
    /// Completions that came while another was waited for.
    kept: BTreeMap<Token, Notice>,
    leader: Option<(String, bool)>,
}

impl Node {
    pub fn start(config: &Config) -> Self {
        let service = Service::open(config.clone()).expect("opens");
        let handle = service.start().expect("starts");
        Self { service, handle, kept: BTreeMap::new(), leader: None }
    }

    /// Blocks until the ring has something, and sorts it.
    pub fn wait_ring(&mut self, until: Instant) -> bool {
        let left = until.saturating_duration_since(Instant::now());
        let mut poll = libc::pollfd { fd: self.handle.ring().notify_fd(), events: libc::POLLIN, revents: 0 };
        // SAFETY: one valid `pollfd`.
        if unsafe { libc::poll(&mut poll, 1, left.as_millis() as i32) } != 1 {
            return false;
        }
        for notice in self.handle.ring().drain(1_000) {
            match notice {
                Notice::Leader { node_id, is_self, .. } => self.leader = node_id.map(|n| (n, is_self)),
                Notice::Stopped { detail } => panic!("{} stopped: {detail}", self.handle.node_id()),
                Notice::Proposed { token, .. } | Notice::Readable { token, .. } | Notice::Done { token, .. } => {
                    self.kept.insert(token, notice);
                }
                _ => {}
            }
        }
        true
    }

    pub fn wait(&mut self, token: Token) -> Notice {
        let until = Instant::now() + PATIENCE;
        loop {
            if let Some(notice) = self.kept.remove(&token) {
                return notice;
            }
            assert!(self.wait_ring(until), "{}: no answer to {token}; {:?}", self.handle.node_id(), self.handle.view());
        }
    }

    pub fn wait_leader(&mut self) -> String {
        let until = Instant::now() + PATIENCE;
        loop {
            if let Some((leader, _)) = &self.leader {
                return leader.clone();
            }
            assert!(self.wait_ring(until), "{}: no leader; {:?}", self.handle.node_id(), self.handle.view());
        }
    }

    pub fn put(&mut self, key: &str, value: &str) -> Token {
        let body = Body::PutKey(PutKey {
            tenant: "default".to_owned(),
            key: key.to_owned(),
            value: value.as_bytes().to_vec(),
            ..PutKey::default()
        });
        self.handle.propose(vec![body], TIMEOUT).expect("room")
    }

    pub fn outcomes(&mut self, token: Token) -> Vec<Outcome> {
        match self.wait(token) {
            Notice::Proposed { end: ProposalEnd::Applied, outcomes, .. } => outcomes,
            other => panic!("{}: {other:?}", self.handle.node_id()),
        }
    }

    /// A linearizable read.
    pub fn read(&mut self, key: &str) -> Option<Vec<u8>> {
        let token = self.handle.read_index(TIMEOUT).expect("room");
        assert!(matches!(self.wait(token), Notice::Readable { readable: true, .. }));
        let state = self.handle.state();
        let rows = state.view();
        runtime::query::key(&*rows, "default", key).expect("readable").map(|answer| answer.json)
    }

    pub fn done(&mut self, token: Token) -> (bool, String) {
        match self.wait(token) {
            Notice::Done { done, detail, .. } => (done, detail),
            other => panic!("{other:?}"),
        }
    }

    pub fn stop(self) {
        assert!(self.service.stop(PATIENCE).expect("flushes"), "the node did not stop in time");
    }
}

pub fn configs(directory: &Path, change: impl Fn(&mut Config)) -> Vec<Config> {
    let names = ["a", "b", "c"];
    // Held together while they are chosen, so that they differ.
    let listeners: Vec<TcpListener> = names.iter().map(|_| TcpListener::bind("127.0.0.1:0").expect("a port")).collect();
    let addresses: Vec<String> = listeners.iter().map(|l| l.local_addr().expect("bound").to_string()).collect();
    let cluster: Vec<runtime::ClusterNode> = names
        .iter()
        .zip(&addresses)
        .map(|(node_id, address)| runtime::ClusterNode { node_id: (*node_id).to_owned(), address: address.clone() })
        .collect();
    let config = |(node_id, address): (&&str, &String)| {
        let mut config = Config {
            node_id: (*node_id).to_owned(),
            data_dir: directory.join(node_id),
            raft_listen: address.clone(),
            raft_advertise: address.clone(),
            cluster: cluster.clone(),
            ..Config::default()
        };
        change(&mut config);
        config
    };
    names.iter().zip(&addresses).map(config).collect()
}
