//! Settings of one node's driver, checked against each other once.

use consensus::ConsensusConfig;
use thiserror::Error;

#[derive(Clone, Debug)]
pub struct Config {
    pub node_id: String,
    /// The Raft address that other nodes dial.
    pub address: String,
    /// HTTP address told to the other nodes.
    pub http_address: String,
    pub version: String,
    /// Names and Raft addresses of the nodes that make up a new cluster, this one among them.
    pub expected_nodes: Vec<(String, String)>,
    /// This node is an observer: the expected nodes are those it asks, and it is none of them.
    pub observer: bool,
    /// The state of the new cluster, if this node was restored from a backup.
    pub seed: Option<codec::log::Seed>,
    /// Drawn at each process start; names the session and seeds every random choice.
    pub incarnation: u64,
    pub consensus: ConsensusConfig,
    pub tick_us: u64,
    /// Ticks reported to Raft at most after a stall.
    pub ticks_after_stall_max: u32,
    /// Lease of an agent at the leader.
    pub lease_ms: u64,
    /// An agent stops its tasks this long after it sent the last answered beat.
    pub self_fence_ms: u64,
    /// Beat interval that agents are told.
    pub heartbeat_ms: u64,
    /// A quorum must have answered a round that began this recently for a lease to be extended.
    pub quorum_fresh_ms: u64,
    /// Commands packed into one entry, and their bytes.
    pub entry_commands_max: usize,
    pub entry_bytes_max: usize,
    /// Commands of local callers waiting or under way.
    pub proposals_max: usize,
    /// Flush the state store after this many bytes of log, or when dirty for `flush_dirty_ms`.
    pub flush_log_bytes: u64,
    pub flush_dirty_ms: u64,
    /// Entries kept behind the flushed index for followers that are a little behind: whichever bound is
    /// reached first. A follower that is further behind gets a snapshot.
    pub keep_entries: u64,
    /// Bytes of log kept for the same; four times as many while a snapshot is on its way. A start reads
    /// all of them into memory.
    pub keep_bytes: u64,
    /// A voter that is silent for this long gives its place to a learner that is caught up; 0: never.
    pub replace_dead_ms: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{field}: {problem}")]
pub struct ConfigError {
    pub field: &'static str,
    pub problem: String,
}

impl Config {
    /// The documented defaults (DESIGN §6) for a node of this name.
    pub fn new(node_id: impl Into<String>, incarnation: u64) -> Self {
        Self {
            node_id: node_id.into(),
            address: String::new(),
            http_address: String::new(),
            version: env!("CARGO_PKG_VERSION").into(),
            expected_nodes: Vec::new(),
            seed: None,
            observer: false,
            incarnation,
            consensus: ConsensusConfig::default(),
            tick_us: 10_000,
            ticks_after_stall_max: 3,
            lease_ms: 4_000,
            self_fence_ms: 3_000,
            heartbeat_ms: 500,
            quorum_fresh_ms: 500,
            entry_commands_max: 4_096,
            entry_bytes_max: 512 << 10,
            proposals_max: 65_536,
            flush_log_bytes: 64 << 20,
            flush_dirty_ms: 30_000,
            keep_entries: 10_000,
            keep_bytes: 128 << 20,
            replace_dead_ms: 60_000,
        }
    }

    /// Checks each value against its neighbours.
    ///
    /// The lease rule of DESIGN §3: an agent must have fenced itself before any new leader can
    /// hand its task to another one. Step-down takes at most two check-quorum intervals; clocks
    /// may drift by 1 % over a lease.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let fail = |field, problem: String| Err(ConfigError { field, problem });
        if self.node_id.is_empty() || self.node_id.len() > 255 {
            return fail("node_id", "must have 1 to 255 bytes".into());
        }
        if self.incarnation == 0 {
            return fail("incarnation", "must not be 0".into());
        }
        if self.consensus.validate().is_err() {
            let error = self.consensus.validate().err().map(|e| e.to_string()).unwrap_or_default();
            return fail("consensus", error);
        }
        let election_ms = self.consensus.election_ticks_min as u64 * self.tick_us / 1_000;
        let step_down_ms = 2 * election_ms;
        let drift_ms = self.lease_ms / 100;
        if step_down_ms + self.self_fence_ms + drift_ms > election_ms + self.lease_ms {
            return fail(
                "lease_ms",
                format!(
                    "step-down {step_down_ms} + self-fence {} + drift {drift_ms} must not exceed earliest election {election_ms} + lease {}",
                    self.self_fence_ms, self.lease_ms
                ),
            );
        }
        if self.heartbeat_ms * 3 > self.self_fence_ms {
            return fail("heartbeat_ms", format!("must fit three times into the self-fence of {} ms", self.self_fence_ms));
        }
        if self.replace_dead_ms != 0 && self.replace_dead_ms < 4 * election_ms {
            return fail("replace_dead_ms", format!("must be 0, or at least four elections ({} ms)", 4 * election_ms));
        }
        if self.entry_commands_max == 0 || self.entry_bytes_max < 64 << 10 {
            return fail("entry_bytes_max", "an entry must hold one command and 64 KiB".into());
        }
        if self.keep_bytes < 1 << 20 {
            return fail("keep_bytes", "must be at least 1 MiB".into());
        }
        let listed = self.expected_nodes.iter().any(|(name, _)| *name == self.node_id);
        if self.observer && (listed || self.expected_nodes.is_empty()) {
            return fail(
                "cluster",
                format!("an observer names nodes of the cluster to follow, and not itself ({})", self.node_id),
            );
        }
        if !self.observer && !self.expected_nodes.is_empty() && !listed {
            return fail("cluster", format!("must list this node ({})", self.node_id));
        }
        Ok(())
    }
}
