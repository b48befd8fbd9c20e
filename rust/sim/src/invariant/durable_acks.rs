//! Answers leave only after what they promise is synced: an append's after the entries, a vote after
//! the hard state (DESIGN rule 3).

use codec::peer::PeerBody;
use protobuf::Message as _;
use raft::eraftpb::{Message, MessageType};
use store::LogStore;

use super::{Check, broken};
use crate::host::Host;

/// `msg_type` is the first field of an encoded message.
fn kind(bytes: &[u8]) -> Option<u8> {
    if bytes.first() == Some(&0x08) { bytes.get(1).copied() } else { None }
}

pub fn sent(hosts: &[Host], at: usize, body: &PeerBody) -> Check {
    let PeerBody::Raft(bytes) = body else { return Ok(()) };
    let answers = [MessageType::MsgAppendResponse as u8, MessageType::MsgRequestVoteResponse as u8];
    if !kind(bytes).is_some_and(|k| answers.contains(&k)) {
        return Ok(());
    }
    let Ok(message) = Message::parse_from_bytes(bytes) else { return Ok(()) };
    let log = &hosts[at].disk.log;
    if message.reject {
        return Ok(());
    }
    let saved = log.hard_state();
    // Set free by a sync of an older term, and overtaken by a newer one's: to its receiver it is late, no more.
    if message.term < saved.term {
        return Ok(());
    }
    if message.get_msg_type() == MessageType::MsgAppendResponse {
        let last = log.last_index().max(log.base().index);
        if message.index > last || message.term > saved.term {
            let text = format!(
                "n{} acknowledges entry {} in term {}, but {last} and term {} are synced",
                at + 1,
                message.index,
                message.term,
                saved.term
            );
            return broken("acknowledged after sync", text);
        }
    } else if (saved.term, saved.vote) != (message.term, message.to) && saved.term <= message.term {
        let text = format!("n{} votes for {} in term {}, but {saved:?} is synced", at + 1, message.to, message.term);
        return broken("voted after sync", text);
    }
    Ok(())
}
