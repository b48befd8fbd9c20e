//! Appends to one peer that follow each other become one message.
//!
//! In place of the crate's own `batch_append`, which puts entries into an empty append whatever index
//! that one names (tests/append_shape.rs).

use raft::eraftpb::{Message, MessageType};

/// Merges each append into the one before it to the same peer, if nothing else for that peer stands
/// between them, the new one begins where the other ends, and its entries stay within `bytes_max`.
pub(crate) fn coalesce(messages: Vec<Message>, bytes_max: u64) -> Vec<Message> {
    let mut out: Vec<Message> = Vec::with_capacity(messages.len());
    for mut message in messages {
        let newest = out.iter_mut().rev().find(|m| m.to == message.to);
        match newest {
            Some(earlier) if follows(earlier, &message) && bytes(earlier) + bytes(&message) <= bytes_max => {
                earlier.commit = earlier.commit.max(message.commit);
                for entry in message.take_entries().into_iter() {
                    earlier.mut_entries().push(entry);
                }
            }
            _ => out.push(message),
        }
    }
    out
}

fn follows(earlier: &Message, later: &Message) -> bool {
    let appends = [earlier, later].iter().all(|m| m.get_msg_type() == MessageType::MsgAppend);
    let (end, end_term) = earlier.entries.last().map_or((earlier.index, earlier.log_term), |e| (e.index, e.term));
    appends && earlier.term == later.term && (end, end_term) == (later.index, later.log_term)
}

fn bytes(message: &Message) -> u64 {
    message.entries.iter().map(|e| e.data.len() as u64 + 16).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use raft::eraftpb::Entry;

    fn append(to: u64, index: u64, entries: std::ops::Range<u64>, commit: u64) -> Message {
        let entry = |index| Entry { index, term: 1, data: vec![0; 10].into(), ..Entry::default() };
        let mut message =
            Message { msg_type: MessageType::MsgAppend, to, term: 1, log_term: 1, index, commit, ..Message::default() };
        message.set_entries(entries.map(entry).collect());
        message
    }

    fn shape(messages: &[Message]) -> Vec<(u64, u64, usize, u64)> {
        messages.iter().map(|m| (m.to, m.index, m.entries.len(), m.commit)).collect()
    }

    #[test]
    fn what_follows_is_one_message() {
        let sent = vec![append(2, 4, 5..7, 3), append(3, 4, 5..6, 3), append(2, 6, 7..8, 4), append(2, 7, 8..8, 5)];
        assert_eq!(shape(&coalesce(sent, 1_000)), [(2, 4, 3, 5), (3, 4, 1, 3)]);
    }

    #[test]
    fn a_step_back_is_a_message_of_its_own() {
        let sent = vec![append(2, 6, 7..7, 6), append(2, 1, 2..7, 6)];
        assert_eq!(shape(&coalesce(sent, 1_000)), [(2, 6, 0, 6), (2, 1, 5, 6)]);
    }

    #[test]
    fn another_kind_between_and_too_many_bytes_part_them() {
        let beat = Message { msg_type: MessageType::MsgHeartbeat, to: 2, ..Message::default() };
        let sent = vec![append(2, 4, 5..6, 0), beat, append(2, 5, 6..7, 0)];
        assert_eq!(coalesce(sent, 1_000).len(), 3);
        assert_eq!(coalesce(vec![append(2, 4, 5..6, 0), append(2, 5, 6..7, 0)], 51).len(), 2);
    }
}
