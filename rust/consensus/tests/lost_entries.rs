//! A member whose log is shorter than what its leader saw it acknowledge: raft-rs 0.7.0 panics at the leader's heartbeat.
//! (Found by the suite `flips`, seed 2.) And the hard state that goes with a snapshot is always the current one (seed 9).

use codec::log::{ConfState, EntryKind, HardState, LogEntry};
use consensus::{Consensus, ConsensusConfig, ConsensusError, Start};
use protobuf::Message as _;
use raft::eraftpb::{Message, MessageType, Snapshot};

fn member(entries: u64) -> Consensus {
    let entry = |index| LogEntry { index, term: 4, kind: EntryKind::Normal, data: Default::default() };
    let start = Start {
        raft_id: 2,
        hard_state: HardState { term: 4, vote: 1, commit: entries },
        configuration: ConfState { voters: vec![1, 2, 3], ..ConfState::default() },
        base: (0, 0),
        entries: (1..=entries).map(entry).collect(),
        applied_index: entries,
    };
    Consensus::new(&ConsensusConfig::default(), start).expect("starts")
}

fn step(member: &mut Consensus, message: &Message) -> Result<(), ConsensusError> {
    member.step(&message.write_to_bytes().expect("encodes"))
}

#[test]
fn a_heartbeat_that_commits_beyond_the_log_is_an_error_and_no_panic() {
    let mut member = member(5);
    let heartbeat =
        |term, commit| Message { msg_type: MessageType::MsgHeartbeat, from: 1, to: 2, term, commit, ..Message::default() };
    step(&mut member, &heartbeat(3, 9)).expect("a leader of the past says nothing of this log");
    step(&mut member, &heartbeat(4, 5)).expect("what it holds");
    let error = step(&mut member, &heartbeat(4, 6)).expect_err("what it has lost");
    assert!(matches!(error, ConsensusError::LostEntries { term: 4, acknowledged: 6, last_index: 5 }), "{error}");
}

/// A fenced member takes a snapshot at its own commit index, which changes neither term nor commit.
#[test]
fn a_snapshot_at_the_commit_index_keeps_term_and_vote() {
    let mut member = member(5);
    member.set_fenced(true);
    let heartbeat = Message { msg_type: MessageType::MsgHeartbeat, from: 1, to: 2, term: 4, commit: 5, ..Message::default() };
    step(&mut member, &heartbeat).expect("a leader");
    while let Some(round) = member.ready() {
        member.persisted(round.persist);
    }
    assert!(member.request_snapshot());
    let mut message = Message { msg_type: MessageType::MsgSnapshot, from: 1, to: 2, term: 4, ..Message::default() };
    let mut snapshot = Snapshot::default();
    snapshot.mut_metadata().index = 5;
    snapshot.mut_metadata().term = 4;
    snapshot.mut_metadata().mut_conf_state().voters = vec![1, 2, 3];
    message.set_snapshot(snapshot);
    step(&mut member, &message).expect("a snapshot");
    let round = std::iter::from_fn(|| member.ready()).find(|r| r.snapshot.is_some()).expect("an install");
    assert_eq!(round.hard_state, Some(HardState { term: 4, vote: 1, commit: 5 }));
}
