//! The only threads, sockets and clocks of a node: they execute what [`node::Driver`] and
//! [`node::ApplyDriver`] decide.
//!
//! ```text
//!  callers (Handle) ─┐            ┌─▶ log writer: drain ≤ 1 MB, one sync ─┐
//!  net ──────────────┼─▶ raft ────┼─▶ apply: one write a batch ───────────┼─▶ raft
//!  snapshot threads ─┘   │        └─▶ disk, reader, sender ───────────────┘
//!                        └─▶ net, ring
//! ```
//!
//! What always holds:
//! * the raft thread never waits for a peer, and what answers it never waits for the raft thread:
//!   no cycle of full queues;
//! * a panic in the raft, apply, log writer or net thread aborts the process, after its reason was
//!   printed;
//! * a failed write or sync stops the node: nothing is tried again on that disk;
//! * a thread without work blocks.

pub mod backup;
pub mod feed;
pub mod interest;
pub mod query;
pub mod ring;

mod apply_thread;
mod checkpoints;
mod clock;
mod config;
mod disk_thread;
mod handle;
mod host;
mod incoming;
mod load;
mod log_writer;
mod metrics;
mod net;
mod parts;
mod raft_thread;
mod rate;
mod service;
mod snapshot_in;
mod snapshot_out;
mod state_cell;
mod threads;
mod trace;
mod transfers;
mod verifier;
mod wake;

pub use config::{ClusterNode, Config, ConfigError, NodeRole};
pub use handle::{Busy, Handle};
pub use host::{HostConfig, ObserverHost};
pub use metrics::{Counters, Histogram, HistogramView};
pub use service::{OpenError, Service};
pub use transfers::{Direction, TransferView, Transfers};
