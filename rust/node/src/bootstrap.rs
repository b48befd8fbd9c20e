//! How a cluster begins, and what an empty directory does (DESIGN §3 "Identity and start").
//!
//! Only when every listed node is connected and says that it is empty does the lowest name fix the
//! cluster's id and first configuration. An empty directory that meets an existing cluster waits:
//! it joins on its own only if the cluster's first configuration names its raft id, because then
//! it can never have voted.
//!
//! A node that was restored from a backup is empty with a seed: the nodes begin only if all of them
//! hold the same one, and their cluster is a new one, with an id and raft ids of its own.

use std::collections::BTreeMap;

use codec::log::{Bootstrap, BootstrapMember, ConfState, HardState, Identity};
use codec::peer::{Hello, Lane, PeerBody};
use codec::row::{DrainState, MemberRole, MemberState};
use consensus::{ConsensusError, has_member};

use crate::config::Config;
use crate::driver::Driver;
use crate::effect::Effect;
use crate::event::{AppliedReport, InstalledReport};

#[derive(Default)]
pub struct Gathering {
    peers: BTreeMap<String, Hello>,
}

/// Why a node is not in a cluster yet, for people.
pub fn waiting_reason(config: &Config, gathering: &Gathering, identity: &Identity) -> String {
    if !identity.retired.is_empty() {
        return damaged_reason(config, gathering, identity);
    }
    let raft_id = identity.raft_id;
    if let Some(member) = gathering.peers.values().find(|h| h.cluster_id != 0) {
        let name = &config.node_id;
        return format!(
            "cluster {:016x} exists and does not know this directory (raft id {raft_id:016x}): run `taskquorum cluster replace {name}` \
             against it if {name} was a member, else `taskquorum cluster add {name} --address {}`",
            member.cluster_id, config.address
        );
    }
    let missing: Vec<&str> = gathering.missing(config);
    if !missing.is_empty() {
        return format!("waiting for {} to bootstrap the cluster together", missing.join(", "));
    }
    let agreed = |h: &&Hello| h.expected_nodes != agreement(config);
    if let Some(other) = gathering.peers.values().find(agreed) {
        if listed(&other.expected_nodes) == names(config) {
            return format!("{} was not restored from the same backup as this node", other.node_id);
        }
        return format!("{} was started with another node list: {}", other.node_id, other.expected_nodes.join(", "));
    }
    "waiting for the lowest name to bootstrap the cluster".into()
}

/// What a node says whose directory was damaged: it waits for the others, and never begins a new cluster.
fn damaged_reason(config: &Config, gathering: &Gathering, identity: &Identity) -> String {
    let name = &config.node_id;
    let begun = format!("this node's directory was damaged, and its old identity is retired: {}. ", identity.damaged);
    let others: Vec<&str> = gathering.peers.values().filter(|h| !h.retired.is_empty()).map(|h| h.node_id.as_str()).collect();
    if gathering.peers.values().any(|h| h.cluster_id != 0) && others.is_empty() {
        return format!(
            "{begun}The leader gives {name} its place back as soon as a majority of the voters is up; if it cannot, run \
             `taskquorum cluster replace {name}` against the cluster"
        );
    }
    let too = if others.is_empty() { String::new() } else { format!("So are {}. ", others.join(", ")) };
    format!(
        "{begun}{too}If a majority of the cluster is damaged it stays stopped, so that nothing is lost: nothing was deleted. Stop \
         these nodes, put their original files back (a sound disk or copy; `log`, `witness`, `identity` and `state-*` in place of the \
         new ones) and start them again, or restore a backup into a new cluster"
    )
}

/// The expected nodes' names in order, as every node says them in its Hello.
pub fn names(config: &Config) -> Vec<String> {
    let mut names: Vec<String> = config.expected_nodes.iter().map(|(name, _)| name.clone()).collect();
    names.sort();
    names
}

/// Before the digest of a restored backup, in the list that nodes must agree on. No node id begins so.
const SEED_MARK: char = '~';

/// What nodes say in their Hello, and must agree on to begin a cluster: their names, and the backup
/// they were restored from.
pub fn agreement(config: &Config) -> Vec<String> {
    let mut agreed = names(config);
    agreed.extend(config.seed.iter().map(|seed| {
        let hex: String = seed.digest.iter().map(|byte| format!("{byte:02x}")).collect();
        format!("{SEED_MARK}{hex}")
    }));
    agreed
}

/// The names alone.
fn listed(agreed: &[String]) -> Vec<String> {
    agreed.iter().filter(|name| !name.starts_with(SEED_MARK)).cloned().collect()
}

impl Gathering {
    pub fn peer_up(&mut self, hello: &Hello) {
        self.peers.insert(hello.node_id.clone(), hello.clone());
    }

    pub fn peer_down(&mut self, raft_id: u64) {
        self.peers.retain(|_, h| h.raft_id != raft_id);
    }

    fn missing<'c>(&self, config: &'c Config) -> Vec<&'c str> {
        let others = config.expected_nodes.iter().map(|(name, _)| name.as_str());
        others.filter(|name| *name != config.node_id && !self.peers.contains_key(*name)).collect()
    }

    /// The first configuration, if this node is the one to fix it and everything is in place.
    pub fn bootstrap(&self, config: &Config, raft_id: u64, wall_us: u64) -> Option<Bootstrap> {
        let names = names(config);
        if names.first() != Some(&config.node_id) || !self.missing(config).is_empty() {
            return None;
        }
        let mut members = vec![BootstrapMember { node_id: config.node_id.clone(), raft_id, address: config.address.clone() }];
        for name in names.iter().filter(|n| **n != config.node_id) {
            let hello = self.peers.get(name)?;
            // One that lost its directory was in a cluster: a new one would hide that.
            if hello.cluster_id != 0 || !hello.retired.is_empty() || hello.expected_nodes != agreement(config) {
                return None;
            }
            let address = config.expected_nodes.iter().find(|(n, _)| n == name).map(|(_, a)| a.clone())?;
            members.push(BootstrapMember { node_id: name.clone(), raft_id: hello.raft_id, address });
        }
        // Never 0, which means "no cluster"; both inputs were drawn at random.
        let cluster_id = (config.incarnation.rotate_left(17) ^ raft_id).max(1);
        Some(Bootstrap { cluster_id, members, wall_us, seed: config.seed.clone() })
    }
}

/// Whether a first configuration that arrives is for this node.
pub fn names_this_node(bootstrap: &Bootstrap, config: &Config, raft_id: u64) -> bool {
    let node_id = &config.node_id;
    bootstrap.cluster_id != 0
        && bootstrap.seed == config.seed
        && bootstrap.members.iter().any(|m| m.raft_id == raft_id && m.node_id == *node_id)
}

impl Driver {
    pub(crate) fn peer_up(&mut self, hello: Hello) {
        if !self.meet(&hello) || self.observer_up(&hello) {
            return;
        }
        self.peers.up(&hello);
        self.peers.heard(hello.raft_id, self.now_us, self.wall_us);
        let raft_id = hello.raft_id;
        self.guard_peer_up(raft_id);
        if self.identity.cluster_id == 0 {
            self.gathering.peer_up(&hello);
            if let Err(error) = self.try_bootstrap() {
                self.halt(format!("the first configuration cannot be used: {error}"));
            }
            return;
        }
        if hello.cluster_id == 0
            && let Some(bootstrap) = &self.identity.bootstrap
            && bootstrap.members.iter().any(|m| m.raft_id == raft_id)
            && self.consensus.as_ref().is_some_and(|c| has_member(c.configuration(), raft_id))
        {
            // It was named by the first configuration, and still is by this one, and missed it: it has never voted.
            self.effects.push(Effect::Send { to: raft_id, lane: Lane::Control, body: PeerBody::Bootstrap(bootstrap.clone()) });
        }
        if self.consensus.as_ref().is_some_and(|c| c.leader() == raft_id) {
            self.sessions.resend_all();
            self.session_asked_us = None;
            self.reads.give_up();
        }
    }

    pub(crate) fn try_bootstrap(&mut self) -> Result<(), ConsensusError> {
        if self.consensus.is_some() || !self.identity.retired.is_empty() {
            return Ok(());
        }
        let Some(bootstrap) = self.gathering.bootstrap(&self.config, self.identity.raft_id, self.wall_us) else { return Ok(()) };
        let others: Vec<u64> = bootstrap.members.iter().map(|m| m.raft_id).filter(|id| *id != self.identity.raft_id).collect();
        self.enter_cluster(bootstrap.clone())?;
        for to in others {
            self.effects.push(Effect::Send { to, lane: Lane::Control, body: PeerBody::Bootstrap(bootstrap.clone()) });
        }
        Ok(())
    }

    pub(crate) fn enter_cluster(&mut self, bootstrap: codec::log::Bootstrap) -> Result<(), ConsensusError> {
        let mut voters: Vec<u64> = bootstrap.members.iter().map(|m| m.raft_id).collect();
        voters.sort_unstable();
        let members = bootstrap
            .members
            .iter()
            .map(|m| crate::event::Member {
                node_id: m.node_id.clone(),
                raft_id: m.raft_id,
                address: m.address.clone(),
                drain: DrainState::None,
                role: MemberRole::Voter,
                state: MemberState::Active,
                replaces: Vec::new(),
            })
            .collect();
        self.identity.cluster_id = bootstrap.cluster_id;
        self.identity.bootstrap = Some(bootstrap.clone());
        self.effects.push(Effect::Bootstrap(self.identity.clone()));
        let configuration = ConfState { voters, ..ConfState::default() };
        let mut report = AppliedReport { members: Some(members), cluster_us: bootstrap.wall_us, ..AppliedReport::default() };
        let (mut hard_state, mut base) = (HardState::default(), (0, 0));
        if let Some(seed) = &bootstrap.seed {
            // What else it holds is told by `SnapshotInstalled`, which the runtime answers with.
            base = (machine::SEED_INDEX, machine::SEED_TERM);
            hard_state = HardState { term: base.1, vote: 0, commit: base.0 };
            report.cluster_us = seed.cluster_us;
            report.revision = seed.revision + machine::SEED_REVISION_GAP;
        }
        (report.index, report.term) = base;
        let loaded = InstalledReport { report, session_known: false };
        self.start_consensus(hard_state, configuration, base, Vec::new(), loaded)
    }
}

#[cfg(test)]
mod tests {
    use codec::peer::Hello;

    use codec::log::Identity;

    use super::{Gathering, agreement, names, waiting_reason};
    use crate::Config;

    fn config(name: &str) -> Config {
        let mut config = Config::new(name, 99);
        config.expected_nodes = ["n1", "n2", "n3"].map(|n| (n.to_owned(), format!("{n}:1"))).to_vec();
        config
    }

    fn hello(name: &str, raft_id: u64, cluster_id: u64) -> Hello {
        Hello { node_id: name.into(), raft_id, cluster_id, expected_nodes: names(&config("n1")), ..Hello::default() }
    }

    #[test]
    fn the_lowest_name_bootstraps_once_all_are_empty_and_there() {
        let mut gathering = Gathering::default();
        gathering.peer_up(&hello("n2", 2, 0));
        assert_eq!(gathering.bootstrap(&config("n1"), 1, 0), None, "n3 is missing");
        gathering.peer_up(&hello("n3", 3, 0));
        assert_eq!(gathering.bootstrap(&config("n2"), 2, 0), None, "n2 is not the lowest name");
        let bootstrap = gathering.bootstrap(&config("n1"), 1, 0).expect("all are there");
        assert_eq!(bootstrap.members.iter().map(|m| m.raft_id).collect::<Vec<_>>(), [1, 2, 3]);
    }

    /// All directories of a cluster are damaged: their nodes are as good as empty, and still begin no new cluster.
    #[test]
    fn a_damaged_directory_among_them_stops_it() {
        let mut gathering = Gathering::default();
        gathering.peer_up(&Hello { retired: vec![22], damaged: "log".into(), ..hello("n2", 2, 0) });
        gathering.peer_up(&hello("n3", 3, 0));
        assert_eq!(gathering.bootstrap(&config("n1"), 1, 0), None);
        let identity = Identity { raft_id: 1, retired: vec![11], damaged: "log/000007.log: short".into(), ..Identity::default() };
        let said = waiting_reason(&config("n1"), &gathering, &identity);
        assert!(said.contains("000007.log") && said.contains("n2") && said.contains("put their original files back"), "{said}");
    }

    #[test]
    fn restored_nodes_begin_only_with_the_same_backup() {
        let seed = |digest: u8| codec::log::Seed { digest: vec![digest; 16], ..Default::default() };
        let restored = |name: &str, digest: u8| Config { seed: Some(seed(digest)), ..config(name) };
        let says = |name: &str, id: u64, config: &Config| Hello { expected_nodes: agreement(config), ..hello(name, id, 0) };
        let mut gathering = Gathering::default();
        gathering.peer_up(&says("n2", 2, &restored("n2", 7)));
        for other in [config("n3"), restored("n3", 8)] {
            gathering.peer_up(&says("n3", 3, &other));
            assert_eq!(gathering.bootstrap(&restored("n1", 7), 1, 0), None);
            assert!(
                waiting_reason(&restored("n1", 7), &gathering, &Identity { raft_id: 1, ..Identity::default() })
                    .contains("not restored from the same backup")
            );
        }
        assert_eq!(gathering.bootstrap(&config("n1"), 1, 0), None, "nor is an empty one taken in");
        gathering.peer_up(&says("n3", 3, &restored("n3", 7)));
        let bootstrap = gathering.bootstrap(&restored("n1", 7), 1, 0).expect("all hold the same");
        assert_eq!((bootstrap.members.len(), bootstrap.seed), (3, Some(seed(7))));
    }

    #[test]
    fn a_member_of_a_cluster_among_them_stops_it() {
        let mut gathering = Gathering::default();
        gathering.peer_up(&hello("n2", 2, 0));
        gathering.peer_up(&hello("n3", 3, 77));
        assert_eq!(gathering.bootstrap(&config("n1"), 1, 0), None);
    }
}
