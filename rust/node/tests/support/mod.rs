//! A cluster of real drivers in one thread: memory for a disk, a queue for a network.
#![allow(dead_code, reason = "each test file uses its part")]

pub mod links;
pub mod members;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use codec::Outcome;
use codec::command::Body;
use codec::integrity::VerifyResult;
use codec::log::{HardState, Identity, LogBase, LogEntry};
use codec::peer::{Hello, PeerBody};
use codec::row::{Cf, ReadError, StateRead};
use machine::{Machine, RetentionLimits};
use node::{ApplyDriver, ApplyInput, Config, Driver, Effect, Event, NodeDriver, ProposalEnd, Start, Token};

pub mod observers;

#[derive(Clone, Default)]
pub struct Rows(pub BTreeMap<(Cf, Vec<u8>), Vec<u8>>);

impl StateRead for Rows {
    fn get(&self, cf: Cf, key: &[u8]) -> Result<Option<Vec<u8>>, ReadError> {
        Ok(self.0.get(&(cf, key.to_vec())).cloned())
    }

    fn scan(&self, cf: Cf, prefix: &[u8], start: &[u8], visit: &mut dyn FnMut(&[u8], &[u8]) -> bool) -> Result<(), ReadError> {
        for ((c, key), value) in self.0.range((cf, start.max(prefix).to_vec())..) {
            if *c != cf || !key.starts_with(prefix) || !visit(key, value) {
                break;
            }
        }
        Ok(())
    }
}

/// One node with what it told its callers.
pub struct Host {
    pub raft_id: u64,
    pub driver: NodeDriver,
    pub apply: Option<ApplyDriver>,
    pub rows: Rows,
    pub identity: Identity,
    pub hard_state: HardState,
    pub base: LogBase,
    pub log: Vec<LogEntry>,
    /// The newest checkpoint, and a received one that waits for its install.
    pub checkpoint: Option<Rows>,
    pub received: Option<Rows>,
    pub installs: u32,
    pub proposals: BTreeMap<Token, (ProposalEnd, Vec<Outcome>)>,
    pub reads: BTreeMap<Token, bool>,
    pub beats: Vec<codec::peer::BeatAnswer>,
    pub halted: Option<String>,
    /// Why it fenced itself, each time, and why it retired.
    pub fences: Vec<String>,
    pub retired: Option<String>,
}

pub struct Cluster {
    pub hosts: BTreeMap<u64, Host>,
    pub down: BTreeSet<u64>,
    /// Links that lose everything, (from, to).
    pub cut: BTreeSet<(u64, u64)>,
    /// Hosts whose apply side stands still.
    pub applying_slowly: BTreeSet<u64>,
    /// Where set, only links that were dialed carry messages; else everybody hears everybody.
    pub links: Option<links::Links>,
    /// What waiting callers were told, by (node, token).
    pub told: BTreeMap<(u64, Token), (bool, String)>,
    to_apply: Vec<(u64, ApplyInput)>,
    wire: VecDeque<(u64, u64, PeerBody)>,
    /// What observers dial, and the streams of theirs that are up: (observer, to).
    dialed: BTreeMap<u64, BTreeSet<u64>>,
    linked: BTreeSet<(u64, u64)>,
    pub now_us: u64,
}

const WALL_US: u64 = 1_700_000_000_000_000;

pub fn config(raft_id: u64, names: &[u64], incarnation: u64) -> Config {
    let mut config = Config::new(format!("n{raft_id}"), incarnation);
    config.keep_entries = 20;
    config.address = format!("n{raft_id}:1");
    config.expected_nodes = names.iter().map(|id| (format!("n{id}"), format!("n{id}:1"))).collect();
    config
}

impl Host {
    /// A node that has stored, sent and told nothing yet.
    fn begun(identity: Identity, driver: NodeDriver, apply: Option<ApplyDriver>, rows: Rows) -> Self {
        Self {
            raft_id: identity.raft_id,
            driver,
            apply,
            rows,
            identity,
            hard_state: HardState::default(),
            base: LogBase::default(),
            log: Vec::new(),
            checkpoint: None,
            received: None,
            installs: 0,
            proposals: BTreeMap::new(),
            reads: BTreeMap::new(),
            beats: Vec::new(),
            halted: None,
            fences: Vec::new(),
            retired: None,
        }
    }

    /// Applies an input, and what a check in it left for the next step; reads the rows where a check asks for it.
    fn apply(&mut self, input: ApplyInput) {
        // Without a state there is nobody to apply it to: the driver is fenced.
        let Some(apply) = self.apply.as_mut() else { return };
        let mut next = Some(input);
        while let Some(input) = next.take() {
            let batch = apply.step(&self.rows, input).expect("applies");
            for change in batch.changes {
                match change.value {
                    Some(value) => self.rows.0.insert((change.cf, change.key), value),
                    None => self.rows.0.remove(&(change.cf, change.key)),
                };
            }
            let verifies: Vec<_> = batch.report.checks.iter().filter(|c| c.verify != 0).map(|c| (c.verify, c.at)).collect();
            let kept = batch.report.hash.to_vec();
            self.driver.step(Event::Applied(batch.report));
            for (verify, index) in verifies {
                let computed = Machine::hash_of_rows(&self.rows).expect("rows are read").to_vec();
                let kept = kept.clone();
                self.driver.step(Event::Verified(VerifyResult { verify, index, kept, computed, ..VerifyResult::default() }));
            }
            next = batch.rest;
        }
    }
}

impl Cluster {
    /// `count` empty nodes, connected.
    pub fn new(count: u64) -> Self {
        let mut cluster = Self {
            hosts: BTreeMap::new(),
            down: BTreeSet::new(),
            cut: BTreeSet::new(),
            applying_slowly: BTreeSet::new(),
            links: None,
            told: BTreeMap::new(),
            to_apply: Vec::new(),
            wire: VecDeque::new(),
            dialed: BTreeMap::new(),
            linked: BTreeSet::new(),
            now_us: 1_000_000,
        };
        let names: Vec<u64> = (1..=count).collect();
        for raft_id in names.clone() {
            let identity = Identity { raft_id, node_id: format!("n{raft_id}"), ..Identity::default() };
            cluster.start(raft_id, config(raft_id, &names, 1_000 + raft_id), identity, None);
        }
        cluster.connect_all();
        cluster
    }

    fn start(&mut self, raft_id: u64, config: Config, identity: Identity, before: Option<Host>) {
        let (rows, hard_state, base, log) = before.map_or_else(Default::default, |h| (h.rows, h.hard_state, h.base, h.log));
        // A node of a cluster without rows has lost them.
        let apply = (identity.cluster_id != 0 && !rows.0.is_empty())
            .then(|| ApplyDriver::load(&rows, config.incarnation, RetentionLimits::default()).expect("rows load"));
        let start = Start {
            identity: identity.clone(),
            hard_state: hard_state.clone(),
            base: base.clone(),
            entries: log.clone(),
            configuration: apply.as_ref().map(|a| a.machine().configuration()).unwrap_or_default(),
            loaded: apply.as_ref().map(ApplyDriver::loaded_report),
            now_us: self.now_us,
            wall_us: WALL_US + self.now_us,
        };
        let driver = NodeDriver::Voter(Driver::new(config, start).expect("starts"));
        let host = Host { hard_state, base, log, ..Host::begun(identity, driver, apply, rows) };
        self.hosts.insert(raft_id, host);
    }

    /// Restarts a node whose log is sound and whose state is gone.
    #[allow(dead_code, reason = "not every test file plants damage")]
    pub fn restart_without_state(&mut self, raft_id: u64) {
        if let Some(host) = self.hosts.get_mut(&raft_id) {
            host.rows.0.clear();
        }
        self.restart(raft_id);
    }

    fn hello(&self, of: u64) -> Hello {
        let host = &self.hosts[&of];
        let names: Vec<u64> = self.hosts.keys().copied().collect();
        Hello {
            cluster_id: host.identity.cluster_id,
            node_id: format!("n{of}"),
            raft_id: of,
            expected_nodes: node::expected_names(&config(of, &names, 1)),
            ..Hello::default()
        }
    }

    fn connect_all(&mut self) {
        let ids: Vec<u64> = self.hosts.keys().copied().collect();
        for &a in &ids {
            for &b in ids.iter().filter(|b| **b != a) {
                let hello = self.hello(b);
                self.step(a, Event::PeerUp { hello });
            }
        }
        self.settle();
    }

    pub fn step(&mut self, at: u64, event: Event) {
        if let Some(host) = self.hosts.get_mut(&at) {
            host.driver.step(event);
        }
        self.execute(at);
    }

    fn execute(&mut self, at: u64) {
        loop {
            let Some(host) = self.hosts.get_mut(&at) else { return };
            let effects = host.driver.ready();
            if effects.is_empty() {
                return;
            }
            for effect in effects {
                self.effect(at, effect);
            }
        }
    }

    fn effect(&mut self, at: u64, effect: Effect) {
        let Some(host) = self.hosts.get_mut(&at) else { return };
        match effect {
            Effect::Persist { number, entries, hard_state } => {
                if let Some(first) = entries.first() {
                    host.log.retain(|e| e.index < first.index);
                    host.log.extend(entries);
                }
                if let Some(state) = hard_state {
                    host.hard_state = state;
                }
                host.driver.step(Event::Persisted { number });
            }
            Effect::Send { to, body, .. } => {
                if self.reaches(at, to) {
                    self.wire.push_back((at, to, body));
                }
            }
            Effect::Apply(input) if self.applying_slowly.contains(&at) => self.to_apply.push((at, input)),
            // An observer without state yet.
            Effect::Apply(ApplyInput::Session { .. }) if host.apply.is_none() => {}
            Effect::Apply(input) => host.apply(input),
            Effect::CompleteProposal { token, end, outcomes } => {
                host.proposals.insert(token, (end, outcomes));
            }
            Effect::CompleteRead { token, readable } => {
                host.reads.insert(token, readable);
            }
            Effect::CompleteBeats(answers) => host.beats.extend(answers),
            Effect::Bootstrap(identity) => {
                let bootstrap = identity.bootstrap.clone().expect("a first configuration");
                for change in Machine::bootstrap_rows(&bootstrap) {
                    host.rows.0.insert((change.cf, change.key), change.value.expect("a first row"));
                }
                host.identity = identity;
                host.apply = Some(ApplyDriver::load(&host.rows, 0, RetentionLimits::default()).expect("rows load"));
            }
            Effect::Removed { reason } | Effect::Halt { reason } => host.halted = Some(reason),
            Effect::Flush => {
                let applied_index = host.apply.as_ref().map_or(0, |a| a.machine().applied_index());
                host.driver.step(Event::Flushed { applied_index });
            }
            Effect::Truncate { base_index } => {
                let cut = host.log.iter().find(|e| e.index == base_index).expect("cut inside the log");
                host.base = LogBase { index: base_index, term: cut.term, ..LogBase::default() };
                host.log.retain(|e| e.index > base_index);
            }
            Effect::FetchEntries { fetch, low, high, .. } => {
                let entries = host.log.iter().filter(|e| (low..high).contains(&e.index)).cloned().collect();
                host.driver.step(Event::EntriesFetched { fetch, entries });
            }
            Effect::MakeSnapshot => {
                host.checkpoint = Some(host.rows.clone());
                let machine = host.apply.as_ref().expect("a machine").machine();
                let (index, term) = (machine.applied_index(), machine.applied_term());
                let configuration = machine.configuration();
                host.driver.step(Event::SnapshotMade { index, term, configuration });
            }
            Effect::SendSnapshot { to, raft_message } => {
                let rows = host.checkpoint.clone();
                let lost = self.down.contains(&to) || self.cut.contains(&(at, to));
                if lost {
                    host.driver.step(Event::SnapshotSent { to, installed: false });
                } else if let Some(receiver) = self.hosts.get_mut(&to) {
                    receiver.received = rows;
                    self.step(to, Event::SnapshotReceived { from: at, transfer: 1, state_dir: "state-2".into(), raft_message });
                }
            }
            Effect::InstallSnapshot { number, base, hard_state } => {
                host.rows = host.received.take().expect("a received snapshot");
                assert!(hard_state.term >= host.hard_state.term, "an install forgets term {}", host.hard_state.term);
                host.base = base;
                host.hard_state = hard_state;
                host.log.clear();
                host.installs += 1;
                let session = host.driver.session();
                host.apply = Some(ApplyDriver::load(&host.rows, session, RetentionLimits::default()).expect("rows load"));
                let report = host.apply.as_ref().expect("just made").loaded_report();
                host.driver.step(Event::Persisted { number });
                host.driver.step(Event::SnapshotInstalled(report));
            }
            Effect::AnswerSnapshot { to, installed, .. } => self.step(to, Event::SnapshotSent { to: at, installed }),
            Effect::DialPeers(peers) if matches!(host.driver, NodeDriver::Observer(_)) => {
                let ids = peers.iter().filter_map(|(name, _)| name.strip_prefix('n')?.parse().ok()).collect();
                self.dialed.insert(at, ids);
            }
            Effect::SaveIdentity(identity) => host.identity = identity,
            Effect::CompleteTask { token, done, detail } => drop(self.told.insert((at, token), (done, detail))),
            Effect::DialPeers(peers) => self.links.iter_mut().for_each(|links| links.dial(at, peers.clone())),
            Effect::RefusePeer { raft_id } => {
                self.links.iter_mut().for_each(|links| links.refused.entry(at).or_default().extend([raft_id]));
            }
            Effect::LeaderChanged { .. } | Effect::AgentLoads(_) | Effect::DropSnapshot { .. } | Effect::StopReady => {}
            Effect::Fence { reason } => host.fences.push(reason),
            Effect::Retire { reason } => host.retired = Some(reason),
        }
    }

    /// Delivers what is on the wire until it is empty.
    pub fn settle(&mut self) {
        for _ in 0..100_000 {
            let Some((from, to, body)) = self.wire.pop_front() else { return };
            let lost = self.down.contains(&from) || self.down.contains(&to) || self.cut.contains(&(from, to));
            let linked = self.links.as_ref().is_none_or(|links| links.carries(from, to));
            if !lost && linked {
                self.step(to, Event::Received { from, body });
            }
        }
        panic!("the network does not settle");
    }

    pub fn tick(&mut self) {
        self.now_us += 10_000;
        self.link_observers();
        self.connect();
        let runs = |h: &&Host| !self.down.contains(&h.raft_id) && h.halted.is_none();
        let ids: Vec<u64> = self.hosts.values().filter(runs).map(|h| h.raft_id).collect();
        for id in ids {
            self.step(id, Event::Tick { now_us: self.now_us, wall_us: WALL_US + self.now_us });
            self.settle();
        }
    }

    /// Ticks until `done`, at most `seconds` of cluster time.
    pub fn until(&mut self, seconds: u64, what: &str, mut done: impl FnMut(&Self) -> bool) {
        for _ in 0..seconds * 100 {
            if done(self) {
                return;
            }
            self.tick();
        }
        panic!("{what}: not within {seconds} s\n{}", self.state());
    }

    /// Where everybody stands, for a failed test.
    fn state(&self) -> String {
        let mut out = String::new();
        for host in self.hosts.values() {
            let view = host.driver.view();
            let machine = host.apply.as_ref().map(ApplyDriver::machine);
            let members: Vec<_> = machine
                .iter()
                .flat_map(|m| m.members())
                .map(|(n, r)| format!("{n}={}:{}:{}", r.raft_id, r.state().name(), r.role().name()))
                .collect();
            out += &format!(
                "{} down={} halted={:?} role={} term={} leader={:?} last={} commit={} applied={} hash={:x?} {:?} {}\n",
                host.raft_id,
                self.down.contains(&host.raft_id),
                host.halted,
                view.role,
                view.term,
                view.leader,
                view.last_index,
                view.commit_index,
                view.applied_index,
                &view.hash[..2],
                machine.map(|m| m.configuration()),
                members.join(" "),
            );
        }
        out
    }

    pub fn leader(&self) -> Option<u64> {
        self.hosts
            .values()
            .filter(|h| !self.down.contains(&h.raft_id) && h.halted.is_none())
            .find(|h| h.driver.is_leader())
            .map(|h| h.raft_id)
    }

    pub fn elect(&mut self) -> u64 {
        self.until(10, "a leader", |c| c.leader().is_some());
        self.leader().expect("a leader")
    }

    pub fn propose(&mut self, at: u64, token: Token, bodies: Vec<Body>) {
        let deadline_us = self.now_us + 10_000_000;
        self.step(at, Event::Propose { token, bodies, deadline_us });
        self.settle();
    }

    /// Lets the apply sides go on where they stood still.
    pub fn catch_up(&mut self) {
        self.applying_slowly.clear();
        for (at, input) in std::mem::take(&mut self.to_apply) {
            self.effect(at, Effect::Apply(input));
            self.execute(at);
        }
        self.settle();
    }

    pub fn restart(&mut self, raft_id: u64) {
        let names: Vec<u64> = self.hosts.keys().copied().collect();
        let before = self.hosts.remove(&raft_id).expect("a host");
        let identity = before.identity.clone();
        let mut config = config(raft_id, &names, self.now_us + raft_id);
        if let Some(links) = &mut self.links {
            links.up.retain(|(from, _), _| *from != raft_id);
            links.refused.remove(&raft_id);
            config = Config { incarnation: config.incarnation, ..links.configs[&raft_id].clone() };
        }
        self.start(raft_id, config, identity, Some(before));
        self.down.remove(&raft_id);
        if self.links.is_none() {
            self.connect_all();
        }
    }
}
