//! A restored state as the first one of a new cluster.

mod common;

use codec::Refusal;
use codec::command::*;
use codec::row::{AgentStatus, Cf, Status};
use common::{Cluster, id, register, seeded, spec, submit};

fn assign(cluster: &mut Cluster, task: u64, agent: &str) -> u32 {
    let row = cluster.row(id(task)).expect("submitted");
    let agent_epoch = cluster.machine.agent(agent).expect("registered").row().agent_epoch;
    let (task_id, agent_id) = (id(task).to_vec(), agent.to_owned());
    let item = Assignment { task_id, epoch: row.epoch, agent_id, agent_epoch, terms: vec![] };
    cluster.run(vec![Body::Assign(Assign { items: vec![item] })]);
    let row = cluster.row(id(task)).expect("submitted");
    assert_eq!(row.status, Status::Assigned as i32);
    row.epoch
}

fn complete(task: u64, epoch: u32) -> Body {
    let (task_id, agent_id) = (id(task).to_vec(), "a".to_owned());
    Body::Complete(Complete { task_id, epoch, agent_id, result: b"1".to_vec(), ..Complete::default() })
}

/// a task is done, one assigned, one running, one being cancelled, one ready → backup → new cluster:
/// what was held is ready again under a new epoch and counted toward nothing, what was being cancelled
/// is cancelled, the agent is lost, and nothing of the old cluster is taken for the new one's.
#[test]
fn attempts_sessions_and_members_of_the_old_cluster_are_over() {
    let mut old = Cluster::new();
    old.run(vec![register("a", "n1", 8)]);
    for task in 1..=5 {
        old.run(vec![submit(spec(id(task)))]);
    }
    let epochs: Vec<u32> = (1..=4).map(|task| assign(&mut old, task, "a")).collect();
    let start = |task: u64| {
        let (task_id, agent_id) = (id(task).to_vec(), "a".to_owned());
        Body::Start(Start { task_id, epoch: epochs[task as usize - 1], agent_id })
    };
    old.run(vec![start(1), start(3), start(4), complete(1, epochs[0])]);
    old.run(vec![Body::Cancel(Cancel { task_id: id(4).to_vec(), grace_ms: 60_000, ..Cancel::default() })]);
    assert_eq!(old.row(id(4)).expect("there").status, Status::Cancelling as i32);
    let agent_epoch = old.machine.agent("a").expect("registered").row().agent_epoch;

    let mut new = seeded(&old);
    new.check();
    for (task, status, epoch) in [
        (1, Status::Completed, epochs[0]),
        (2, Status::Ready, epochs[1] + 1),
        (3, Status::Ready, epochs[2] + 1),
        (4, Status::Cancelled, epochs[3] + 1),
        (5, Status::Ready, 0),
    ] {
        let row = new.row(id(task)).expect("kept");
        assert_eq!((row.status, row.epoch, row.retry_count), (status as i32, epoch, 0), "task {task}");
    }
    assert_eq!(new.machine.agent("a").expect("kept").status(), AgentStatus::Lost);
    assert_eq!(new.machine.members().map(|(name, m)| (name, m.raft_id)).collect::<Vec<_>>(), [("m1", 71), ("m2", 72)]);
    assert_eq!((new.machine.cluster_id(), new.machine.configuration().voters), (7, vec![71, 72]));
    assert_eq!((new.machine.applied_index(), new.machine.applied_term()), (1, 1));
    assert_eq!(new.rows.family(Cf::Session).count(), 0);
    assert_eq!(new.machine.cluster_us(), old.machine.cluster_us());

    // A command of a session of the old cluster, and a result of an attempt of it.
    let late = new.command(complete(3, epochs[2]));
    assert_eq!(new.apply(vec![late]).outcomes[0].refusal, Refusal::SessionUnknown as i32);
    new.open_session();
    let outcome = new.run(vec![complete(3, epochs[2])]).outcomes.remove(0);
    assert_eq!(outcome.refusal, Refusal::StaleEpoch as i32, "{outcome:?}");
    // The agent registers again: its number is none that the old cluster could have given since.
    let outcome = new.run(vec![register("a", "m1", 8)]).outcomes.remove(0);
    assert!(outcome.agent_epoch > agent_epoch + 1_000_000_000, "{outcome:?}");
    let epoch = assign(&mut new, 3, "a");
    assert_eq!(new.run(vec![complete(3, epoch)]).outcomes[0].refusal, 0);
    new.check();
}

#[test]
fn every_node_comes_to_the_same_rows() {
    let mut old = Cluster::new();
    old.run(vec![register("a", "n1", 8), submit(spec(id(1)))]);
    assign(&mut old, 1, "a");
    assert!(seeded(&old).rows == seeded(&old).rows);
    // A backup of the restored cluster can be restored as well.
    seeded(&seeded(&old)).check();
}
