//! Observers in a [`Cluster`]: their streams, their deaths, and what the tests ask of them.

use codec::log::Identity;
use codec::peer::Hello;
use codec::row::Cf;
use machine::RetentionLimits;
use node::{ApplyDriver, Config, Event, NodeDriver, ObserverDriver, ObserverStart};

use super::{Cluster, Host, WALL_US};

impl Cluster {
    fn is_observer(&self, id: u64) -> bool {
        self.hosts.get(&id).is_some_and(|h| matches!(h.driver, NodeDriver::Observer(_)))
    }

    /// Voters reach each other; an observer reaches whom it dialed, and is reached by those.
    pub(super) fn reaches(&self, from: u64, to: u64) -> bool {
        !(self.is_observer(from) || self.is_observer(to))
            || self.linked.contains(&(from, to))
            || self.linked.contains(&(to, from))
    }

    /// An empty observer that knows the voters as seeds.
    pub fn add_observer(&mut self, raft_id: u64) {
        let identity = Identity { raft_id, node_id: format!("n{raft_id}"), ..Identity::default() };
        self.start_observer(raft_id, identity, None);
    }

    fn start_observer(&mut self, raft_id: u64, identity: Identity, before: Option<Host>) {
        let seeds: Vec<u64> = self.hosts.keys().copied().filter(|id| !self.is_observer(*id)).collect();
        let mut config = Config::new(format!("n{raft_id}"), self.now_us + raft_id);
        config.observer = true;
        config.address = format!("n{raft_id}:1");
        config.expected_nodes = seeds.iter().map(|id| (format!("n{id}"), format!("n{id}:1"))).collect();
        config.validate().expect("a valid configuration");
        let rows = before.map(|h| h.rows).unwrap_or_default();
        let apply = (!rows.0.is_empty())
            .then(|| ApplyDriver::load(&rows, config.incarnation, RetentionLimits::default()).expect("rows load"));
        let start = ObserverStart {
            identity: identity.clone(),
            configuration: apply.as_ref().map(|a| a.machine().configuration()).unwrap_or_default(),
            loaded: apply.as_ref().map(ApplyDriver::loaded_report),
            now_us: self.now_us,
            wall_us: WALL_US + self.now_us,
        };
        let driver = NodeDriver::Observer(ObserverDriver::new(config, start));
        self.hosts.insert(raft_id, Host::begun(identity, driver, apply, rows));
        self.execute(raft_id);
    }

    fn hello_of(&self, id: u64) -> Hello {
        Hello { duplex: self.is_observer(id), ..self.hello(id) }
    }

    /// Makes and breaks streams as observers want them and as nodes live.
    pub(super) fn link_observers(&mut self) {
        let living = |c: &Self, (a, b): (u64, u64)| !c.down.contains(&a) && !c.down.contains(&b) && c.hosts.contains_key(&b);
        for pair in self.linked.clone() {
            let wanted = self.dialed.get(&pair.0).is_some_and(|d| d.contains(&pair.1));
            if !wanted || !living(self, pair) {
                self.linked.remove(&pair);
                for (at, raft_id) in [pair, (pair.1, pair.0)] {
                    if !self.down.contains(&at) && !self.reaches(at, raft_id) {
                        self.step(at, Event::PeerDown { raft_id });
                    }
                }
            }
        }
        let dialed: Vec<(u64, u64)> = self.dialed.iter().flat_map(|(a, to)| to.iter().map(|b| (*a, *b))).collect();
        for pair in dialed {
            let cut = self.cut.contains(&pair) || self.cut.contains(&(pair.1, pair.0));
            if living(self, pair) && !cut && self.linked.insert(pair) {
                let (dialer, acceptor) = (self.hello_of(pair.0), self.hello_of(pair.1));
                self.step(pair.1, Event::PeerUp { hello: dialer });
                self.step(pair.0, Event::PeerUp { hello: acceptor });
            }
        }
        self.settle();
    }

    /// Its process ends: streams break at once.
    pub fn kill(&mut self, id: u64) {
        self.down.insert(id);
        self.link_observers();
    }

    /// An observer comes back with the rows it had.
    pub fn restart_observer(&mut self, raft_id: u64) {
        self.kill(raft_id);
        self.dialed.remove(&raft_id);
        let before = self.hosts.remove(&raft_id).expect("a host");
        self.down.remove(&raft_id);
        self.start_observer(raft_id, before.identity.clone(), Some(before));
    }

    /// Cuts every link of a node without anybody being told.
    pub fn isolate(&mut self, id: u64) {
        for other in self.hosts.keys().copied().filter(|o| *o != id) {
            self.cut.extend([(id, other), (other, id)]);
        }
    }

    pub fn position(&self, id: u64) -> (u64, [u8; 16]) {
        self.hosts[&id].apply.as_ref().map_or((0, [0; 16]), |a| (a.machine().applied_index(), a.machine().hash()))
    }

    pub fn parent_of(&self, id: u64) -> u64 {
        match &self.hosts[&id].driver {
            NodeDriver::Observer(driver) => driver.parent(),
            NodeDriver::Voter(_) => 0,
        }
    }

    /// Whether all living nodes stand at the same index with the same hash.
    pub fn all_equal(&self) -> bool {
        let mut living = self.hosts.keys().filter(|id| !self.down.contains(id)).map(|id| self.position(*id));
        let first = living.next();
        living.all(|p| Some(p) == first)
    }

    /// Damages one row of a node's state, and the machine built from it, without anybody being told.
    pub fn diverge(&mut self, id: u64) {
        let host = self.hosts.get_mut(&id).expect("a host");
        let rows = &mut host.rows.0;
        let mut meta: codec::row::MetaRow = codec::row::decode(&rows[&(Cf::Meta, Vec::new())]).expect("a meta row");
        meta.hash[0] ^= 1;
        rows.insert((Cf::Meta, Vec::new()), codec::row::encode(&meta));
    }
}
