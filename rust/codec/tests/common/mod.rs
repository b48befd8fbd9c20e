//! One sample of every type that is written to a disk or a socket, with every field set: a field
//! that is added must be given a value here, and so gets its bytes into a golden file.
#![allow(dead_code)]

use codec::command::*;
use codec::frame::{FrameKind, to_frame};
use codec::integrity::*;
use codec::log::*;
use codec::peer::*;
use codec::row::*;
use codec::tail::*;
use codec::{Command, EntryPayload, Message, Outcome};

fn text(value: &str) -> String {
    value.to_owned()
}

fn id(n: u8) -> Vec<u8> {
    vec![n; 16]
}

fn label() -> Label {
    Label { key: text("region"), value: text("eu") }
}

fn amount() -> Amount {
    Amount { name: text("slots"), amount: 2 }
}

fn retry() -> RetryPolicy {
    let non_retryable = vec![text("fatal")];
    RetryPolicy { max_attempts: 3, backoff_ms: 200, factor_milli: 2_000, max_backoff_ms: 60_000, non_retryable }
}

fn requirements() -> Requirements {
    let capability = CapabilityNeed { dimension: text("nlp"), min_bp: 7_000, weight_milli: 1_500 };
    Requirements { capabilities: vec![capability], resources: vec![amount()], labels: vec![label()] }
}

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

pub fn outcome() -> Outcome {
    Outcome {
        refusal: codec::Refusal::StaleEpoch as i32,
        revision: 1,
        status: Status::Running as i32,
        epoch: 2,
        agent_id: text("agent"),
        agent_epoch: 3,
        task_ids: vec![id(1)],
        names: vec![text("first")],
        replayed: true,
        field: text("/tasks/0"),
        detail: text("why"),
        key_revision: 4,
        create_revision: 5,
        key_version: 6,
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

fn configuration() -> ConfState {
    ConfState { voters: vec![1, 2], learners: vec![3], voters_outgoing: vec![4], learners_next: vec![5], auto_leave: true }
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

type Reader = Box<dyn Fn(&[u8]) -> bool>;

/// A type's name, its bytes as written, and a check that bytes read as the same message.
pub struct Sample {
    pub name: String,
    pub bytes: Vec<u8>,
    pub reads_back: Reader,
}

fn row_sample<M: Message + Default + PartialEq + Clone + 'static>(name: &str, message: M) -> Sample {
    let bytes = encode(&message);
    Sample { name: format!("row_{name}"), bytes, reads_back: Box::new(move |b| decode::<M>(b).is_ok_and(|m| m == message)) }
}

fn frame_sample<M: Message + Default + PartialEq + Clone + 'static>(name: &str, kind: FrameKind, message: M) -> Sample {
    let bytes = to_frame(kind, &message);
    let reads_back = move |b: &[u8]| codec::Frame::decode_message::<M>(kind, b).is_ok_and(|m| m == message);
    Sample { name: name.to_owned(), bytes, reads_back: Box::new(reads_back) }
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

pub fn log_samples() -> Vec<Sample> {
    let member = BootstrapMember { node_id: text("node-1"), raft_id: 2, address: text("host:5000") };
    let bootstrap = Bootstrap { cluster_id: 1, members: vec![member], wall_us: 3, seed: None };
    let identity =
        Identity { raft_id: 1, node_id: text("node-1"), cluster_id: 3, bootstrap: Some(bootstrap), ..Identity::default() };
    let retired =
        Identity { raft_id: 9, retired: vec![7, 0, 8], damaged: text("log: checksum"), former_cluster_id: 6, ..identity.clone() };
    let entry = LogEntry { index: 1, term: 2, kind: EntryKind::ConfChange, data: b"data".as_slice().into() };
    let witness = Witness { term: 1, index: 2, chain: 3, saved_term: 4, vote: 5, sequence: 6 };
    vec![
        frame_sample("log_record", FrameKind::LogRecord, LogRecord::new(&entry, 77)),
        frame_sample("hard_state", FrameKind::HardState, HardState { term: 1, vote: 2, commit: 3 }),
        frame_sample("log_base", FrameKind::LogBase, LogBase { index: 1, term: 2, chain: 3, state_dir: text("state-1") }),
        frame_sample("identity", FrameKind::Identity, identity),
        frame_sample("identity_retired", FrameKind::Identity, retired),
        frame_sample("witness", FrameKind::Witness, witness),
    ]
}

fn peer_bodies() -> Vec<(&'static str, PeerBody)> {
    let hello = Hello {
        cluster_id: 1,
        node_id: text("node-1"),
        raft_id: 3,
        incarnation: 4,
        protocol_version: 5,
        lane: 2,
        machine_version_max: 7,
        expected_nodes: vec![text("node-1")],
        address: text("host:5000"),
        ..Hello::default()
    };
    let removed = Hello { you_were_removed: true, ..hello.clone() };
    let beat = Beat { token: 1, agent_id: text("agent"), agent_epoch: 3, load_bp: vec![1, 2, 3] };
    let answer = BeatAnswer { token: 1, lease_ms: 4_000, stale: true, unknown: true, heartbeat_ms: 500 };
    let report = NodeReport {
        applied_index: 1,
        flushed_index: 2,
        hash_index: 3,
        hash: id(4),
        load_bp: vec![5],
        wall_us: 6,
        http_address: text("host:8080"),
        version: text("0.1.0"),
        agents: 9,
        role: text("leader"),
        fenced: String::new(),
    };
    let fenced = NodeReport { fenced: text("state differs"), ..report.clone() };
    let retired = Hello { retired: vec![2, 0], damaged: text("log: checksum"), ..hello.clone() };
    let offer = SnapshotOffer {
        transfer: 1,
        index: 2,
        term: 3,
        configuration: Some(configuration()),
        files: vec![SnapshotFile { name: text("000001.sst"), bytes: 2, crc32c: 3 }],
        raft_message: b"raft".as_slice().into(),
        resumable: false,
    };
    let resumable = SnapshotOffer { resumable: true, ..offer.clone() };
    let resume = SnapshotResume { transfer: 1, file: 2, offset: 3, crc32c: 4 };
    let bootstrap = Bootstrap { cluster_id: 1, members: vec![], wall_us: 3, seed: None };
    let seed = Seed { digest: id(5), revision: 6, cluster_us: 7, hash: id(8) };
    let seeded = Bootstrap { seed: Some(seed), ..bootstrap.clone() };
    let met = BootstrapMember { node_id: text("node-1"), raft_id: 2, address: text("host:5000") };
    let welcome = Welcome { raft_id: 4, bootstrap: Some(bootstrap.clone()), members: vec![met] };
    let commands = entry(Body::Retry(Retry { task_id: id(1) })).commands;
    let chunk = SnapshotChunk { transfer: 1, file: 2, offset: 3, data: b"data".as_slice().into(), crc32c: None };
    let checked = SnapshotChunk { crc32c: Some(4), ..chunk.clone() };
    let word = SnapshotAnswer { transfer: 1, index: 2, installed: true, reason: text("done") };
    let mut bodies = tail_bodies();
    bodies.extend(integrity_bodies());
    bodies.push(("node_report_fenced", PeerBody::NodeReport(fenced)));
    bodies.push(("hello_retired", PeerBody::Hello(retired)));
    bodies.push(("hello_duplex", PeerBody::Hello(Hello { duplex: true, ..hello.clone() })));
    bodies.push(("bootstrap_seeded", PeerBody::Bootstrap(seeded)));
    bodies.push(("snapshot_offer_resumable", PeerBody::SnapshotOffer(resumable)));
    bodies.push(("snapshot_chunk_checked", PeerBody::SnapshotChunk(checked)));
    bodies.push(("snapshot_resume", PeerBody::SnapshotResume(resume)));
    bodies.extend(vec![
        ("hello", PeerBody::Hello(hello)),
        ("hello_removed", PeerBody::Hello(removed)),
        ("welcome", PeerBody::Welcome(welcome)),
        ("raft", PeerBody::Raft(b"raft".as_slice().into())),
        ("forward", PeerBody::Forward(Forward { commands })),
        ("read_index_request", PeerBody::ReadIndexRequest(ReadIndexRequest { round: 1 })),
        ("read_index_answer", PeerBody::ReadIndexAnswer(ReadIndexAnswer { round: 1, index: 2 })),
        ("beats", PeerBody::Beats(Beats { beats: vec![beat] })),
        ("beat_answers", PeerBody::BeatAnswers(BeatAnswers { answers: vec![answer] })),
        ("bootstrap", PeerBody::Bootstrap(bootstrap)),
        ("node_report", PeerBody::NodeReport(report)),
        ("snapshot_offer", PeerBody::SnapshotOffer(offer)),
        ("snapshot_chunk", PeerBody::SnapshotChunk(chunk)),
        ("snapshot_answer", PeerBody::SnapshotAnswer(word)),
    ]);
    bodies
}

/// By which members check each other.
fn integrity_bodies() -> Vec<(&'static str, PeerBody)> {
    let result = VerifyResult { verify: 1, index: 2, kept: id(3), computed: id(4), rows: 5, bytes: 6, error: text("none") };
    vec![
        ("state_hash", PeerBody::StateHash(StateHash { index: 1, hash: id(2) })),
        ("verify_request", PeerBody::VerifyRequest(VerifyRequest { verify: 1 })),
        ("verify_result", PeerBody::VerifyResult(result)),
        ("acknowledged", PeerBody::Acknowledged(Acknowledged { term: 1, index: 2 })),
    ]
}

/// What observers and those they follow say to each other.
fn tail_bodies() -> Vec<(&'static str, PeerBody)> {
    let subscribe = TailSubscribe { subscription: 1, index: 2, term: 3, hash: id(4), snapshot: true, catch_up: true };
    let batch = TailBatch {
        subscription: 1,
        entries: vec![TailEntry { index: 2, term: 3, kind: EntryKind::ConfChange as i32, data: b"data".as_slice().into() }],
        commit_index: 4,
        leader: 5,
        term: 6,
        root: 7,
        pulse: 8,
        depth: 9,
        hash_index: 10,
        hash: id(11),
    };
    let report = ObserverReport {
        raft_id: 1,
        parent: 2,
        applied_index: 3,
        age_us: 4,
        load_bp: vec![5],
        http_address: text("host:8080"),
        version: text("0.1.0"),
    };
    let placement = Placement {
        term: 1,
        version: 2,
        leader: 3,
        observers: vec![PlacedObserver { raft_id: 1, parent: 2, report: Some(report.clone()) }],
        voters_healthy: 5,
        voters: vec![PlacedVoter {
            raft_id: 3,
            node_id: text("node-1"),
            address: text("host:5000"),
            alive: true,
            match_index: 4,
            http_address: text("host:8080"),
        }],
    };
    let register = ObserverRegister { raft_id: 1, node_id: text("observer-1"), address: text("host:5000") };
    vec![
        ("tail_subscribe", PeerBody::TailSubscribe(subscribe)),
        ("tail_batch", PeerBody::TailBatch(batch)),
        ("tail_ack", PeerBody::TailAck(TailAck { subscription: 1, index: 2 })),
        ("tail_end", PeerBody::TailEnd(TailEnd { subscription: 1, reason: TailReason::Diverged as i32 })),
        ("placement", PeerBody::Placement(placement)),
        ("observer_register", PeerBody::ObserverRegister(register)),
        ("observer_reports", PeerBody::ObserverReports(ObserverReports { reports: vec![report] })),
    ]
}

pub fn peer_samples() -> Vec<Sample> {
    let sample =
        |(name, body): (&str, PeerBody)| frame_sample(&format!("peer_{name}"), FrameKind::Peer, PeerMessage { body: Some(body) });
    peer_bodies().into_iter().map(sample).collect()
}

/// Commands that have grown since their first sample.
fn grown_commands() -> Vec<Sample> {
    let check = Body::HashCheck(HashCheck { index: 4_096, hash: id(7), verify: 8 });
    vec![frame_sample("command_hash_check_verify", FrameKind::EntryPayload, entry(check))]
}

pub fn command_samples() -> Vec<Sample> {
    let sample = |body: Body| frame_sample(&format!("command_{}", body.name()), FrameKind::EntryPayload, entry(body));
    bodies().into_iter().map(sample).collect()
}

pub fn samples() -> Vec<Sample> {
    [command_samples(), grown_commands(), row_samples(), log_samples(), peer_samples()].into_iter().flatten().collect()
}
