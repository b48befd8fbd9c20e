//! Raft's settings. The crate's own defaults are wrong under load (DESIGN rule 1).

use thiserror::Error;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsensusConfig {
    /// Earliest election timeout in ticks; also the interval of check-quorum.
    pub election_ticks_min: usize,
    /// Latest election timeout in ticks (excluded); drawn anew for each term.
    pub election_ticks_max: usize,
    pub heartbeat_ticks: usize,
    /// Bytes of entries in one append message.
    pub message_bytes_max: u64,
    /// Append messages to one follower that are not acknowledged yet.
    pub inflight_max: usize,
    /// Bytes of proposals that are not committed yet; more are pushed back.
    pub uncommitted_bytes_max: u64,
    /// Bytes of committed entries handed out in one round.
    pub committed_bytes_per_round_max: u64,
    /// Bytes of already applied entries kept in memory for followers that are a little behind.
    pub tail_bytes_max: usize,
    /// Election timeouts are drawn from it; another one for each member and process.
    pub seed: u64,
}

impl Default for ConsensusConfig {
    fn default() -> Self {
        Self {
            election_ticks_min: 50,
            election_ticks_max: 100,
            heartbeat_ticks: 10,
            message_bytes_max: 1 << 20,
            inflight_max: 8,
            uncommitted_bytes_max: 64 << 20,
            committed_bytes_per_round_max: 4 << 20,
            tail_bytes_max: 16 << 20,
            seed: 0,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{field}: {problem}")]
pub struct ConfigError {
    pub field: &'static str,
    pub problem: String,
}

impl ConsensusConfig {
    /// Checks every limit against its neighbours.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let fail = |field, problem: String| Err(ConfigError { field, problem });
        if self.heartbeat_ticks == 0 {
            return fail("heartbeat_ticks", "must be at least 1".into());
        }
        if self.election_ticks_min < 3 * self.heartbeat_ticks {
            return fail("election_ticks_min", format!("must be at least three heartbeats ({})", 3 * self.heartbeat_ticks));
        }
        if self.election_ticks_max <= self.election_ticks_min {
            return fail("election_ticks_max", format!("must be above election_ticks_min ({})", self.election_ticks_min));
        }
        if !(1 << 10..=16 << 20).contains(&self.message_bytes_max) {
            return fail("message_bytes_max", "must be between 1 KiB and 16 MiB".into());
        }
        if self.inflight_max == 0 || self.inflight_max > 256 {
            return fail("inflight_max", "must be between 1 and 256".into());
        }
        if self.uncommitted_bytes_max < 2 * self.message_bytes_max {
            return fail("uncommitted_bytes_max", "must hold at least two messages".into());
        }
        Ok(())
    }

    pub(crate) fn raft(&self, raft_id: u64, applied: u64) -> raft::Config {
        let read_only_option = match mutant::active("lease-read") {
            true => raft::ReadOnlyOption::LeaseBased,
            false => raft::ReadOnlyOption::Safe,
        };
        raft::Config {
            id: raft_id,
            election_tick: self.election_ticks_min,
            min_election_tick: self.election_ticks_min,
            max_election_tick: self.election_ticks_max,
            heartbeat_tick: self.heartbeat_ticks,
            applied,
            max_size_per_msg: self.message_bytes_max,
            max_inflight_msgs: self.inflight_max,
            check_quorum: true,
            pre_vote: true,
            read_only_option,
            skip_bcast_commit: false,
            // In 0.7.0 it puts entries into an earlier empty append that names another index, and the
            // follower then acknowledges entries it does not have (tests/append_shape.rs). See `coalesce`.
            batch_append: mutant::active("append-joined-blindly"),
            priority: 0,
            max_uncommitted_size: self.uncommitted_bytes_max,
            max_committed_size_per_ready: self.committed_bytes_per_round_max,
        }
    }
}
