//! One observer of an [`super::ObserverHost`]: its parts, and what a turn does.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use codec::log::HardState;
use codec::peer::{Hello, Lane, PeerBody, SnapshotAnswer};
use crossbeam_channel::{Receiver, Sender, TrySendError, bounded, unbounded};
use machine::{RetentionLimits, Signal};
use node::{ApplyDriver, ApplyInput, Effect, Event, ObserverDriver, ObserverStart};
use store::rocks::{DataDirectory, ObserverRecord, OpenedObserver};
use store::{LogStore, StateStore, meta_of};
use transport::{Net, NetConfig, NetEvent, NetHandle, PeerAddress};

use super::Flush;
use crate::apply_thread::keep_quarantined;
use crate::clock::Clock;
use crate::config::Config;
use crate::metrics::Metrics;
use crate::parts::identity_of;
use crate::raft_thread::ToRaft;
use crate::service::{OpenError, other};
use crate::snapshot_in::SnapshotReceiver;
use crate::state_cell::StateCell;
use crate::threads::spawn_vital;
use crate::trace::Trace;
use crate::transfers::Transfers;

/// Rounds of effects in one turn.
const ROUNDS_MAX: usize = 64;
/// Messages of a snapshot that wait for the disk; beyond it their stream is not read.
const SNAPSHOT_MESSAGES_MAX: usize = 8;

pub(super) struct Hosted {
    node_id: String,
    driver: ObserverDriver,
    net: Net,
    inside: Inside,
    /// What its net heard in this turn.
    arrived: VecDeque<NetEvent>,
    /// Why it does not go on.
    ended: Option<String>,
}

/// Everything but the driver and the net.
struct Inside {
    node_id: String,
    handle: NetHandle,
    clock: Clock,
    /// `None` before the first snapshot.
    apply: Option<ApplyDriver>,
    session: u64,
    limits: RetentionLimits,
    record: ObserverRecord,
    state: Arc<StateCell>,
    directory: Arc<DataDirectory>,
    to_self: Sender<ToRaft>,
    from_others: Receiver<ToRaft>,
    /// To the thread that receives a snapshot, while there is one.
    snapshots: Option<Sender<(u64, PeerBody)>>,
    flushes: Sender<Flush>,
    trace: Arc<Trace>,
    sent: bool,
}

impl Hosted {
    pub(super) fn open(config: Config, flushes: Sender<Flush>, trace: Arc<Trace>) -> Result<Self, OpenError> {
        let incarnation = getrandom::u64().map_err(other)?.max(1);
        let OpenedObserver { mut record, state, directory } =
            DataDirectory::open_observer(&config.data_dir, &config.node_id, &config.rocks())?;
        let identity = identity_of(&mut record, &config.node_id)?;
        let apply = match meta_of(state.as_ref()).map_err(other)? {
            Some(_) => Some(ApplyDriver::load(state.as_ref(), incarnation, config.retention()).map_err(other)?),
            None => None,
        };
        let hello = Hello {
            cluster_id: identity.cluster_id,
            node_id: config.node_id.clone(),
            raft_id: identity.raft_id,
            incarnation,
            machine_version_max: machine::MACHINE_VERSION,
            address: config.raft_advertise.clone(),
            duplex: true,
            ..Hello::default()
        };
        let (net, handle, address) = Net::bind(NetConfig { listen: config.listen()?, hello, peers: Vec::new() })
            .map_err(|error| OpenError::Listen { address: config.raft_listen.clone(), error })?;
        let advertised = if config.raft_advertise.is_empty() { address.to_string() } else { config.raft_advertise.clone() };
        let clock = Clock::start();
        let start = ObserverStart {
            identity,
            configuration: apply.as_ref().map(|a| a.machine().configuration()).unwrap_or_default(),
            loaded: apply.as_ref().map(ApplyDriver::loaded_report),
            now_us: clock.now_us(),
            wall_us: clock.wall_us(),
        };
        let driver = ObserverDriver::new(config.driver(incarnation, advertised), start);
        let (to_self, from_others) = unbounded();
        let inside = Inside {
            node_id: config.node_id.clone(),
            handle,
            clock,
            apply,
            session: incarnation,
            limits: config.retention(),
            state: Arc::new(StateCell::new(state, record.base().state_dir.clone())),
            record,
            directory: Arc::new(directory),
            to_self,
            from_others,
            snapshots: None,
            flushes,
            trace,
            sent: false,
        };
        Ok(Self { node_id: config.node_id, driver, net, inside, arrived: VecDeque::new(), ended: None })
    }

    pub(super) fn net(&self) -> &Net {
        &self.net
    }

    pub(super) fn lives(&self) -> bool {
        self.ended.is_none()
    }

    /// When it wants its next turn although nothing happens.
    pub(super) fn due_in(&self) -> Duration {
        if !self.arrived.is_empty() || !self.inside.from_others.is_empty() {
            return Duration::ZERO;
        }
        let tick = Duration::from_micros(self.driver.next_wake_us().saturating_sub(self.inside.clock.now_us()));
        self.net.due_in().map_or(tick, |due| due.min(tick))
    }

    /// Takes what has arrived, decides, and does it. One that fails says why and is over.
    pub(super) fn turn(&mut self) {
        if self.ended.is_none()
            && let Err(reason) = self.try_turn()
        {
            self.end(reason);
        }
    }

    fn end(&mut self, reason: String) {
        eprintln!("taskquorum: {} stops: {reason}", self.node_id);
        self.inside.snapshots = None;
        self.ended = Some(reason);
    }

    fn try_turn(&mut self) -> Result<(), String> {
        self.poll()?;
        let (now_us, wall_us) = (self.inside.clock.now_us(), self.inside.clock.wall_us());
        if now_us >= self.driver.next_wake_us() {
            self.driver.step(Event::Tick { now_us, wall_us });
        } else {
            self.driver.observe_time(now_us, wall_us);
        }
        while let Some(event) = self.arrived.pop_front() {
            self.hear(event);
        }
        while let Ok(message) = self.inside.from_others.try_recv() {
            match message {
                ToRaft::Event(event) => self.driver.step(*event),
                ToRaft::Load(load_bp) => self.driver.set_load(load_bp),
                ToRaft::Halt(reason) => return Err(reason),
            }
        }
        for _ in 0..ROUNDS_MAX {
            let effects = self.driver.ready();
            if effects.is_empty() {
                break;
            }
            for effect in effects {
                self.inside.execute(effect, &mut self.driver)?;
            }
        }
        if std::mem::take(&mut self.inside.sent) {
            // What was queued leaves now, not with the next turn.
            self.poll()?;
        }
        Ok(())
    }

    fn poll(&mut self) -> Result<(), String> {
        let (arrived, inside) = (&mut self.arrived, &mut self.inside);
        let mut sink = |event| inside.sort(event, arrived);
        self.net.turn(&mut sink, Some(Duration::ZERO)).map(drop).map_err(|e| format!("the network cannot be polled: {e}"))
    }

    fn hear(&mut self, event: NetEvent) {
        match event {
            NetEvent::PeerUp { hello } => self.driver.step(Event::PeerUp { hello }),
            NetEvent::PeerDown { raft_id } => self.driver.step(Event::PeerDown { raft_id }),
            NetEvent::Received { from, body, .. } => self.driver.step(Event::Received { from, body }),
            NetEvent::Failed { node_id, address, reason } => {
                eprintln!("taskquorum: {}: node {node_id} at {address}: {reason}", self.node_id);
            }
            NetEvent::SnapshotLaneDown { .. } => {}
        }
    }

    /// Says good-bye and flushes what is applied; a flush that fails costs the next start some catching up.
    pub(super) fn stop(&mut self) {
        self.driver.step(Event::Stop);
        if let Err(reason) = self.try_turn() {
            return self.end(reason);
        }
        if self.inside.apply.is_some()
            && let Err(error) = self.inside.state.get().flush()
        {
            eprintln!("taskquorum: {}: the last flush failed: {error}", self.node_id);
        }
    }
}

impl Inside {
    /// Files of snapshots go to their thread; it pushes back when it is full.
    fn sort(&mut self, event: NetEvent, arrived: &mut VecDeque<NetEvent>) -> Option<NetEvent> {
        match event {
            NetEvent::Received { from, lane, body: body @ (PeerBody::SnapshotOffer(_) | PeerBody::SnapshotChunk(_)) } => {
                let port = match &self.snapshots {
                    Some(port) => port,
                    None => self.snapshots.insert(self.receive_snapshots()?),
                };
                match port.try_send((from, body)) {
                    Err(TrySendError::Full((from, body))) => Some(NetEvent::Received { from, lane, body }),
                    _ => None,
                }
            }
            event => {
                arrived.push_back(event);
                None
            }
        }
    }

    /// Starts the thread that receives one; it ends when the port is dropped. Without a thread the
    /// message is lost, and its sender tries again.
    fn receive_snapshots(&self) -> Option<Sender<(u64, PeerBody)>> {
        let (port, messages) = bounded(SNAPSHOT_MESSAGES_MAX);
        let receiver = SnapshotReceiver {
            directory: self.directory.clone(),
            state: self.state.clone(),
            net: self.handle.clone(),
            messages,
            raft: self.to_self.clone(),
            metrics: Arc::<Metrics>::default(),
            transfers: Arc::<Transfers>::default(),
        };
        spawn_vital("snapshot-in", move || receiver.run()).ok().map(|_| port)
    }

    fn execute(&mut self, effect: Effect, driver: &mut ObserverDriver) -> Result<(), String> {
        match effect {
            Effect::Send { to, lane, body } => self.send(to, lane, body),
            Effect::Apply(input) => self.apply(input, driver)?,
            Effect::SaveIdentity(identity) => {
                self.record.save_identity(&identity).map_err(|e| e.to_string())?;
                self.handle.set_cluster(identity.cluster_id);
            }
            Effect::DialPeers(peers) => {
                self.handle.set_peers(peers.into_iter().map(|(node_id, address)| PeerAddress { node_id, address }).collect());
            }
            Effect::InstallSnapshot { base, hard_state, .. } => {
                let installed = self.install(base, &hard_state)?;
                driver.step(Event::SnapshotInstalled(installed));
            }
            Effect::DropSnapshot { state_dir } => {
                self.state.forget(&state_dir);
                self.directory.remove_unnamed(&self.state.names()).map_err(|e| e.to_string())?;
            }
            Effect::AnswerSnapshot { to, transfer, index, installed, reason } => {
                let answer = SnapshotAnswer { transfer, index, installed, reason };
                self.send(to, Lane::Control, PeerBody::SnapshotAnswer(answer));
            }
            Effect::Flush => {
                let (state, answer, net) = (self.state.clone(), self.to_self.clone(), self.handle.clone());
                // The flush thread ends with the last observer.
                let _ = self.flushes.send(Flush { state, answer, net });
            }
            Effect::Halt { reason } | Effect::Removed { reason } => return Err(reason),
            // There are no callers here, and nobody asks for a checkpoint.
            _ => {}
        }
        Ok(())
    }

    fn send(&mut self, to: u64, lane: Lane, body: PeerBody) {
        // One that is not there, or has no room, is fed from its position when it is back.
        self.sent |= self.handle.send(to, lane, body).is_ok();
    }

    /// Applies one input in as many steps as the checks inside it ask for; a report of each.
    fn apply(&mut self, input: ApplyInput, driver: &mut ObserverDriver) -> Result<(), String> {
        let mut next = Some(input);
        while let (Some(input), Some(apply)) = (next.take(), &mut self.apply) {
            let first = match &input {
                ApplyInput::Entries { entries, .. } => entries.first().map(|entry| entry.index),
                _ => None,
            };
            let state = self.state.get();
            let mut batch = apply.step(state.as_ref(), input).map_err(|e| e.to_string())?;
            if !batch.changes.is_empty() {
                state.write(&batch.changes).map_err(|e| format!("the state cannot be written: {e}"))?;
            }
            let Some(first) = first else { return Ok(()) };
            self.trace.record("apply", &self.node_id, first, batch.report.index);
            for signal in &batch.signals {
                if let Signal::Quarantine { revision, reason, command } = signal {
                    keep_quarantined(self.directory.path(), *revision, reason, command);
                }
            }
            next = batch.rest.take();
            driver.step(Event::Applied(batch.report));
        }
        Ok(())
    }

    /// The record names the directory first; a crash before it leaves the old state in use.
    fn install(&mut self, base: codec::log::LogBase, hard_state: &HardState) -> Result<node::InstalledReport, String> {
        let (name, index) = (base.state_dir.clone(), base.index);
        self.record.install(base, hard_state).map_err(|e| e.to_string())?;
        let state = Arc::new(self.directory.open_state(&name).map_err(|e| e.to_string())?);
        let driver = ApplyDriver::load(state.as_ref(), self.session, self.limits).map_err(|e| e.to_string())?;
        if driver.machine().applied_index() != index {
            return Err(format!("{name} holds the state at {}, not at {index}", driver.machine().applied_index()));
        }
        let installed = driver.loaded_report();
        self.apply = Some(driver);
        self.directory.forget_offer(&name);
        drop(self.state.replace(state, name));
        // A flush under way holds the old store open: the next start deletes what is left.
        if let Err(error) = self.directory.remove_unnamed(&self.state.names()) {
            eprintln!("taskquorum: {}: {error}", self.node_id);
        }
        // The thread that received it ends.
        self.snapshots = None;
        Ok(installed)
    }
}
