//! One node: opens its directory, starts its threads, and stops them in order.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, bounded};
use parking_lot::Mutex;
use store::{StateStore, StoreError};
use thiserror::Error;
use transport::NetHandle;

use crate::config::{Config, ConfigError};
use crate::disk_thread::read_entries;
use crate::handle::Handle;
use crate::parts::Parts;
use crate::raft_thread::ToRaft;
use crate::state_cell::StateCell;
use crate::threads::spawn_vital;

/// Why a node cannot open or start; the text says what to do.
#[derive(Debug, Error)]
pub enum OpenError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The rows contradict each other, or cannot be read.
    #[error("{0}")]
    State(String),
    #[error("cannot listen on {address}: {error}")]
    Listen { address: String, error: io::Error },
    #[error("{0}")]
    Other(String),
}

pub(crate) fn other(error: impl ToString) -> OpenError {
    OpenError::Other(error.to_string())
}

enum Phase {
    Opened(Box<Parts>),
    Running(Running),
    Stopped,
}

struct Running {
    raft: JoinHandle<()>,
    net: JoinHandle<()>,
    /// Those that end when the raft thread has ended.
    behind: Vec<JoinHandle<()>>,
    /// Closed when the raft thread ends; nothing is ever sent.
    ended: Receiver<()>,
}

/// One node. Dropping it without [`Service::stop`] leaves its threads running until the process ends.
pub struct Service {
    handle: Handle,
    net: NetHandle,
    address: SocketAddr,
    state: Arc<StateCell>,
    phase: Mutex<Phase>,
}

impl Service {
    /// Opens the data directory, checks it, rebuilds the machine, and takes the Raft port. Nothing
    /// runs yet.
    ///
    /// # Errors
    /// Settings; a port that is taken; a directory in use, damaged, foreign or of a newer release:
    /// nothing was deleted.
    pub fn open(config: Config) -> Result<Self, OpenError> {
        failpoint::setup();
        let parts = Parts::open(config)?;
        failpoint::point!("runtime::service::opened");
        Ok(Self {
            handle: parts.handle.clone(),
            net: parts.net_handle.clone(),
            address: parts.address,
            state: parts.apply.state.clone(),
            phase: Mutex::new(Phase::Opened(Box::new(parts))),
        })
    }

    /// Before [`Service::start`] it reads, and takes work that waits for the start.
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    pub fn node_id(&self) -> &str {
        self.handle.node_id()
    }

    /// The bound address, with the real port; `None` before [`Service::start`].
    pub fn raft_address(&self) -> Option<SocketAddr> {
        (!matches!(*self.phase.lock(), Phase::Opened(_))).then_some(self.address)
    }

    /// Starts the threads.
    ///
    /// # Errors
    /// The node was started before, or the process is out of threads.
    pub fn start(&self) -> Result<Handle, OpenError> {
        let mut phase = self.phase.lock();
        let parts = match std::mem::replace(&mut *phase, Phase::Stopped) {
            Phase::Opened(parts) => *parts,
            before => {
                *phase = before;
                return Err(other("the node was started before"));
            }
        };
        *phase = Phase::Running(spawn(parts).map_err(other)?);
        Ok(self.handle())
    }

    /// Hands leadership over, finishes what is under way, flushes, and joins the threads. False when
    /// the time ran out: the threads go on stopping.
    ///
    /// # Errors
    /// The last flush failed: the next start applies from the log.
    pub fn stop(&self, timeout: Duration) -> Result<bool, StoreError> {
        let until = Instant::now() + timeout;
        let mut phase = self.phase.lock();
        let running = match std::mem::replace(&mut *phase, Phase::Stopped) {
            Phase::Running(running) => running,
            Phase::Opened(_) | Phase::Stopped => return Ok(true),
        };
        self.handle.begin_stop();
        if running.ended.recv_deadline(until) == Err(RecvTimeoutError::Timeout) {
            *phase = Phase::Running(running);
            return Ok(false);
        }
        self.net.stop();
        for thread in [running.raft, running.net].into_iter().chain(running.behind) {
            // A panic aborts the process, so a thread that can be joined ended well.
            let _ = thread.join();
        }
        // A fenced node's state is not to be used again.
        if !self.handle.is_fenced() {
            failpoint::point!("runtime::service::stop_unflushed");
            self.state.get().flush()?;
        }
        failpoint::point!("runtime::service::stopped");
        Ok(true)
    }
}

fn spawn(parts: Parts) -> io::Result<Running> {
    let Parts { log, apply, disk, reader, sender, receiver, router, net, raft, verifier, inner, .. } = parts;
    let (read_in, net_halt) = (inner.clone(), inner);
    let (entries, fetches) = reader;
    let behind = vec![
        spawn_vital("log", move || log.run())?,
        spawn_vital("apply", move || apply.run())?,
        spawn_vital("disk", move || disk.run())?,
        spawn_vital("verify", move || verifier.run())?,
        spawn_vital("read", move || read_entries(entries, fetches, read_in))?,
        spawn_vital("snapshot-out", move || sender.run())?,
        spawn_vital("snapshot-in", move || receiver.run())?,
    ];
    let net = spawn_vital("net", move || {
        if let Err(error) = net.run(router) {
            // A raft thread that has ended listens no longer.
            let _ = net_halt.send(ToRaft::Halt(format!("the network cannot be polled: {error}")));
        }
    })?;
    let (ended_in, ended) = bounded(0);
    let raft = spawn_vital("raft", move || {
        raft.run();
        drop(ended_in);
    })?;
    Ok(Running { raft, net, behind, ended })
}
