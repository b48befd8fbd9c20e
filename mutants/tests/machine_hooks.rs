//! The hooks in `machine`: each breaks its rule when chosen, and nothing otherwise.
#![allow(clippy::unwrap_used)]

#[path = "../../rust/machine/tests/common/mod.rs"]
mod common;
mod support;

use codec::TaskId;
use codec::command::{Assign, Assignment, Body, Complete, Expire, ExpiredAgent, PutKey};
use common::{Cluster, SESSION, id, register, spec, submit};
use machine::{Machine, SessionLookup};
use support::only_with;

fn put(value: &str) -> Body {
    Body::PutKey(PutKey { tenant: "default".into(), key: "k".into(), value: value.into(), condition: None })
}

fn assign(cluster: &mut Cluster, task: TaskId, epoch: u32) {
    let agent_epoch = cluster.machine.agent("a").unwrap().row().agent_epoch;
    let item = Assignment { task_id: task.to_vec(), epoch, agent_id: "a".into(), agent_epoch, ..Assignment::default() };
    cluster.run(vec![Body::Assign(Assign { items: vec![item] })]);
}

fn complete(task: TaskId, epoch: u32) -> Body {
    Body::Complete(Complete { task_id: task.to_vec(), epoch, agent_id: "a".into(), ..Complete::default() })
}

/// A cluster whose agent `a` (of `slots`) holds the tasks 1 … `tasks`.
fn holding(slots: u64, tasks: u64) -> Cluster {
    let mut cluster = Cluster::new();
    cluster.run(vec![register("a", "n1", slots)]);
    for task in 1..=tasks {
        cluster.run(vec![submit(spec(id(task)))]);
        assign(&mut cluster, id(task), 0);
    }
    assert_eq!(cluster.machine.agent("a").unwrap().held().count() as u64, tasks);
    cluster
}

#[test]
fn retry_applied_twice_takes_a_later_write_back() {
    only_with("retry-applied-twice", || {
        let mut cluster = Cluster::new();
        let mut first = cluster.command(put("old"));
        let mut second = cluster.command(put("new"));
        (first.resolved_below, second.resolved_below) = (1, 1);
        let applied = cluster.apply(vec![first.clone()]);
        cluster.apply(vec![second]);
        let again = cluster.apply(vec![first]);
        again.outcomes[0].revision != applied.outcomes[0].revision
    });
}

#[test]
fn dedup_not_in_snapshot_forgets_outcomes() {
    only_with("dedup-not-in-snapshot", || {
        let mut cluster = Cluster::new();
        cluster.run(vec![put("x")]);
        let loaded = Machine::load(&cluster.rows).unwrap();
        loaded.session_outcome(SESSION, 1) == SessionLookup::NotYet
    });
}

#[test]
fn epoch_unchecked_at_completion_lets_a_zombie_finish() {
    only_with("epoch-unchecked-at-completion", || {
        let mut cluster = holding(1, 1);
        let agent_epoch = cluster.machine.agent("a").unwrap().row().agent_epoch;
        let lost = ExpiredAgent { agent_id: "a".into(), agent_epoch };
        cluster.run(vec![Body::Expire(Expire { agents: vec![lost], ..Expire::default() })]);
        cluster.run(vec![register("a", "n1", 1)]);
        let epoch = cluster.row(id(1)).unwrap().epoch;
        assign(&mut cluster, id(1), epoch);
        cluster.run(vec![complete(id(1), 1)]).outcomes[0].is_accepted()
    });
}

#[test]
fn capacity_freed_twice_leaves_an_agent_with_more_than_it_has() {
    only_with("capacity-freed-twice", || {
        let mut cluster = holding(3, 3);
        let epoch = cluster.row(id(1)).unwrap().epoch;
        cluster.run(vec![complete(id(1), epoch)]);
        cluster.machine.agent("a").unwrap().used() != [2]
    });
}
