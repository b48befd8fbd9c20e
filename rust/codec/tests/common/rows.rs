//! Samples of rows of the state store.

use codec::command::*;
use codec::row::*;

use super::sample::*;

fn task_row() -> TaskRow {
    TaskRow {
        tenant: text("default"),
        name: text("first"),
        parent_id: id(2),
        task_type: text("summarize"),
        status: Status::Running as i32,
        assigned_agent_id: text("agent"),
        created_wall_us: 7,
        started_wall_us: 8,
        completed_wall_us: 9,
        dependencies: vec![id(3)],
        priority: -1,
        retry_count: 12,
        epoch: 13,
        revision: 14,
        requirements: Some(requirements()),
        not_before_wall_us: 16,
        deadline_wall_us: 17,
        queue_ms: 18,
        run_ms: 19,
        total_ms: 20,
        retry: Some(retry()),
        labels: vec![label()],
        on_dependency_failure: DependencyFailure::Run as i32,
        optional: true,
        idempotent: true,
        preemptible: true,
        size_hint: 27,
        join: Some(Join { policy: JoinPolicy::Any as i32, count: 1 }),
        submit_revision: 29,
        submit_position: 30,
        body_hash: id(31),
        error: Some(TaskError { code: text("boom"), message: text("it broke"), retryable: true }),
        progress_bp: 33,
        progress_message: text("half"),
        created_cluster_us: 35,
        ready_cluster_us: 36,
        assigned_cluster_us: 37,
        started_cluster_us: 38,
        delayed_until_cluster_us: 39,
        grace_until_cluster_us: 40,
        failures: 41,
        attempts: 42,
        lost_agents: vec![text("lost")],
        excluded_agents: vec![text("excluded")],
        open_dependencies: 45,
        children: 46,
        children_completed: 47,
        children_ended: 48,
        children_failed: 49,
        payload_bytes: 50,
        result_bytes: 51,
        score_terms: vec![-5, 2],
        timeline: vec![TimelineEvent {
            kind: EventKind::TaskAssigned as i32,
            wall_us: 1,
            revision: 2,
            epoch: 3,
            agent_id: text("agent"),
            reason: text("why"),
        }],
        cost_estimate: vec![amount()],
        cost: vec![amount()],
        has_checkpoint: true,
        finished_by: text("agent"),
        finished_epoch: 58,
        assigned_agent_epoch: 59,
    }
}

fn event_row() -> EventRow {
    let event = Event {
        kind: EventKind::KeyPut as i32,
        id: id(1),
        tenant: text("default"),
        status: Status::Completed as i32,
        epoch: 5,
        agent_id: text("agent"),
        progress_bp: 7,
        task_type: text("summarize"),
        parent_id: id(2),
        labels: vec![label()],
        value: b"1".to_vec(),
        key_version: 12,
        create_revision: 13,
    };
    EventRow { events: vec![event], wall_us: 2 }
}

fn agent_row() -> AgentRow {
    AgentRow {
        node_id: text("node-1"),
        agent_epoch: 2,
        capabilities: vec![amount()],
        resources: vec![amount()],
        labels: vec![label()],
        task_types: vec![text("summarize")],
        version: text("1.2"),
        status: AgentStatus::Draining as i32,
        registered_wall_us: 9,
        revision: 10,
        completed: 11,
        failed: 12,
        leases_lost: 13,
        changed_wall_us: 14,
    }
}

fn meta_row() -> MetaRow {
    MetaRow {
        applied_index: 1,
        applied_term: 2,
        configuration: Some(configuration()),
        revision: 4,
        cluster_us: 5,
        wall_us: 6,
        hash: id(7),
        machine_version: 8,
        cluster_id: 9,
        events_first_revision: 10,
        tasks_submitted: 11,
        tasks_forgotten: 12,
        tasks_by_status: (1..=13).collect(),
        idempotency_rows: 14,
        ended_bytes: 15,
    }
}

pub fn row_samples() -> Vec<Sample> {
    let member = MemberRow {
        raft_id: 1,
        address: text("host:5000"),
        drain: DrainState::Draining as i32,
        drain_until_cluster_us: 4,
        revision: 5,
        ..MemberRow::default()
    };
    let joining = MemberRow {
        role: MemberRole::Learner as i32,
        state: MemberState::Joining as i32,
        replaces: vec![7, 8],
        ..member.clone()
    };
    let session = SessionRow { node_id: text("node-1"), resolved_below: 2, opened_revision: 3, retired: true };
    vec![
        row_sample("meta", meta_row()),
        row_sample("task", task_row()),
        row_sample("agent", agent_row()),
        row_sample("member", member),
        row_sample("member_joining", joining),
        row_sample("session", session),
        row_sample("session_outcomes", SessionOutcomes { sequences: vec![1, 300], outcomes: vec![outcome(), outcome()] }),
        row_sample("key", KeyRow { value: b"1".to_vec(), revision: 2, create_revision: 3, version: 4 }),
        row_sample("idempotency", IdempotencyRow { body_hash: id(1), outcome: Some(outcome()), created_cluster_us: 3 }),
        row_sample("event", event_row()),
    ]
}
