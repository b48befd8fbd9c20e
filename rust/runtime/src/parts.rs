//! A node put together but not running: everything that its threads own, and the channels between.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use codec::log::{ConfState, HardState, Identity, LogBase, LogEntry};
use codec::peer::Hello;
use crossbeam_channel::{Receiver, Sender, bounded, unbounded};
use node::{ApplyDriver, Driver, InstalledReport};
use store::rocks::{DataDirectory, Opened, RocksLog, RocksState};
use store::{LogReader, LogStore, StateStore, meta_of};
use transport::{Net, NetConfig, NetHandle, PeerAddress};

use crate::apply_thread::{ApplyThread, write_first_rows};
use crate::clock::Clock;
use crate::config::Config;
use crate::disk_thread::{DiskThread, Fetch};
use crate::feed::Feed;
use crate::handle::{Handle, Inside};
use crate::interest::Interest;
use crate::log_writer::LogWriter;
use crate::metrics::Metrics;
use crate::net::Router;
use crate::raft_thread::{RaftThread, Shared, ToRaft};
use crate::ring::Ring;
use crate::service::{OpenError, other};
use crate::snapshot_in::SnapshotReceiver;
use crate::snapshot_out::{Checkpoints, SnapshotSender};
use crate::state_cell::StateCell;

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
    /// To the raft thread.
    pub inner: Sender<ToRaft>,
}

/// What was found in the directory.
struct Ready {
    log: RocksLog,
    driver: Option<ApplyDriver>,
    loaded: Option<InstalledReport>,
    configuration: ConfState,
    entries: Vec<LogEntry>,
    identity: Identity,
    hard_state: HardState,
    base: LogBase,
}

impl Parts {
    pub(crate) fn open(config: Config) -> Result<Self, OpenError> {
        config.validate()?;
        let incarnation = getrandom::u64().map_err(other)?.max(1);
        let opened = DataDirectory::open(&config.data_dir, &config.node_id, &config.rocks())?;
        if let Some((from, to)) = opened.report.raised_commit {
            eprintln!("taskquorum: the commit index was saved as {from} and is at least {to}: raised");
        }
        let Opened { mut log, state, directory, .. } = opened;
        directory.remove_snapshots(&[])?;
        let identity = identity_of(&mut log, &config.node_id)?;
        let mut ready = Ready {
            driver: None,
            loaded: None,
            configuration: ConfState::default(),
            entries: Vec::new(),
            hard_state: log.hard_state().clone(),
            base: log.base().clone(),
            identity,
            log,
        };
        if ready.identity.cluster_id != 0 {
            ready.load(state.as_ref(), incarnation, &config)?;
        }
        Self::build(config, incarnation, ready, state, directory)
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
        directory: DataDirectory,
    ) -> Result<Self, OpenError> {
        let (net, net_handle, address) = Self::bind(&config, incarnation, &ready.identity)?;
        let clock = Clock::start();
        let advertised = match config.raft_advertise.is_empty() {
            true => address.to_string(),
            false => config.raft_advertise.clone(),
        };
        let state = Arc::new(StateCell::new(state, ready.base.state_dir.clone()));
        let directory = Arc::new(directory);
        let ring = Arc::new(Ring::new(config.completions_max).map_err(other)?);
        let (interest, feed) = (Arc::new(Interest::default()), Arc::new(Feed::default()));
        let (metrics, shared) = (Arc::new(Metrics::default()), Arc::new(Shared::default()));
        let checkpoints = Arc::new(Checkpoints::default());
        let (reader, base_index) = (ready.log.reader(), Arc::new(AtomicU64::new(ready.base.index)));
        let (inbox_in, inbox) = bounded(config.inbox_max);
        let (inner_in, inner) = unbounded();
        let (log_in, log_requests) = bounded(REQUESTS_MAX);
        let (apply_in, apply_requests) = bounded(REQUESTS_MAX);
        let (disk_in, disk_requests) = unbounded();
        let (reader_in, reader_requests) = unbounded();
        let (out_in, out_news) = unbounded();
        let (snapshot_in, snapshot_messages) = bounded(SNAPSHOT_MESSAGES_MAX);

        let start = node::Start {
            identity: ready.identity,
            hard_state: ready.hard_state,
            base: ready.base,
            entries: ready.entries,
            configuration: ready.configuration,
            loaded: ready.loaded,
            now_us: clock.now_us(),
            wall_us: clock.wall_us(),
        };
        let driver = Driver::new(config.driver(incarnation, advertised), start).map_err(other)?;
        *shared.view.lock() = driver.view();
        let log = LogWriter {
            log: Box::new(ready.log),
            requests: log_requests,
            raft: inner_in.clone(),
            metrics: metrics.clone(),
            base_index: base_index.clone(),
            batch_bytes_max: config.log_batch_bytes_max,
        };
        let apply = ApplyThread {
            driver: ready.driver,
            session: incarnation,
            limits: config.retention(),
            state: state.clone(),
            directory: directory.clone(),
            requests: apply_requests,
            raft: inner_in.clone(),
            ring: ring.clone(),
            interest: interest.clone(),
            feed: feed.clone(),
            metrics: metrics.clone(),
            batch_bytes_max: config.apply_batch_bytes_max,
            retired: Vec::new(),
            coming_term: None,
        };
        let disk = DiskThread {
            state: state.clone(),
            directory: directory.clone(),
            checkpoints: checkpoints.clone(),
            requests: disk_requests,
            raft: inner_in.clone(),
            metrics: metrics.clone(),
        };
        let sender = SnapshotSender {
            directory: directory.clone(),
            checkpoints,
            net: net_handle.clone(),
            news: out_news,
            raft: inner_in.clone(),
            metrics: metrics.clone(),
            waiting: Vec::new(),
        };
        let receiver = SnapshotReceiver {
            directory: directory.clone(),
            state: state.clone(),
            net: net_handle.clone(),
            messages: snapshot_messages,
            raft: inner_in.clone(),
            metrics: metrics.clone(),
        };
        let router = Router {
            raft: inbox_in.clone(),
            raft_inner: inner_in.clone(),
            snapshots_in: snapshot_in,
            snapshots_out: out_in.clone(),
        };
        let raft = RaftThread {
            driver,
            clock,
            inbox,
            inner,
            log: log_in,
            apply: apply_in,
            disk: disk_in,
            reader: reader_in,
            snapshots_out: out_in,
            net: net_handle.clone(),
            ring: ring.clone(),
            feed: feed.clone(),
            metrics: metrics.clone(),
            shared: shared.clone(),
            configured: peers(&config),
            work: Default::default(),
        };
        let inside = Inside {
            clock,
            inbox: inbox_in,
            ring,
            interest,
            feed,
            state: state.clone(),
            reader: reader.clone(),
            base_index,
            shared,
            metrics,
            net: net_handle.clone(),
            next_token: AtomicU64::new(1),
            proposals_max: config.proposals_max,
            proposal_bytes_max: config.proposal_bytes_max,
            node_id: config.node_id.clone(),
        };
        Ok(Self {
            handle: Handle { inside: Arc::new(inside) },
            net_handle,
            address,
            log,
            apply,
            disk,
            reader: (reader, reader_requests),
            sender,
            receiver,
            router,
            net,
            raft,
            inner: inner_in,
        })
    }
}

/// The other nodes as the settings name them.
fn peers(config: &Config) -> Vec<PeerAddress> {
    config.cluster.iter().map(|n| PeerAddress { node_id: n.node_id.clone(), address: n.address.clone() }).collect()
}

impl Ready {
    /// Rebuilds the machine of a node that belongs to a cluster.
    fn load(&mut self, state: &dyn StateStore, session: u64, config: &Config) -> Result<(), OpenError> {
        if meta_of(state).map_err(other)?.is_none() {
            // Stopped between saving who it is and writing the first rows.
            let bootstrap = self.identity.bootstrap.as_ref();
            let bootstrap = bootstrap.ok_or_else(|| other("the state is empty, but the directory belongs to a cluster"))?;
            write_first_rows(state, bootstrap)?;
        }
        let driver = ApplyDriver::load(state, session, config.retention()).map_err(other)?;
        self.configuration = driver.machine().configuration();
        self.loaded = Some(driver.loaded_report());
        self.driver = Some(driver);
        let (low, high) = (self.base.index + 1, self.log.last_index() + 1);
        while self.base.index + 1 + (self.entries.len() as u64) < high {
            let low = low + self.entries.len() as u64;
            self.entries.extend(self.log.entries(low, high, 64 << 20)?);
        }
        Ok(())
    }
}

fn identity_of(log: &mut RocksLog, node_id: &str) -> Result<Identity, OpenError> {
    if let Some(identity) = log.identity() {
        return Ok(identity.clone());
    }
    let raft_id = getrandom::u64().map_err(other)?.max(1);
    let identity = Identity { raft_id, node_id: node_id.to_owned(), cluster_id: 0, bootstrap: None };
    log.save_identity(&identity)?;
    Ok(identity)
}
