//! Samples of messages between nodes.

use codec::command::*;
use codec::frame::FrameKind;
use codec::integrity::*;
use codec::log::*;
use codec::peer::*;
use codec::tail::*;

use super::commands::entry;
use super::sample::*;

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
