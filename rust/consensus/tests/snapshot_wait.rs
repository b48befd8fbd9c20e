//! A member whose log has started over behind a snapshot does not campaign before that state is in use.
//!
//! raft-rs 0.7.0 looks at the entries from the applied index on before it campaigns, and panics when
//! they are behind the snapshot. (Found by `make mutants`: its control run, partition with 5 voters, seed 138.)

use codec::log::{ConfState, HardState};
use consensus::{Consensus, ConsensusConfig, Role, Start};
use protobuf::Message as _;
use raft::eraftpb::{Message, MessageType, Snapshot, SnapshotMetadata};

fn member() -> Consensus {
    let configuration = ConfState { voters: vec![1, 2, 3], ..ConfState::default() };
    let (hard_state, entries) = (HardState { term: 1, ..HardState::default() }, Vec::new());
    let start = Start { raft_id: 1, hard_state, configuration, base: (0, 0), entries, applied_index: 0 };
    Consensus::new(&ConsensusConfig::default(), start).expect("starts")
}

fn snapshot(index: u64) -> Vec<u8> {
    let mut metadata = SnapshotMetadata { index, term: 1, ..SnapshotMetadata::default() };
    metadata.mut_conf_state().set_voters(vec![1, 2, 3]);
    let mut message = Message { msg_type: MessageType::MsgSnapshot, from: 2, to: 1, term: 1, ..Message::default() };
    let mut snapshot = Snapshot::default();
    snapshot.set_metadata(metadata);
    message.set_snapshot(snapshot);
    message.write_to_bytes().expect("encodes")
}

fn tick_past_the_timeout(member: &mut Consensus) {
    (0..ConsensusConfig::default().election_ticks_max + 1).for_each(|_| member.tick());
}

#[test]
fn no_campaign_before_the_snapshots_state_is_in_use() {
    let mut member = member();
    member.step(&snapshot(40)).expect("steps");
    let round = member.ready().expect("a round");
    assert_eq!(round.snapshot.as_ref().map(|s| s.index), Some(40));
    member.persisted(round.persist);
    tick_past_the_timeout(&mut member);
    let hand_over = Message { msg_type: MessageType::MsgTimeoutNow, from: 2, to: 1, term: 1, ..Message::default() };
    member.step(&hand_over.write_to_bytes().expect("encodes")).expect("steps");
    assert_eq!(member.role(), Role::Follower, "it has no state to lead with");
    member.applied(40);
    tick_past_the_timeout(&mut member);
    assert_eq!(member.role(), Role::Candidate);
}
