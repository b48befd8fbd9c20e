//! Raft behind plain inputs and outputs: `raft`'s `RawNode` without threads, disks or sockets.
//!
//! What always holds:
//! * a follower's messages leave only after the entries **and** the hard state of their round are
//!   durable ([`Consensus::persisted`]); a leader's appends may leave earlier (Raft thesis §10.2.1),
//!   and its own log counts toward the quorum only once it is durable;
//! * every read index round has a context of its own, never used twice (raft-rs 0.7 returns stale
//!   reads for a reused one), and `ReadOnlyOption::Safe` is the only mode;
//! * the log tail in memory covers every index that is not yet applied.
//!
//! The caller's loop: feed inputs ([`Consensus::tick`], [`Consensus::step`], [`Consensus::propose`] …),
//! then call [`Consensus::ready`] until it returns `None` and carry out each [`Round`].

mod coalesce;
mod config;
mod convert;
mod core;
mod error;
mod membership;
mod message;
mod observe;
mod round;
mod tail;
mod timeout;

pub use config::{ConfigError, ConsensusConfig};
pub use core::{Consensus, PeerProgress, Role, Start};
pub use error::ConsensusError;
pub use membership::{MemberChange, has_member, is_joint};
pub use message::{begins_at_first_entry, snapshot_index};
pub use observe::{configuration_after, snapshot_message, snapshot_position};
pub use round::{Outgoing, Round, SnapshotMeta};
