//! What a node needs of Raft that is no part of its configuration: observers tail the committed log.

use bytes::Bytes;
use codec::log::{ConfState, HardState};
use protobuf::Message as _;
use raft::RawNode;
use raft::eraftpb::{ConfChangeV2, Message, MessageType, Snapshot, SnapshotMetadata};

use crate::config::ConsensusConfig;
use crate::convert::{from_raft_configuration, to_raft_configuration};
use crate::round::SnapshotMeta;
use crate::tail::Tail;

/// The configuration after a committed configuration change, as Raft computes it; `None` if Raft
/// refuses the change and so keeps what it has. `data` is that of the entry.
pub fn configuration_after(configuration: &ConfState, data: &[u8]) -> Option<ConfState> {
    let change = ConfChangeV2::parse_from_bytes(data).ok()?;
    // A voter's id that is no member's: the node below is thrown away and never speaks.
    let tail = Tail::new(HardState::default(), configuration.clone(), (0, 0), Vec::new());
    let logger = slog::Logger::root(slog::Discard, slog::o!());
    let mut raw = RawNode::new(&ConsensusConfig::default().raft(u64::MAX, 0), tail, &logger).ok()?;
    raw.apply_conf_change(&change).ok().map(|after| from_raft_configuration(&after))
}

/// The message that goes with the files of a checkpoint sent to an observer: what Raft would send.
pub fn snapshot_message(from: u64, to: u64, meta: &SnapshotMeta) -> Bytes {
    let mut metadata = SnapshotMetadata { index: meta.index, term: meta.term, ..Default::default() };
    metadata.set_conf_state(to_raft_configuration(&meta.configuration));
    let mut snapshot = Snapshot::default();
    snapshot.set_metadata(metadata);
    let mut message = Message { from, to, term: meta.term, ..Default::default() };
    message.set_msg_type(MessageType::MsgSnapshot);
    message.set_snapshot(snapshot);
    message.write_to_bytes().expect("a message in memory encodes").into()
}

/// What an encoded MsgSnapshot carries: (index, term); `None` for any other message.
pub fn snapshot_position(message: &[u8]) -> Option<(u64, u64)> {
    let message = Message::parse_from_bytes(message).ok()?;
    let metadata = message.get_snapshot().get_metadata();
    (message.get_msg_type() == MessageType::MsgSnapshot).then_some((metadata.index, metadata.term))
}

#[cfg(test)]
mod tests {
    use raft::eraftpb::{ConfChangeSingle, ConfChangeTransition, ConfChangeType};

    use super::*;

    fn change(kind: ConfChangeType, node: u64, transition: ConfChangeTransition) -> Vec<u8> {
        let mut single = ConfChangeSingle { node_id: node, ..Default::default() };
        single.set_change_type(kind);
        let mut change = ConfChangeV2::default();
        change.set_transition(transition);
        change.mut_changes().push(single);
        change.write_to_bytes().unwrap()
    }

    fn voters(ids: &[u64]) -> ConfState {
        ConfState { voters: ids.to_vec(), ..ConfState::default() }
    }

    #[test]
    fn a_learner_is_added_and_promoted_through_a_joint_configuration() {
        let add = change(ConfChangeType::AddLearnerNode, 4, ConfChangeTransition::Auto);
        let with = configuration_after(&voters(&[1, 2, 3]), &add).unwrap();
        assert_eq!((with.voters.clone(), with.learners.clone()), (vec![1, 2, 3], vec![4]));
        let promote = change(ConfChangeType::AddNode, 4, ConfChangeTransition::Explicit);
        let joint = configuration_after(&with, &promote).unwrap();
        assert_eq!((joint.voters.clone(), joint.voters_outgoing.clone()), (vec![1, 2, 3, 4], vec![1, 2, 3]));
        let after = configuration_after(&joint, &[]).unwrap();
        assert_eq!(after, voters(&[1, 2, 3, 4]));
    }

    #[test]
    fn what_raft_refuses_changes_nothing() {
        assert_eq!(configuration_after(&voters(&[1, 2, 3]), &[]), None, "there is no joint configuration to leave");
        assert_eq!(configuration_after(&voters(&[1]), &change(ConfChangeType::RemoveNode, 1, ConfChangeTransition::Auto)), None);
    }

    #[test]
    fn a_snapshot_message_is_read_back() {
        let meta = SnapshotMeta { index: 7, term: 3, configuration: voters(&[1]) };
        assert_eq!(snapshot_position(&snapshot_message(1, 9, &meta)), Some((7, 3)));
        assert_eq!(snapshot_position(b"nonsense"), None);
    }
}
