//! The saved commit index follows the log: entries that are saved take along what was committed until then.
//!
//! raft-rs gives a hard state with the round in which it changed, and a commit index that moved alone needs no sync, so
//! it is not saved by itself. (Found by `sim --seed 17567 --profile everything --voters 5`.)

use codec::log::{ConfState, HardState};
use consensus::{Consensus, ConsensusConfig, Round, Start};
use protobuf::Message as _;
use raft::eraftpb::{Entry, Message, MessageType};

fn follower() -> Consensus {
    let configuration = ConfState { voters: vec![1, 2, 3], ..ConfState::default() };
    let (hard_state, entries) = (HardState { term: 1, ..HardState::default() }, Vec::new());
    let start = Start { raft_id: 1, hard_state, configuration, base: (0, 0), entries, applied_index: 0 };
    Consensus::new(&ConsensusConfig::default(), start).expect("starts")
}

/// The leader's append of the entry after `previous` (or of none), with its commit index.
fn append(member: &mut Consensus, previous: u64, entry: bool, commit: u64) -> Round {
    let log_term = u64::from(previous > 0);
    let mut message = Message { msg_type: MessageType::MsgAppend, from: 2, to: 1, term: 1, ..Message::default() };
    (message.index, message.log_term, message.commit) = (previous, log_term, commit);
    if entry {
        let new = Entry { index: previous + 1, term: 1, data: vec![7].into(), ..Entry::default() };
        message.set_entries(vec![new].into());
    }
    member.step(&message.write_to_bytes().expect("encodes")).expect("steps");
    let round = member.ready().expect("a round");
    member.persisted(round.persist);
    round
}

#[test]
fn entries_take_along_a_commit_index_that_moved_alone() {
    let mut member = follower();
    assert_ne!(append(&mut member, 0, true, 0).persist, 0);
    assert_eq!(append(&mut member, 1, false, 1).persist, 0, "a commit index alone needs no sync");
    let round = append(&mut member, 1, true, 1);
    assert_ne!(round.persist, 0);
    assert_eq!(round.hard_state, Some(HardState { term: 1, vote: 0, commit: 1 }));
    // What is saved already is not saved again.
    assert_eq!(append(&mut member, 2, true, 1).hard_state, None);
}
