//! Membership: whom a node knows, dials and refuses, and the callers that wait for a member.
//!
//! Three things move together (docs/architecture.md, "Membership"): member rows, changed by commands;
//! Raft's configuration, changed by entries of its own; and identities, drawn with each directory.
//! The leader compares them and takes one step at a time (`control`), each of which any later leader
//! would take from the same rows and the same configuration. What always holds:
//! * only a directory that belongs to no cluster is admitted, under the raft id that it drew;
//! * a raft id that was in the rows and is no more is refused for good.

mod control;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use codec::command::Body;
use codec::log::Identity;
use codec::peer::{Hello, Welcome};
use codec::row::{MemberRole, MemberState};
use consensus::{Consensus, PeerProgress, has_member};

use crate::driver::Driver;
use crate::effect::Effect;
use crate::event::{Member, Micros, Token};
use crate::reads::Reader;

/// Without a leader for this long, a node also dials those that only its settings name.
const LOST_US: Micros = 2_000_000;
/// Raft ids that are told to stop when they come back; the newest are remembered.
const REFUSED_MAX: usize = 1_024;
/// Directories without a cluster that are connected.
const STRANGERS_MAX: usize = 1_024;

/// How far a learner is behind (Raft thesis §4.2.1): rounds of catching up, each with what stood in
/// the log when it began. It keeps up when a round takes no longer than an election timeout.
struct Catching {
    target: u64,
    since_us: Micros,
    caught_up: bool,
}

struct Waiter {
    token: Token,
    node_id: String,
    deadline_us: Micros,
}

#[derive(Default)]
pub struct Membership {
    /// Directories that belong to no cluster and are connected, by name.
    strangers: BTreeMap<String, Stranger>,
    waiters: Vec<Waiter>,
    refused: VecDeque<u64>,
    dialed: Vec<(String, String)>,
    /// Members as the leader that admitted this node said, until its own rows name it.
    welcomed: Vec<(String, String)>,
    leaderless_since_us: Option<Micros>,
    /// The cluster has removed this node.
    removed: bool,
    /// From here on: of one leadership.
    since_us: Option<Micros>,
    /// Members without a row, and when they came.
    doubted: BTreeMap<u64, Micros>,
    catching: BTreeMap<u64, Catching>,
    /// The own commands proposed last stand at or below this index.
    asked_index: u64,
    welcome_at_us: Micros,
    hand_over_at_us: Micros,
}

struct Stranger {
    raft_id: u64,
    /// Raft ids of its own whose directories are gone.
    retired: Vec<u64>,
}

impl Membership {
    /// Leadership moved.
    pub fn stop_leading(&mut self) {
        (self.since_us, self.asked_index, self.welcome_at_us, self.hand_over_at_us) = (None, 0, 0, 0);
        self.catching.clear();
        self.doubted.clear();
    }

    pub fn is_removed(&self) -> bool {
        self.removed
    }

    /// The leader has put its own commands on members into the log.
    pub fn asked(&mut self, last_index: u64) {
        self.asked_index = last_index;
    }

    fn met(&mut self, hello: &Hello) {
        if hello.cluster_id == 0 && (self.strangers.len() < STRANGERS_MAX || self.strangers.contains_key(&hello.node_id)) {
            let stranger = Stranger { raft_id: hello.raft_id, retired: hello.retired.clone() };
            self.strangers.insert(hello.node_id.clone(), stranger);
        } else {
            self.gone(hello.raft_id);
        }
    }

    pub fn gone(&mut self, raft_id: u64) {
        self.strangers.retain(|_, s| s.raft_id != raft_id);
    }

    fn catch_up(&mut self, learners: &[PeerProgress], last_index: u64, now_us: Micros, round_us: Micros) {
        self.catching.retain(|id, _| learners.iter().any(|p| p.raft_id == *id));
        for learner in learners {
            let begun = Catching { target: last_index, since_us: now_us, caught_up: false };
            let catching = self.catching.entry(learner.raft_id).or_insert(begun);
            let took_us = now_us.saturating_sub(catching.since_us);
            if !learner.replicating {
                *catching = Catching { target: last_index, since_us: now_us, caught_up: false };
            } else if learner.match_index >= catching.target {
                *catching = Catching { target: last_index, since_us: now_us, caught_up: took_us <= round_us };
            } else if took_us > round_us {
                catching.caught_up = false;
            }
        }
    }
}

/// Whether the leader alone proposes it, and one at a time.
pub fn is_own_command(body: &Body) -> bool {
    matches!(body, Body::AdmitMember(_) | Body::SettleMember(_) | Body::SwapVoter(_))
}

/// Where a command says who is alive, which the leader knows where it packs the command.
pub fn alive_in(body: &mut Body) -> Option<&mut Vec<u64>> {
    match body {
        Body::AddMember(c) => Some(&mut c.alive),
        Body::RemoveMember(c) => Some(&mut c.alive),
        Body::ReplaceMember(c) => Some(&mut c.alive),
        _ => None,
    }
}

/// What a node says when it hears that the cluster has removed it.
pub fn removed_reason(identity: &Identity, node_id: &str) -> String {
    let Identity { raft_id, cluster_id, .. } = identity;
    format!(
        "this node (raft id {raft_id:016x}) was removed from cluster {cluster_id:016x}. Its directory is of no more use to the \
         cluster and was left as it is; to take part again, start with an empty directory and run `taskquorum cluster add {node_id}`"
    )
}

fn ids(members: &[Member]) -> BTreeSet<u64> {
    members.iter().flat_map(|m| std::iter::once(m.raft_id).chain(m.replaces.iter().copied())).filter(|id| *id != 0).collect()
}

impl Driver {
    // ---- whom this node knows, dials and refuses --------------------------------------------

    /// A stream to a peer is up. False: there is nothing more to do with it.
    pub(crate) fn meet(&mut self, hello: &Hello) -> bool {
        if hello.you_were_removed {
            let own = [0, hello.cluster_id].contains(&self.identity.cluster_id) && hello.cluster_id != 0;
            if own {
                self.removed();
            }
            return false;
        }
        self.membership.met(hello);
        // An observer may know the cluster before it is registered.
        if hello.cluster_id != 0 && hello.cluster_id == self.identity.cluster_id && !hello.duplex {
            self.refuse_unknown(hello.raft_id);
        }
        true
    }

    pub(crate) fn removed(&mut self) {
        self.membership.removed = true;
        for waiter in std::mem::take(&mut self.membership.waiters) {
            let done = waiter.node_id == self.config.node_id;
            let detail = if done { "removed" } else { "the node that was asked was removed" };
            self.effects.push(Effect::CompleteTask { token: waiter.token, done, detail: detail.into() });
        }
        let reason = removed_reason(&self.identity, &self.config.node_id);
        self.effects.push(Effect::Removed { reason });
    }

    /// A member of the cluster that an established leader has no row for was removed: nothing but
    /// rows that it has applied ever admitted one.
    pub(crate) fn refuse_unknown(&mut self, raft_id: u64) {
        let Some(consensus) = &self.consensus else { return };
        // With every message of Raft: voters first, and nothing built.
        let has_row = || self.peers.members().iter().any(|m| m.raft_id == raft_id || m.replaces.contains(&raft_id));
        let known = has_member(consensus.configuration(), raft_id) || has_row();
        if !known && self.leader.is_established() && self.is_leader() {
            // This leader may have been deposed without knowing, and the member admitted by the next one.
            if self.membership.doubted.len() < REFUSED_MAX {
                self.membership.doubted.entry(raft_id).or_insert(self.now_us);
            }
            self.reads.wait(Reader::Lease);
        }
    }

    /// A quorum has confirmed a round that began after a stranger came: whoever admitted it led before
    /// this leader did, or was this one, and its row would be here.
    fn refuse_doubted(&mut self) {
        let confirmed_us = self.leader.confirmed_us();
        let sure = |at: &Micros| confirmed_us.is_some_and(|begun| begun >= *at);
        let due: Vec<u64> = self.membership.doubted.iter().filter(|(_, at)| sure(at)).map(|(id, _)| *id).collect();
        for raft_id in due {
            self.membership.doubted.remove(&raft_id);
            let row = ids(self.peers.members()).contains(&raft_id);
            if !row && self.consensus.as_ref().is_some_and(|c| !has_member(c.configuration(), raft_id)) {
                self.refuse_peer(raft_id);
            }
        }
        if !self.membership.doubted.is_empty() {
            self.reads.wait(Reader::Lease);
        }
    }

    fn refuse_peer(&mut self, raft_id: u64) {
        if self.membership.refused.contains(&raft_id) {
            return;
        }
        if self.membership.refused.len() == REFUSED_MAX {
            self.membership.refused.pop_front();
        }
        self.membership.refused.push_back(raft_id);
        self.effects.push(Effect::RefusePeer { raft_id });
    }

    pub(crate) fn is_refused(&self, raft_id: u64) -> bool {
        self.membership.refused.contains(&raft_id)
    }

    /// The rows have changed, as applied here.
    pub(crate) fn members_changed(&mut self, members: Vec<Member>) {
        let (before, now) = (ids(self.peers.members()), ids(&members));
        self.peers.set_members(members);
        self.membership.welcome_at_us = 0;
        for id in before.difference(&now) {
            if *id == self.identity.raft_id {
                self.removed();
            } else {
                self.refuse_peer(*id);
            }
        }
        self.dial();
    }

    /// Dials the members. What only the settings or a welcome name is dialed as long as this node is
    /// no settled member, or knows no leader for a while: the rows it has may be old.
    pub(crate) fn dial(&mut self) {
        if self.consensus.is_none() {
            return;
        }
        let own = self.config.node_id.as_str();
        let members = self.peers.members();
        let rows = members.iter().filter(|m| m.role != MemberRole::Observer || m.raft_id == 0);
        let mut dialed: Vec<_> = rows.map(|m| (m.node_id.clone(), m.address.clone())).collect();
        let settled = members.iter().any(|m| m.raft_id == self.identity.raft_id && m.state != MemberState::Joining);
        let lost = self.membership.leaderless_since_us.is_some_and(|since| self.now_us >= since + LOST_US);
        if !settled || lost {
            // The leader's word is newer than rows that do not name this node yet.
            for (node_id, address) in &self.membership.welcomed {
                match dialed.iter_mut().find(|(n, _)| n == node_id) {
                    Some(known) if !settled => known.1 = address.clone(),
                    Some(_) => {}
                    None => dialed.push((node_id.clone(), address.clone())),
                }
            }
            for (node_id, address) in &self.config.expected_nodes {
                if !dialed.iter().any(|(n, _)| n == node_id) {
                    dialed.push((node_id.clone(), address.clone()));
                }
            }
        }
        dialed.retain(|(node_id, address)| node_id != own && !address.is_empty());
        dialed.sort();
        if dialed != self.membership.dialed {
            self.membership.dialed = dialed.clone();
            self.effects.push(Effect::DialPeers(dialed));
        }
    }

    /// Everybody's part of a tick.
    pub(crate) fn tick_membership(&mut self) {
        let leader = self.consensus.as_ref().map_or(0, Consensus::leader);
        match (leader, self.membership.leaderless_since_us) {
            (0, None) => self.membership.leaderless_since_us = Some(self.now_us),
            (0, Some(_)) => self.dial(),
            (_, None) => {}
            (_, Some(_)) => {
                self.membership.leaderless_since_us = None;
                self.dial();
            }
        }
        self.answer_awaiting(true);
    }

    /// The cluster has taken this node in.
    pub(crate) fn welcome(&mut self, welcome: Welcome) {
        let Welcome { raft_id, bootstrap, members } = welcome;
        let Some(bootstrap) = bootstrap.filter(|b| raft_id == self.identity.raft_id && b.cluster_id != 0) else { return };
        if self.identity.cluster_id == 0 {
            if let Err(error) = self.enter_cluster(bootstrap) {
                return self.halt(format!("the cluster's first configuration cannot be used: {error}"));
            }
        } else if self.identity.cluster_id != bootstrap.cluster_id {
            return;
        }
        self.membership.welcomed = members.into_iter().map(|m| (m.node_id, m.address)).collect();
        self.dial();
    }

    /// This node joined a cluster that began with restored rows and has no state yet: an append that
    /// begins at index 1 belongs onto rows that it does not have.
    pub(crate) fn lacks_rows_for(&self, message: &[u8]) -> bool {
        let blank = self.identity.bootstrap.as_ref().is_some_and(|b| b.members.is_empty());
        blank && self.applied_index == 0 && consensus::begins_at_first_entry(message)
    }

    // ---- callers that wait -------------------------------------------------------------------

    pub(crate) fn await_member(&mut self, token: Token, node_id: String, deadline_us: Micros) {
        self.membership.waiters.push(Waiter { token, node_id, deadline_us });
        self.answer_awaiting(false);
    }

    /// Answers those whose member is settled or gone, and those whose deadline has passed.
    pub(crate) fn answer_awaiting(&mut self, expire: bool) {
        if self.membership.waiters.is_empty() {
            return;
        }
        for waiter in std::mem::take(&mut self.membership.waiters) {
            let row = self.peers.members().iter().find(|m| m.node_id == waiter.node_id);
            let (done, detail) = match row {
                None => (true, "removed".to_owned()),
                Some(row) => (row.state == MemberState::Active, self.progress_of(row)),
            };
            if done || (expire && self.now_us >= waiter.deadline_us) {
                self.effects.push(Effect::CompleteTask { token: waiter.token, done, detail });
            } else {
                self.membership.waiters.push(waiter);
            }
        }
    }

    /// How far a member has come, for people.
    pub(crate) fn progress_of(&self, member: &Member) -> String {
        let configuration = self.consensus.as_ref().map(|c| c.configuration().clone()).unwrap_or_default();
        let (name, role) = (member.role.name(), member.state);
        match role {
            MemberState::Active => name.to_owned(),
            MemberState::Leaving => "waits to be let go by the configuration".to_owned(),
            MemberState::Replacing => format!("waits for an empty directory of this name at {}", member.address),
            MemberState::Joining if member.raft_id == 0 => format!("waits for the node to answer at {}", member.address),
            MemberState::Joining if !has_member(&configuration, member.raft_id) => "waits to enter the configuration".to_owned(),
            MemberState::Joining if configuration.learners.contains(&member.raft_id) => format!("catches up to be a {name}"),
            MemberState::Joining => format!("becomes a {name}"),
        }
    }
}
