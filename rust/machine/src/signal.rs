//! What the edge and the policy are told about an applied entry. Signals are transient: whoever
//! misses one reads the state.

use std::sync::Arc;

use codec::TaskId;
use codec::row::Status;

/// A hint to look again. All of a command's signals follow its changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Signal {
    /// The task waits for an agent now (or again, with other requirements).
    Ready {
        task: TaskId,
    },
    /// The task left the queue without an Assign.
    Gone {
        task: TaskId,
    },
    /// The task left the queue by an Assign; the agent's resources are taken.
    Taken {
        task: TaskId,
        agent: Arc<str>,
        /// Cluster time between ready and this, in µs.
        waited_us: u64,
    },
    /// The agent's resources are free again. `success` is `None` when the attempt was revoked.
    Freed {
        task: TaskId,
        agent: Arc<str>,
        run_us: u64,
        success: Option<bool>,
        task_type: String,
        size_hint: u64,
        quality_bp: Option<u32>,
    },
    /// The leader's proposal read a version that has changed: the item was refused alone.
    Stale {
        task: TaskId,
        agent: Arc<str>,
    },
    /// A task's status changed, its end included.
    Status {
        task: TaskId,
        status: Status,
    },
    /// An agent's registration or status changed.
    AgentChanged {
        agent: Arc<str>,
    },
    /// The agent has an assignment to fetch.
    Assigned {
        agent: Arc<str>,
    },
    /// The agent has something else to fetch: a cancel, a revocation or a drain.
    Command {
        agent: Arc<str>,
    },
    SessionOpened {
        session: u64,
        node_id: String,
    },
    /// A member's row changed.
    Members,
    Key {
        tenant: String,
        key: String,
    },
    ConfigurationChanged,
    /// This replica's hash at `index` differs from the leader's.
    HashMismatch {
        index: u64,
        own: [u8; 16],
        leader: [u8; 16],
    },
    /// A command was refused because it would have broken an invariant: its bytes (an encoded
    /// [`codec::Command`]) are to be kept for study, and an alert raised.
    Quarantine {
        revision: u64,
        reason: String,
        command: Vec<u8>,
    },
}
