//! Samples of commands.

use codec::command::*;
use codec::frame::FrameKind;
use codec::row::{MemberRole, MemberState};
use codec::{Command, EntryPayload};

use super::sample::*;

fn task_spec() -> TaskSpec {
    TaskSpec {
        id: id(1),
        name: text("first"),
        parent_id: id(2),
        task_type: text("summarize"),
        payload: b"{\"a\": 1}".to_vec(),
        priority: -3,
        requirements: Some(requirements()),
        dependencies: vec![id(3), id(4)],
        on_dependency_failure: DependencyFailure::Skip as i32,
        optional: true,
        not_before_wall_us: 11,
        deadline_wall_us: 12,
        queue_ms: 13,
        run_ms: 14,
        total_ms: 15,
        retry: Some(retry()),
        idempotent: true,
        preemptible: true,
        size_hint: 16,
        labels: vec![label()],
        cost_estimate: vec![amount()],
        join: Some(Join { policy: JoinPolicy::Quorum as i32, count: 2 }),
    }
}

/// Every command body.
pub fn bodies() -> Vec<Body> {
    let (task_id, agent_id, epoch) = (id(1), text("agent"), 4);
    let log = vec![LogLine { wall_us: 1, level: text("info"), text: text("line") }];
    let assignment = Assignment { task_id: id(1), epoch: 3, agent_id: text("agent"), agent_epoch: 9, terms: vec![1, -2, 3] };
    vec![
        Body::OpenSession(OpenSession { node_id: text("node-1") }),
        Body::Submit(Submit {
            tenant: text("default"),
            idempotency_key: text("key"),
            body_hash: id(9),
            tasks: vec![task_spec()],
        }),
        Body::Cancel(Cancel { task_id: id(1), kill: true, grace_ms: 30_000 }),
        Body::Reschedule(Reschedule {
            task_id: id(1),
            exclude_agents: vec![text("agent")],
            priority: Some(-1),
            not_before_wall_us: Some(7),
        }),
        Body::Retry(Retry { task_id: id(1) }),
        Body::RegisterAgent(RegisterAgent {
            agent_id: text("agent"),
            node_id: text("node-1"),
            capabilities: vec![Amount { name: text("nlp"), amount: 8_000 }],
            resources: vec![amount()],
            labels: vec![label()],
            task_types: vec![text("summarize")],
            version: text("1.2"),
            via_node_id: text("node-2"),
        }),
        Body::LeaveAgent(LeaveAgent { agent_id: text("agent") }),
        Body::DrainAgent(DrainAgent { agent_id: text("agent"), drain: true }),
        Body::Start(Start { task_id: id(1), epoch, agent_id: text("agent") }),
        Body::Progress(Progress {
            task_id: id(1),
            epoch,
            agent_id: text("agent"),
            progress_bp: Some(5_000),
            message: text("half"),
            checkpoint: Some(b"{}".to_vec()),
            log,
        }),
        Body::Complete(Complete {
            task_id: id(1),
            epoch,
            agent_id: text("agent"),
            result: b"[1]".to_vec(),
            cost: vec![amount()],
            quality_bp: Some(9_000),
        }),
        Body::Fail(Fail {
            task_id,
            epoch,
            agent_id,
            code: text("boom"),
            message: text("it broke"),
            retryable: true,
            retry_after_ms: Some(100),
            cost: vec![amount()],
        }),
        Body::PutKey(PutKey {
            tenant: text("default"),
            key: text("k"),
            value: b"1".to_vec(),
            condition: Some(KeyCondition::Revision(5)),
        }),
        Body::DeleteKey(DeleteKey { tenant: text("default"), key: text("k"), condition: Some(KeyCondition::Absent(true)) }),
        Body::DrainNode(DrainNode { node_id: text("node-1"), drain: true, deadline_ms: 3_600_000 }),
        Body::Assign(Assign { items: vec![assignment] }),
        Body::Expire(Expire {
            tasks: vec![ExpiredTask { task_id: id(1), epoch, reason: ExpireReason::RunTimeout as i32 }],
            agents: vec![ExpiredAgent { agent_id: text("agent"), agent_epoch: 9 }],
            drained_nodes: vec![text("node-1")],
        }),
        Body::Retention(Retention {
            task_ids: vec![id(1)],
            idempotency_keys: vec![b"key".to_vec()],
            events_below_revision: 100,
            events_max: 50,
            agent_ids: vec![text("agent")],
        }),
        Body::HashCheck(HashCheck { index: 4_096, hash: id(7), verify: 0 }),
        Body::ClockAdvance(ClockAdvance {}),
        Body::AddMember(AddMember {
            node_id: text("node-4"),
            address: text("host:5003"),
            role: MemberRole::Learner as i32,
            alive: vec![1, 2],
        }),
        Body::RemoveMember(RemoveMember { node_id: text("node-4"), alive: vec![1, 2] }),
        Body::ReplaceMember(ReplaceMember { node_id: text("node-4"), address: text("host:5003"), alive: vec![1, 2] }),
        Body::AdmitMember(AdmitMember { node_id: text("node-4"), raft_id: 4, retires: 3 }),
        Body::SettleMember(SettleMember {
            node_id: text("node-4"),
            raft_id: 4,
            state: MemberState::Leaving as i32,
            role: MemberRole::Learner as i32,
        }),
        Body::SwapVoter(SwapVoter { learner: text("node-4"), voter: text("node-1") }),
    ]
}

pub fn entry(body: Body) -> EntryPayload {
    let command = Command { session: 1 << 60, sequence: 2, resolved_below: 1, term: 3, body: Some(body) };
    EntryPayload { cluster_us: 1_000_000, wall_us: 1_700_000_000_000_000, seed: u64::MAX - 1, commands: vec![command] }
}

/// Commands that have grown since their first sample.
pub fn grown_commands() -> Vec<Sample> {
    let check = Body::HashCheck(HashCheck { index: 4_096, hash: id(7), verify: 8 });
    vec![frame_sample("command_hash_check_verify", FrameKind::EntryPayload, entry(check))]
}

pub fn command_samples() -> Vec<Sample> {
    let sample = |body: Body| frame_sample(&format!("command_{}", body.name()), FrameKind::EntryPayload, entry(body));
    bodies().into_iter().map(sample).collect()
}
