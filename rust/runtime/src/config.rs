//! Settings of one node, as JSON and checked against each other once.

use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;

use machine::RetentionLimits;
use serde::{Deserialize, Serialize};
use store::rocks::RocksOptions;
use thiserror::Error;

/// Name and Raft address of a node of a new cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClusterNode {
    pub node_id: String,
    /// `host:port`
    pub address: String,
}

/// What a node is to its cluster.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NodeRole {
    /// It has the log: a voter, or a learner on its way to be one.
    #[default]
    Voter,
    /// It tails the committed log through other nodes. `cluster` names some of the cluster's nodes to
    /// ask, and not itself.
    Observer,
}

/// What [`crate::Service::open`] takes. Fields that JSON leaves out have the defaults of DESIGN §6.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The node's label, unique in its cluster.
    pub node_id: String,
    pub data_dir: PathBuf,
    pub role: NodeRole,
    /// `host:port` on which other nodes are accepted; port 0 takes a free one.
    pub raft_listen: String,
    /// `host:port` that others dial; empty: the bound address.
    pub raft_advertise: String,
    /// Told to the other nodes, for clients.
    pub http_address: String,
    /// The nodes of a new cluster, this one among them, the same list on each. Empty: a cluster of one.
    pub cluster: Vec<ClusterNode>,
    /// For measuring: a file that gets a line for each batch committed or applied; empty: none.
    pub apply_trace: PathBuf,
    /// The restored state that it begins with; found in the data directory.
    #[serde(skip)]
    pub seed: Option<codec::log::Seed>,

    pub tick_ms: u64,
    pub election_ticks_min: usize,
    pub election_ticks_max: usize,
    pub heartbeat_ticks: usize,
    /// Lease of an agent at the leader.
    pub lease_ms: u64,
    /// An agent stops its tasks this long after it sent the last answered beat.
    pub self_fence_ms: u64,
    /// Beat interval told to agents.
    pub heartbeat_ms: u64,
    /// A quorum must have answered this recently for a lease to be extended.
    pub quorum_fresh_ms: u64,

    /// Commands of local callers that wait or are under way; more are pushed back.
    pub proposals_max: usize,
    /// Their encoded bytes.
    pub proposal_bytes_max: usize,
    /// Completions that are reserved or not drained; more work is pushed back.
    pub completions_max: usize,
    /// Events that wait for the raft thread; more push back to callers and peers.
    pub inbox_max: usize,
    /// Bytes of entries synced together.
    pub log_batch_bytes_max: usize,
    /// Bytes of entries applied and written together.
    pub apply_batch_bytes_max: usize,

    /// Flush the state store after this many bytes of log, or when dirty for `flush_dirty_ms`.
    pub flush_log_bytes: u64,
    pub flush_dirty_ms: u64,
    /// Entries kept behind the flushed index for followers that are a little behind.
    pub keep_entries: u64,
    /// Bytes of log kept for the same, whichever is reached first; four times as many while a snapshot
    /// is on its way. A start reads them into memory.
    pub keep_bytes: u64,
    /// Snapshots leave this node at so many MiB a second.
    pub snapshot_rate_mib: u64,
    /// A voter that is silent for this long gives its place to a learner that is caught up; 0: never.
    pub replace_dead_ms: u64,
    pub log_write_buffer_bytes: usize,
    pub state_write_buffers_bytes: usize,
    pub cache_bytes: usize,
    /// Bytes of rows read in a second by a verification, at most.
    pub verify_bytes_per_s: u64,

    pub retention_tasks_ms: u64,
    pub retention_tasks_max: u64,
    pub retention_tasks_bytes_max: u64,
    pub retention_keys_ms: u64,
    pub retention_keys_max: u64,
    pub retention_events_ms: u64,
    pub retention_events_max: u64,
}

/// A setting that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{field}: {problem}")]
pub struct ConfigError {
    pub field: String,
    pub problem: String,
}

impl Default for Config {
    fn default() -> Self {
        let node = node::Config::new("", 1);
        let rocks = RocksOptions::default();
        let retention = RetentionLimits::default();
        Self {
            node_id: String::new(),
            data_dir: PathBuf::new(),
            role: NodeRole::Voter,
            raft_listen: "127.0.0.1:0".to_owned(),
            raft_advertise: String::new(),
            http_address: String::new(),
            cluster: Vec::new(),
            apply_trace: PathBuf::new(),
            seed: None,
            tick_ms: node.tick_us / 1_000,
            election_ticks_min: node.consensus.election_ticks_min,
            election_ticks_max: node.consensus.election_ticks_max,
            heartbeat_ticks: node.consensus.heartbeat_ticks,
            lease_ms: node.lease_ms,
            self_fence_ms: node.self_fence_ms,
            heartbeat_ms: node.heartbeat_ms,
            quorum_fresh_ms: node.quorum_fresh_ms,
            proposals_max: node.proposals_max,
            proposal_bytes_max: 128 << 20,
            completions_max: 131_072,
            inbox_max: 16_384,
            log_batch_bytes_max: 1 << 20,
            apply_batch_bytes_max: 4 << 20,
            flush_log_bytes: node.flush_log_bytes,
            flush_dirty_ms: node.flush_dirty_ms,
            keep_entries: node.keep_entries,
            keep_bytes: node.keep_bytes,
            snapshot_rate_mib: 32,
            replace_dead_ms: node.replace_dead_ms,
            log_write_buffer_bytes: rocks.log_write_buffer_bytes,
            state_write_buffers_bytes: rocks.state_write_buffers_bytes,
            cache_bytes: rocks.cache_bytes,
            verify_bytes_per_s: 64 << 20,
            retention_tasks_ms: retention.tasks_age_us / 1_000,
            retention_tasks_max: retention.tasks_max,
            retention_tasks_bytes_max: retention.tasks_bytes_max,
            retention_keys_ms: retention.keys_age_us / 1_000,
            retention_keys_max: retention.keys_max,
            retention_events_ms: retention.events_age_us / 1_000,
            retention_events_max: retention.events_max,
        }
    }
}

impl Config {
    /// Reads and checks settings.
    ///
    /// # Errors
    /// Text that is no such object, or a field that [`Config::validate`] refuses.
    pub fn from_json(json: &[u8]) -> Result<Self, ConfigError> {
        let config: Self = serde_json::from_slice(json)
            .map_err(|error| ConfigError { field: "config".to_owned(), problem: error.to_string() })?;
        config.validate()?;
        Ok(config)
    }

    /// Checks each value against its neighbours; those of the driver, the lease rule of DESIGN §3
    /// among them, by [`node::Config::validate`].
    pub fn validate(&self) -> Result<(), ConfigError> {
        let fail = |field: &str, problem: String| Err(ConfigError { field: field.to_owned(), problem });
        if self.data_dir.as_os_str().is_empty() {
            return fail("data_dir", "must not be empty".to_owned());
        }
        self.listen()?;
        let addresses = std::iter::once(("raft_advertise", &self.raft_advertise)).filter(|(_, a)| !a.is_empty());
        for (field, address) in addresses.chain(self.cluster.iter().map(|n| ("cluster", &n.address))) {
            let port = address.rsplit_once(':').and_then(|(host, port)| (!host.is_empty()).then(|| port.parse::<u16>().ok())?);
            if port.is_none_or(|p| p == 0) {
                return fail(field, format!("{address:?} is not host:port"));
            }
        }
        for (at, node) in self.cluster.iter().enumerate() {
            if node.node_id.is_empty() || self.cluster[..at].iter().any(|n| n.node_id == node.node_id) {
                return fail("cluster", format!("node id {:?} is empty or listed twice", node.node_id));
            }
        }
        if !(1..=1_000).contains(&self.tick_ms) {
            return fail("tick_ms", "must be between 1 and 1,000".to_owned());
        }
        for (field, value, low, high) in self.bounds() {
            if !(low..=high).contains(&value) {
                return fail(field, format!("{value} is outside [{low}, {high}]"));
            }
        }
        if self.completions_max < self.proposals_max {
            return fail("completions_max", format!("must be at least proposals_max ({})", self.proposals_max));
        }
        self.driver(1, String::new()).validate().map_err(|e| ConfigError { field: e.field.to_owned(), problem: e.problem })?;
        self.rocks().validate().map_err(|e| ConfigError { field: "stores".to_owned(), problem: e.to_string() })
    }

    fn bounds(&self) -> [(&'static str, usize, usize, usize); 7] {
        [
            ("proposals_max", self.proposals_max, 1, 1 << 22),
            // A batch body of 8 MiB must fit.
            ("proposal_bytes_max", self.proposal_bytes_max, 16 << 20, 16 << 30),
            ("completions_max", self.completions_max, 1, 1 << 24),
            ("inbox_max", self.inbox_max, 64, 1 << 20),
            ("log_batch_bytes_max", self.log_batch_bytes_max, 4 << 10, 64 << 20),
            ("snapshot_rate_mib", self.snapshot_rate_mib as usize, 1, 100_000),
            ("apply_batch_bytes_max", self.apply_batch_bytes_max, 4 << 10, 64 << 20),
        ]
    }

    /// The address to listen on.
    pub fn listen(&self) -> Result<SocketAddr, ConfigError> {
        let problem = |text: String| ConfigError { field: "raft_listen".to_owned(), problem: text };
        let mut found =
            self.raft_listen.to_socket_addrs().map_err(|e| problem(format!("{:?} cannot be used: {e}", self.raft_listen)))?;
        found.next().ok_or_else(|| problem(format!("{:?} has no address", self.raft_listen)))
    }

    /// The driver's part. `address` is the one that others dial.
    pub fn driver(&self, incarnation: u64, address: String) -> node::Config {
        let mut config = node::Config::new(self.node_id.clone(), incarnation);
        config.expected_nodes = match self.cluster.is_empty() {
            true => vec![(self.node_id.clone(), address.clone())],
            false => self.cluster.iter().map(|n| (n.node_id.clone(), n.address.clone())).collect(),
        };
        config.observer = self.role == NodeRole::Observer;
        config.address = address;
        config.seed = self.seed.clone();
        config.http_address = self.http_address.clone();
        config.consensus.election_ticks_min = self.election_ticks_min;
        config.consensus.election_ticks_max = self.election_ticks_max;
        config.consensus.heartbeat_ticks = self.heartbeat_ticks;
        config.tick_us = self.tick_ms * 1_000;
        config.lease_ms = self.lease_ms;
        config.self_fence_ms = self.self_fence_ms;
        config.heartbeat_ms = self.heartbeat_ms;
        config.quorum_fresh_ms = self.quorum_fresh_ms;
        config.proposals_max = self.proposals_max;
        config.flush_log_bytes = self.flush_log_bytes;
        config.flush_dirty_ms = self.flush_dirty_ms;
        config.keep_entries = self.keep_entries;
        config.keep_bytes = self.keep_bytes;
        config.replace_dead_ms = self.replace_dead_ms;
        config
    }

    pub fn rocks(&self) -> RocksOptions {
        RocksOptions {
            log_write_buffer_bytes: self.log_write_buffer_bytes,
            state_write_buffers_bytes: self.state_write_buffers_bytes,
            cache_bytes: self.cache_bytes,
            ..RocksOptions::default()
        }
    }

    pub fn retention(&self) -> RetentionLimits {
        RetentionLimits {
            tasks_age_us: self.retention_tasks_ms.saturating_mul(1_000),
            tasks_max: self.retention_tasks_max,
            tasks_bytes_max: self.retention_tasks_bytes_max,
            keys_age_us: self.retention_keys_ms.saturating_mul(1_000),
            keys_max: self.retention_keys_max,
            events_age_us: self.retention_events_ms.saturating_mul(1_000),
            events_max: self.retention_events_max,
            ..RetentionLimits::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(change: &str) -> Vec<u8> {
        format!(r#"{{"node_id":"a","data_dir":"/d"{}{change}}}"#, if change.is_empty() { "" } else { "," }).into_bytes()
    }

    #[test]
    fn the_defaults_are_valid() {
        let config = Config::from_json(&json("")).expect("valid");
        assert_eq!(config.driver(1, "h:1".to_owned()).expected_nodes, [("a".to_owned(), "h:1".to_owned())]);
    }

    #[test]
    fn errors_name_the_field() {
        let cases = [
            (r#""raft_listen":"nonsense""#, "raft_listen"),
            (r#""raft_advertise":":70""#, "raft_advertise"),
            (r#""cluster":[{"node_id":"b","address":"b:1"}]"#, "cluster"),
            (r#""cluster":[{"node_id":"a","address":"b:1"},{"node_id":"a","address":"c:1"}]"#, "cluster"),
            (r#""tick_ms":0"#, "tick_ms"),
            (r#""heartbeat_ticks":30"#, "consensus"),
            (r#""completions_max":5"#, "completions_max"),
            (r#""proposal_bytes_max":5"#, "proposal_bytes_max"),
            // A lease shorter than what an agent needs to fence itself.
            (r#""lease_ms":3000"#, "lease_ms"),
            (r#""cache_bytes":1"#, "stores"),
            (r#""snapshot_rate_mib":0"#, "snapshot_rate_mib"),
            (r#""keep_bytes":1000"#, "keep_bytes"),
            (r#""no_such_field":1"#, "config"),
            (r#""role":"king""#, "config"),
            (r#""role":"observer""#, "cluster"),
            (r#""role":"observer","cluster":[{"node_id":"a","address":"b:1"}]"#, "cluster"),
        ];
        for (change, field) in cases {
            let error = Config::from_json(&json(change)).expect_err(change);
            assert_eq!(error.field, field, "{change}: {error}");
        }
        assert_eq!(Config::from_json(br#"{"node_id":"a"}"#).expect_err("no directory").field, "data_dir");
    }
}
