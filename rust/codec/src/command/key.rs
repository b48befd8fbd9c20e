//! Writes to the key-value store.

use prost::{Message, Oneof};

/// What must hold of a key before it is written.
#[derive(Clone, PartialEq, Oneof)]
pub enum KeyCondition {
    /// `If-Match`: the key's revision.
    #[prost(uint64, tag = "10")]
    Revision(u64),
    /// `If-None-Match: *`: the key does not exist (the value is ignored).
    #[prost(bool, tag = "11")]
    Absent(bool),
}

#[derive(Clone, PartialEq, Message)]
pub struct PutKey {
    #[prost(string, tag = "1")]
    pub tenant: String,
    #[prost(string, tag = "2")]
    pub key: String,
    /// JSON text.
    #[prost(bytes = "vec", tag = "3")]
    pub value: Vec<u8>,
    #[prost(oneof = "KeyCondition", tags = "10, 11")]
    pub condition: Option<KeyCondition>,
}

#[derive(Clone, PartialEq, Message)]
pub struct DeleteKey {
    #[prost(string, tag = "1")]
    pub tenant: String,
    #[prost(string, tag = "2")]
    pub key: String,
    #[prost(oneof = "KeyCondition", tags = "10, 11")]
    pub condition: Option<KeyCondition>,
}
