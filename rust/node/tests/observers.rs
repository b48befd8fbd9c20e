//! Observers in whole clusters of drivers: they join by themselves, tail through the tree, change
//! parents, resume, fall back to a snapshot, and notice when their state differs.

mod support;

use std::collections::BTreeMap;

use codec::command::{Amount, Body, PutKey, RegisterAgent};
use codec::peer::{Beat, PeerBody};
use codec::tail::Placement;
use node::{CHILDREN_MAX, Event, ProposalEnd};
use support::Cluster;

fn put(key: &str) -> Body {
    Body::PutKey(PutKey { tenant: "default".into(), key: key.into(), value: b"1".to_vec(), condition: None })
}

/// Voters 1.., observers 101.., all caught up and placed.
fn cluster(voters: u64, observers: u64) -> Cluster {
    let mut cluster = Cluster::new(voters);
    let leader = cluster.elect();
    cluster.propose(leader, 1, vec![put("first")]);
    for id in 101..101 + observers {
        cluster.add_observer(id);
    }
    cluster.until(30, "every observer follows and has caught up", |c| settled(c, 101..101 + observers));
    cluster
}

fn settled(c: &Cluster, observers: std::ops::Range<u64>) -> bool {
    let mut living = observers.filter(|id| !c.down.contains(id));
    living.all(|id| c.parent_of(id) != 0 && is_member(c, id)) && c.all_equal()
}

fn is_member(c: &Cluster, id: u64) -> bool {
    let Some(machine) = c.hosts[&id].apply.as_ref().map(node::ApplyDriver::machine) else { return false };
    machine.members().any(|(_, row)| row.raft_id == id && row.state() == codec::row::MemberState::Active)
}

fn write(cluster: &mut Cluster, at: u64, token: u64, key: &str) {
    cluster.propose(at, token, vec![put(key)]);
    cluster.until(10, "an answer", |c| c.hosts[&at].proposals.contains_key(&token));
    assert_eq!(cluster.hosts[&at].proposals[&token].0, ProposalEnd::Applied);
}

fn loads(c: &Cluster, observers: std::ops::Range<u64>) -> BTreeMap<u64, usize> {
    let mut loads = BTreeMap::new();
    observers.map(|id| c.parent_of(id)).for_each(|parent| *loads.entry(parent).or_default() += 1);
    loads
}

/// 40 empty observers → registered by commands, placed below the followers by degree ≤ 16, equal state.
#[test]
fn forty_observers_join_and_hang_below_the_followers() {
    let mut c = cluster(3, 40);
    let leader = c.elect();
    c.until(10, "the leader feeds nobody", |c| !loads(c, 101..141).contains_key(&leader) && settled(c, 101..141));
    let loads = loads(&c, 101..141);
    assert!(loads.values().all(|load| *load <= CHILDREN_MAX), "{loads:?}");
    write(&mut c, leader, 2, "second");
    c.until(5, "every observer has it", |c| settled(c, 101..141));
    assert!((101..141).all(|id| c.hosts[&id].installs == 1), "one snapshot each, for the first state");
}

#[test]
fn an_observer_takes_writes_linearizable_reads_and_beats() {
    let mut c = cluster(3, 1);
    write(&mut c, 101, 10, "through-it");
    let deadline_us = c.now_us + 1_000_000;
    c.step(101, Event::ReadIndex { token: 11, deadline_us });
    c.until(2, "a read", |c| c.hosts[&101].reads.contains_key(&11));
    assert!(c.hosts[&101].reads[&11]);
    let resources = vec![Amount { name: "slots".into(), amount: 1 }];
    let agent = RegisterAgent { agent_id: "a".into(), node_id: "n101".into(), resources, ..RegisterAgent::default() };
    c.propose(101, 12, vec![Body::RegisterAgent(agent)]);
    c.until(5, "a registration", |c| c.hosts[&101].proposals.contains_key(&12));
    let agent_epoch = c.hosts[&101].proposals[&12].1[0].agent_epoch;
    let deadline_us = c.now_us + 1_000_000;
    let beat = Beat { token: 13, agent_id: "a".into(), agent_epoch, load_bp: Vec::new() };
    c.step(101, Event::Beats { beats: vec![beat], deadline_us });
    c.until(2, "a beat's answer", |c| !c.hosts[&101].beats.is_empty());
    assert_eq!(c.hosts[&101].beats[0].lease_ms, 4_000);
}

/// A follower with children dies → they are fed by others within a little more than 1 s, without a snapshot.
#[test]
fn children_of_a_dead_parent_change_over_within_a_second_and_resume() {
    let mut c = cluster(3, 20);
    let leader = c.elect();
    let parent = (1..=3).find(|id| *id != leader && loads(&c, 101..121).contains_key(id)).expect("a follower with children");
    let orphans: Vec<u64> = (101..121).filter(|id| c.parent_of(*id) == parent).collect();
    c.isolate(parent);
    let died_us = c.now_us;
    c.until(3, "others feed its children", |c| orphans.iter().all(|id| ![0, parent].contains(&c.parent_of(*id))));
    let took_ms = (c.now_us - died_us) / 1_000;
    assert!((900..=1_500).contains(&took_ms), "took {took_ms} ms");
    c.kill(parent);
    write(&mut c, leader, 2, "second");
    c.until(5, "every observer has it", |c| settled(c, 101..121));
    assert!(orphans.iter().all(|id| c.hosts[id].installs == 1), "resumed by index");
}

/// An observer that feeds others dies → only its children move.
#[test]
fn children_of_a_dead_observer_move_and_nobody_else_does() {
    let mut c = cluster(2, 34);
    let leader = c.elect();
    c.until(10, "the leader feeds nobody", |c| !loads(c, 101..135).contains_key(&leader) && settled(c, 101..135));
    let before: BTreeMap<u64, u64> = (101..135).map(|id| (id, c.parent_of(id))).collect();
    let parent = *before.values().find(|p| **p > 100).expect("an observer with children");
    c.kill(parent);
    write(&mut c, leader, 2, "second");
    c.until(10, "all others have it", |c| settled(c, 101..135));
    for (id, above) in before.iter().filter(|(id, _)| **id != parent) {
        match *above == parent {
            true => assert_ne!(c.parent_of(*id), parent),
            false => assert_eq!(c.parent_of(*id), *above, "{id} had no reason to move"),
        }
    }
}

/// Restarted within what the voters keep → resumes; away while the log was cut → one snapshot.
#[test]
fn a_restarted_observer_resumes_and_one_behind_the_log_gets_a_snapshot() {
    let mut c = cluster(3, 2);
    let leader = c.elect();
    c.kill(101);
    write(&mut c, leader, 2, "missed");
    c.restart_observer(101);
    c.until(10, "it has resumed", |c| settled(c, 101..103));
    assert_eq!(c.hosts[&101].installs, 0, "this process needed no snapshot");
    c.kill(101);
    for token in 100..200 {
        write(&mut c, leader, token, "many");
    }
    // The tail's window outlives the log's cut: a voter that restarts has only its log.
    c.until(60, "a flush and a cut everywhere", |c| (1..=3).all(|id| c.hosts[&id].base.index > 50));
    for id in 1..=3 {
        c.down.insert(id);
        c.restart(id);
    }
    c.elect();
    c.restart_observer(101);
    c.until(20, "it has caught up", |c| settled(c, 101..103));
    assert_eq!(c.hosts[&101].installs, 1);
}

/// The leader dies with a write under way → the next one answers it, and gives its children away.
#[test]
fn a_leader_change_keeps_the_tree_and_the_writes_under_way() {
    let mut c = cluster(3, 20);
    let leader = c.elect();
    c.kill(leader);
    c.propose(110, 5, vec![put("under-way")]);
    c.until(10, "an answer from the next leader", |c| c.hosts[&110].proposals.contains_key(&5));
    assert_eq!(c.hosts[&110].proposals[&5].0, ProposalEnd::Applied);
    let next = c.elect();
    assert_ne!(next, leader);
    c.until(10, "everybody has it", |c| settled(c, 101..121));
    c.restart(leader);
    c.until(20, "the new leader's children went to followers", |c| {
        !loads(c, 101..121).contains_key(&next) && settled(c, 101..121)
    });
    assert!((101..121).all(|id| c.hosts[&id].installs == 1));
}

/// A state that was changed behind its back → noticed by the hash when it resumes, and replaced.
#[test]
fn a_diverged_observer_is_noticed_at_resume_and_takes_a_snapshot() {
    let mut c = cluster(3, 2);
    let leader = c.elect();
    c.kill(101);
    c.diverge(101);
    c.restart_observer(101);
    c.until(10, "its state was replaced", |c| c.hosts[&101].installs == 1 && settled(c, 101..103));
    write(&mut c, leader, 2, "after");
    c.until(5, "and it goes on", |c| settled(c, 101..103));
}

#[test]
fn an_older_placement_changes_nothing() {
    let mut c = cluster(3, 4);
    let before: Vec<u64> = (101..105).map(|id| c.parent_of(id)).collect();
    let observers = (101..105).map(|raft_id| codec::tail::PlacedObserver { raft_id, parent: 102, report: None }).collect();
    let stale = Placement { term: 1, version: 0, leader: 2, observers, ..Placement::default() };
    for id in 101..105 {
        c.step(id, Event::Received { from: 1, body: PeerBody::Placement(stale.clone()) });
    }
    for _ in 0..200 {
        c.tick();
    }
    assert_eq!((101..105).map(|id| c.parent_of(id)).collect::<Vec<_>>(), before);
}

/// Everything above is gone → it says that it knows no leader, ends no write as failed, and comes back.
#[test]
fn an_orphan_says_that_it_knows_no_leader() {
    let mut c = cluster(1, 3);
    c.isolate(1);
    c.until(5, "no leader is known", |c| (101..104).all(|id| c.hosts[&id].driver.view().leader.is_none()));
    c.cut.clear();
    c.until(10, "a leader again", |c| (101..104).all(|id| c.hosts[&id].driver.view().leader.is_some()));
}

/// Removed by a command → it stops and says why; the others go on.
#[test]
fn a_removed_observer_stops() {
    let mut c = cluster(3, 2);
    let leader = c.elect();
    let body = Body::RemoveMember(codec::command::RemoveMember { node_id: "n101".into(), alive: Vec::new() });
    c.propose(leader, 9, vec![body]);
    c.until(10, "it has stopped", |c| c.hosts[&101].halted.is_some());
    assert!(c.hosts[&101].halted.as_ref().expect("a reason").contains("removed"));
}
