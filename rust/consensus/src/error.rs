//! Why a member of a Raft group refuses an input, or cannot go on.

use thiserror::Error;

use crate::config::ConfigError;

#[derive(Debug, Error)]
pub enum ConsensusError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Too much is uncommitted, or leadership is being handed over: try again later.
    #[error("the proposal was not taken: {0}")]
    ProposalDropped(String),
    #[error("this node is not the leader")]
    NotLeader,
    #[error("malformed Raft message: {0}")]
    Malformed(String),
    /// The leader knows more of this log than it holds: what was acknowledged is gone. Raft cannot go on with it.
    #[error("the log ends with entry {last_index}, but entry {acknowledged} had been acknowledged to the leader of term {term}")]
    LostEntries { term: u64, acknowledged: u64, last_index: u64 },
    #[error("raft: {0}")]
    Raft(String),
}
