//! A learner that was brought up by a snapshot has caught up, also where no entry follows.
//!
//! raft-rs leaves it in probe until the next append; an idle log has none. (Found by `sim --seed 19004 --profile
//! membership --voters 7`: a learner that stayed `joining` for ever.)

use codec::log::{ConfState, HardState};
use consensus::{Consensus, ConsensusConfig, Role, SnapshotMeta, Start};
use protobuf::Message as _;
use raft::eraftpb::{Message, MessageType};

const LEARNER: u64 = 2;

/// The only voter, leading, with a log that begins behind entry 5.
fn leader() -> (Consensus, ConfState) {
    let configuration = ConfState { voters: vec![1], learners: vec![LEARNER], ..ConfState::default() };
    let hard_state = HardState { term: 1, vote: 0, commit: 5 };
    let start = Start {
        raft_id: 1,
        hard_state,
        configuration: configuration.clone(),
        base: (5, 1),
        entries: Vec::new(),
        applied_index: 5,
    };
    let mut member = Consensus::new(&ConsensusConfig::default(), start).expect("starts");
    member.campaign().expect("campaigns");
    run(&mut member);
    assert_eq!((member.role(), member.last_index()), (Role::Leader, 6));
    (member, configuration)
}

fn run(member: &mut Consensus) {
    while let Some(round) = member.ready() {
        member.persisted(round.persist);
        if let Some(last) = round.committed.last() {
            member.applied(last.index);
        }
    }
}

fn answer(member: &mut Consensus, msg_type: MessageType, index: u64, reject: bool) {
    let message = Message { msg_type, from: LEARNER, to: 1, term: member.term(), index, reject, ..Message::default() };
    member.step(&message.write_to_bytes().expect("encodes")).expect("steps");
    run(member);
}

#[test]
fn a_learner_with_all_there_is_keeps_up() {
    let (mut leader, configuration) = leader();
    let learner = |leader: &Consensus| {
        let found = leader.progress().into_iter().find(|p| p.raft_id == LEARNER).expect("a learner");
        (found.snapshotting, found.replicating)
    };
    answer(&mut leader, MessageType::MsgAppendResponse, 5, true);
    assert!(leader.snapshot_wanted(), "the entries that it lacks are gone");
    leader.offer_snapshot(&SnapshotMeta { index: 6, term: leader.term(), configuration });
    answer(&mut leader, MessageType::MsgHeartbeatResponse, 0, false);
    assert_eq!(learner(&leader), (true, false));
    answer(&mut leader, MessageType::MsgAppendResponse, 6, false);
    leader.report_snapshot(LEARNER, true);
    run(&mut leader);
    assert_eq!(learner(&leader), (false, true));
}
