//! What happens to a node: the only inputs of [`crate::Driver`].

use codec::Outcome;
use codec::command::{Assignment, Body};
use codec::log::LogEntry;
use codec::peer::{Beat, Hello, PeerBody};
use codec::row::Change;

/// Names a waiting caller; made by the caller, unique in the process.
pub type Token = u64;
/// Monotonic time of this process in µs.
pub type Micros = u64;

/// An input of the raft side, in the order in which it happened.
#[derive(Debug)]
pub enum Event {
    /// Time has passed. The driver reports at most a few ticks to Raft, however long it was.
    Tick {
        now_us: Micros,
        wall_us: u64,
    },
    /// A stream to a peer is up (`hello` is what it said of itself).
    PeerUp {
        hello: Hello,
    },
    /// Every stream of a peer is gone.
    PeerDown {
        raft_id: u64,
    },
    Received {
        from: u64,
        body: PeerBody,
    },
    /// Commands of a local caller, completed together.
    Propose {
        token: Token,
        bodies: Vec<Body>,
        deadline_us: Micros,
    },
    ReadIndex {
        token: Token,
        deadline_us: Micros,
    },
    /// Beats of agents that speak to this node; `Beat::token` names the waiter.
    Beats {
        beats: Vec<Beat>,
        deadline_us: Micros,
    },
    /// The policy's decision.
    Assign {
        term: u64,
        items: Vec<Assignment>,
    },
    /// The log writer has synced what `Effect::Persist` with this number asked for.
    Persisted {
        number: u64,
    },
    /// The answer to `Effect::FetchEntries`.
    EntriesFetched {
        fetch: u64,
        entries: Vec<LogEntry>,
    },
    /// The apply side has applied (and written) up to here.
    Applied(AppliedReport),
    /// The state store has flushed: the log may be cut below this applied index.
    Flushed {
        applied_index: u64,
    },
    /// A checkpoint asked for by `Effect::MakeSnapshot` stands on disk.
    SnapshotMade {
        index: u64,
        term: u64,
        configuration: codec::log::ConfState,
    },
    SnapshotFailed {
        reason: String,
    },
    /// All files of a peer's snapshot are here and durable; `raft_message` is its MsgSnapshot.
    SnapshotReceived {
        from: u64,
        transfer: u64,
        state_dir: String,
        raft_message: bytes::Bytes,
    },
    /// The state directory of `Effect::InstallSnapshot` is in use and memory rebuilt.
    SnapshotInstalled(InstalledReport),
    /// The transfer of `Effect::SendSnapshot` ended.
    SnapshotSent {
        to: u64,
        installed: bool,
    },
    /// The checkpoint at `index` is gone: the next peer that needs one has a new one made.
    CheckpointDropped {
        index: u64,
    },
    TransferLeader {
        token: Token,
        to: Option<String>,
        deadline_us: Micros,
    },
    TakeSnapshot {
        token: Token,
    },
    /// A local caller waits until the member's row is settled (or gone); `Effect::CompleteTask` tells,
    /// at the deadline with how far it has come.
    AwaitMember {
        token: Token,
        node_id: String,
        deadline_us: Micros,
    },
    /// Have every member recompute its state hash over all rows; `CompleteTask` follows, by the deadline at
    /// the latest, and the view shows what came out.
    Verify {
        token: Token,
        deadline_us: Micros,
    },
    /// The rows were read as of the check that `AppliedReport::checks` named.
    Verified(codec::integrity::VerifyResult),
    /// Reading the state found bytes that cannot be what was written.
    StateDamaged {
        reason: String,
    },
    /// Reading the log found bytes that cannot be what was written.
    LogDamaged {
        reason: String,
    },
    /// Give leadership away and take no new work; `Effect::StopReady` follows.
    Stop,
}

/// What the apply side tells the raft side after each batch.
#[derive(Debug, Default)]
pub struct AppliedReport {
    pub index: u64,
    pub term: u64,
    pub revision: u64,
    pub cluster_us: u64,
    pub hash: [u8; 16],
    /// State hash after each applied entry, to compare with what peers report.
    pub hashes: Vec<(u64, [u8; 16])>,
    /// Bytes of log applied in this batch: what the flush and truncation controller counts.
    pub log_bytes: u64,
    /// Own session's sequences that now have an outcome.
    pub resolved: Vec<(u64, Outcome)>,
    /// The own session was opened by this batch.
    pub session_opened: bool,
    /// Agents whose registration or status changed: (id, agent_epoch, live).
    pub agents: Vec<(String, u64, bool)>,
    /// Leader: what is due now, ready to be proposed (empty on followers).
    pub due: Option<codec::command::Expire>,
    pub retention: Option<codec::command::Retention>,
    /// Cluster/wall time of the earliest timer, so that the leader asks again then.
    pub next_due_cluster_us: Option<u64>,
    pub next_due_wall_us: Option<u64>,
    /// New configuration applied by a configuration change.
    pub configuration: Option<codec::log::ConfState>,
    /// Members as stored, when they changed.
    pub members: Option<Vec<Member>>,
    pub live_tasks: u64,
    /// The answer to `ApplyInput::LookForDue`: with `due` and `retention` or without.
    pub looked: bool,
    /// The replica's hash differs from the leader's at this index.
    pub hash_mismatch: Option<u64>,
    /// `HashCheck` commands that were applied.
    pub checks: Vec<CheckApplied>,
}

/// A `HashCheck` that was applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CheckApplied {
    /// Index of the entry that held it.
    pub at: u64,
    /// Index whose hashes are compared.
    pub index: u64,
    /// Not 0: the rows are to be read as of `at`, which is then the batch's last entry.
    pub verify: u64,
    /// Nothing else was in the entry.
    pub alone: bool,
}

/// A member of the cluster as stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    pub node_id: String,
    pub raft_id: u64,
    pub address: String,
    pub drain: codec::row::DrainState,
    /// The role that is wanted, and whether Raft's configuration has followed.
    pub role: codec::row::MemberRole,
    pub state: codec::row::MemberState,
    /// Raft ids that leave when this member has its role.
    pub replaces: Vec<u64>,
}

/// What a rebuilt machine knows after an install or at start: everything, not only what changed.
#[derive(Debug, Default)]
pub struct InstalledReport {
    /// With all members and agents.
    pub report: AppliedReport,
    /// The own session is open in this state.
    pub session_known: bool,
}

/// An input of the apply side.
#[derive(Debug)]
pub enum ApplyInput {
    /// Committed entries in order, and the configuration after each configuration change in them.
    Entries { entries: Vec<LogEntry>, configurations: Vec<(u64, codec::log::ConfState)> },
    /// Leader: look for due timers at these times and report them.
    LookForDue { cluster_us: u64, wall_us: u64 },
    /// Role as the raft side sees it: feeds the policy only on an established leader.
    Role { leader: bool, term: u64 },
    /// The own session's number, to recognise commands to complete.
    Session { session: u64 },
}

/// What one applied batch changed, for the runtime to write and to tell.
#[derive(Debug, Default)]
pub struct AppliedBatch {
    /// To be written in one batch, with the meta row among them.
    pub changes: Vec<Change>,
    pub signals: Vec<machine::Signal>,
    pub report: AppliedReport,
    /// Entries behind a check whose rows must be read first: the input of the next step.
    pub rest: Option<ApplyInput>,
}
