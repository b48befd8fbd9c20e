//! Messages by which members check each other's state and logs (peer tags 40–49; DESIGN rules 4 and 10).

use prost::Message;

/// A member's state hash at one applied index. Sent to every other member at each check: at multiples of
/// 4,096 entries, and at the index of every `HashCheck` command.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct StateHash {
    #[prost(uint64, tag = "1")]
    pub index: u64,
    /// 16 bytes, big-endian.
    #[prost(bytes = "vec", tag = "2")]
    pub hash: Vec<u8>,
}

/// Asks the leader to have every member recompute its hash over all rows. Sent again until a
/// `HashCheck` with this number is applied, so nothing answers.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct VerifyRequest {
    /// Drawn by the asker; not 0.
    #[prost(fixed64, tag = "1")]
    pub verify: u64,
}

/// What a member found in its rows. Sent to every other member.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct VerifyResult {
    #[prost(fixed64, tag = "1")]
    pub verify: u64,
    /// Applied index at which the rows were read: that of the `HashCheck` entry.
    #[prost(uint64, tag = "2")]
    pub index: u64,
    /// The hash that apply had kept, 16 bytes.
    #[prost(bytes = "vec", tag = "3")]
    pub kept: Vec<u8>,
    /// The hash over all rows as they are stored, 16 bytes; empty with `error`.
    #[prost(bytes = "vec", tag = "4")]
    pub computed: Vec<u8>,
    #[prost(uint64, tag = "5")]
    pub rows: u64,
    #[prost(uint64, tag = "6")]
    pub bytes: u64,
    /// Why the rows could not be read: file, place, expected and found checksum.
    #[prost(string, tag = "7")]
    pub error: String,
}

/// From a leader to a member that it has just (re)connected to: what that member has acknowledged in
/// this term. One whose log is shorter has lost what it had promised to keep (DESIGN rule 4).
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Acknowledged {
    #[prost(uint64, tag = "1")]
    pub term: u64,
    #[prost(uint64, tag = "2")]
    pub index: u64,
}
