//! What a task needs and what an agent has: levels of capabilities, amounts of resources, labels.

use prost::Message;

#[derive(Clone, PartialEq, Message)]
pub struct Requirements {
    /// Sorted by dimension, each at most once.
    #[prost(message, repeated, tag = "1")]
    pub capabilities: Vec<CapabilityNeed>,
    /// Sorted by name, each at most once; `slots` is always there (default 1).
    #[prost(message, repeated, tag = "2")]
    pub resources: Vec<Amount>,
    /// Sorted by key: the agent must carry each of them.
    #[prost(message, repeated, tag = "3")]
    pub labels: Vec<Label>,
}

#[derive(Clone, PartialEq, Message)]
pub struct CapabilityNeed {
    #[prost(string, tag = "1")]
    pub dimension: String,
    /// Hard minimum of the declared level in basis points; 0 is a preference only.
    #[prost(uint32, tag = "2")]
    pub min_bp: u32,
    /// Weight of the match in thousandths.
    #[prost(uint32, tag = "3")]
    pub weight_milli: u32,
}

#[derive(Clone, PartialEq, Message)]
pub struct Amount {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(uint64, tag = "2")]
    pub amount: u64,
}

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Message)]
pub struct Label {
    #[prost(string, tag = "1")]
    pub key: String,
    #[prost(string, tag = "2")]
    pub value: String,
}
