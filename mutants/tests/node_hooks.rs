//! The hooks in `node`, on whole clusters of drivers.
#![allow(clippy::unwrap_used)]

#[path = "../../rust/node/tests/support/mod.rs"]
#[allow(dead_code)]
mod cluster;
mod support;

use cluster::Cluster;
use codec::command::{Amount, Body, RegisterAgent};
use codec::peer::Beat;
use codec::row::AgentStatus;
use node::Event;
use support::only_with;

fn register(agent_id: &str) -> Body {
    let resources = vec![Amount { name: "slots".into(), amount: 1 }];
    Body::RegisterAgent(RegisterAgent { agent_id: agent_id.into(), node_id: "n1".into(), resources, ..RegisterAgent::default() })
}

/// Registers agent `a` and returns its epoch.
fn registered(cluster: &mut Cluster, at: u64, token: u64) -> u64 {
    cluster.propose(at, token, vec![register("a")]);
    cluster.until(5, "a registration", |c| c.hosts[&at].proposals.contains_key(&token));
    cluster.hosts[&at].proposals[&token].1[0].agent_epoch
}

fn cut_off(cluster: &mut Cluster, node: u64) {
    for other in (1..=3).filter(|id| *id != node) {
        cluster.cut.extend([(node, other), (other, node)]);
    }
}

#[test]
fn read_before_round_is_answered_by_a_leader_that_nobody_hears() {
    only_with("read-before-round", || {
        let mut cluster = Cluster::new(3);
        let leader = cluster.elect();
        registered(&mut cluster, leader, 1);
        cut_off(&mut cluster, leader);
        let deadline_us = cluster.now_us + 300_000;
        cluster.step(leader, Event::ReadIndex { token: 9, deadline_us });
        cluster.until(3, "an answer", |c| c.hosts[&leader].reads.contains_key(&9));
        cluster.hosts[&leader].reads[&9]
    });
}

#[test]
fn renew_old_epoch_extends_the_lease_of_another_registration() {
    only_with("renew-old-epoch", || {
        let mut cluster = Cluster::new(3);
        let leader = cluster.elect();
        let agent_epoch = registered(&mut cluster, leader, 1);
        assert!(registered(&mut cluster, leader, 2) > agent_epoch);
        let beat = Beat { token: 1, agent_id: "a".into(), agent_epoch, load_bp: Vec::new() };
        let deadline_us = cluster.now_us + 1_000_000;
        cluster.step(leader, Event::Beats { beats: vec![beat], deadline_us });
        cluster.until(2, "a beat's answer", |c| !c.hosts[&leader].beats.is_empty());
        cluster.hosts[&leader].beats[0].lease_ms > 0
    });
}

#[test]
fn lease_by_followers_clock_loses_an_agent_that_beat_all_the_time() {
    only_with("lease-by-followers-clock", || {
        let mut cluster = Cluster::new(3);
        let leader = cluster.elect();
        let agent_epoch = registered(&mut cluster, leader, 1);
        let registered_us = cluster.now_us;
        for token in 1..=8 {
            let beat = Beat { token, agent_id: "a".into(), agent_epoch, load_bp: Vec::new() };
            let deadline_us = cluster.now_us + 1_000_000;
            cluster.step(leader, Event::Beats { beats: vec![beat], deadline_us });
            let until = registered_us + token * 500_000;
            cluster.until(2, "half a second", |c| c.now_us >= until);
        }
        assert!(cluster.hosts[&leader].beats.iter().any(|b| b.lease_ms > 0), "the beats were answered");
        cluster.down.insert(leader);
        let next = cluster.elect();
        let lost_by = cluster.now_us + 500_000;
        cluster.until(1, "half a second", |c| c.now_us >= lost_by);
        let machine = cluster.hosts[&next].apply.as_ref().unwrap().machine();
        machine.agent("a").unwrap().status() == AgentStatus::Lost
    });
}
