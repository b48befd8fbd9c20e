//! Who dials whom: links that come and go as nodes ask for them, start, stop and are refused.
#![allow(dead_code, reason = "not every test file grows and shrinks its cluster")]

use std::collections::{BTreeMap, BTreeSet};

use codec::log::Identity;
use codec::peer::Hello;
use node::{Config, Event};

use super::{Cluster, config};

/// What a network of nodes that are dialed by name and address knows. A raft id is a directory.
#[derive(Default)]
pub struct Links {
    /// Names of the directories; a replaced node's has the name of the lost one.
    pub names: BTreeMap<u64, String>,
    /// What each was started with, for its next start.
    pub configs: BTreeMap<u64, Config>,
    /// Whom each dials: name → address.
    pub dialed: BTreeMap<u64, BTreeMap<String, String>>,
    pub refused: BTreeMap<u64, BTreeSet<u64>>,
    /// Raft ids that a directory says are gone.
    pub retired: BTreeMap<u64, Vec<u64>>,
    /// (from, to) → what `to` said of itself.
    pub up: BTreeMap<(u64, u64), Hello>,
}

pub fn address(name: &str) -> String {
    format!("{name}:1")
}

impl Links {
    pub fn dial(&mut self, at: u64, peers: Vec<(String, String)>) {
        self.dialed.insert(at, peers.into_iter().collect());
    }

    pub fn carries(&self, from: u64, to: u64) -> bool {
        let refused = |at: u64, id: u64| self.refused.get(&at).is_some_and(|r| r.contains(&id));
        self.up.contains_key(&(from, to)) && !refused(to, from)
    }
}

impl Cluster {
    /// `count` empty nodes that dial each other.
    pub fn dialing(count: u64) -> Self {
        let mut cluster = Self::new(count);
        let mut links = Links::default();
        let names: Vec<u64> = (1..=count).collect();
        for id in 1..=count {
            links.names.insert(id, format!("n{id}"));
            links.configs.insert(id, config(id, &names, 1));
            links.dial(id, config(id, &names, 1).expected_nodes);
        }
        cluster.links = Some(links);
        cluster.connect();
        cluster
    }

    /// A new, empty directory `raft_id` of the node `name`, which dials the nodes that the cluster began with.
    pub fn add_directory(&mut self, raft_id: u64, name: &str, count: u64) {
        let mut config = config(raft_id, &(1..=count).collect::<Vec<_>>(), 5_000 + raft_id);
        config.node_id = name.into();
        config.address = address(name);
        if !config.expected_nodes.iter().any(|(n, _)| n == name) {
            config.expected_nodes.push((name.into(), address(name)));
        }
        let links = self.links.as_mut().expect("a cluster that dials");
        links.names.insert(raft_id, name.into());
        links.configs.insert(raft_id, config.clone());
        links.dial(raft_id, config.expected_nodes.clone());
        let identity = Identity { raft_id, node_id: name.into(), ..Identity::default() };
        self.start(raft_id, config, identity, None);
    }

    /// The process ends: nothing of it answers any more.
    pub fn stop(&mut self, raft_id: u64) {
        self.down.insert(raft_id);
        self.connect();
    }

    pub fn resume(&mut self, raft_id: u64) {
        self.restart(raft_id);
        self.connect();
    }

    /// A stopped process goes on where it stood: it remembers all, and knows nothing of the time between.
    /// Its links are up, and only who is at their ends has been said over them.
    pub fn wake(&mut self, raft_id: u64) {
        self.down.remove(&raft_id);
        self.connect();
    }

    /// Brings links up and down as they are dialed, answered and refused.
    pub fn connect(&mut self) {
        let Some(links) = self.links.take() else { return };
        let ids: Vec<u64> = self.hosts.keys().copied().collect();
        let mut news = Vec::new();
        let mut up = links.up.clone();
        for (from, to) in ids.iter().flat_map(|a| ids.iter().map(move |b| (*a, *b))).filter(|(a, b)| a != b) {
            let name = &links.names[&to];
            let dialed = links.dialed.get(&from).and_then(|d| d.get(name)).is_some_and(|a| *a == address(name));
            let stands = |id: u64| !self.down.contains(&id) && self.hosts[&id].halted.is_none();
            let cut = self.cut.contains(&(from, to)) || self.cut.contains(&(to, from));
            if !dialed || !stands(from) || !stands(to) || cut {
                if up.remove(&(from, to)).is_some() && stands(from) {
                    news.push((from, Event::PeerDown { raft_id: to }));
                }
                continue;
            }
            let you_were_removed = links.refused.get(&to).is_some_and(|r| r.contains(&from));
            let host = &self.hosts[&to];
            let hello = Hello {
                cluster_id: host.identity.cluster_id,
                node_id: name.clone(),
                raft_id: to,
                expected_nodes: node::expected_names(&config(to, &[1, 2, 3], 1)),
                you_were_removed,
                retired: links.retired.get(&to).cloned().unwrap_or_default(),
                ..Hello::default()
            };
            if up.get(&(from, to)) != Some(&hello) {
                up.insert((from, to), hello.clone());
                news.push((from, Event::PeerUp { hello }));
            }
        }
        self.links = Some(Links { up, ..links });
        for (at, event) in news {
            self.step(at, event);
        }
        self.settle();
    }
}
