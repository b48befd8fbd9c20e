//! A node put together but not running: everything that its threads own, and the channels between.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use codec::log::{ConfState, HardState, Identity, LogBase, LogEntry};
use codec::peer::{Hello, PeerBody};
use crossbeam_channel::{Receiver, Sender, bounded, unbounded};
use node::{ApplyDriver, Driver, Event, InstalledReport, NodeDriver, NodeView, ObserverDriver, ObserverStart};
use store::rocks::{DataDirectory, Opened, OpenedObserver, RocksState};
use store::{LogReader, LogStore, StateStore, meta_of};
use transport::{Net, NetConfig, NetHandle, PeerAddress};

use crate::apply_thread::{ApplyRequest, ApplyThread, write_first_rows};
use crate::backup::{finish_seeding, seed_of};
use crate::checkpoints::Checkpoints;
use crate::clock::Clock;
use crate::config::{Config, NodeRole};
use crate::disk_thread::{DiskRequest, DiskThread, Fetch};
use crate::feed::Feed;
use crate::handle::{Handle, Inside};
use crate::interest::Interest;
use crate::log_writer::{LogRequest, LogWriter};
use crate::metrics::Metrics;
use crate::net::Router;
use crate::raft_thread::{RaftThread, Shared, ToRaft, Work};
use crate::ring::Ring;
use crate::service::{OpenError, other};
use crate::snapshot_in::SnapshotReceiver;
use crate::snapshot_out::{SnapshotNews, SnapshotSender};
use crate::state_cell::StateCell;
use crate::trace::Trace;
use crate::transfers::Transfers;
use crate::verifier::{Verifier, VerifyJob};

/// Requests that wait for the log writer or the apply thread; beyond it the raft thread waits.
const REQUESTS_MAX: usize = 4_096;
/// Messages of a snapshot that wait for the disk; beyond it their stream is not read.
const SNAPSHOT_MESSAGES_MAX: usize = 8;

pub(crate) struct Parts {
    pub handle: Handle,
    pub net_handle: NetHandle,
    pub address: SocketAddr,
    pub log: LogWriter,
    pub apply: ApplyThread,
    pub disk: DiskThread,
    pub reader: (Arc<dyn LogReader>, Receiver<Fetch>),
    pub sender: SnapshotSender,
    pub receiver: SnapshotReceiver,
    pub router: Router,
    pub net: Net,
    pub raft: RaftThread,
    pub verifier: Verifier,
    /// To the raft thread.
    pub inner: Sender<ToRaft>,
}

/// What was found in the directory.
struct Ready {
    log: Box<dyn LogStore>,
    driver: Option<ApplyDriver>,
    loaded: Option<InstalledReport>,
    configuration: ConfState,
    entries: Vec<LogEntry>,
    identity: Identity,
    hard_state: HardState,
    base: LogBase,
    /// The state was damaged, and waits for one from the others.
    without_state: Option<String>,
}

impl Parts {
    pub(crate) fn open(mut config: Config) -> Result<Self, OpenError> {
        config.validate()?;
        let incarnation = getrandom::u64().map_err(other)?.max(1);
        if config.role == NodeRole::Observer {
            return Self::open_observer(config, incarnation);
        }
        let (ready, state, state_dir, directory) = Self::open_sound(&config, incarnation)?;
        if ready.identity.cluster_id == 0 {
            let names: Vec<String> = config.cluster.iter().map(|n| n.node_id.clone()).collect();
            config.seed = seed_of(&directory, &config.node_id, &names).map_err(other)?;
        }
        Self::build(config, incarnation, ready, state, state_dir, directory)
    }

    /// Opens the directory and rebuilds the machine; a state that opens and cannot be loaded is damaged as well.
    fn open_sound(config: &Config, session: u64) -> Result<(Ready, Arc<RocksState>, String, DataDirectory), OpenError> {
        let (mut ready, state, state_dir, directory) = Self::open_directory(config)?;
        if ready.identity.cluster_id == 0 || ready.without_state.is_some() {
            return Ok((ready, state, state_dir, directory));
        }
        match ready.load(state.as_ref(), session, config) {
            Ok(()) => return Ok((ready, state, state_dir, directory)),
            Err(OpenError::State(what)) => directory.mark_state(&state_dir, &what)?,
            Err(error) => return Err(error),
        }
        drop((ready, state, directory));
        let (mut ready, state, state_dir, directory) = Self::open_directory(config)?;
        if ready.without_state.is_none() {
            ready.load(state.as_ref(), session, config)?;
        }
        Ok((ready, state, state_dir, directory))
    }

    fn open_directory(config: &Config) -> Result<(Ready, Arc<RocksState>, String, DataDirectory), OpenError> {
        let raft_id = getrandom::u64().map_err(other)?.max(1);
        let opened = DataDirectory::open_repairing(&config.data_dir, &config.node_id, &config.rocks(), raft_id)?;
        if let Some((from, to)) = opened.report.raised_commit {
            eprintln!("taskquorum: the commit index was saved as {from} and is at least {to}: raised");
        }
        for what in &opened.report.repaired {
            eprintln!("taskquorum: damage was found: {what}");
        }
        let Opened { mut log, mut state, mut state_dir, directory, report } = opened;
        directory.remove_snapshots(&[])?;
        directory.remove_backups()?;
        if let Some(seeded) = finish_seeding(&directory, &mut log).map_err(other)? {
            (state, state_dir) = (seeded, log.base().state_dir.clone());
            directory.remove_unnamed(std::slice::from_ref(&state_dir))?;
        }
        let mut ready = Ready::of(Box::new(log), &config.node_id)?;
        ready.without_state = report.without_state;
        ready.read_entries()?;
        Ok((ready, state, state_dir, directory))
    }

    /// An observer has a record in place of a log, and no state before its first snapshot.
    fn open_observer(config: Config, incarnation: u64) -> Result<Self, OpenError> {
        let opened = DataDirectory::open_observer(&config.data_dir, &config.node_id, &config.rocks())?;
        let OpenedObserver { record, state, directory } = opened;
        directory.remove_snapshots(&[])?;
        let mut ready = Ready::of(Box::new(record), &config.node_id)?;
        if meta_of(state.as_ref()).map_err(other)?.is_some() {
            ready.load(state.as_ref(), incarnation, &config)?;
            ready.read_entries()?;
        }
        let state_dir = ready.base.state_dir.clone();
        Self::build(config, incarnation, ready, state, state_dir, directory)
    }

    fn bind(config: &Config, incarnation: u64, identity: &Identity) -> Result<(Net, NetHandle, SocketAddr), OpenError> {
        let hello = Hello {
            cluster_id: identity.cluster_id,
            node_id: config.node_id.clone(),
            raft_id: identity.raft_id,
            incarnation,
            machine_version_max: machine::MACHINE_VERSION,
            expected_nodes: node::expected_names(&config.driver(incarnation, String::new())),
            address: config.raft_advertise.clone(),
            duplex: config.role == NodeRole::Observer,
            retired: identity.retired.clone(),
            damaged: identity.damaged.clone(),
            ..Hello::default()
        };
        Net::bind(NetConfig { listen: config.listen()?, hello, peers: peers(config) })
            .map_err(|error| OpenError::Listen { address: config.raft_listen.clone(), error })
    }

    fn build(
        config: Config,
        incarnation: u64,
        ready: Ready,
        state: Arc<RocksState>,
        state_dir: String,
        directory: DataDirectory,
    ) -> Result<Self, OpenError> {
        let (net, net_handle, address) = Self::bind(&config, incarnation, &ready.identity)?;
        let clock = Clock::start();
        let advertised = match config.raft_advertise.is_empty() {
            true => address.to_string(),
            false => config.raft_advertise.clone(),
        };
        let common = Common {
            clock,
            state: Arc::new(StateCell::new(state, state_dir)),
            directory: Arc::new(directory),
            ring: Arc::new(Ring::new(config.completions_max).map_err(other)?),
            interest: Arc::default(),
            feed: Arc::default(),
            metrics: Arc::default(),
            shared: Arc::default(),
            checkpoints: Arc::default(),
            transfers: Arc::default(),
            trace: Arc::new(Trace::open(&config.apply_trace).map_err(other)?),
            net: net_handle.clone(),
            base_index: Arc::new(AtomicU64::new(ready.base.index)),
            wires: Wires::new(&config),
        };
        let settings = config.driver(incarnation, advertised);
        let (now_us, wall_us) = (clock.now_us(), clock.wall_us());
        let (identity, configuration, loaded) = (ready.identity, ready.configuration, ready.loaded);
        let driver = match config.role {
            NodeRole::Observer => {
                let start = ObserverStart { identity, configuration, loaded, now_us, wall_us };
                NodeDriver::Observer(ObserverDriver::new(settings, start))
            }
            NodeRole::Voter => {
                let (hard_state, base, entries) = (ready.hard_state, ready.base, ready.entries);
                let start = node::Start { identity, hard_state, base, entries, configuration, loaded, now_us, wall_us };
                let mut driver = Driver::new(settings, start).map_err(other)?;
                if let Some(reason) = &ready.without_state {
                    driver.explain_fence(reason.clone());
                }
                NodeDriver::Voter(driver)
            }
        };
        let damaged = ready.without_state.is_some();
        common.state.set_kept_aside(common.directory.kept_aside()?);
        common.shared.fenced.store(damaged, Ordering::Release);
        *common.shared.view.lock() = NodeView { kept_aside: common.state.kept_aside(), ..driver.view() };
        let reader = ready.log.reader();
        Ok(Self {
            handle: Handle { inside: Arc::new(common.inside(&config, reader.clone())) },
            net_handle,
            address,
            log: common.log_writer(&config, ready.log),
            apply: ApplyThread { damaged, ..common.apply_thread(&config, ready.driver, incarnation) },
            verifier: common.verifier(&config),
            disk: common.disk_thread(),
            reader: (reader, common.wires.fetch.1.clone()),
            sender: common.snapshot_sender(&config),
            receiver: common.snapshot_receiver(),
            router: common.router(),
            net,
            raft: common.raft_thread(&config, driver),
            inner: common.wires.inner.0.clone(),
        })
    }
}

type Wire<T> = (Sender<T>, Receiver<T>);

/// The channels between threads. Each end lives as long as the thread that holds it: this is dropped
/// once the threads' parts are made.
struct Wires {
    inbox: Wire<Event>,
    inner: Wire<ToRaft>,
    log: Wire<LogRequest>,
    apply: Wire<ApplyRequest>,
    disk: Wire<DiskRequest>,
    verify: Wire<VerifyJob>,
    fetch: Wire<Fetch>,
    snapshots_out: Wire<SnapshotNews>,
    snapshots_in: Wire<(u64, PeerBody)>,
}

impl Wires {
    fn new(config: &Config) -> Self {
        Self {
            inbox: bounded(config.inbox_max),
            inner: unbounded(),
            log: bounded(REQUESTS_MAX),
            apply: bounded(REQUESTS_MAX),
            // The driver asks for one flush, checkpoint or fetch at a time, and a peer for one snapshot.
            disk: unbounded(),
            // One verification at a time, and none that waits.
            verify: bounded(0),
            fetch: unbounded(),
            snapshots_out: unbounded(),
            snapshots_in: bounded(SNAPSHOT_MESSAGES_MAX),
        }
    }
}

/// What several threads share.
struct Common {
    clock: Clock,
    state: Arc<StateCell>,
    directory: Arc<DataDirectory>,
    ring: Arc<Ring>,
    interest: Arc<Interest>,
    feed: Arc<Feed>,
    metrics: Arc<Metrics>,
    shared: Arc<Shared>,
    checkpoints: Arc<Checkpoints>,
    transfers: Arc<Transfers>,
    trace: Arc<Trace>,
    net: NetHandle,
    base_index: Arc<AtomicU64>,
    wires: Wires,
}

impl Common {
    fn log_writer(&self, config: &Config, log: Box<dyn LogStore>) -> LogWriter {
        LogWriter {
            log,
            requests: self.wires.log.1.clone(),
            raft: self.wires.inner.0.clone(),
            metrics: self.metrics.clone(),
            base_index: self.base_index.clone(),
            batch_bytes_max: config.log_batch_bytes_max,
        }
    }

    fn apply_thread(&self, config: &Config, driver: Option<ApplyDriver>, session: u64) -> ApplyThread {
        ApplyThread {
            driver,
            session,
            limits: config.retention(),
            state: self.state.clone(),
            directory: self.directory.clone(),
            requests: self.wires.apply.1.clone(),
            raft: self.wires.inner.0.clone(),
            ring: self.ring.clone(),
            interest: self.interest.clone(),
            feed: self.feed.clone(),
            metrics: self.metrics.clone(),
            trace: self.trace.clone(),
            node_id: config.node_id.clone(),
            batch_bytes_max: config.apply_batch_bytes_max,
            retired: Vec::new(),
            coming_term: None,
            clock: self.clock,
            slots_at: None,
            verifier: self.wires.verify.0.clone(),
            damaged: false,
        }
    }

    fn disk_thread(&self) -> DiskThread {
        DiskThread {
            state: self.state.clone(),
            directory: self.directory.clone(),
            checkpoints: self.checkpoints.clone(),
            requests: self.wires.disk.1.clone(),
            raft: self.wires.inner.0.clone(),
            metrics: self.metrics.clone(),
        }
    }

    fn verifier(&self, config: &Config) -> Verifier {
        let bytes_per_s = config.verify_bytes_per_s;
        Verifier { jobs: self.wires.verify.1.clone(), raft: self.wires.inner.0.clone(), bytes_per_s }
    }

    fn snapshot_sender(&self, config: &Config) -> SnapshotSender {
        SnapshotSender {
            directory: self.directory.clone(),
            checkpoints: self.checkpoints.clone(),
            net: self.net.clone(),
            news: self.wires.snapshots_out.1.clone(),
            raft: self.wires.inner.0.clone(),
            metrics: self.metrics.clone(),
            transfers: self.transfers.clone(),
            bytes_per_s: config.snapshot_rate_mib << 20,
            waiting: Vec::new(),
        }
    }

    fn snapshot_receiver(&self) -> SnapshotReceiver {
        SnapshotReceiver {
            directory: self.directory.clone(),
            state: self.state.clone(),
            net: self.net.clone(),
            messages: self.wires.snapshots_in.1.clone(),
            raft: self.wires.inner.0.clone(),
            metrics: self.metrics.clone(),
            transfers: self.transfers.clone(),
        }
    }

    fn router(&self) -> Router {
        Router {
            raft: self.wires.inbox.0.clone(),
            raft_inner: self.wires.inner.0.clone(),
            snapshots_in: self.wires.snapshots_in.0.clone(),
            snapshots_out: self.wires.snapshots_out.0.clone(),
        }
    }

    fn raft_thread(&self, config: &Config, driver: NodeDriver) -> RaftThread {
        RaftThread {
            driver,
            clock: self.clock,
            inbox: self.wires.inbox.1.clone(),
            inner: self.wires.inner.1.clone(),
            log: self.wires.log.0.clone(),
            apply: self.wires.apply.0.clone(),
            disk: self.wires.disk.0.clone(),
            reader: self.wires.fetch.0.clone(),
            snapshots_out: self.wires.snapshots_out.0.clone(),
            net: self.net.clone(),
            ring: self.ring.clone(),
            feed: self.feed.clone(),
            metrics: self.metrics.clone(),
            trace: self.trace.clone(),
            node_id: config.node_id.clone(),
            shared: self.shared.clone(),
            directory: self.directory.clone(),
            state: self.state.clone(),
            work: Work::default(),
        }
    }

    fn inside(&self, config: &Config, reader: Arc<dyn LogReader>) -> Inside {
        Inside {
            clock: self.clock,
            inbox: self.wires.inbox.0.clone(),
            ring: self.ring.clone(),
            interest: self.interest.clone(),
            feed: self.feed.clone(),
            state: self.state.clone(),
            reader,
            base_index: self.base_index.clone(),
            shared: self.shared.clone(),
            metrics: self.metrics.clone(),
            checkpoints: self.checkpoints.clone(),
            transfers: self.transfers.clone(),
            backups_path: self.directory.backups_path(),
            rocks: config.rocks(),
            backups: Arc::default(),
            net: self.net.clone(),
            next_token: AtomicU64::new(1),
            proposals_max: config.proposals_max,
            proposal_bytes_max: config.proposal_bytes_max,
            node_id: config.node_id.clone(),
        }
    }
}

/// The other nodes as the settings name them; an observer's driver says whom it dials.
fn peers(config: &Config) -> Vec<PeerAddress> {
    if config.role == NodeRole::Observer {
        return Vec::new();
    }
    config.cluster.iter().map(|n| PeerAddress { node_id: n.node_id.clone(), address: n.address.clone() }).collect()
}

impl Ready {
    fn of(mut log: Box<dyn LogStore>, node_id: &str) -> Result<Self, OpenError> {
        let identity = identity_of(log.as_mut(), node_id)?;
        Ok(Self {
            driver: None,
            loaded: None,
            configuration: ConfState::default(),
            entries: Vec::new(),
            hard_state: log.hard_state().clone(),
            base: log.base().clone(),
            identity,
            log,
            without_state: None,
        })
    }

    /// Rebuilds the machine of a node that belongs to a cluster.
    fn load(&mut self, state: &dyn StateStore, session: u64, config: &Config) -> Result<(), OpenError> {
        if meta_of(state).map_err(other)?.is_none() {
            // Stopped between saving who it is and writing the first rows.
            let bootstrap = self.identity.bootstrap.as_ref();
            let bootstrap = bootstrap.ok_or_else(|| other("the state is empty, but the directory belongs to a cluster"))?;
            write_first_rows(state, bootstrap)?;
        }
        let loaded = ApplyDriver::load(state, session, config.retention());
        let driver = loaded.map_err(|e| OpenError::State(format!("the state cannot be loaded: {e}")))?;
        self.configuration = driver.machine().configuration();
        self.loaded = Some(driver.loaded_report());
        self.driver = Some(driver);
        Ok(())
    }

    fn read_entries(&mut self) -> Result<(), OpenError> {
        let (low, high) = (self.base.index + 1, self.log.last_index() + 1);
        while self.base.index + 1 + (self.entries.len() as u64) < high {
            let low = low + self.entries.len() as u64;
            self.entries.extend(self.log.entries(low, high, 64 << 20)?);
        }
        Ok(())
    }
}

pub(crate) fn identity_of(log: &mut dyn LogStore, node_id: &str) -> Result<Identity, OpenError> {
    if let Some(identity) = log.identity() {
        return Ok(identity.clone());
    }
    let raft_id = getrandom::u64().map_err(other)?.max(1);
    let identity = Identity { raft_id, node_id: node_id.to_owned(), ..Identity::default() };
    log.save_identity(&identity)?;
    Ok(identity)
}
