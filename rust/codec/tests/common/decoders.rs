//! Every decoder of the crate, for hostile bytes: the property tests and the fuzz targets share it.

use codec::log::*;
use codec::peer::PeerMessage;
use codec::row::*;
use codec::{Command, EntryPayload, Frame, Message, Outcome};

/// Hands the bytes to every decoder of the crate.
pub fn decode_all(bytes: &[u8]) {
    let _ = Frame::decode(bytes);
    let _ = Command::decode(bytes);
    let _ = EntryPayload::decode(bytes);
    let _ = Outcome::decode(bytes);
    let _ = PeerMessage::decode(bytes);
    let _ = LogRecord::decode_frame(bytes).map(LogRecord::into_entry);
    let _ = LogRecord::decode(bytes).map(LogRecord::into_entry);
    let _ = HardState::decode(bytes);
    let _ = LogBase::decode(bytes);
    let _ = Identity::decode(bytes);
    let _ = Witness::decode(bytes);
    let _ = decode::<MetaRow>(bytes);
    let _ = decode::<TaskRow>(bytes);
    let _ = decode::<AgentRow>(bytes);
    let _ = decode::<MemberRow>(bytes);
    let _ = decode::<SessionRow>(bytes);
    let _ = decode::<SessionOutcomes>(bytes);
    let _ = decode::<KeyRow>(bytes);
    let _ = decode::<IdempotencyRow>(bytes);
    let _ = decode::<EventRow>(bytes);
    let _ = codec::TaskId::from_slice(bytes);
    let _ = index::id_at_end(bytes);
    let _ = index::plain_id_at_end(bytes);
    let _ = index::time_and_rest(bytes);
    if let Ok(text) = std::str::from_utf8(bytes) {
        let _ = codec::TaskId::parse(text);
    }
}
