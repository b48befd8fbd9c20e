//! [`ObserverHost`]: many observers in one process, without HTTP: read replicas and relays of the tree.
//!
//! What always holds:
//! * one thread drives all of them: network, decisions and apply, each observer with a directory, an
//!   identity and an address of its own; one more thread flushes, and one receives a snapshot while
//!   there is one to receive;
//! * an observer that cannot go on stops alone and says why; the others go on;
//! * every observer has its turn: what one turn takes is bounded by what its streams and the parent's
//!   window let through.

mod hosted;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, unbounded};
use node::Event;
use serde::Deserialize;
use store::StateStore;
use transport::{NetGroup, NetHandle};

use crate::config::{Config, ConfigError, NodeRole};
use crate::disk_thread::merge_small_tables;
use crate::raft_thread::ToRaft;
use crate::service::{OpenError, other};
use crate::state_cell::StateCell;
use crate::threads::spawn_vital;
use crate::trace::Trace;

use hosted::Hosted;

/// Observers of one process.
const COUNT_MAX: usize = 256;
/// The longest wait: a stop is noticed within this time.
const WAIT_MAX: Duration = Duration::from_millis(50);

/// What [`ObserverHost::open`] takes: one observer's settings, and how many there are.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HostConfig {
    /// The observers are called `<prefix>-<n>`, with n from `first` on.
    pub prefix: String,
    #[serde(default = "one")]
    pub first: usize,
    pub count: usize,
    /// Settings of each. `data_dir` holds one directory per observer; `raft_listen` is the first one's,
    /// the others follow port by port (port 0: free ones). `node_id` and `role` are set here.
    pub node: Config,
}

fn one() -> usize {
    1
}

impl HostConfig {
    /// Reads and checks settings.
    ///
    /// # Errors
    /// Text that is no such object, or a field that cannot be used.
    pub fn from_json(json: &[u8]) -> Result<Self, ConfigError> {
        let config: Self = serde_json::from_slice(json)
            .map_err(|error| ConfigError { field: "config".to_owned(), problem: error.to_string() })?;
        config.each()?;
        Ok(config)
    }

    /// The settings of each observer.
    fn each(&self) -> Result<Vec<Config>, ConfigError> {
        let fail = |field: &str, problem: String| Err(ConfigError { field: field.to_owned(), problem });
        if !(1..=COUNT_MAX).contains(&self.count) {
            return fail("count", format!("{} is outside [1, {COUNT_MAX}]", self.count));
        }
        if self.prefix.is_empty() {
            return fail("prefix", "must not be empty".to_owned());
        }
        let listen = self.node.listen()?;
        let last_port = usize::from(listen.port()) + self.count - 1;
        if listen.port() != 0 && last_port > usize::from(u16::MAX) {
            return fail("raft_listen", format!("there are not {} ports from {} on", self.count, listen.port()));
        }
        (0..self.count).map(|at| self.one(at, listen)).collect()
    }

    fn one(&self, at: usize, listen: SocketAddr) -> Result<Config, ConfigError> {
        let mut config = self.node.clone();
        config.node_id = format!("{}-{}", self.prefix, self.first + at);
        config.role = NodeRole::Observer;
        config.data_dir = self.node.data_dir.join(&config.node_id);
        let port = if listen.port() == 0 { 0 } else { listen.port() + at as u16 };
        config.raft_listen = SocketAddr::new(listen.ip(), port).to_string();
        config.validate()?;
        Ok(config)
    }
}

/// A flush to be done; its answer goes to the observer.
pub(crate) struct Flush {
    pub state: Arc<StateCell>,
    pub answer: Sender<ToRaft>,
    pub net: NetHandle,
}

/// Some observers, opened; [`ObserverHost::run`] drives them on the calling thread.
pub struct ObserverHost {
    hosted: Vec<Hosted>,
    group: NetGroup,
}

impl ObserverHost {
    /// Opens every observer's directory and port.
    ///
    /// # Errors
    /// As [`crate::Service::open`], with the observer's name.
    pub fn open(config: &HostConfig) -> Result<Self, OpenError> {
        let trace = Arc::new(Trace::open(&config.node.apply_trace).map_err(other)?);
        let (flushes, requests) = unbounded();
        let group = NetGroup::new(config.count).map_err(other)?;
        let mut hosted = Vec::with_capacity(config.count);
        for settings in config.each()? {
            let name = settings.node_id.clone();
            let opened = Hosted::open(settings, flushes.clone(), trace.clone());
            let opened = opened.map_err(|error| OpenError::Other(format!("{name}: {error}")))?;
            group.add(hosted.len(), opened.net()).map_err(other)?;
            hosted.push(opened);
        }
        // It ends with the last observer.
        spawn_vital("flush", move || flush_all(&requests)).map_err(other)?;
        Ok(Self { hosted, group })
    }

    /// Runs until `stop` is set or no observer is left; then each tells its parent and children, and
    /// flushes. Returns how many had stopped by themselves.
    ///
    /// # Errors
    /// The network cannot be polled.
    pub fn run(mut self, stop: &AtomicBool) -> std::io::Result<usize> {
        let mut ready: Vec<usize> = (0..self.hosted.len()).collect();
        // What one wants next changes by its own turns alone; whoever else has news for it wakes its net.
        let mut due_at: Vec<Option<Instant>> = vec![None; self.hosted.len()];
        while !stop.load(Ordering::Acquire) && self.hosted.iter().any(Hosted::lives) {
            for key in ready.drain(..) {
                let hosted = &mut self.hosted[key];
                hosted.turn();
                due_at[key] = hosted.lives().then(|| Instant::now() + hosted.due_in());
            }
            let now = Instant::now();
            let first = due_at.iter().flatten().min().map_or(WAIT_MAX, |at| at.saturating_duration_since(now));
            self.group.wait(first.min(WAIT_MAX), &mut ready)?;
            let now = Instant::now();
            ready.extend((0..due_at.len()).filter(|key| due_at[*key].is_some_and(|at| at <= now)));
            ready.sort_unstable();
            ready.dedup();
        }
        let failed = self.hosted.iter().filter(|h| !h.lives()).count();
        self.hosted.iter_mut().filter(|h| h.lives()).for_each(Hosted::stop);
        Ok(failed)
    }
}

fn flush_all(requests: &Receiver<Flush>) {
    while let Ok(Flush { state, answer, net }) = requests.recv() {
        let state = state.get();
        let done = match state.flush() {
            Ok(applied_index) => ToRaft::event(Event::Flushed { applied_index }),
            Err(error) => ToRaft::Halt(format!("the state cannot be flushed: {error}")),
        };
        // An observer that has stopped listens no longer.
        let _ = answer.send(done);
        net.resume();
        merge_small_tables(&state);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(change: &str) -> String {
        format!(
            r#"{{"prefix":"o","count":3,"node":{{"data_dir":"/d","raft_listen":"127.0.0.1:7000","cluster":[{{"node_id":"a","address":"b:1"}}]}}{change}}}"#
        )
    }

    #[test]
    fn observers_have_names_directories_and_ports_of_their_own() {
        let config = HostConfig::from_json(json("").as_bytes()).expect("valid");
        let each = config.each().expect("valid");
        let shown: Vec<_> = each.iter().map(|c| (c.node_id.as_str(), c.data_dir.as_path(), c.raft_listen.as_str())).collect();
        assert_eq!(shown[0], ("o-1", std::path::Path::new("/d/o-1"), "127.0.0.1:7000"));
        assert_eq!(shown[2], ("o-3", std::path::Path::new("/d/o-3"), "127.0.0.1:7002"));
        assert!(each.iter().all(|c| c.role == NodeRole::Observer));
    }

    #[test]
    fn errors_name_the_field() {
        let many = json("").replace(r#""count":3"#, r#""count":1000"#);
        assert_eq!(HostConfig::from_json(many.as_bytes()).expect_err("too many").field, "count");
        let ports = json("").replace("7000", "65534");
        assert_eq!(HostConfig::from_json(ports.as_bytes()).expect_err("no ports").field, "raft_listen");
        assert_eq!(HostConfig::from_json(json(r#","x":1"#).as_bytes()).expect_err("unknown").field, "config");
    }
}
