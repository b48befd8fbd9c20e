//! Samples of what lies beside and in the Raft log.

use codec::frame::FrameKind;
use codec::log::*;

use super::sample::*;

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
