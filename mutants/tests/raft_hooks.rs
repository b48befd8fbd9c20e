//! The hooks in `consensus` and in the patched `raft`: each changes what it says, and nothing without being chosen.
#![allow(clippy::unwrap_used)]

mod support;

use support::{Group, only_with};

#[test]
fn ack_before_fsync_commits_what_no_other_disk_holds() {
    only_with("ack-before-fsync", || {
        let mut group = Group::new(3);
        group.elect(1);
        group.held.extend([2, 3]);
        let before = group.at(1).commit_index();
        group.propose(1, "x");
        group.settle();
        group.at(1).commit_index() > before
    });
}

#[test]
fn quorum_off_by_one_commits_with_two_of_five() {
    only_with("quorum-off-by-one", || {
        let mut group = Group::new(5);
        group.elect(1);
        group.cut.extend([3, 4, 5]);
        let before = group.at(1).commit_index();
        group.propose(1, "x");
        group.settle();
        group.at(1).commit_index() > before
    });
}

#[test]
fn commit_old_term_counts_copies_of_an_inherited_entry() {
    only_with("commit-old-term", || {
        let mut group = Group::new(3);
        group.elect(1);
        // An entry that reaches member 2 alone, which leads next; its answer is lost.
        group.cut.insert(3);
        let before = group.at(1).commit_index();
        group.propose(1, &"x".repeat(2 << 20));
        let bytes = group.wire.iter().find(|(_, to, _)| *to == 2).unwrap().2.clone();
        group.wire.clear();
        group.give(2, &bytes);
        group.wire.clear();
        group.cut.clear();
        group.cut.insert(1);
        // The inherited entry fills a message of its own: member 3 acknowledges it before the new leader's first entry.
        group.tick_all(100);
        group.wire.clear();
        group.at(2).campaign().unwrap();
        group.drain(2);
        for _ in 0..200 {
            let Some((from, to, bytes)) = group.wire.pop_front() else { break };
            if from != 1 && to != 1 {
                group.give(to, &bytes);
            }
            if group.at(2).commit_index() > before {
                break;
            }
        }
        let leader = group.at(2);
        leader.commit_index() > before && !leader.committed_in_term()
    });
}

#[test]
fn truncate_after_match_forgets_what_was_acknowledged() {
    only_with("truncate-after-match", || {
        let mut group = Group::new(3);
        group.elect(1);
        group.cut.insert(3);
        group.propose(1, "x");
        let late = group.wire.iter().find(|(_, to, _)| *to == 2).unwrap().2.clone();
        group.wire.retain(|(_, to, _)| *to != 3);
        let (_, _, x) = group.wire.pop_front().unwrap();
        group.give(2, &x);
        group.wire.clear();
        group.propose(1, "y");
        let y = group.wire.iter().find(|(_, to, _)| *to == 2).unwrap().2.clone();
        group.give(2, &y);
        let longest = group.at(2).last_index();
        group.give(2, &late);
        group.at(2).last_index() < longest
    });
}

#[test]
fn stale_pipelined_ack_counts_in_a_later_term() {
    only_with("stale-pipelined-ack", || {
        let mut group = Group::new(3);
        group.elect(1);
        group.cut.insert(3);
        group.propose(1, "x");
        // Member 2 acknowledges it, but slowly.
        let appends: Vec<_> = group.wire.drain(..).filter(|(_, to, _)| *to == 2).collect();
        appends.iter().for_each(|(_, _, bytes)| group.give(2, bytes));
        let acks: Vec<_> = group.wire.drain(..).filter(|(from, to, _)| (*from, *to) == (2, 1)).collect();
        // Meanwhile a new term begins, in which nobody has heard of member 2 yet.
        group.cut.clear();
        group.cut.insert(2);
        group.tick_all(100);
        group.wire.clear();
        group.elect(1);
        let matched = |group: &mut Group| group.at(1).progress().iter().find(|p| p.raft_id == 2).unwrap().match_index;
        let known = matched(&mut group);
        acks.iter().for_each(|(_, to, bytes)| group.give(*to, bytes));
        matched(&mut group) > known
    });
}

#[test]
fn read_before_first_commit_answers_with_an_old_index() {
    only_with("read-before-first-commit", || {
        let mut group = Group::new(3);
        group.elect(1);
        group.cut.insert(1);
        group.held.extend([2, 3]);
        group.tick_all(100);
        group.wire.clear();
        group.at(2).campaign().unwrap();
        // Votes are let out, the first entry is not.
        for _ in 0..20 {
            group.drain(2);
            group.drain(3);
            if group.at(2).role() == consensus::Role::Leader {
                break;
            }
            group.sync(2);
            group.sync(3);
            if let Some((from, to, bytes)) = group.wire.pop_front()
                && from != 1
                && to != 1
            {
                group.give(to, &bytes);
            }
        }
        assert_eq!(group.at(2).role(), consensus::Role::Leader);
        group.at(2).read_index(7)
    });
}

#[test]
fn lease_read_answers_without_asking_anybody() {
    only_with("lease-read", || {
        let mut group = Group::new(3);
        group.elect(1);
        group.wire.clear();
        assert!(group.at(1).read_index(7));
        group.drain(1);
        group.readable.contains(&(1, 7, group.members[&1].commit_index()))
    });
}
