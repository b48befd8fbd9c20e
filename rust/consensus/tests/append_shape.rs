//! What a leader sends and a follower takes: an append's entries follow the index that it names.
//!
//! raft-rs 0.7.0 with `batch_append` puts entries into an earlier message to the same follower that
//! holds none, whatever index that one names. The follower finds that it has these entries already
//! and acknowledges `index + count`, which it never had: the leader counts a quorum that is none.
//! (Found by `sim --seed 5 --profile partition --voters 3`.)

use codec::log::ConfState;
use consensus::{Consensus, ConsensusConfig, Outgoing, Start};
use protobuf::Message as _;
use raft::eraftpb::{Entry, Message, MessageType};

fn member(raft_id: u64) -> Consensus {
    let start = Start {
        raft_id,
        hard_state: codec::log::HardState::default(),
        configuration: ConfState { voters: vec![1, 2, 3], ..ConfState::default() },
        base: (0, 0),
        entries: Vec::new(),
        applied_index: 0,
    };
    Consensus::new(&ConsensusConfig::default(), start).expect("starts")
}

/// Everything that leaves, with a disk that syncs at once.
fn drain(member: &mut Consensus) -> Vec<Message> {
    let mut sent: Vec<Outgoing> = Vec::new();
    while let Some(round) = member.ready() {
        sent.extend(round.messages);
        if round.persist != 0 {
            member.persisted(round.persist);
        }
    }
    sent.iter().map(|m| Message::parse_from_bytes(&m.bytes).expect("decodes")).collect()
}

fn message(kind: MessageType, from: u64, to: u64, index: u64) -> Message {
    Message { msg_type: kind, from, to, term: 1, index, ..Message::default() }
}

fn step(member: &mut Consensus, message: &Message) {
    member.step(&message.write_to_bytes().expect("encodes")).expect("steps");
}

fn leader() -> Consensus {
    let mut leader = member(1);
    leader.campaign().expect("campaigns");
    drain(&mut leader);
    let mut pre_vote = message(MessageType::MsgRequestPreVoteResponse, 2, 1, 0);
    pre_vote.term = 1;
    step(&mut leader, &pre_vote);
    drain(&mut leader);
    step(&mut leader, &message(MessageType::MsgRequestVoteResponse, 2, 1, 0));
    drain(&mut leader);
    leader
}

/// Both followers hold entry 1, and 2 … 6 are on their way · in one turn 2 acknowledges all, so that 3
/// is sent the new commit index without entries, and 3 rejects an append, so that it is sent entries
/// from 2 on → each append's entries begin behind its index.
#[test]
fn a_commit_and_a_step_back_in_one_turn_are_two_appends() {
    let mut leader = leader();
    for follower in [2, 3] {
        step(&mut leader, &message(MessageType::MsgAppendResponse, follower, 1, 1));
    }
    drain(&mut leader);
    for data in 2..=6u8 {
        leader.propose(vec![data]).expect("proposes");
        drain(&mut leader);
    }
    step(&mut leader, &message(MessageType::MsgAppendResponse, 2, 1, 6));
    let mut reject = message(MessageType::MsgAppendResponse, 3, 1, 5);
    (reject.reject, reject.reject_hint, reject.log_term) = (true, 1, 1);
    step(&mut leader, &reject);
    let appends: Vec<Message> =
        drain(&mut leader).into_iter().filter(|m| m.msg_type == MessageType::MsgAppend && m.to == 3).collect();
    assert!(appends.iter().any(|m| !m.entries.is_empty()), "it is sent what it lacks");
    for append in &appends {
        let indexes: Vec<u64> = append.entries.iter().map(|e| e.index).collect();
        let expected: Vec<u64> = (append.index + 1..).take(indexes.len()).collect();
        assert_eq!(indexes, expected, "behind index {}", append.index);
    }
}

/// A follower holds entries 1 … 3 · an append names index 3 and carries 2 and 3 again → not taken, and
/// above all not acknowledged as 5.
#[test]
fn an_append_whose_entries_do_not_follow_its_index_is_not_taken() {
    let mut follower = member(2);
    let entry = |index| Entry { index, term: 1, ..Entry::default() };
    let mut append = message(MessageType::MsgAppend, 1, 2, 0);
    append.set_entries((1..=3).map(entry).collect());
    step(&mut follower, &append);
    drain(&mut follower);
    let mut crooked = message(MessageType::MsgAppend, 1, 2, 3);
    crooked.log_term = 1;
    crooked.set_entries((2..=3).map(entry).collect());
    let refused = follower.step(&crooked.write_to_bytes().expect("encodes"));
    assert!(refused.is_err(), "{refused:?}");
    assert!(drain(&mut follower).iter().all(|m| m.index <= 3));
}
