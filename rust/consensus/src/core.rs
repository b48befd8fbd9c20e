//! [`Consensus`]: one member of a Raft group as a state machine `input → Round`.
//!
//! Its inputs and its rounds; what it knows of its group is in `view`.

mod view;

use std::collections::VecDeque;

use codec::log::{ConfState, HardState, LogEntry};
use protobuf::Message as _;
use raft::eraftpb::{ConfChangeV2, EntryType, Message, MessageType, Snapshot, SnapshotMetadata};
use raft::{GetEntriesContext, RawNode, SnapshotStatus};

use crate::coalesce::coalesce;
use crate::config::ConsensusConfig;
use crate::convert::{from_raft_configuration, from_raft_entry, from_raft_hard_state, to_raft_configuration, to_raft_entry};
use crate::error::ConsensusError;
use crate::message::{encode, is_about_elections};
use crate::round::{Outgoing, Round, SnapshotMeta};
use crate::tail::Tail;
use crate::timeout::ElectionTimeout;

pub use view::{PeerProgress, Role};

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
    /// Commit index of the newest hard state that was given out to be saved.
    saved_commit: u64,
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
        let saved_commit = hard_state.commit;
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
            saved_commit,
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
        if must_sync {
            // A round that only moved the commit index was not saved: what is saved next takes it along. Else a
            // restart would follow an old configuration long after the members it names were let go.
            let now = self.raw.raft.hard_state();
            if round.hard_state.is_none() && now.commit > self.saved_commit {
                round.hard_state = Some(from_raft_hard_state(&now));
            }
            self.saved_commit = round.hard_state.as_ref().map_or(self.saved_commit, |saved| saved.commit);
        }
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
}
