//! Any bytes to every decoder: an error at worst, never a panic, and never more memory than the bytes justify.
#![no_main]

#[path = "../../rust/codec/tests/common/decoders.rs"]
mod decoders;

use codec::frame::HEADER_BYTES;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    decoders::decode_all(bytes);
    if bytes.len() > HEADER_BYTES {
        decoders::decode_all(&bytes[HEADER_BYTES..]);
    }
});
