//! Replicas that differ (DESIGN rule 10), damaged states and logs, and everything that must not be taken for it.
//!
//! A difference is planted by changing one row in one node's store behind the machine's back; it shows in
//! the state hash when that row is written again, as it would on a real disk, or when the rows are verified.

mod support;

use codec::command::{Body, PutKey};
use codec::peer::Beat;
use codec::row::{Cf, KeyRow, decode, encode};
use node::{Event, ProposalEnd};
use support::Cluster;

fn put(key: &str, value: &str) -> Body {
    Body::PutKey(PutKey { tenant: "default".into(), key: key.into(), value: value.into(), condition: None })
}

/// A cluster in which every node has applied one key, and its leader.
fn cluster(nodes: u64) -> (Cluster, u64) {
    let mut cluster = Cluster::new(nodes);
    let leader = cluster.elect();
    write(&mut cluster, leader, 1, "first");
    in_step(&mut cluster);
    (cluster, leader)
}

/// One write of the key "k" through a node, answered.
fn write(cluster: &mut Cluster, at: u64, token: u64, value: &str) {
    cluster.propose(at, token, vec![put("k", value)]);
    cluster.until(5, "an answer", |c| c.hosts[&at].proposals.contains_key(&token));
    assert_eq!(cluster.hosts[&at].proposals[&token].0, ProposalEnd::Applied);
}

fn hash(cluster: &Cluster, id: u64) -> Option<(u64, [u8; 16])> {
    cluster.hosts[&id].apply.as_ref().map(|a| (a.machine().applied_index(), a.machine().hash()))
}

/// All nodes have applied the same entries, to the same state, and none is fenced.
fn in_step(cluster: &mut Cluster) {
    cluster.until(20, "equal states, nobody fenced", |c| {
        let mut up = c.hosts.keys().filter(|id| !c.down.contains(id));
        let first = up.next().and_then(|id| hash(c, *id));
        up.all(|id| hash(c, *id) == first)
            && c.hosts.values().all(|h| c.down.contains(&h.raft_id) || h.driver.view().fenced.is_empty())
    });
}

/// Changes the row of the key "k" in one node's store.
fn plant(cluster: &mut Cluster, id: u64) {
    let rows = &mut cluster.hosts.get_mut(&id).expect("a node").rows.0;
    let ((_, key), value) = rows.iter().find(|((cf, _), _)| *cf == Cf::Key).expect("a key");
    let (key, mut row) = (key.clone(), decode::<KeyRow>(value).expect("a row"));
    row.value = format!("planted {id}").into_bytes();
    rows.insert((Cf::Key, key), encode(&row));
}

fn others(cluster: &Cluster, than: u64) -> Vec<u64> {
    cluster.hosts.keys().copied().filter(|id| *id != than).collect()
}

#[test]
fn a_follower_that_differs_fences_itself_and_installs_the_others_state() {
    let (mut cluster, leader) = cluster(3);
    let bad = others(&cluster, leader)[0];
    plant(&mut cluster, bad);
    write(&mut cluster, leader, 2, "second");
    cluster.until(5, "the fence", |c| c.hosts[&bad].fences.len() == 1);
    assert!(cluster.hosts[&bad].fences[0].contains("differs from that of 2 of 3 voters"), "{:?}", cluster.hosts[&bad].fences);
    in_step(&mut cluster);
    assert_eq!(cluster.hosts[&bad].installs, 1);
    assert_eq!(cluster.leader(), Some(leader), "the leader was right and stays");
    let agree = |c: &Cluster| c.hosts.values().all(|h| h.driver.view().hash_agrees == Some(true));
    cluster.until(5, "agreement without another write", agree);
    write(&mut cluster, bad, 3, "third");
    in_step(&mut cluster);
    assert!(cluster.hosts.values().all(|h| h.fences.len() <= 1), "once is enough");
    cluster.until(5, "agreement", agree);
}

/// While it is fenced, a node answers nobody, votes for nobody and never leads.
#[test]
fn a_fenced_node_serves_nothing_and_takes_no_part_in_elections() {
    let (mut cluster, leader) = cluster(3);
    let bad = others(&cluster, leader)[0];
    let good = others(&cluster, leader)[1];
    plant(&mut cluster, bad);
    write(&mut cluster, leader, 2, "second");
    cluster.until(5, "the fence", |c| c.hosts[&bad].fences.len() == 1);
    let deadline_us = cluster.now_us + 2_000_000;
    // No snapshot can reach it.
    cluster.down.insert(leader);
    cluster.propose(bad, 9, vec![put("k", "no")]);
    cluster.step(bad, Event::ReadIndex { token: 10, deadline_us });
    let beat = Beat { token: 11, agent_id: "a".into(), ..Beat::default() };
    cluster.step(bad, Event::Beats { beats: vec![beat], deadline_us });
    assert_eq!(cluster.hosts[&bad].proposals[&9].0, ProposalEnd::Refused);
    assert!(!cluster.hosts[&bad].reads[&10]);
    assert_eq!(cluster.hosts[&bad].beats.last().map(|b| b.lease_ms), Some(0));
    assert_eq!(cluster.hosts[&bad].driver.view().members.iter().find(|m| m.raft_id == bad).map(|m| m.status), Some("damaged"));
    for _ in 0..1_000 {
        cluster.tick();
        assert_eq!(cluster.leader(), None, "one sound voter of three, and one that must not vote");
    }
    cluster.down.remove(&leader);
    in_step(&mut cluster);
    assert!(cluster.leader().is_some_and(|l| l != bad));
    assert!(cluster.hosts[&good].fences.is_empty() && cluster.hosts[&leader].fences.is_empty());
}

#[test]
fn a_leader_that_differs_steps_down_first() {
    let (mut cluster, leader) = cluster(3);
    plant(&mut cluster, leader);
    write(&mut cluster, leader, 2, "second");
    cluster.until(6, "the fence", |c| c.hosts[&leader].fences.len() == 1);
    assert!(cluster.leader().is_some_and(|l| l != leader), "leadership moved before the fence was closed");
    in_step(&mut cluster);
    assert_eq!(cluster.hosts[&leader].installs, 1);
    write(&mut cluster, leader, 3, "third");
    assert!(others(&cluster, leader).iter().all(|id| cluster.hosts[id].fences.is_empty()));
}

/// The leader differs, and nobody answers its hand-over: it steps down all the same.
#[test]
fn a_leader_that_differs_and_cannot_hand_over_steps_down_in_time() {
    let (mut cluster, leader) = cluster(3);
    plant(&mut cluster, leader);
    write(&mut cluster, leader, 2, "second");
    cluster.until(6, "the start of its fence", |c| !c.hosts[&leader].driver.view().fenced.is_empty());
    for id in others(&cluster, leader) {
        cluster.cut.insert((leader, id));
    }
    cluster.until(3, "the closed fence", |c| c.hosts[&leader].fences.len() == 1);
    assert!(!cluster.hosts[&leader].driver.is_leader());
    cluster.cut.clear();
    in_step(&mut cluster);
}

#[test]
fn two_of_five_that_differ_both_fence_themselves() {
    let (mut cluster, leader) = cluster(5);
    let bad: Vec<u64> = others(&cluster, leader).into_iter().take(2).collect();
    bad.iter().for_each(|id| plant(&mut cluster, *id));
    write(&mut cluster, leader, 2, "second");
    cluster.until(6, "both fences", |c| bad.iter().all(|id| c.hosts[id].fences.len() == 1));
    in_step(&mut cluster);
    assert!(bad.iter().all(|id| cluster.hosts[id].installs == 1));
    let good = cluster.hosts.values().filter(|h| !bad.contains(&h.raft_id));
    assert!(good.map(|h| h.fences.len() + h.installs as usize).sum::<usize>() == 0);
}

/// The leader and one follower of five: the other three have the majority, and one of them leads.
#[test]
fn a_leader_and_a_follower_of_five() {
    let (mut cluster, leader) = cluster(5);
    let bad = [leader, others(&cluster, leader)[0]];
    bad.iter().for_each(|id| plant(&mut cluster, *id));
    write(&mut cluster, leader, 2, "second");
    cluster.until(8, "both fences", |c| bad.iter().all(|id| c.hosts[id].fences.len() == 1));
    assert!(cluster.leader().is_some_and(|l| !bad.contains(&l)));
    in_step(&mut cluster);
}

/// Two of three differ, each in its own way: nobody has a majority, nobody knows who is right.
#[test]
fn without_a_majority_for_one_state_writes_stop() {
    let (mut cluster, leader) = cluster(3);
    for id in others(&cluster, leader) {
        plant(&mut cluster, id);
    }
    write(&mut cluster, leader, 2, "second");
    cluster.until(8, "the stop", |c| c.hosts.values().all(|h| !h.driver.view().writes_stopped.is_empty()));
    assert!(cluster.hosts.values().all(|h| h.fences.is_empty()), "nobody throws its state away");
    for id in 1..=3 {
        cluster.propose(id, 20 + id, vec![put("k", "no")]);
        assert_eq!(cluster.hosts[&id].proposals[&(20 + id)].0, ProposalEnd::Refused);
        let said = cluster.hosts[&id].driver.view().writes_stopped;
        assert!(said.contains("no majority of the voters") && said.contains("move its newest state-*"), "{said}");
    }
    // What the instructions say: the operator trusts the leader's state, and takes the others' away.
    for id in others(&cluster, leader) {
        cluster.restart_without_state(id);
        cluster.until(20, "a state", |c| c.hosts[&id].installs == 1);
    }
    cluster.until(10, "writes", |c| c.hosts.values().all(|h| h.driver.view().writes_stopped.is_empty()));
    let leader = cluster.elect();
    write(&mut cluster, leader, 3, "third");
    in_step(&mut cluster);
}

/// Two nodes differ while the third is down: writes stop after a while, and go on when it has settled it.
#[test]
fn a_dispute_waits_for_the_third_and_is_settled_by_it() {
    let (mut cluster, leader) = cluster(3);
    let (bad, third) = (others(&cluster, leader)[0], others(&cluster, leader)[1]);
    plant(&mut cluster, bad);
    cluster.down.insert(third);
    write(&mut cluster, leader, 2, "second");
    cluster.until(12, "the stop", |c| !c.hosts[&leader].driver.view().writes_stopped.is_empty());
    assert!(cluster.hosts.values().all(|h| h.fences.is_empty()));
    cluster.down.remove(&third);
    cluster.until(10, "the fence", |c| c.hosts[&bad].fences.len() == 1);
    in_step(&mut cluster);
    cluster.until(10, "writes", |c| c.hosts.values().all(|h| h.driver.view().writes_stopped.is_empty()));
    assert!(cluster.hosts[&leader].fences.is_empty() && cluster.hosts[&third].fences.is_empty());
}

/// A node whose state is gone or cannot be read, with a sound log: it keeps its identity.
#[test]
fn a_node_without_a_state_takes_the_others() {
    let (mut cluster, leader) = cluster(3);
    let bad = others(&cluster, leader)[0];
    for token in 2..80 {
        write(&mut cluster, leader, token, "more");
    }
    cluster.restart_without_state(bad);
    assert!(!cluster.hosts[&bad].driver.view().fenced.is_empty());
    cluster.until(10, "a state", |c| c.hosts[&bad].installs == 1);
    in_step(&mut cluster);
    write(&mut cluster, bad, 100, "after");
    in_step(&mut cluster);
}

#[test]
fn damage_that_a_read_finds_fences_the_node_also_a_leader() {
    let (mut cluster, leader) = cluster(3);
    cluster.step(leader, Event::StateDamaged { reason: "block checksum mismatch in 000012.sst".into() });
    cluster.until(6, "the fence", |c| c.hosts[&leader].fences.len() == 1);
    assert!(cluster.hosts[&leader].fences[0].contains("000012.sst"));
    in_step(&mut cluster);
    assert_eq!(cluster.hosts[&leader].installs, 1);
}

/// A row that nobody writes again is found by reading all rows; the node that has it fences itself.
#[test]
fn verification_finds_a_row_that_the_kept_hash_cannot_see() {
    let (mut cluster, leader) = cluster(3);
    let (bad, asked) = (others(&cluster, leader)[0], others(&cluster, leader)[1]);
    plant(&mut cluster, bad);
    let deadline_us = cluster.now_us + 10_000_000;
    cluster.step(asked, Event::Verify { token: 7, deadline_us });
    cluster.until(5, "an answer", |c| c.told.contains_key(&(asked, 7)));
    assert!(cluster.told[&(asked, 7)].0);
    let seen = cluster.hosts[&asked].driver.view().verify.expect("a round");
    let sound: Vec<(u64, bool)> = (1..=3).map(|id| (id, id != bad)).collect();
    assert_eq!(seen.sound, sound);
    cluster.until(5, "the fence", |c| c.hosts[&bad].fences.len() == 1);
    in_step(&mut cluster);
    cluster.step(asked, Event::Verify { token: 8, deadline_us: deadline_us + 10_000_000 });
    cluster.until(5, "an answer", |c| c.told.contains_key(&(asked, 8)));
    let seen = cluster.hosts[&asked].driver.view().verify.expect("a round");
    assert!(seen.complete && seen.sound.iter().all(|(_, sound)| *sound), "{seen:?}");
}

/// A directory put back from an older copy has forgotten entries that it had acknowledged.
#[test]
fn a_log_that_is_shorter_than_what_the_leader_saw_acknowledged_retires() {
    let (mut cluster, leader) = cluster(3);
    let bad = others(&cluster, leader)[0];
    for token in 2..6 {
        write(&mut cluster, leader, token, "more");
    }
    in_step(&mut cluster);
    let host = cluster.hosts.get_mut(&bad).expect("a node");
    let keep = host.log.len() - 3;
    host.log.truncate(keep);
    host.hard_state.commit = host.hard_state.commit.min(host.log.last().map_or(0, |entry| entry.index));
    host.rows.0.clear();
    cluster.restart(bad);
    cluster.until(2, "retirement", |c| c.hosts[&bad].retired.is_some());
    assert!(cluster.hosts[&bad].retired.as_ref().is_some_and(|r| r.contains("had acknowledged entry")));
}

/// Nodes that lag, were restarted or have just installed a snapshot, over a minute with writes: no fence.
#[test]
fn lagging_restarted_and_installed_nodes_are_not_taken_for_different() {
    let (mut cluster, mut leader) = cluster(3);
    let mut token = 100;
    for turn in 0..12u64 {
        let other = others(&cluster, leader)[turn as usize % 2];
        match turn % 4 {
            0 => drop(cluster.applying_slowly.insert(other)),
            1 => cluster.restart(other),
            2 => drop(cluster.down.insert(other)),
            _ => {}
        }
        for _ in 0..40 {
            token += 1;
            cluster.propose(leader, token, vec![put("k", "more"), put(&format!("k{token}"), "x")]);
            (0..12).for_each(|_| cluster.tick());
        }
        cluster.catch_up();
        cluster.down.clear();
        in_step(&mut cluster);
        leader = cluster.elect();
        assert!(cluster.hosts.values().all(|h| h.fences.is_empty() && h.retired.is_none()), "turn {turn}");
        assert!(cluster.hosts.values().all(|h| h.driver.view().writes_stopped.is_empty()), "turn {turn}");
    }
    cluster.until(5, "agreement", |c| c.hosts.values().all(|h| h.driver.view().hash_agrees == Some(true)));
}

/// An idle cluster proposes no checks for ever.
#[test]
fn checks_end_when_nothing_is_applied() {
    let (mut cluster, leader) = cluster(3);
    (0..500).for_each(|_| cluster.tick());
    let before = hash(&cluster, leader).map(|(index, _)| index);
    (0..1_000).for_each(|_| cluster.tick());
    assert_eq!(hash(&cluster, leader).map(|(index, _)| index), before);
}
