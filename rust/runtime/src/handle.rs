//! What other threads call: cheap to clone, never waits for consensus.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use codec::command::{Assignment, Body};
use codec::peer::Beat;
use crossbeam_channel::{Sender, TrySendError};
use node::{Event, NodeView, Token};
use store::LogReader;
use store::rocks::{RocksOptions, RocksState};
use thiserror::Error;
use transport::NetHandle;

use crate::backup::{Backup, BackupError};
use crate::checkpoints::Checkpoints;
use crate::clock::Clock;
use crate::feed::Feed;
use crate::interest::Interest;
use crate::metrics::{Counters, Metrics};
use crate::raft_thread::Shared;
use crate::ring::Ring;
use crate::state_cell::StateCell;
use crate::transfers::Transfers;

/// A bound was reached, or the node is stopping: nothing was taken; try again after a pause.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("{0}")]
pub struct Busy(pub &'static str);

/// One beat of an agent: its id, its registration, and its load (cpu, memory, network) in basis
/// points if it reported one.
pub type AgentBeat = (String, u64, Option<[u32; 3]>);

pub(crate) struct Inside {
    pub clock: Clock,
    pub inbox: Sender<Event>,
    pub ring: Arc<Ring>,
    pub interest: Arc<Interest>,
    pub feed: Arc<Feed>,
    pub state: Arc<StateCell>,
    pub reader: Arc<dyn LogReader>,
    pub base_index: Arc<AtomicU64>,
    pub shared: Arc<Shared>,
    pub metrics: Arc<Metrics>,
    pub checkpoints: Arc<Checkpoints>,
    pub transfers: Arc<Transfers>,
    pub backups_path: PathBuf,
    pub rocks: RocksOptions,
    /// Backups that are under way.
    pub backups: Arc<AtomicUsize>,
    pub net: NetHandle,
    pub next_token: AtomicU64,
    pub proposals_max: usize,
    pub proposal_bytes_max: usize,
    pub node_id: String,
}

#[derive(Clone)]
pub struct Handle {
    pub(crate) inside: Arc<Inside>,
}

impl Handle {
    pub fn node_id(&self) -> &str {
        &self.inside.node_id
    }

    /// Where completions and hints come out.
    pub fn ring(&self) -> &Ring {
        &self.inside.ring
    }

    pub fn interest(&self) -> &Interest {
        &self.inside.interest
    }

    pub fn feed(&self) -> &Feed {
        &self.inside.feed
    }

    /// The state store in use; let go of it soon, because an installed snapshot replaces it.
    pub fn state(&self) -> Arc<RocksState> {
        self.inside.state.get()
    }

    /// Reads entries of the log beside its writer.
    pub fn log_reader(&self) -> &dyn LogReader {
        self.inside.reader.as_ref()
    }

    /// Index of the last entry that is no longer in the log.
    pub fn log_base_index(&self) -> u64 {
        self.inside.base_index.load(Ordering::Acquire)
    }

    /// This node's view of the cluster, at most 50 ms old.
    pub fn view(&self) -> NodeView {
        self.inside.shared.view.lock().clone()
    }

    /// Copies the state as it is now into a backup, to be read as one stream. Waits for the disk.
    ///
    /// # Errors
    /// Too many backups are under way; the disk fails; the rows do not add up.
    pub fn backup(&self) -> Result<Backup, BackupError> {
        let inside = &self.inside;
        Backup::make(&inside.state.get(), &inside.backups_path, &inside.rocks, &inside.node_id, &inside.backups)
    }

    /// Snapshots on their way from and to this node.
    pub fn transfers(&self) -> &Transfers {
        &self.inside.transfers
    }

    /// Proposes commands as one group: `Notice::Proposed` with the token follows, by the deadline at
    /// the latest.
    ///
    /// # Errors
    /// [`Busy`], with nothing taken.
    ///
    /// # Panics
    /// Without a command.
    pub fn propose(&self, bodies: Vec<Body>, timeout: Duration) -> Result<Token, Busy> {
        assert!(!bodies.is_empty(), "a group of proposals holds at least one command");
        let (commands, bytes) = (bodies.len(), bodies.iter().map(|b| b.encoded_len()).sum());
        let shared = &self.inside.shared;
        if shared.pending.fetch_add(commands, Ordering::Relaxed) + commands > self.inside.proposals_max {
            shared.pending.fetch_sub(commands, Ordering::Relaxed);
            return self.busy("too many commands are under way");
        }
        if shared.pending_bytes.fetch_add(bytes, Ordering::Relaxed) + bytes > self.inside.proposal_bytes_max {
            shared.pending_bytes.fetch_sub(bytes, Ordering::Relaxed);
            shared.pending.fetch_sub(commands, Ordering::Relaxed);
            return self.busy("too many bytes are under way");
        }
        let taken = self.ask(1, |token, deadline_us| Event::Propose { token, bodies, deadline_us }, timeout);
        if taken.is_err() {
            shared.pending.fetch_sub(commands, Ordering::Relaxed);
            shared.pending_bytes.fetch_sub(bytes, Ordering::Relaxed);
        }
        taken
    }

    /// `Notice::Readable` follows once local state is at least as new as everything that was
    /// acknowledged anywhere before this call.
    pub fn read_index(&self, timeout: Duration) -> Result<Token, Busy> {
        self.ask(1, |token, deadline_us| Event::ReadIndex { token, deadline_us }, timeout)
    }

    /// Relays agents' beats to the leader; `Notice::Beaten` follows for each: beat i has the returned
    /// token plus i.
    pub fn beat(&self, beats: Vec<AgentBeat>, timeout: Duration) -> Result<Token, Busy> {
        let count = beats.len();
        let event = |first: Token, deadline_us| {
            let beat = |(at, (agent_id, agent_epoch, load)): (u64, AgentBeat)| Beat {
                token: first + at,
                agent_id,
                agent_epoch,
                load_bp: load.map(|l| l.to_vec()).unwrap_or_default(),
            };
            Event::Beats { beats: (0..).zip(beats).map(beat).collect(), deadline_us }
        };
        self.ask(count, event, timeout)
    }

    /// `Notice::Done` follows. `to` names a node; none: the one that is most caught up.
    pub fn transfer_leader(&self, to: Option<String>, timeout: Duration) -> Result<Token, Busy> {
        self.ask(1, |token, deadline_us| Event::TransferLeader { token, to, deadline_us }, timeout)
    }

    /// `Notice::Done` follows once the member's row is settled or gone; at the deadline with how far it
    /// has come.
    pub fn await_member(&self, node_id: String, timeout: Duration) -> Result<Token, Busy> {
        self.ask(1, |token, deadline_us| Event::AwaitMember { token, node_id, deadline_us }, timeout)
    }

    /// Copies the state into the data directory; `Notice::Done` follows.
    pub fn snapshot(&self) -> Result<Token, Busy> {
        self.ask(1, |token, _| Event::TakeSnapshot { token }, Duration::ZERO)
    }

    /// Has every member recompute its state hash over all rows; `Notice::Done` follows, and [`Handle::view`] then
    /// shows what came out.
    pub fn verify(&self, timeout: Duration) -> Result<Token, Busy> {
        self.ask(1, |token, deadline_us| Event::Verify { token, deadline_us }, timeout)
    }

    /// Whether the node has fenced itself: then nothing of its state may be served.
    pub fn is_fenced(&self) -> bool {
        self.inside.shared.fenced.load(Ordering::Acquire)
    }

    /// A read met bytes that cannot be what was written. With a full inbox it is told by the next one.
    pub fn state_damaged(&self, reason: String) {
        let _ = self.put(Event::StateDamaged { reason });
    }

    /// As [`Handle::state_damaged`], of the log: the node stops, and its next start looks at the whole log.
    pub fn log_damaged(&self, reason: String) {
        let _ = self.put(Event::LogDamaged { reason });
    }

    /// The policy's decision in the term that it decided in. Nothing follows: what came of it shows in
    /// the feed.
    pub fn assign(&self, term: u64, items: Vec<Assignment>) -> Result<(), Busy> {
        self.put(Event::Assign { term, items })
    }

    /// Hands leadership over; then the threads end. [`crate::Service::stop`] waits for them.
    pub(crate) fn begin_stop(&self) -> bool {
        // Not dropped when the inbox is full: stopping waits for its turn.
        self.inside.inbox.send(Event::Stop).is_ok()
    }

    fn ask(&self, slots: usize, event: impl FnOnce(Token, u64) -> Event, timeout: Duration) -> Result<Token, Busy> {
        if self.inside.ring.reserve(slots).is_err() {
            return self.busy("too many completions are waiting to be taken");
        }
        let token = self.inside.next_token.fetch_add(slots.max(1) as u64, Ordering::Relaxed);
        let deadline_us = self.inside.clock.now_us().saturating_add(timeout.as_micros() as u64);
        let put = self.put(event(token, deadline_us));
        if let Err(busy) = put {
            self.inside.ring.release(slots);
            return Err(busy);
        }
        Ok(token)
    }

    fn put(&self, event: Event) -> Result<(), Busy> {
        if self.inside.shared.stopped.load(Ordering::Acquire) {
            return self.busy("the node is stopping");
        }
        match self.inside.inbox.try_send(event) {
            Ok(()) => Ok(()),
            Err(TrySendError::Full(_)) => self.busy("the raft thread's inbox is full"),
            Err(TrySendError::Disconnected(_)) => self.busy("the node is stopping"),
        }
    }

    fn busy<T>(&self, what: &'static str) -> Result<T, Busy> {
        self.inside.metrics.proposals_busy.fetch_add(1, Ordering::Relaxed);
        Err(Busy(what))
    }

    pub fn counters(&self) -> Counters {
        let (inside, metrics, net) = (&self.inside, &self.inside.metrics, self.inside.net.counters());
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let view = inside.shared.view.lock();
        Counters {
            fsync_us: metrics.fsync_us.view(),
            log_batch_entries: metrics.log_batch_entries.view(),
            log_batch_bytes: metrics.log_batch_bytes.view(),
            apply_us: metrics.apply_us.view(),
            apply_batch_entries: metrics.apply_batch_entries.view(),
            commit_us: metrics.commit_us.view(),
            proposal_us: metrics.proposal_us.view(),
            read_index_us: metrics.read_index_us.view(),
            raft_round_us: metrics.raft_round_us.view(),
            flush_us: metrics.flush_us.view(),
            checkpoint_us: metrics.checkpoint_us.view(),
            assignment_us: metrics.assignment_us.view(),
            propagation_us: metrics.propagation_us.view(),
            recovery_us: metrics.recovery_us.view(),
            slots_total: load(&metrics.slots_total),
            slots_taken: load(&metrics.slots_taken),
            slots_waited_for: load(&metrics.slots_waited_for),
            entries_applied: load(&metrics.entries_applied),
            commands_proposed: load(&metrics.commands_proposed),
            proposals_busy: load(&metrics.proposals_busy),
            proposals_unknown: load(&metrics.proposals_unknown),
            snapshots_sent: load(&metrics.snapshots_sent),
            snapshots_received: load(&metrics.snapshots_received),
            snapshots_resumed: load(&metrics.snapshots_resumed),
            snapshot_bytes_sent: load(&metrics.snapshot_bytes_sent),
            snapshot_bytes_received: load(&metrics.snapshot_bytes_received),
            snapshot_chunks_refused: load(&metrics.snapshot_chunks_refused),
            checkpoints_held: inside.checkpoints.count() as u64,
            log_bytes: view.log_bytes,
            quarantined: load(&metrics.quarantined),
            raft_dropped: load(&metrics.raft_dropped),
            elections: view.elections,
            leader_changes: view.leader_changes,
            commit_index: view.commit_index,
            applied_index: view.applied_index,
            lag_entries: view.commit_index.saturating_sub(view.applied_index),
            revision: view.revision,
            live_tasks: view.live_tasks,
            live_agents: view.live_agents as u64,
            inbox_depth: inside.inbox.len() as u64,
            log_queue_depth: inside.shared.log_depth.load(Ordering::Relaxed) as u64,
            apply_queue_depth: inside.shared.apply_depth.load(Ordering::Relaxed) as u64,
            proposals_pending: inside.shared.pending.load(Ordering::Relaxed) as u64,
            proposal_bytes_pending: inside.shared.pending_bytes.load(Ordering::Relaxed) as u64,
            unflushed_bytes: inside.state.get().unflushed_bytes(),
            net_bytes_sent: load(&net.bytes_sent),
            net_bytes_received: load(&net.bytes_received),
            net_messages_sent: load(&net.messages_sent),
            net_messages_received: load(&net.messages_received),
            net_dropped: load(&net.messages_dropped),
            net_dials: load(&net.dials),
            net_refused: load(&net.refused),
            net_malformed: load(&net.malformed),
            peers_up: load(&net.peers_up),
            state_hash_differs: u64::from(view.hash_agrees == Some(false)),
            fenced: u64::from(!view.fenced.is_empty()),
            fences: view.fences,
            writes_stopped: u64::from(!view.writes_stopped.is_empty()),
            kept_aside: view.kept_aside.len() as u64,
        }
    }
}
