//! What a caller may know of Raft's encoded messages, and how they are encoded.

use protobuf::Message as _;
use raft::eraftpb::{Message, MessageType};

use crate::round::Outgoing;

/// Index of the snapshot that an encoded MsgSnapshot carries.
pub fn snapshot_index(message: &[u8]) -> Option<u64> {
    let message = Message::parse_from_bytes(message).ok()?;
    (message.get_msg_type() == MessageType::MsgSnapshot).then(|| message.get_snapshot().get_metadata().index)
}

/// Whether an encoded message appends entries from index 1 on.
pub fn begins_at_first_entry(message: &[u8]) -> bool {
    let Ok(message) = Message::parse_from_bytes(message) else { return false };
    message.get_msg_type() == MessageType::MsgAppend && message.index == 0 && !message.entries.is_empty()
}

pub(crate) fn is_about_elections(message: &Message) -> bool {
    matches!(message.get_msg_type(), MessageType::MsgRequestVote | MessageType::MsgRequestPreVote | MessageType::MsgTimeoutNow)
}

pub(crate) fn encode(message: Message) -> Outgoing {
    let kind = message.get_msg_type();
    let urgent = !matches!(kind, MessageType::MsgAppend | MessageType::MsgAppendResponse | MessageType::MsgSnapshot);
    let bytes = message.write_to_bytes().expect("a message in memory encodes");
    Outgoing { to: message.to, urgent, snapshot: kind == MessageType::MsgSnapshot, bytes: bytes.into() }
}
