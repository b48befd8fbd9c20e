//! Sessions of nodes that leave: they end with the node, and names that come and go use up nothing.

mod common;

use codec::command::{AddMember, AdmitMember, Body, OpenSession, PutKey, RemoveMember, SettleMember};
use codec::row::{Cf, MemberRole, MemberState};
use codec::{Command, Refusal};
use common::Cluster;
use machine::limits::SESSIONS_MAX;

fn put() -> Body {
    Body::PutKey(PutKey { tenant: "default".into(), key: "k".into(), value: b"1".to_vec(), condition: None })
}

/// A node joins, opens a session, writes, and is removed.
fn passes_through(cluster: &mut Cluster, raft_id: u64) {
    let node_id = format!("m{raft_id}");
    let alive = vec![1, 2, 3];
    let settle = |state: MemberState| {
        let (state, role) = (state as i32, MemberRole::Learner as i32);
        Body::SettleMember(SettleMember { node_id: format!("m{raft_id}"), raft_id, state, role })
    };
    let address = "host:1".into();
    let role = MemberRole::Learner as i32;
    cluster.run(vec![
        Body::AddMember(AddMember { node_id: node_id.clone(), address, role, alive: alive.clone() }),
        Body::AdmitMember(AdmitMember { node_id: node_id.clone(), raft_id, retires: 0 }),
        settle(MemberState::Joining),
    ]);
    let open = Body::OpenSession(OpenSession { node_id: node_id.clone() });
    let mut commands = vec![Command { session: raft_id, body: Some(open), ..Command::default() }];
    commands.push(Command { session: raft_id, sequence: 1, resolved_below: 1, term: 0, body: Some(put()) });
    let applied = cluster.apply(commands);
    assert!(applied.outcomes.iter().all(codec::Outcome::is_accepted), "{:?}", applied.outcomes);
    let applied = cluster.run(vec![Body::RemoveMember(RemoveMember { node_id, alive }), settle(MemberState::Leaving)]);
    assert!(applied.outcomes.iter().all(codec::Outcome::is_accepted), "{:?}", applied.outcomes);
}

#[test]
fn a_removed_nodes_session_takes_no_more_commands() {
    let mut cluster = Cluster::new();
    passes_through(&mut cluster, 1_000);
    let late = Command { session: 1_000, sequence: 2, resolved_below: 1, term: 0, body: Some(put()) };
    let applied = cluster.apply(vec![late]);
    assert_eq!(applied.outcomes[0].refusal, Refusal::SessionUnknown as i32);
    cluster.check();
    cluster.check_replay();
}

#[test]
fn names_that_come_and_go_use_up_no_sessions() {
    let mut cluster = Cluster::new();
    for raft_id in 1_000..1_000 + SESSIONS_MAX as u64 + 50 {
        passes_through(&mut cluster, raft_id);
    }
    assert!(cluster.rows.family(Cf::Session).count() <= 2 * SESSIONS_MAX);
    cluster.check();
    cluster.check_replay();
}
