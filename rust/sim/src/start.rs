//! Processes begin and end, and connections with them.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use codec::log::Identity;
use codec::peer::{Hello, PeerBody};
use machine::{MACHINE_VERSION, Machine, RetentionLimits};
use node::{ApplyDriver, Config, Driver, Event, NodeDriver, ObserverDriver, ObserverStart, Start};
use store::{StateStore, meta_of};

use crate::disk::{Crash, Disk};
use crate::host::{Host, LogWork, Part, Process, Shadow};
use crate::invariant::Violation;
use crate::world::{Delivery, What, World};

/// Nothing is old enough to be forgotten within a run, but for replaced rows.
pub fn retention() -> RetentionLimits {
    RetentionLimits::default()
}

pub fn node_id(at: usize) -> String {
    format!("n{:03}", at + 1)
}

impl World {
    /// The members, with empty disks; or, with observers, as members of a cluster that exists
    /// already, because a first configuration holds voters alone.
    pub(crate) fn make_hosts(&mut self) {
        let members = self.options.voters + self.options.observers;
        let count = members + self.budget.spares;
        let identities = (0..count).map(|at| Identity { raft_id: at as u64 + 1, node_id: node_id(at), ..Identity::default() });
        let identities: Vec<Identity> = identities.collect();
        for (at, identity) in identities.into_iter().enumerate() {
            let clock = crate::clock::Clock::new(&mut self.rng, self.budget.skew_ms_max);
            self.hosts.push(Host {
                part: if at < members { Part::Member } else { Part::Spare },
                observer: (self.options.voters..members).contains(&at),
                raft_id: identity.raft_id,
                node_id: identity.node_id.clone(),
                disk: Disk::new(identity),
                clock,
                process: None,
                number: 0,
                slow_disk: (0, 0),
                fail_next_write: false,
                apply_stalled_until: 0,
                restart_at: None,
            });
        }
        if self.options.observers > 0 {
            self.form_cluster();
        }
    }

    pub(crate) fn config(&self, at: usize, incarnation: u64) -> Config {
        let name = self.hosts[at].node_id.clone();
        let mut config = Config::new(name.clone(), incarnation);
        config.address = format!("{name}:1");
        config.expected_nodes = (0..self.options.voters).map(|n| (node_id(n), format!("{}:1", node_id(n)))).collect();
        config.observer = self.hosts[at].observer;
        if !config.observer && !config.expected_nodes.iter().any(|(known, _)| *known == name) {
            config.expected_nodes.push((name.clone(), format!("{name}:1")));
        }
        config.keep_entries = self.budget.keep_entries;
        config.flush_dirty_ms = self.budget.flush_dirty_ms;
        config.flush_log_bytes = 256 << 10;
        config.consensus.tail_bytes_max = self.budget.tail_bytes_max;
        config.consensus.message_bytes_max = self.budget.message_bytes_max;
        config
    }

    /// Starts the process of a node from its disk.
    pub(crate) fn start(&mut self, at: usize) -> Result<(), Violation> {
        let incarnation = self.rng.number() >> 16 | 1;
        let config = self.config(at, incarnation);
        let now = self.now;
        let host = &mut self.hosts[at];
        host.number += 1;
        host.restart_at = None;
        host.clock.restart(now, &mut self.rng);
        let found = match host.disk.open() {
            Ok(found) => found,
            Err(error) if host.disk.is_rotten() => {
                // As it should be: what is damaged takes no part, and keeps its files.
                self.trace.say(now, || format!("n{}: refuses its directory: {error}", at + 1));
                return Ok(());
            }
            Err(error) => return Err(self.violation("durability", format!("n{} cannot open its directory: {error}", at + 1))),
        };
        let mut apply = None;
        if found.identity.cluster_id != 0 {
            let rows = &host.disk.state;
            if let (Ok(None), Some(bootstrap)) = (meta_of(rows), &found.identity.bootstrap) {
                // Ended between saving who it is and writing the first rows.
                rows.write(&Machine::bootstrap_rows(bootstrap)).expect("a state that works");
                rows.flush().expect("a state that works");
            }
            match ApplyDriver::load(rows, incarnation, retention()) {
                Ok(driver) => apply = Some(driver),
                Err(error) => return Err(self.violation("durability", format!("n{} cannot load its rows: {error}", at + 1))),
            }
        }
        let shadow = Shadow::new(&found.base, &found.entries);
        let hello = Hello {
            node_id: host.node_id.clone(),
            raft_id: host.raft_id,
            incarnation,
            machine_version_max: MACHINE_VERSION,
            expected_nodes: node::expected_names(&config),
            address: config.address.clone(),
            duplex: host.observer,
            ..Hello::default()
        };
        let start = Start {
            identity: found.identity,
            hard_state: found.hard_state,
            base: found.base,
            entries: found.entries,
            configuration: apply.as_ref().map(|a| a.machine().configuration()).unwrap_or_default(),
            loaded: apply.as_ref().map(ApplyDriver::loaded_report),
            now_us: host.clock.mono_us(now),
            wall_us: host.clock.wall_us(now),
        };
        let driver = if host.observer {
            let Start { identity, configuration, loaded, now_us, wall_us, .. } = start;
            NodeDriver::Observer(ObserverDriver::new(config, ObserverStart { identity, configuration, loaded, now_us, wall_us }))
        } else {
            match Driver::new(config, start) {
                Ok(driver) => NodeDriver::Voter(driver),
                Err(error) => return Err(self.violation("durability", format!("n{} cannot start: {error}", at + 1))),
            }
        };
        host.process = Some(Process {
            driver,
            apply,
            incarnation,
            hello,
            inbox: Vec::new(),
            turn_at: None,
            paused_until: 0,
            log_queue: VecDeque::new(),
            log_work: None,
            apply_queue: VecDeque::new(),
            applying: false,
            disk_queue: VecDeque::new(),
            disk_busy: false,
            install_logged: 0,
            waiters: BTreeMap::new(),
            shadow,
            sending: None,
            to_send: VecDeque::new(),
            policy_due: false,
            refused: BTreeSet::new(),
            dialed: BTreeSet::new(),
        });
        self.invariants.started(&self.hosts, at).map_err(|v| v.at(now))?;
        self.trace.fold(now, 5, at as u64, incarnation);
        self.trace.say(now, || format!("n{}: starts", at + 1));
        self.wake(at, now + 10);
        for other in 0..self.hosts.len() {
            if other != at && self.hosts[other].up() && self.wanted(at, other) {
                self.dial_soon(at, other);
            }
        }
        Ok(())
    }

    /// Ends the process of a node, and what its disk had not finished with it.
    pub(crate) fn stop(&mut self, at: usize, how: Crash) {
        let host = &mut self.hosts[at];
        let Some(process) = host.process.take() else { return };
        host.number += 1;
        host.fail_next_write = false;
        host.slow_disk = (0, 0);
        let writing = match process.log_work {
            Some(LogWork::Write(writing)) => Some(writing),
            _ => None,
        };
        let fate = host.disk.crash(how, writing, &mut self.rng);
        self.report.restarts += 1;
        self.trace.fold(self.now, 6, at as u64, how as u64);
        self.trace.say(self.now, || format!("n{}: ends ({how:?}), {fate}", at + 1));
        self.invariants.stopped(&self.hosts, at);
        for other in 0..self.hosts.len() {
            if other != at {
                self.disconnect(at, other);
            }
        }
    }

    // ---- connections -----------------------------------------------------------------------

    pub(crate) fn dial_soon(&mut self, a: usize, b: usize) {
        let when = self.now + self.rng.skewed(1_000, 200_000);
        self.queue.push(when, What::Dial { a, b });
    }

    /// Whether a connection is to stand: all but observers are connected to each other, and an
    /// observer to whom it dials.
    pub(crate) fn wanted(&self, a: usize, b: usize) -> bool {
        let dials = |from: usize, to: usize| {
            let process = self.hosts[from].process.as_ref();
            self.hosts[from].observer && process.is_some_and(|p| p.dialed.contains(&self.hosts[to].node_id))
        };
        !(self.hosts[a].observer || self.hosts[b].observer) || dials(a, b) || dials(b, a)
    }

    /// An observer says whom it dials, and nobody else.
    pub(crate) fn dials(&mut self, at: usize, peers: Vec<(String, String)>) {
        let host = &mut self.hosts[at];
        let Some(process) = host.process.as_mut().filter(|_| host.observer) else { return };
        process.dialed = peers.into_iter().map(|(name, _)| name).collect();
        for other in 0..self.hosts.len() {
            if other == at {
                continue;
            }
            match (self.wanted(at, other), self.network.connected(at, other)) {
                (true, false) => self.dial_soon(at, other),
                (false, true) => self.disconnect(at, other),
                _ => {}
            }
        }
    }

    fn hello(&self, of: usize, to: usize) -> Option<Hello> {
        let process = self.hosts[of].process.as_ref()?;
        let you_were_removed = process.refused.contains(&self.hosts[to].raft_id);
        let cluster_id = process.driver.identity().cluster_id;
        Some(Hello { cluster_id, you_were_removed, ..process.hello.clone() })
    }

    /// Connects two nodes, if both run and nothing is in the way. A node that has just entered its
    /// cluster says a new Hello on the connection that stands.
    pub(crate) fn dial(&mut self, a: usize, b: usize) {
        if !self.network.open(a, b) || !self.network.open(b, a) || !self.wanted(a, b) {
            return;
        }
        let (Some(of_a), Some(of_b)) = (self.hello(a, b), self.hello(b, a)) else { return };
        if of_a.you_were_removed || of_b.you_were_removed {
            // The stream is closed after the Hello.
            for (at, hello) in [(b, of_a), (a, of_b)] {
                if hello.you_were_removed {
                    self.tell(at, Event::PeerUp { hello });
                }
            }
            return;
        }
        self.network.set_connected(a, b, true);
        self.trace.fold(self.now, 7, a as u64, b as u64);
        self.tell(a, Event::PeerUp { hello: of_b });
        self.tell(b, Event::PeerUp { hello: of_a });
    }

    pub(crate) fn disconnect(&mut self, a: usize, b: usize) {
        if !self.network.set_connected(a, b, false) {
            return;
        }
        self.trace.fold(self.now, 8, a as u64, b as u64);
        for (at, peer) in [(a, b), (b, a)] {
            let raft_id = self.hosts[peer].raft_id;
            self.break_transfer(at, raft_id);
            self.tell(at, Event::PeerDown { raft_id });
        }
        if self.hosts[a].up() && self.hosts[b].up() {
            self.dial_soon(a, b);
        }
    }

    pub(crate) fn deliver(&mut self, delivery: Delivery) {
        let Delivery { from, to, connection, body } = delivery;
        if self.network.connection(from, to) != connection {
            // An older stream's bytes may still come, but only a Raft message is of use then.
            let late = matches!(body, PeerBody::Raft(_)) && self.network.weather.reorder_bp > 0;
            if !late || !self.network.connected(from, to) {
                return;
            }
        }
        self.trace.fold(self.now, 9, from as u64, to as u64);
        match body {
            PeerBody::SnapshotAnswer(answer) => self.snapshot_answered(to, &answer),
            body => {
                let from = self.hosts[from].raft_id;
                self.tell(to, Event::Received { from, body });
            }
        }
    }

    /// A cluster that exists already: voters with a first entry behind them, and observers that are
    /// members, all with the same state.
    fn form_cluster(&mut self) {
        use codec::log::{Bootstrap, BootstrapMember, HardState, LogBase};
        use codec::row::{self, Cf, Change, MemberRole, MemberRow, MetaRow};
        use store::LogStore;
        let address = |host: &Host| format!("{}:1", host.node_id);
        let member = |h: &Host| BootstrapMember { node_id: h.node_id.clone(), raft_id: h.raft_id, address: address(h) };
        let members = self.hosts.iter().filter(|h| !h.observer).map(member).collect();
        let bootstrap = Bootstrap { cluster_id: 7, members, wall_us: crate::clock::WALL_US, seed: None };
        let mut rows = Machine::bootstrap_rows(&bootstrap);
        for host in self.hosts.iter().filter(|h| h.observer) {
            let row = MemberRow {
                raft_id: host.raft_id,
                address: address(host),
                role: MemberRole::Observer as i32,
                ..MemberRow::default()
            };
            rows.push(Change { cf: Cf::Member, key: host.node_id.as_bytes().to_vec(), value: Some(row::encode(&row)) });
        }
        let hash = self.invariants.hash_of(&rows);
        for change in rows.iter_mut().filter(|c| c.cf == Cf::Meta) {
            let mut meta: MetaRow = row::decode(change.value.as_deref().unwrap_or_default()).expect("a meta row");
            (meta.applied_index, meta.applied_term, meta.hash) = (1, 1, hash.to_vec());
            meta.cluster_us = bootstrap.wall_us;
            change.value = Some(row::encode(&meta));
        }
        self.invariants.formed(&rows);
        let base = LogBase { index: 1, term: 1, chain: 0, state_dir: "state-1".to_owned() };
        for host in &mut self.hosts {
            let identity = Identity {
                raft_id: host.raft_id,
                node_id: host.node_id.clone(),
                cluster_id: bootstrap.cluster_id,
                bootstrap: Some(bootstrap.clone()),
                ..Identity::default()
            };
            host.disk.log.save_identity(&identity).expect("a log that works");
            host.disk.log.install(base.clone(), &HardState { term: 1, vote: 0, commit: 1 }).expect("a log that works");
            host.disk.state.write(&rows).expect("a state that works");
            host.disk.state.flush().expect("a state that works");
            host.disk.without_log = host.observer;
        }
    }
}
