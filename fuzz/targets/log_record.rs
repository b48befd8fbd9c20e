//! A record of the log: what decodes is written back to bytes that decode to the same, chain hash included.
#![no_main]

use codec::log::LogRecord;
use codec::{Frame, FrameKind};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|payload: &[u8]| {
    let mut bytes = Vec::new();
    Frame::encode(FrameKind::LogRecord, payload, &mut bytes);
    let Ok(record) = LogRecord::decode_frame(&bytes) else { return };
    let chain = record.chain;
    let Ok(entry) = record.into_entry() else { return };
    let again = LogRecord { chain, ..LogRecord::new(&entry, 0) };
    let mut bytes = Vec::new();
    again.encode_frame(&mut bytes);
    let read = LogRecord::decode_frame(&bytes).expect("what was written can be read");
    assert_eq!(read.chain, chain);
    assert_eq!(read.into_entry().expect("an entry"), entry);
});
