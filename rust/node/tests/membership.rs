//! Clusters that grow, shrink and heal: every scenario of a change with something going wrong in it.
//!
//! A directory is its raft id; a replaced node keeps its name and gets another directory. Names and
//! addresses are dialed as the drivers ask for it, so that what is not dialed hears nothing.

mod support;

use std::collections::BTreeSet;

use codec::Refusal;
use codec::row::{MemberRole, MemberState};
use node::Event;
use support::Cluster;
use support::members::{accept, active, add, ask, begun, converged, grown, joint, put, remove, replace, row, voters};

#[test]
fn three_grow_to_five_and_shrink_to_three_while_they_write() {
    let (mut cluster, _) = begun(3);
    grown(&mut cluster, 4, MemberRole::Voter);
    grown(&mut cluster, 5, MemberRole::Voter);
    let leader = cluster.elect();
    assert_eq!(voters(&cluster, leader), [1, 2, 3, 4, 5]);
    converged(&mut cluster);
    accept(&mut cluster, 5, put("through the new one"));
    for name in ["n1", "n2"] {
        let leader = cluster.elect();
        accept(&mut cluster, leader, remove(name));
        cluster.until(20, "a member less", |c| c.leader().is_some_and(|l| row(c, l, name).is_none()));
    }
    let leader = cluster.elect();
    assert_eq!(voters(&cluster, leader), [3, 4, 5]);
    cluster.until(5, "the removed stop", |c| c.hosts[&1].halted.is_some() && c.hosts[&2].halted.is_some());
    accept(&mut cluster, 5, put("still there"));
    converged(&mut cluster);
}

#[test]
fn an_invitation_waits_for_the_node_and_its_caller_is_told() {
    let (mut cluster, leader) = begun(3);
    accept(&mut cluster, leader, add("n4", MemberRole::Learner));
    let deadline_us = cluster.now_us + 1_000_000;
    cluster.step(leader, Event::AwaitMember { token: 1, node_id: "n4".into(), deadline_us });
    cluster.until(3, "the deadline", |c| c.told.contains_key(&(leader, 1)));
    assert_eq!(cluster.told[&(leader, 1)], (false, "waits for the node to answer at n4:1".into()));
    let deadline_us = cluster.now_us + 20_000_000;
    cluster.step(leader, Event::AwaitMember { token: 2, node_id: "n4".into(), deadline_us });
    cluster.add_directory(4, "n4", 3);
    cluster.until(10, "the new member", |c| c.told.contains_key(&(leader, 2)));
    assert_eq!(cluster.told[&(leader, 2)], (true, "learner".into()));
    converged(&mut cluster);
}

#[test]
fn another_directory_does_not_take_a_members_place_unasked() {
    let (mut cluster, leader) = begun(3);
    let lost = (1..=3).find(|id| *id != leader).expect("three nodes");
    cluster.stop(lost);
    cluster.add_directory(20, &format!("n{lost}"), 3);
    for _ in 0..500 {
        cluster.tick();
    }
    let view = cluster.hosts[&20].driver.view();
    assert!(view.waiting.contains("cluster replace"), "{}", view.waiting);
    assert_eq!(view.cluster_id, 0);
}

#[test]
fn a_lost_node_is_replaced_by_one_command_while_another_is_not_there() {
    let (mut cluster, _) = begun(3);
    grown(&mut cluster, 4, MemberRole::Voter);
    grown(&mut cluster, 5, MemberRole::Voter);
    let leader = cluster.elect();
    let others: Vec<u64> = (1..=5).filter(|id| *id != leader).collect();
    let (lost, away) = (others[0], others[1]);
    let name = format!("n{lost}");
    let alive = ask(&mut cluster, leader, replace(&name));
    assert_eq!(alive.refusal, Refusal::MemberAlive as i32, "{}", alive.detail);
    cluster.stop(lost);
    cluster.stop(away);
    cluster.add_directory(20, &name, 3);
    for _ in 0..200 {
        cluster.tick();
    }
    accept(&mut cluster, leader, replace(&name));
    cluster.until(20, "the place taken", |c| c.leader().is_some_and(|l| active(c, l, &name, MemberRole::Voter)));
    let now = cluster.elect();
    let mut expected: Vec<u64> = (1..=5).filter(|id| *id != lost).chain([20]).collect();
    expected.sort_unstable();
    assert_eq!(voters(&cluster, now), expected, "five voters as before");
    cluster.resume(away);
    converged(&mut cluster);
    accept(&mut cluster, 20, put("through the new directory"));
}

/// A node found its own directory damaged, moved it aside and drew another raft id.
#[test]
fn a_directory_that_retired_itself_takes_its_own_place_without_a_command() {
    let (mut cluster, leader) = begun(3);
    let damaged = (1..=3).find(|id| *id != leader).expect("three nodes");
    let name = format!("n{damaged}");
    cluster.stop(damaged);
    cluster.add_directory(20, &name, 3);
    cluster.links.as_mut().expect("a cluster that dials").retired.insert(20, vec![damaged]);
    let taken = |c: &Cluster| row(c, leader, &name).is_some_and(|m| m.raft_id == 20 && m.state == MemberState::Active);
    cluster.until(20, "its place", taken);
    assert_eq!(voters(&cluster, leader).len(), 3);
    converged(&mut cluster);
}

#[test]
fn a_replaced_directory_that_comes_back_is_told_to_stop_and_disturbs_nobody() {
    let (mut cluster, leader) = begun(3);
    let lost = (1..=3).find(|id| *id != leader).expect("three nodes");
    let name = format!("n{lost}");
    cluster.stop(lost);
    cluster.add_directory(20, &name, 3);
    for _ in 0..200 {
        cluster.tick();
    }
    accept(&mut cluster, leader, replace(&name));
    cluster.until(20, "the place taken", |c| c.leader().is_some_and(|l| active(c, l, &name, MemberRole::Voter)));
    let term = cluster.hosts[&leader].driver.view().term;
    cluster.resume(lost);
    cluster.until(10, "the old directory stops", |c| c.hosts[&lost].halted.is_some());
    assert!(cluster.hosts[&lost].halted.as_ref().is_some_and(|why| why.contains("was removed from cluster")));
    assert_eq!(cluster.hosts[&leader].driver.view().term, term, "no election came of it");
    converged(&mut cluster);
}

#[test]
fn a_removed_node_that_heard_nothing_of_it_cannot_disturb() {
    let (mut cluster, leader) = begun(3);
    let gone = (1..=3).find(|id| *id != leader).expect("three nodes");
    for id in (1..=3).filter(|id| *id != gone) {
        cluster.cut.insert((id, gone));
        cluster.cut.insert((gone, id));
    }
    accept(&mut cluster, leader, remove(&format!("n{gone}")));
    cluster.until(20, "its removal", |c| c.leader().is_some_and(|l| row(c, l, &format!("n{gone}")).is_none()));
    let term = cluster.hosts[&leader].driver.view().term;
    // It has campaigned all the while, and comes back with the old configuration.
    for _ in 0..1_000 {
        cluster.tick();
    }
    cluster.cut.clear();
    cluster.until(10, "it stops", |c| c.hosts[&gone].halted.is_some());
    assert_eq!((cluster.leader(), cluster.hosts[&leader].driver.view().term), (Some(leader), term));
    converged(&mut cluster);
}

/// It slept while its successor admitted a member, and meets that one before it hears that it is deposed.
#[test]
fn a_deposed_leader_that_wakes_stops_no_member_that_its_successor_admitted() {
    let (mut cluster, asleep) = begun(3);
    // It invited n4, so that it dials it, and its leadership is established with its next tick.
    accept(&mut cluster, asleep, add("n4", MemberRole::Voter));
    cluster.tick();
    cluster.stop(asleep);
    cluster.add_directory(4, "n4", 3);
    cluster.until(20, "a new member", |c| c.leader().is_some_and(|l| active(c, l, "n4", MemberRole::Voter)));
    assert!(cluster.hosts[&asleep].driver.is_leader(), "it does not know yet");
    assert!(row(&cluster, asleep, "n4").is_some_and(|m| m.raft_id == 0), "nor which directory n4 is");
    cluster.wake(asleep);
    cluster.until(10, "it follows", |c| active(c, asleep, "n4", MemberRole::Voter));
    assert_eq!(cluster.hosts[&4].halted, None);
    converged(&mut cluster);
}

#[test]
fn a_leader_that_is_removed_hands_over_first() {
    let (mut cluster, leader) = begun(3);
    let before = cluster.hosts[&leader].driver.view().term;
    accept(&mut cluster, leader, remove(&format!("n{leader}")));
    cluster.until(10, "another leader", |c| c.leader().is_some_and(|l| l != leader));
    let next = cluster.elect();
    assert_eq!(cluster.hosts[&next].driver.view().term, before + 1, "handed over, not voted out");
    cluster.until(10, "the removal", |c| voters(c, next).len() == 2);
    cluster.until(10, "the old leader stops", |c| c.hosts[&leader].halted.is_some());
    accept(&mut cluster, next, put("after it"));
    converged(&mut cluster);
}

/// Check-quorum forgets who was active twice a second, at a moment of its own: wherever the removal falls
/// between two of them, there is a tick at which somebody is found to hand over to.
#[test]
fn a_leader_that_is_removed_finds_its_successor_at_any_moment_of_check_quorum() {
    for moment in 0..50 {
        let (mut cluster, leader) = begun(3);
        for _ in 0..moment {
            cluster.tick();
        }
        accept(&mut cluster, leader, remove(&format!("n{leader}")));
        cluster.until(3, &format!("another leader, moment {moment}"), |c| c.leader().is_some_and(|l| l != leader));
    }
}

#[test]
fn what_would_lose_the_quorum_is_refused_by_name() {
    let (mut cluster, leader) = begun(3);
    let others: Vec<u64> = (1..=3).filter(|id| *id != leader).collect();
    cluster.stop(others[0]);
    for _ in 0..200 {
        cluster.tick();
    }
    let refused = ask(&mut cluster, leader, remove(&format!("n{}", others[1])));
    assert_eq!(refused.refusal, Refusal::WouldLoseQuorum as i32);
    assert!(refused.detail.contains(&format!("does not hear n{}", others[0])), "{}", refused.detail);
    accept(&mut cluster, leader, remove(&format!("n{}", others[0])));
    cluster.until(20, "the dead one is gone", |c| row(c, leader, &format!("n{}", others[0])).is_none());
    assert_eq!(voters(&cluster, leader).len(), 2);
    let refused = ask(&mut cluster, leader, remove(&format!("n{}", others[0])));
    assert_eq!(refused.refusal, Refusal::NotFound as i32);
}

#[test]
fn a_spare_takes_the_place_of_a_voter_that_stays_silent() {
    let (mut cluster, leader) = begun(3);
    grown(&mut cluster, 4, MemberRole::Learner);
    let dead = (1..=3).find(|id| *id != leader).expect("three nodes");
    cluster.stop(dead);
    cluster.until(70, "the spare votes", |c| active(c, leader, "n4", MemberRole::Voter));
    assert!(voters(&cluster, leader).contains(&4) && !voters(&cluster, leader).contains(&dead));
    assert_eq!(voters(&cluster, leader).len(), 3);
    cluster.resume(dead);
    cluster.until(10, "the silent one is a spare now", |c| active(c, leader, &format!("n{dead}"), MemberRole::Learner));
    converged(&mut cluster);
}

#[test]
fn a_short_silence_moves_nobody() {
    let (mut cluster, leader) = begun(3);
    grown(&mut cluster, 4, MemberRole::Learner);
    let away = (1..=3).find(|id| *id != leader).expect("three nodes");
    cluster.stop(away);
    for _ in 0..5_500 {
        cluster.tick();
    }
    cluster.resume(away);
    for _ in 0..1_000 {
        cluster.tick();
    }
    assert_eq!(voters(&cluster, leader), [1, 2, 3]);
}

#[test]
fn a_learner_votes_only_once_it_has_caught_up() {
    let (mut cluster, leader) = begun(3);
    cluster.add_directory(4, "n4", 3);
    accept(&mut cluster, leader, add("n4", MemberRole::Voter));
    cluster.until(5, "a learner", |c| {
        let apply = c.hosts[&leader].apply.as_ref().expect("applies");
        // It hears the leader and does not answer: nothing of it is durable.
        apply.machine().configuration().learners.contains(&4)
    });
    for id in 1..=3 {
        cluster.cut.insert((4, id));
    }
    for token in 1..50 {
        cluster.propose(leader, token, vec![put("more")]);
    }
    for _ in 0..500 {
        cluster.tick();
    }
    assert_eq!(voters(&cluster, leader), [1, 2, 3]);
    cluster.cut.clear();
    cluster.until(20, "a voter", |c| active(c, leader, "n4", MemberRole::Voter));
    converged(&mut cluster);
}

#[test]
fn two_changes_asked_for_at_once_are_made_one_after_the_other() {
    let (mut cluster, leader) = begun(3);
    for id in [4, 5] {
        cluster.add_directory(id, &format!("n{id}"), 3);
    }
    let bodies = vec![add("n4", MemberRole::Voter), add("n5", MemberRole::Voter), remove(&format!("n{leader}"))];
    cluster.propose(leader, 7, bodies);
    let mut seen = BTreeSet::new();
    cluster.until(30, "both in and one out", |c| {
        let Some(l) = c.leader() else { return false };
        if let Some(apply) = c.hosts[&l].apply.as_ref() {
            seen.insert(apply.machine().configuration().voters);
        }
        let settled = |name: &str| active(c, l, name, MemberRole::Voter);
        settled("n4") && settled("n5") && row(c, l, &format!("n{leader}")).is_none()
    });
    let now = cluster.elect();
    let mut expected: Vec<u64> = (1..=5).filter(|id| *id != leader).collect();
    expected.sort_unstable();
    assert_eq!(voters(&cluster, now), expected);
    for step in &seen {
        assert!(step.len() >= 3, "never fewer voters than there were: {seen:?}");
    }
    converged(&mut cluster);
}

/// The new leader finds a joint configuration whose change the old one began.
#[test]
fn a_joint_configuration_is_left_by_whoever_leads_next() {
    let (mut cluster, leader) = begun(3);
    for id in [4, 5] {
        cluster.add_directory(id, &format!("n{id}"), 3);
        cluster.propose(leader, id, vec![add(&format!("n{id}"), MemberRole::Voter)]);
    }
    cluster.until(30, "a joint configuration", |c| (1..=5).any(|id| joint(c, id)));
    cluster.stop(leader);
    cluster.until(30, "another leader leaves it", |c| {
        c.leader().is_some_and(|l| active(c, l, "n4", MemberRole::Voter) && active(c, l, "n5", MemberRole::Voter))
    });
    cluster.resume(leader);
    let now = cluster.elect();
    assert_eq!(voters(&cluster, now), [1, 2, 3, 4, 5]);
    converged(&mut cluster);
}

/// The leader dies at every moment of a replacement in turn: some time after each of 40 ticks.
#[test]
fn a_leader_that_dies_at_any_moment_of_a_replacement_leaves_one_that_finishes_it() {
    for moment in (0..240).step_by(6) {
        let (mut cluster, _) = begun(3);
        grown(&mut cluster, 4, MemberRole::Voter);
        grown(&mut cluster, 5, MemberRole::Voter);
        let leader = cluster.elect();
        let lost = (1..=5).find(|id| *id != leader).expect("five nodes");
        let name = format!("n{lost}");
        cluster.stop(lost);
        cluster.add_directory(20, &name, 3);
        for _ in 0..200 {
            cluster.tick();
        }
        cluster.propose(leader, 1, vec![replace(&name)]);
        for _ in 0..moment / 4 {
            cluster.tick();
        }
        cluster.stop(leader);
        let done = |c: &Cluster| c.leader().is_some_and(|l| active(c, l, &name, MemberRole::Voter));
        cluster.until(30, "a leader", |c| c.leader().is_some());
        let next = cluster.elect();
        if row(&cluster, next, &name).is_some_and(|m| m.raft_id == lost && m.state == MemberState::Active) {
            // The command died with its leader: the caller asks again.
            cluster.until(30, "a leader", |c| c.leader().is_some());
            let next = cluster.elect();
            ask(&mut cluster, next, replace(&name));
        }
        cluster.until(30, "the replacement", done);
        cluster.resume(leader);
        let now = cluster.elect();
        assert_eq!(voters(&cluster, now).len(), 5, "moment {moment}");
        assert!(!voters(&cluster, now).contains(&lost));
        converged(&mut cluster);
    }
}

#[test]
fn a_partition_during_a_change_lets_neither_side_decide_alone() {
    let (mut cluster, leader) = begun(3);
    for id in [4, 5] {
        cluster.add_directory(id, &format!("n{id}"), 3);
        cluster.propose(leader, id, vec![add(&format!("n{id}"), MemberRole::Voter)]);
    }
    cluster.until(30, "a joint configuration", |c| (1..=5).any(|id| joint(c, id)));
    // The old leader stays with one of the new: no majority of the old three, nor of the new five.
    let minority = [leader, 4];
    for a in 1..=5u64 {
        for b in (1..=5u64).filter(|b| minority.contains(&a) != minority.contains(b)) {
            cluster.cut.insert((a, b));
        }
    }
    cluster.propose(leader, 77, vec![put("on the minority's side")]);
    let others: Vec<u64> = (1..=5).filter(|id| !minority.contains(id)).collect();
    cluster.until(20, "a leader of the majority", |c| others.iter().any(|id| c.hosts[id].driver.is_leader()));
    cluster.until(5, "the old one steps down", |c| !c.hosts[&leader].driver.is_leader());
    let at = others.iter().copied().find(|id| cluster.hosts[id].driver.is_leader()).expect("a leader");
    accept(&mut cluster, at, put("on the majority's side"));
    cluster.until(20, "the change goes on", |c| voters(c, at).len() == 5 && !joint(c, at));
    cluster.cut.clear();
    cluster.until(20, "both are voters", |c| {
        c.leader().is_some_and(|l| active(c, l, "n4", MemberRole::Voter) && active(c, l, "n5", MemberRole::Voter))
    });
    converged(&mut cluster);
}

/// Rows that were restored are in no log: a newcomer must not replay one onto the first configuration's.
#[test]
fn who_joins_a_restored_cluster_begins_with_a_snapshot() {
    let (mut cluster, _) = begun(3);
    for id in 1..=3 {
        let host = cluster.hosts.get_mut(&id).expect("a host");
        host.identity.bootstrap.as_mut().expect("a first configuration").seed = Some(codec::log::Seed::default());
        cluster.stop(id);
        cluster.resume(id);
    }
    cluster.elect();
    assert!((1..=3).all(|id| cluster.hosts[&id].base.index == 0), "the log is whole");
    grown(&mut cluster, 4, MemberRole::Voter);
    assert_eq!(cluster.hosts[&4].installs, 1);
    converged(&mut cluster);
    // The next one may be welcomed by one that was itself welcomed.
    for id in 1..=3 {
        let at = cluster.elect();
        if at != 4 {
            cluster.stop(id);
        }
        if cluster.down.len() == 1 {
            break;
        }
    }
    grown(&mut cluster, 5, MemberRole::Voter);
    assert_eq!(cluster.hosts[&5].installs, 1);
}

/// It was offline from before anything changed until everybody it knew was replaced.
#[test]
fn a_node_that_comes_back_to_a_changed_cluster_finds_it() {
    let (mut cluster, leader) = begun(3);
    let away = (1..=3).find(|id| *id != leader).expect("three nodes");
    grown(&mut cluster, 4, MemberRole::Voter);
    grown(&mut cluster, 5, MemberRole::Voter);
    cluster.stop(away);
    for id in (1..=3).filter(|id| *id != away) {
        let at = cluster.elect();
        accept(&mut cluster, at, remove(&format!("n{id}")));
        cluster.until(20, "a member less", |c| c.leader().is_some_and(|l| row(c, l, &format!("n{id}")).is_none()));
    }
    cluster.resume(away);
    cluster.until(20, "it follows", |c| c.leader().is_some_and(|l| c.hosts[&away].driver.view().leader == Some(format!("n{l}"))));
    converged(&mut cluster);
}
