//! Messages between nodes, and the lanes they travel on.

use bytes::Bytes;
use prost::{Message, Oneof};

use crate::command::Command;
use crate::integrity::{Acknowledged, StateHash, VerifyRequest, VerifyResult};
use crate::log::{Bootstrap, BootstrapMember, ConfState};
use crate::tail::{ObserverRegister, ObserverReports, Placement, TailAck, TailBatch, TailEnd, TailSubscribe};

/// One TCP stream per peer and lane, so that a large transfer never delays a heartbeat.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Lane {
    /// Votes, heartbeats, read index, beats, status: small and urgent.
    Control = 0,
    /// Appends and their answers.
    Append = 1,
    /// Commands on their way to the leader.
    Forward = 2,
    /// Snapshot chunks.
    Snapshot = 3,
}

impl Lane {
    pub const ALL: [Lane; 4] = [Lane::Control, Lane::Append, Lane::Forward, Lane::Snapshot];

    pub fn from_u8(lane: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|l| *l as u8 == lane)
    }
}

/// First message on every stream, in both directions.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Hello {
    /// 0 from a node that belongs to no cluster yet.
    #[prost(fixed64, tag = "1")]
    pub cluster_id: u64,
    #[prost(string, tag = "2")]
    pub node_id: String,
    #[prost(fixed64, tag = "3")]
    pub raft_id: u64,
    /// Drawn at each process start.
    #[prost(fixed64, tag = "4")]
    pub incarnation: u64,
    /// Of the frames and messages.
    #[prost(uint32, tag = "5")]
    pub protocol_version: u32,
    /// [`Lane`] of this stream.
    #[prost(uint32, tag = "6")]
    pub lane: u32,
    /// Highest machine version this release can apply.
    #[prost(uint32, tag = "7")]
    pub machine_version_max: u32,
    /// The cluster's nodes as this node was told to expect them (empty nodes only): bootstrap
    /// needs the same list everywhere.
    #[prost(string, repeated, tag = "8")]
    pub expected_nodes: Vec<String>,
    /// The raft address that others dial.
    #[prost(string, tag = "9")]
    pub address: String,
    /// This stream carries messages both ways: the dialer is not dialed back (observers).
    #[prost(bool, tag = "10")]
    pub duplex: bool,
    /// An answer to the Hello of a raft id that was removed from the cluster: it must stop.
    #[prost(bool, tag = "11")]
    pub you_were_removed: bool,
    // From 40: integrity.
    /// Raft ids whose directories this node found damaged and moved aside: they never come back. 0 among
    /// them stands for one that could not be read any more.
    #[prost(fixed64, repeated, tag = "40")]
    pub retired: Vec<u64>,
    /// Why the newest of them was retired; empty if none was.
    #[prost(string, tag = "41")]
    pub damaged: String,
}

#[derive(Clone, PartialEq, Message)]
pub struct PeerMessage {
    #[prost(
        oneof = "PeerBody",
        tags = "1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 20, 21, 22, 23, 24, 25, 26, 30, 40, 41, 42, 43"
    )]
    pub body: Option<PeerBody>,
}

#[derive(Clone, PartialEq, Oneof)]
pub enum PeerBody {
    #[prost(message, tag = "1")]
    Hello(Hello),
    /// An encoded `eraftpb::Message`.
    #[prost(bytes = "bytes", tag = "2")]
    Raft(Bytes),
    #[prost(message, tag = "3")]
    Forward(Forward),
    #[prost(message, tag = "4")]
    ReadIndexRequest(ReadIndexRequest),
    #[prost(message, tag = "5")]
    ReadIndexAnswer(ReadIndexAnswer),
    #[prost(message, tag = "6")]
    Beats(Beats),
    #[prost(message, tag = "7")]
    BeatAnswers(BeatAnswers),
    #[prost(message, tag = "8")]
    Bootstrap(Bootstrap),
    #[prost(message, tag = "9")]
    NodeReport(NodeReport),
    #[prost(message, tag = "10")]
    SnapshotOffer(SnapshotOffer),
    #[prost(message, tag = "11")]
    SnapshotChunk(SnapshotChunk),
    #[prost(message, tag = "12")]
    SnapshotAnswer(SnapshotAnswer),
    // 13 to 19: membership.
    #[prost(message, tag = "13")]
    Welcome(Welcome),
    // From 20: observers, see [`crate::tail`].
    #[prost(message, tag = "20")]
    TailSubscribe(TailSubscribe),
    #[prost(message, tag = "21")]
    TailBatch(TailBatch),
    #[prost(message, tag = "22")]
    TailAck(TailAck),
    #[prost(message, tag = "23")]
    TailEnd(TailEnd),
    #[prost(message, tag = "24")]
    Placement(Placement),
    #[prost(message, tag = "25")]
    ObserverRegister(ObserverRegister),
    #[prost(message, tag = "26")]
    ObserverReports(ObserverReports),
    // From 30: snapshots.
    #[prost(message, tag = "30")]
    SnapshotResume(SnapshotResume),
    // From 40: integrity, see [`crate::integrity`].
    #[prost(message, tag = "40")]
    StateHash(StateHash),
    #[prost(message, tag = "41")]
    VerifyRequest(VerifyRequest),
    #[prost(message, tag = "42")]
    VerifyResult(VerifyResult),
    #[prost(message, tag = "43")]
    Acknowledged(Acknowledged),
}

/// Commands for the leader. They are sent again until their outcome is known, so nothing answers.
#[derive(Clone, PartialEq, Message)]
pub struct Forward {
    #[prost(message, repeated, tag = "1")]
    pub commands: Vec<Command>,
}

/// From the leader to a node that the cluster has taken in: who the cluster is, and whom to dial.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Welcome {
    /// The raft id that was admitted: another directory of that name must not take it.
    #[prost(fixed64, tag = "1")]
    pub raft_id: u64,
    /// The cluster's first configuration, whose rows are the state before index 1.
    #[prost(message, optional, tag = "2")]
    pub bootstrap: Option<Bootstrap>,
    /// The members as they are now.
    #[prost(message, repeated, tag = "3")]
    pub members: Vec<BootstrapMember>,
}

/// Asks the leader for an index that is safe to read at.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct ReadIndexRequest {
    /// The asker's round; never used twice.
    #[prost(uint64, tag = "1")]
    pub round: u64,
}

#[derive(Clone, PartialEq, Eq, Message)]
pub struct ReadIndexAnswer {
    #[prost(uint64, tag = "1")]
    pub round: u64,
    /// 0: this node is not a leader that can answer.
    #[prost(uint64, tag = "2")]
    pub index: u64,
}

/// Agents' beats on their way to the leader, which alone extends leases.
#[derive(Clone, PartialEq, Message)]
pub struct Beats {
    #[prost(message, repeated, tag = "1")]
    pub beats: Vec<Beat>,
}

#[derive(Clone, PartialEq, Message)]
pub struct Beat {
    /// The relaying node's token for the answer.
    #[prost(uint64, tag = "1")]
    pub token: u64,
    #[prost(string, tag = "2")]
    pub agent_id: String,
    #[prost(uint64, tag = "3")]
    pub agent_epoch: u64,
    /// Load of cpu, memory and network in basis points; empty when not reported.
    #[prost(uint32, repeated, tag = "4")]
    pub load_bp: Vec<u32>,
}

#[derive(Clone, PartialEq, Message)]
pub struct BeatAnswers {
    #[prost(message, repeated, tag = "1")]
    pub answers: Vec<BeatAnswer>,
}

#[derive(Clone, PartialEq, Eq, Message)]
pub struct BeatAnswer {
    #[prost(uint64, tag = "1")]
    pub token: u64,
    /// The lease granted, counted from when the agent sent the beat; 0: not extended.
    #[prost(uint64, tag = "2")]
    pub lease_ms: u64,
    /// The agent is known under another epoch, or is lost: it must register again.
    #[prost(bool, tag = "3")]
    pub stale: bool,
    #[prost(bool, tag = "4")]
    pub unknown: bool,
    #[prost(uint64, tag = "5")]
    pub heartbeat_ms: u64,
}

/// What each node tells the others about itself, once a second.
#[derive(Clone, PartialEq, Message)]
pub struct NodeReport {
    #[prost(uint64, tag = "1")]
    pub applied_index: u64,
    #[prost(uint64, tag = "2")]
    pub flushed_index: u64,
    /// State hash at `hash_index`, 16 bytes; compared at equal indexes.
    #[prost(uint64, tag = "3")]
    pub hash_index: u64,
    #[prost(bytes = "vec", tag = "4")]
    pub hash: Vec<u8>,
    /// Basis points: cpu, memory, network.
    #[prost(uint32, repeated, tag = "5")]
    pub load_bp: Vec<u32>,
    #[prost(uint64, tag = "6")]
    pub wall_us: u64,
    #[prost(string, tag = "7")]
    pub http_address: String,
    #[prost(string, tag = "8")]
    pub version: String,
    #[prost(uint32, tag = "9")]
    pub agents: u32,
    /// `leader`, `follower`, `candidate` or `learner`.
    #[prost(string, tag = "10")]
    pub role: String,
    /// Why the sender has fenced itself; empty if it has not.
    #[prost(string, tag = "40")]
    pub fenced: String,
}

/// Begins a snapshot transfer: what the files are, and the Raft message they belong to.
#[derive(Clone, PartialEq, Message)]
pub struct SnapshotOffer {
    /// Drawn by the sender; names the transfer.
    #[prost(fixed64, tag = "1")]
    pub transfer: u64,
    #[prost(uint64, tag = "2")]
    pub index: u64,
    #[prost(uint64, tag = "3")]
    pub term: u64,
    #[prost(message, optional, tag = "4")]
    pub configuration: Option<ConfState>,
    #[prost(message, repeated, tag = "5")]
    pub files: Vec<SnapshotFile>,
    /// The encoded `eraftpb::Message` (MsgSnapshot) to step once the files are durable.
    #[prost(bytes = "bytes", tag = "6")]
    pub raft_message: Bytes,
    /// The sender waits for [`SnapshotResume`] and begins there; otherwise it begins at the start.
    #[prost(bool, tag = "7")]
    pub resumable: bool,
}

/// Where a resumable transfer begins: the receiver has, and has checked, every file before `file`
/// and the first `offset` bytes of it.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct SnapshotResume {
    #[prost(fixed64, tag = "1")]
    pub transfer: u64,
    /// Position in `SnapshotOffer::files`; their number when nothing is missing.
    #[prost(uint32, tag = "2")]
    pub file: u32,
    #[prost(uint64, tag = "3")]
    pub offset: u64,
    /// CRC32C of those `offset` bytes: where the sender's differ, it begins the file again.
    #[prost(fixed32, tag = "4")]
    pub crc32c: u32,
}

#[derive(Clone, PartialEq, Eq, Message)]
pub struct SnapshotFile {
    /// A plain file name: the receiver refuses separators and dots at the start.
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(uint64, tag = "2")]
    pub bytes: u64,
    /// CRC32C of the whole file.
    #[prost(fixed32, tag = "3")]
    pub crc32c: u32,
}

#[derive(Clone, PartialEq, Message)]
pub struct SnapshotChunk {
    #[prost(fixed64, tag = "1")]
    pub transfer: u64,
    /// Position in `SnapshotOffer::files`.
    #[prost(uint32, tag = "2")]
    pub file: u32,
    #[prost(uint64, tag = "3")]
    pub offset: u64,
    #[prost(bytes = "bytes", tag = "4")]
    pub data: Bytes,
    /// CRC32C of `data` as it was read from the sender's disk; senders before 0.2 leave it out.
    #[prost(fixed32, optional, tag = "5")]
    pub crc32c: Option<u32>,
}

/// The receiver's word on a transfer.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct SnapshotAnswer {
    #[prost(fixed64, tag = "1")]
    pub transfer: u64,
    #[prost(uint64, tag = "2")]
    pub index: u64,
    /// Installed and durable; false: failed, with the reason.
    #[prost(bool, tag = "3")]
    pub installed: bool,
    #[prost(string, tag = "4")]
    pub reason: String,
}
