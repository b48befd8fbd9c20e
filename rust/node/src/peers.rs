//! What is known of the other members: who they are, whether they are heard, what they report.

use std::collections::BTreeMap;

use codec::peer::{Hello, NodeReport};
use codec::row::{DrainState, MemberRole};

use crate::event::{Member, Micros};
use crate::integrity::{Hash, Hashes};
use crate::view::{MemberView, role_name};

/// Silence after which a member is suspected, and after which it counts as down.
const SUSPECT_US: Micros = 1_500_000;
const DOWN_US: Micros = 5_000_000;
/// Clock difference between nodes that raises an alert.
const CLOCK_SKEW_US_MAX: i64 = 500_000;

#[derive(Default)]
struct Peer {
    up: bool,
    heard_us: Option<Micros>,
    heard_wall_us: u64,
    report: Option<NodeReport>,
    clock_skew_us: i64,
}

#[derive(Default)]
pub struct Peers {
    members: Vec<Member>,
    peers: BTreeMap<u64, Peer>,
    /// State hashes, own and heard.
    pub(crate) hashes: Hashes,
}

impl Peers {
    pub fn set_members(&mut self, members: Vec<Member>) {
        self.members = members;
    }

    pub fn members(&self) -> &[Member] {
        &self.members
    }

    pub fn node_id(&self, raft_id: u64) -> Option<&str> {
        self.members.iter().find(|m| m.raft_id == raft_id && raft_id != 0).map(|m| m.node_id.as_str())
    }

    pub fn raft_id(&self, node_id: &str) -> Option<u64> {
        self.members.iter().find(|m| m.node_id == node_id && m.raft_id != 0).map(|m| m.raft_id)
    }

    /// Members with a log beside `own`: observers are told and tell through their tree.
    pub fn others(&self, own: u64) -> Vec<u64> {
        let logged = self.members.iter().filter(|m| m.role != MemberRole::Observer);
        logged.map(|m| m.raft_id).filter(|id| *id != own && *id != 0).collect()
    }

    /// Heard of lately.
    pub fn fresh(&self, raft_id: u64, now_us: Micros) -> bool {
        self.peers.get(&raft_id).and_then(|p| p.heard_us).is_some_and(|at| now_us < at + SUSPECT_US)
    }

    /// HTTP address as the member reported it.
    pub fn http_address(&self, raft_id: u64) -> String {
        let report = self.peers.get(&raft_id).and_then(|p| p.report.as_ref());
        report.map(|r| r.http_address.clone()).unwrap_or_default()
    }

    /// This node's own hash after an entry, if it is remembered.
    pub fn hash_at(&self, index: u64) -> Option<[u8; 16]> {
        self.hashes.own_at(index)
    }

    pub fn remember_hashes(&mut self, hashes: impl IntoIterator<Item = (u64, Hash)>) {
        self.hashes.applied(hashes);
    }

    pub fn forget_hashes(&mut self) {
        self.hashes.replaced();
    }

    pub fn is_up(&self, raft_id: u64) -> bool {
        self.peers.get(&raft_id).is_some_and(|p| p.up)
    }

    pub fn heard_at_us(&self, raft_id: u64) -> Option<Micros> {
        self.peers.get(&raft_id)?.heard_us
    }

    /// Raft ids heard lately, with this node's.
    pub fn alive(&self, own: u64, now_us: Micros) -> Vec<u64> {
        let fresh = self.peers.iter().filter(|(_, p)| p.heard_us.is_some_and(|at| now_us < at + SUSPECT_US));
        std::iter::once(own).chain(fresh.map(|(id, _)| *id).filter(|id| *id != own)).collect()
    }

    pub fn up(&mut self, hello: &Hello) {
        self.peers.entry(hello.raft_id).or_default().up = true;
    }

    pub fn down(&mut self, raft_id: u64) {
        if let Some(peer) = self.peers.get_mut(&raft_id) {
            peer.up = false;
        }
    }

    pub fn heard(&mut self, raft_id: u64, now_us: Micros, wall_us: u64) {
        let peer = self.peers.entry(raft_id).or_default();
        peer.heard_us = Some(now_us);
        peer.heard_wall_us = wall_us;
    }

    pub fn reported(&mut self, raft_id: u64, report: NodeReport, wall_us: u64) {
        let peer = self.peers.entry(raft_id).or_default();
        peer.clock_skew_us = report.wall_us as i64 - wall_us as i64;
        peer.report = Some(report);
    }

    /// Voters among `voters` that were heard lately, with this node.
    pub fn healthy(&self, voters: &[u64], own: u64, now_us: Micros) -> usize {
        let fresh =
            |id: &&u64| **id == own || self.peers.get(*id).and_then(|p| p.heard_us).is_some_and(|at| now_us < at + SUSPECT_US);
        voters.iter().filter(fresh).count()
    }

    pub fn alerts(&self) -> Vec<String> {
        let mut alerts = Vec::new();
        for member in &self.members {
            let Some(peer) = self.peers.get(&member.raft_id) else { continue };
            if let Some(fenced) = peer.report.as_ref().map(|r| r.fenced.as_str()).filter(|f| !f.is_empty()) {
                alerts.push(format!("{} has fenced itself: {fenced}", member.node_id));
            }
            if peer.clock_skew_us.abs() > CLOCK_SKEW_US_MAX {
                alerts.push(format!("clock of {} is {} ms away from this node's", member.node_id, peer.clock_skew_us / 1_000));
            }
        }
        alerts
    }

    /// The members as `/cluster/nodes` shows them; `own` describes this node itself.
    pub fn views(&self, own: u64, own_view: &MemberView, now_us: Micros) -> Vec<MemberView> {
        self.members.iter().map(|m| if m.raft_id == own { own_view.clone() } else { self.view(m, now_us) }).collect()
    }

    fn view(&self, member: &Member, now_us: Micros) -> MemberView {
        let mut view = MemberView {
            node_id: member.node_id.clone(),
            raft_id: member.raft_id,
            address: member.address.clone(),
            ..MemberView::default()
        };
        let peer = self.peers.get(&member.raft_id);
        let silent_us = peer.and_then(|p| p.heard_us).map(|at| now_us.saturating_sub(at));
        view.status = match (silent_us, member.drain) {
            (None, _) => "down",
            (Some(silent), _) if silent >= DOWN_US => "down",
            (Some(silent), _) if silent >= SUSPECT_US => "suspect",
            _ if peer.and_then(|p| p.report.as_ref()).is_some_and(|r| !r.fenced.is_empty()) => "damaged",
            (_, drain) => drained_or_healthy(drain),
        };
        view.role = "follower";
        if let Some(peer) = peer {
            view.heard_wall_us = peer.heard_wall_us;
            if let Some(report) = &peer.report {
                view.role = role_name(&report.role);
                view.http_address = report.http_address.clone();
                view.version = report.version.clone();
                view.agents = Some(report.agents);
                view.load_bp = <[u32; 3]>::try_from(report.load_bp.as_slice()).ok();
                view.clock_skew_us = Some(peer.clock_skew_us);
                view.match_index = Some(report.applied_index);
            }
        }
        view
    }
}

/// The status of a member that is heard.
pub fn drained_or_healthy(drain: DrainState) -> &'static str {
    match drain {
        DrainState::None => "healthy",
        DrainState::Draining => "draining",
        DrainState::Drained => "drained",
    }
}
