//! [`Consensus`]: one member of a Raft group as a state machine `input → Round`.

use std::collections::VecDeque;

use bytes::Bytes;
use codec::log::{ConfState, HardState, LogEntry};
use protobuf::Message as _;
use raft::eraftpb::{ConfChangeV2, EntryType, Message, MessageType, Snapshot, SnapshotMetadata};
use raft::{GetEntriesContext, RawNode, SnapshotStatus, StateRole};
use thiserror::Error;

use crate::coalesce::coalesce;
use crate::config::{ConfigError, ConsensusConfig};
use crate::convert::{from_raft_configuration, from_raft_entry, from_raft_hard_state, to_raft_configuration, to_raft_entry};
use crate::tail::Tail;
use crate::timeout::ElectionTimeout;

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

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    Leader,
    Follower,
    Candidate,
    Learner,
}

impl Role {
    /// The role's name in the API.
    pub fn name(self) -> &'static str {
        match self {
            Role::Leader => "leader",
            Role::Follower => "follower",
            Role::Candidate => "candidate",
            Role::Learner => "learner",
        }
    }
}

/// What a member starts with: its durable log and the configuration of its applied state.
pub struct Start {
    pub raft_id: u64,
    pub hard_state: HardState,
    pub configuration: ConfState,
    /// (index, term) before the first entry.
    pub base: (u64, u64),
    /// The whole log behind the base.
    pub entries: Vec<LogEntry>,
    pub applied_index: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotMeta {
    pub index: u64,
    pub term: u64,
    pub configuration: ConfState,
}

/// A Raft message for a peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outgoing {
    pub to: u64,
    /// Heartbeats, votes and their answers, which must not wait behind appends.
    pub urgent: bool,
    /// The files of a snapshot must go with it.
    pub snapshot: bool,
    pub bytes: Bytes,
}

/// One round of output, to be carried out in the order of its fields.
#[derive(Debug, Default)]
pub struct Round {
    /// Not 0: save `entries` and `hard_state` with one sync, then call [`Consensus::persisted`].
    pub persist: u64,
    pub entries: Vec<LogEntry>,
    pub hard_state: Option<HardState>,
    /// Install this snapshot first (with the same sync).
    pub snapshot: Option<SnapshotMeta>,
    /// Free to go now.
    pub messages: Vec<Outgoing>,
    /// Committed entries to apply, in order; configuration changes have been taken into account.
    pub committed: Vec<LogEntry>,
    /// Configuration after each committed configuration change.
    pub configurations: Vec<(u64, ConfState)>,
    /// Rounds of read index that a quorum has confirmed: (round, index).
    pub readable: Vec<(u64, u64)>,
    /// Leader or role have changed.
    pub role_changed: bool,
}

/// Progress of one peer as the leader sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerProgress {
    pub raft_id: u64,
    pub match_index: u64,
    /// Heard from within the last check-quorum interval.
    pub recently_active: bool,
    pub snapshotting: bool,
    /// It takes entries as they come.
    pub replicating: bool,
}

struct Unpersisted {
    number: u64,
    must_sync: bool,
    messages: Vec<Outgoing>,
}

pub struct Consensus {
    pub(crate) raw: RawNode<Tail>,
    raft_id: u64,
    tail_bytes_max: usize,
    message_bytes_max: u64,
    unpersisted: VecDeque<Unpersisted>,
    /// Messages set free by `persisted`, for the next round.
    released: Vec<Outgoing>,
    fetches: Vec<(u64, GetEntriesContext)>,
    next_fetch: u64,
    configuration: ConfState,
    timeout: ElectionTimeout,
    /// Takes no part in elections, and no configuration change into account: see [`Consensus::set_fenced`].
    fenced: bool,
}

impl Consensus {
    /// A member as it was when its log was last written.
    ///
    /// A saved commit index below the applied one (possible after a power loss) is raised first.
    pub fn new(config: &ConsensusConfig, start: Start) -> Result<Self, ConsensusError> {
        config.validate()?;
        let mut hard_state = start.hard_state;
        hard_state.commit = hard_state.commit.max(start.applied_index).max(start.base.0);
        let entries = start.entries.into_iter().map(to_raft_entry).collect();
        let tail = Tail::new(hard_state, start.configuration.clone(), start.base, entries);
        let logger = slog::Logger::root(slog::Discard, slog::o!());
        let raft_config = config.raft(start.raft_id, start.applied_index);
        let raw = RawNode::new(&raft_config, tail, &logger).map_err(|e| ConsensusError::Raft(e.to_string()))?;
        let mut consensus = Self {
            timeout: ElectionTimeout::new(config, start.raft_id),
            raw,
            raft_id: start.raft_id,
            tail_bytes_max: config.tail_bytes_max,
            message_bytes_max: config.message_bytes_max,
            unpersisted: VecDeque::new(),
            released: Vec::new(),
            fetches: Vec::new(),
            next_fetch: 1,
            configuration: start.configuration,
            fenced: false,
        };
        consensus.timeout.keep(&mut consensus.raw.raft);
        Ok(consensus)
    }

    // ---- inputs ----------------------------------------------------------------------------

    pub fn tick(&mut self) {
        // A fenced member's election timeout never passes.
        if !self.fenced && !self.awaits_snapshot() {
            self.raw.tick();
        }
        self.timeout.keep(&mut self.raw.raft);
    }

    /// Takes a peer's message. Messages of unknown peers are dropped as Raft prescribes.
    pub fn step(&mut self, message: &[u8]) -> Result<(), ConsensusError> {
        let message = Message::parse_from_bytes(message).map_err(|e| ConsensusError::Malformed(e.to_string()))?;
        if message.to != self.raft_id || (self.fenced && is_about_elections(&message)) {
            return Ok(());
        }
        if message.get_msg_type() == MessageType::MsgTimeoutNow && self.awaits_snapshot() {
            return Ok(());
        }
        if message.get_msg_type() == MessageType::MsgAppend {
            let indexes = message.entries.iter().map(|e| e.index);
            let follow = indexes.eq((message.index + 1..).take(message.entries.len()));
            if !follow && !mutant::active("append-joined-blindly") {
                return Err(ConsensusError::Malformed(format!("entries that do not follow index {}", message.index)));
            }
        }
        // A leader's heartbeat names what it saw this member acknowledge; raft panics where the log is shorter.
        let last_index = self.last_index();
        if message.get_msg_type() == MessageType::MsgHeartbeat && message.term >= self.term() && message.commit > last_index {
            return Err(ConsensusError::LostEntries { term: message.term, acknowledged: message.commit, last_index });
        }
        let stepped = self.raw.step(message);
        self.timeout.keep(&mut self.raw.raft);
        match stepped {
            Ok(()) | Err(raft::Error::StepPeerNotFound | raft::Error::ProposalDropped) => Ok(()),
            Err(error) => Err(ConsensusError::Raft(error.to_string())),
        }
    }

    /// Appends one normal entry at the leader.
    pub fn propose(&mut self, data: Vec<u8>) -> Result<(), ConsensusError> {
        if self.role() != Role::Leader {
            return Err(ConsensusError::NotLeader);
        }
        self.raw.propose(Vec::new(), data).map_err(|e| ConsensusError::ProposalDropped(e.to_string()))
    }

    /// Begins a read index round. `round` must never have been used before.
    /// False: this leader has not committed in its term yet, or is none.
    pub fn read_index(&mut self, round: u64) -> bool {
        let may_read = self.raw.raft.commit_to_current_term() || mutant::active("read-before-first-commit");
        if self.role() != Role::Leader || !may_read {
            return false;
        }
        self.raw.read_index(round.to_be_bytes().to_vec());
        true
    }

    pub fn transfer_leader(&mut self, to: u64) {
        self.raw.transfer_leader(to);
    }

    /// Follows without a leader, in the same term.
    pub fn step_down(&mut self) {
        let term = self.raw.raft.term;
        self.raw.raft.become_follower(term, 0);
    }

    /// A fenced member stores and acknowledges entries, and installs snapshots; it votes for nobody and
    /// never campaigns. Its configuration is that of the next snapshot.
    pub fn set_fenced(&mut self, fenced: bool) {
        self.fenced = fenced;
    }

    /// Asks the leader for a snapshot of everything up to this log's end; false if it cannot be asked
    /// now, or was asked already.
    pub fn request_snapshot(&mut self) -> bool {
        self.raw.request_snapshot().is_ok()
    }

    pub fn campaign(&mut self) -> Result<(), ConsensusError> {
        let campaigned = self.raw.campaign().map_err(|e| ConsensusError::Raft(e.to_string()));
        self.timeout.keep(&mut self.raw.raft);
        campaigned
    }

    /// The log has started over behind a snapshot whose state is not in use yet. Such a member cannot
    /// campaign: the crate would look for entries to apply that are not there, and panic.
    fn awaits_snapshot(&self) -> bool {
        self.raw.raft.raft_log.applied < self.raw.store().base().0
    }

    /// Everything up to round `number` is durable.
    pub fn persisted(&mut self, number: u64) {
        let mut last = 0;
        while let Some(front) = self.unpersisted.front() {
            if front.number > number && front.must_sync {
                break;
            }
            let Some(done) = self.unpersisted.pop_front() else { break };
            last = done.number;
            self.released.extend(done.messages);
        }
        if last > 0 {
            self.raw.on_persist_ready(last);
        }
    }

    /// The state machine has applied up to `index`.
    pub fn applied(&mut self, index: u64) {
        if index > self.raw.raft.raft_log.applied {
            self.raw.advance_apply_to(index);
        }
        self.raw.mut_store().evict(index, self.tail_bytes_max);
    }

    /// A range that Raft needs from disk: (fetch, low, high, bytes_max); answer with `fetched`.
    pub fn wanted_entries(&mut self) -> Vec<(u64, u64, u64, u64)> {
        let wanted = self.raw.store().take_wanted();
        let mut out = Vec::with_capacity(wanted.len());
        for want in wanted {
            let fetch = self.next_fetch;
            self.next_fetch += 1;
            self.fetches.push((fetch, want.context));
            out.push((fetch, want.low, want.high, want.bytes_max));
        }
        out
    }

    pub fn fetched(&mut self, fetch: u64, entries: Vec<LogEntry>) {
        let Some(at) = self.fetches.iter().position(|(f, _)| *f == fetch) else { return };
        let (_, context) = self.fetches.swap_remove(at);
        self.raw.store().put_fetched(entries.into_iter().map(to_raft_entry).collect());
        self.raw.on_entries_fetched(context);
        self.raw.store().drop_fetched();
    }

    /// A peer needs a snapshot and none is new enough: make one and call `offer_snapshot`.
    pub fn snapshot_wanted(&self) -> bool {
        self.raw.store().take_snapshot_wanted()
    }

    pub fn offer_snapshot(&mut self, meta: &SnapshotMeta) {
        let mut metadata = SnapshotMetadata { index: meta.index, term: meta.term, ..Default::default() };
        metadata.set_conf_state(to_raft_configuration(&meta.configuration));
        let mut snapshot = Snapshot::default();
        snapshot.set_metadata(metadata);
        self.raw.mut_store().offer_snapshot(snapshot);
    }

    /// The checkpoint of the snapshot at `index` is gone: it is offered to nobody any more.
    pub fn withdraw_snapshot(&mut self, index: u64) {
        self.raw.mut_store().withdraw_snapshot(index);
    }

    /// The transfer to `peer` has ended.
    pub fn report_snapshot(&mut self, peer: u64, installed: bool) {
        self.raw.report_snapshot(peer, if installed { SnapshotStatus::Finish } else { SnapshotStatus::Failure });
    }

    pub fn report_unreachable(&mut self, peer: u64) {
        self.raw.report_unreachable(peer);
    }

    /// The log has been cut: entries up to and with `index` are gone.
    pub fn truncate_prefix(&mut self, index: u64) {
        self.raw.mut_store().truncate_prefix(index);
    }

    // ---- output ----------------------------------------------------------------------------

    /// The next round of work, or `None` when there is nothing to do.
    pub fn ready(&mut self) -> Option<Round> {
        if !self.raw.has_ready() {
            if self.released.is_empty() {
                return None;
            }
            return Some(Round { messages: std::mem::take(&mut self.released), ..Round::default() });
        }
        let mut ready = self.raw.ready();
        let number = ready.number();
        let mut round = Round { role_changed: ready.ss().is_some(), ..Round::default() };
        round.messages = std::mem::take(&mut self.released);
        let messages = coalesce(ready.take_messages(), self.message_bytes_max);
        round.messages.extend(messages.into_iter().map(encode));
        for state in ready.take_read_states() {
            if let Ok(context) = <[u8; 8]>::try_from(state.request_ctx.as_slice()) {
                round.readable.push((u64::from_be_bytes(context), state.index));
            }
        }
        if !ready.snapshot().is_empty() {
            let metadata = ready.snapshot().get_metadata();
            let configuration = from_raft_configuration(metadata.get_conf_state());
            let meta = SnapshotMeta { index: metadata.index, term: metadata.term, configuration: configuration.clone() };
            self.raw.mut_store().install(meta.index, meta.term, configuration.clone());
            if !mutant::active("conf-from-snapshot-late") {
                self.configuration = configuration;
            }
            round.snapshot = Some(meta);
            // Saved with the new base, also when a snapshot at the commit index changes none of it.
            round.hard_state = Some(from_raft_hard_state(&self.raw.raft.hard_state()));
        }
        let must_sync = ready.must_sync();
        let entries = ready.take_entries();
        if !entries.is_empty() {
            self.raw.mut_store().append(entries.clone());
        }
        round.entries = entries.into_iter().map(from_raft_entry).collect();
        round.hard_state = ready.hs().map(from_raft_hard_state).or(round.hard_state);
        let held = ready.take_persisted_messages().into_iter().map(encode).collect();
        let committed = ready.take_committed_entries();
        self.raw.advance_append_async(ready);
        self.take_committed(committed, &mut round);
        self.unpersisted.push_back(Unpersisted { number, must_sync, messages: held });
        if must_sync {
            round.persist = number;
            if mutant::active("ack-before-fsync") {
                self.persisted(number);
                round.messages.append(&mut self.released);
            }
        } else if self.unpersisted.front().is_some_and(|u| !u.must_sync) {
            // Nothing before it waits for the disk, and a moved commit index alone needs no sync.
            self.persisted(number);
            round.messages.append(&mut self.released);
        }
        Some(round)
    }

    fn take_committed(&mut self, committed: Vec<raft::eraftpb::Entry>, round: &mut Round) {
        for entry in committed {
            // This project proposes configuration changes in their second form only.
            if entry.entry_type == EntryType::EntryConfChangeV2
                && !self.fenced
                && let Ok(change) = ConfChangeV2::parse_from_bytes(&entry.data)
                && let Ok(configuration) = self.raw.apply_conf_change(&change)
            {
                self.configuration = from_raft_configuration(&configuration);
                round.configurations.push((entry.index, self.configuration.clone()));
                self.step_down_if_removed();
            }
            round.committed.push(from_raft_entry(entry));
        }
    }

    // ---- view ------------------------------------------------------------------------------

    pub fn role(&self) -> Role {
        match self.raw.raft.state {
            StateRole::Leader => Role::Leader,
            StateRole::Candidate | StateRole::PreCandidate => Role::Candidate,
            StateRole::Follower if self.configuration.learners.contains(&self.raft_id) => Role::Learner,
            StateRole::Follower => Role::Follower,
        }
    }

    pub fn raft_id(&self) -> u64 {
        self.raft_id
    }

    /// Raft id of the leader, 0 for none known.
    pub fn leader(&self) -> u64 {
        self.raw.raft.leader_id
    }

    pub fn term(&self) -> u64 {
        self.raw.raft.term
    }

    pub fn commit_index(&self) -> u64 {
        self.raw.raft.raft_log.committed
    }

    pub fn last_index(&self) -> u64 {
        self.raw.raft.raft_log.last_index()
    }

    /// (index, term) before the first entry.
    pub fn base(&self) -> (u64, u64) {
        self.raw.store().base()
    }

    pub fn configuration(&self) -> &ConfState {
        &self.configuration
    }

    /// Whether leadership is being handed over.
    pub fn transferring(&self) -> bool {
        self.raw.raft.lead_transferee.is_some()
    }

    /// Whether the leader has committed an entry of its own term (reads and policy wait for it).
    pub fn committed_in_term(&self) -> bool {
        self.raw.raft.commit_to_current_term()
    }

    /// Ticks of the election timeout drawn for the current term.
    pub fn election_timeout_ticks(&self) -> usize {
        self.raw.raft.randomized_election_timeout()
    }

    /// Every member's progress, by raft id; meaningful on the leader.
    pub fn progress(&self) -> Vec<PeerProgress> {
        let mut all: Vec<_> = self
            .raw
            .raft
            .prs()
            .iter()
            .map(|(id, progress)| PeerProgress {
                raft_id: *id,
                match_index: progress.matched,
                recently_active: *id == self.raft_id || progress.recent_active,
                snapshotting: progress.state == raft::ProgressState::Snapshot,
                replicating: *id == self.raft_id || progress.state == raft::ProgressState::Replicate,
            })
            .collect();
        all.sort_unstable_by_key(|p| p.raft_id);
        all
    }
}

/// Index of the snapshot that an encoded MsgSnapshot carries.
pub fn snapshot_index(message: &[u8]) -> Option<u64> {
    let message = Message::parse_from_bytes(message).ok()?;
    (message.get_msg_type() == MessageType::MsgSnapshot).then(|| message.get_snapshot().get_metadata().index)
}

fn is_about_elections(message: &Message) -> bool {
    matches!(message.get_msg_type(), MessageType::MsgRequestVote | MessageType::MsgRequestPreVote | MessageType::MsgTimeoutNow)
}

/// Whether an encoded message appends entries from index 1 on.
pub fn begins_at_first_entry(message: &[u8]) -> bool {
    let Ok(message) = Message::parse_from_bytes(message) else { return false };
    message.get_msg_type() == MessageType::MsgAppend && message.index == 0 && !message.entries.is_empty()
}

fn encode(message: Message) -> Outgoing {
    let kind = message.get_msg_type();
    let urgent = !matches!(kind, MessageType::MsgAppend | MessageType::MsgAppendResponse | MessageType::MsgSnapshot);
    let bytes = message.write_to_bytes().expect("a message in memory encodes");
    Outgoing { to: message.to, urgent, snapshot: kind == MessageType::MsgSnapshot, bytes: bytes.into() }
}
