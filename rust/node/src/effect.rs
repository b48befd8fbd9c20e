//! What a node wants done: the only outputs of [`crate::Driver`], executed by the runtime in order.

use codec::Outcome;
use codec::log::{HardState, Identity, LogBase, LogEntry};
use codec::peer::{BeatAnswer, Lane, PeerBody};

use crate::event::{ApplyInput, Token};

/// How a group of proposals ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProposalEnd {
    /// Every command has an outcome.
    Applied,
    /// The deadline passed while a leader may hold some of them.
    OutcomeUnknown,
    /// The deadline passed and no leader was ever given any of them.
    NoLeader,
    /// Nothing was taken: this node has fenced itself, or writes have stopped; its view says why.
    Refused,
}

#[derive(Debug)]
pub enum Effect {
    /// Log writer: append (atomically replacing a conflicting tail from the first index on), save
    /// the hard state, sync once, then answer `Event::Persisted`.
    Persist {
        number: u64,
        entries: Vec<LogEntry>,
        hard_state: Option<HardState>,
    },
    /// Log writer: delete entries below `base.index + 1`; not synced, nothing answers.
    Truncate {
        base_index: u64,
    },
    /// Reader: load entries `[low, high)` of at most `bytes_max` from disk.
    FetchEntries {
        fetch: u64,
        low: u64,
        high: u64,
        bytes_max: u64,
    },
    /// Net: never blocks; a full queue drops Raft messages (Raft sends again) and nothing else.
    Send {
        to: u64,
        lane: Lane,
        body: PeerBody,
    },
    /// Apply thread.
    Apply(ApplyInput),
    /// The group's callers can be told.
    CompleteProposal {
        token: Token,
        end: ProposalEnd,
        outcomes: Vec<Outcome>,
    },
    CompleteRead {
        token: Token,
        readable: bool,
    },
    CompleteBeats(Vec<BeatAnswer>),
    CompleteTask {
        token: Token,
        done: bool,
        detail: String,
    },
    /// Leader as seen from here; `raft_id` 0 for none.
    LeaderChanged {
        leader: u64,
        node_id: Option<String>,
        term: u64,
        is_self: bool,
    },
    /// Loads that agents reported to this leader: (agent, cpu/memory/network in basis points).
    AgentLoads(Vec<(String, [u16; 3])>),
    /// Save who we are, synced, and write the first rows of the state store (`machine::Machine::
    /// bootstrap_rows`), flushed: both before the next effect is executed. Then the apply side loads.
    Bootstrap(Identity),
    /// Observers: save who we are and to which cluster we belong, synced, and tell peers from now on.
    SaveIdentity(Identity),
    /// Checkpoint the state store now; answer `SnapshotMade`.
    MakeSnapshot,
    /// Stream the newest checkpoint to a peer, then answer `SnapshotSent`.
    SendSnapshot {
        to: u64,
        raft_message: bytes::Bytes,
    },
    /// One synced write: the new state directory's name, base, hard state, log cleared; then switch
    /// the state store, rebuild memory, and answer `Persisted { number }` and `SnapshotInstalled`.
    /// `base.chain` is unknown (0) here: the log store reads it from the snapshot's transfer.
    InstallSnapshot {
        number: u64,
        base: LogBase,
        hard_state: HardState,
    },
    /// Flush the state store in the background; answer `Flushed`.
    Flush,
    /// Tell the sender that its snapshot is installed (or not).
    AnswerSnapshot {
        to: u64,
        transfer: u64,
        index: u64,
        installed: bool,
        reason: String,
    },
    /// Net: dial these nodes, (name, host:port), and no others.
    DialPeers(Vec<(String, String)>),
    /// Net: the raft id was removed from the cluster. Close its streams, and tell it so when it comes
    /// back.
    RefusePeer {
        raft_id: u64,
    },
    /// The cluster has removed this node: say so and stop for good. Nothing is deleted.
    Removed {
        reason: String,
    },
    /// A received snapshot is not wanted any more: delete its state directory, which nothing names.
    DropSnapshot {
        state_dir: String,
    },
    /// This node's state is not to be trusted: mark its directory, durably, so that a restart does not use
    /// it either; it is kept aside once another one is installed.
    Fence {
        reason: String,
    },
    /// This identity has lost what it had acknowledged: note, durably, that it must never vote again, then
    /// stop. The next start keeps every file aside and begins under a new identity.
    Retire {
        reason: String,
    },
    /// The node must not go on: say why, stop, delete nothing.
    Halt {
        reason: String,
    },
    StopReady,
}
