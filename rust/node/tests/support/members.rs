//! Commands on members, and what a cluster makes of them.
#![allow(dead_code, reason = "not every test file changes members")]

use std::collections::BTreeSet;

use codec::Outcome;
use codec::command::{AddMember, Body, PutKey, RemoveMember, ReplaceMember};
use codec::row::{MemberRole, MemberState};
use node::{Member, ProposalEnd};

use super::Cluster;
use super::links::address;

pub fn put(key: &str) -> Body {
    Body::PutKey(PutKey { tenant: "default".into(), key: key.into(), value: b"1".to_vec(), condition: None })
}

pub fn add(name: &str, role: MemberRole) -> Body {
    Body::AddMember(AddMember { node_id: name.into(), address: address(name), role: role as i32, alive: vec![] })
}

pub fn remove(name: &str) -> Body {
    Body::RemoveMember(RemoveMember { node_id: name.into(), alive: vec![] })
}

pub fn replace(name: &str) -> Body {
    Body::ReplaceMember(ReplaceMember { node_id: name.into(), address: String::new(), alive: vec![] })
}

/// Proposes one command and gives what it came to.
pub fn ask(cluster: &mut Cluster, at: u64, body: Body) -> Outcome {
    let token = 1_000_000 + cluster.now_us;
    cluster.propose(at, token, vec![body]);
    cluster.until(12, "an answer", |c| c.hosts[&at].proposals.contains_key(&token));
    let (end, outcomes) = cluster.hosts[&at].proposals[&token].clone();
    assert_eq!(end, ProposalEnd::Applied);
    outcomes[0].clone()
}

pub fn accept(cluster: &mut Cluster, at: u64, body: Body) {
    let outcome = ask(cluster, at, body);
    assert!(outcome.is_accepted(), "{}", outcome.detail);
}

pub fn row(cluster: &Cluster, at: u64, name: &str) -> Option<Member> {
    let apply = cluster.hosts[&at].apply.as_ref()?;
    let (node_id, row) = apply.machine().members().find(|(id, _)| *id == name)?;
    Some(Member {
        node_id: node_id.into(),
        raft_id: row.raft_id,
        address: row.address.clone(),
        drain: row.drain(),
        role: row.role(),
        state: row.state(),
        replaces: row.replaces.clone(),
    })
}

pub fn active(cluster: &Cluster, at: u64, name: &str, role: MemberRole) -> bool {
    row(cluster, at, name).is_some_and(|m| m.role == role && m.state == MemberState::Active)
}

pub fn voters(cluster: &Cluster, at: u64) -> Vec<u64> {
    let configuration = cluster.hosts[&at].apply.as_ref().map(|a| a.machine().configuration()).unwrap_or_default();
    assert!(configuration.voters_outgoing.is_empty() || !configuration.voters.is_empty());
    configuration.voters
}

pub fn joint(cluster: &Cluster, at: u64) -> bool {
    cluster.hosts[&at].apply.as_ref().is_some_and(|a| !a.machine().configuration().voters_outgoing.is_empty())
}

/// Everybody that runs has the same state, and the rows and the configuration agree.
pub fn converged(cluster: &mut Cluster) {
    let running = |c: &Cluster| -> Vec<u64> {
        c.hosts.values().filter(|h| !c.down.contains(&h.raft_id) && h.halted.is_none()).map(|h| h.raft_id).collect()
    };
    cluster.until(20, "equal states", |c| {
        let states: BTreeSet<_> = running(c)
            .iter()
            .map(|id| c.hosts[id].apply.as_ref().map(|a| (a.machine().applied_index(), a.machine().hash())))
            .collect();
        states.len() == 1
    });
    let leader = cluster.leader().expect("a leader");
    let machine = cluster.hosts[&leader].apply.as_ref().expect("applies").machine();
    for (name, row) in machine.members() {
        assert_eq!((name, row.state()), (name, MemberState::Active));
        let configuration = machine.configuration();
        let ids = if row.role() == MemberRole::Voter { configuration.voters } else { configuration.learners };
        assert!(ids.contains(&row.raft_id), "{name} is {:?} and not in {ids:?}", row.role());
    }
}

/// A cluster of `count` that has a leader and has written something.
pub fn begun(count: u64) -> (Cluster, u64) {
    let mut cluster = Cluster::dialing(count);
    let leader = cluster.elect();
    accept(&mut cluster, leader, put("begun"));
    (cluster, leader)
}

pub fn grown(cluster: &mut Cluster, raft_id: u64, role: MemberRole) {
    let name = format!("n{raft_id}");
    cluster.add_directory(raft_id, &name, 3);
    let leader = cluster.elect();
    accept(cluster, leader, add(&name, role));
    cluster.until(20, "a new member", |c| c.leader().is_some_and(|l| active(c, l, &name, role)));
}
