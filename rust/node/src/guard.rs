//! What a node does about its own soundness: it checks, fences itself, and takes a sound state from the others.
//!
//! A *fenced* node serves nothing, votes for nobody, does not campaign, extends no lease and applies nothing.
//! Its log is sound, so it goes on storing and acknowledging entries under its identity; it asks the leader
//! for a snapshot, and is itself again once that is installed. What it had is kept aside by the runtime.
//!
//! Writes *stop* where no majority of the voters agrees on the state: nobody can say who is right.

use codec::command::{Body, Command, HashCheck};
use codec::integrity::{Acknowledged, StateHash, VerifyRequest, VerifyResult};
use codec::peer::{Lane, PeerBody};

use crate::driver::Driver;
use crate::effect::{Effect, ProposalEnd};
use crate::event::{CheckApplied, Micros, Token};
use crate::integrity::{CHECK_ENTRIES, Count, Hash, Verdict, short};
use crate::verify::{ASK_AGAIN_US, Asker, Verifies, WAITING_MAX};

/// The leader checks this often if anything was applied.
const CHECK_US: Micros = 2_000_000;
/// Voters that differ while others are silent: writes stop when nobody has settled it for so long.
const DISPUTE_US: Micros = 5_000_000;
/// A leader that must fence itself gives leadership away in this time, or just steps down.
const HAND_OVER_US: Micros = 1_500_000;
/// A verification that is not complete after this time does not hold up the next one: a member that is still
/// reading answers the older one only.
const VERIFY_US: Micros = 2_000_000;
/// How often a fenced node asks for a snapshot; Raft drops what is asked twice.
const ASK_US: Micros = 500_000;

/// A node that has fenced itself.
#[derive(Debug)]
struct Fence {
    reason: String,
    /// Leader: still giving leadership away, until then.
    leaving_until_us: Option<Micros>,
    asked_us: Option<Micros>,
}

#[derive(Debug, Default)]
pub struct Guard {
    pub(crate) verifies: Verifies,
    fence: Option<Fence>,
    /// Why writes have stopped.
    stopped: Option<String>,
    disputed: Option<(u64, Micros)>,
    /// Leader: when to check next, and the entry up to which nothing is unchecked.
    check_at_us: Micros,
    checked_index: u64,
    fences: u64,
}

impl Guard {
    /// A node that starts without a usable state.
    pub fn without_state() -> Self {
        let reason = "the state is missing or damaged".to_owned();
        Self { fence: Some(Fence { reason, leaving_until_us: None, asked_us: None }), ..Self::default() }
    }

    /// Why this node has fenced itself.
    pub fn fenced(&self) -> Option<&str> {
        self.fence.as_ref().map(|f| f.reason.as_str())
    }

    /// Fenced, and no longer giving leadership away.
    pub fn is_shut(&self) -> bool {
        self.fence.as_ref().is_some_and(|f| f.leaving_until_us.is_none())
    }

    /// Why no node takes writes.
    pub fn stopped(&self) -> Option<&str> {
        self.stopped.as_deref()
    }

    /// How often this process has fenced itself.
    pub fn fences(&self) -> u64 {
        self.fences
    }
}

/// What may be proposed while writes stop: what finds out, and what brings in other members.
fn repairs(body: &Body) -> bool {
    matches!(body, Body::OpenSession(_) | Body::HashCheck(_)) || is_about_members(body)
}

fn is_about_members(body: &Body) -> bool {
    matches!(body, Body::AddMember(_) | Body::RemoveMember(_) | Body::ReplaceMember(_)) || crate::membership::is_own_command(body)
}

impl Driver {
    /// Says what is wrong with the state that this node was started without.
    pub fn explain_fence(&mut self, reason: String) {
        if let Some(fence) = &mut self.guard.fence {
            fence.reason = reason;
        }
    }

    // ---- checks ------------------------------------------------------------------------------

    /// Own hashes after a batch: remembered, and told at each check.
    pub(crate) fn guard_applied(&mut self, hashes: Vec<(u64, Hash)>, checks: &[CheckApplied]) {
        let mut due: Vec<u64> = hashes.iter().map(|(i, _)| *i).filter(|i| i % CHECK_ENTRIES == 0).collect();
        self.peers.hashes.applied(hashes);
        for check in checks {
            due.push(check.index);
            if check.alone {
                self.guard.checked_index = check.at;
            }
            if check.verify != 0 {
                self.guard.verifies.round(check.verify).applied(check.at);
                self.guard.verifies.requested.retain(|v| *v != check.verify);
            }
        }
        if due.is_empty() {
            return;
        }
        for index in due {
            if let Some(hash) = self.peers.hashes.own_at(index) {
                self.tell_all(PeerBody::StateHash(StateHash { index, hash: hash.to_vec() }));
            }
        }
        self.judge();
    }

    /// The state was loaded or replaced: only its newest hash is known.
    pub(crate) fn guard_loaded(&mut self) {
        self.peers.hashes.replaced();
        if self.applied_index > 0 {
            self.peers.hashes.applied([(self.applied_index, self.hash)]);
        }
    }

    pub(crate) fn hash_heard(&mut self, from: u64, index: u64, hash: &[u8]) {
        self.peers.hashes.heard(from, index, hash);
        self.judge();
    }

    fn judge(&mut self) {
        if self.guard.fence.is_some() {
            return;
        }
        let Some(consensus) = &self.consensus else { return };
        let voters = consensus.configuration().voters.clone();
        match self.peers.hashes.judge(self.identity.raft_id, &voters) {
            Verdict::Open => {}
            Verdict::Agreed { .. } => {
                self.guard.disputed = None;
                self.guard.stopped = None;
            }
            Verdict::Minority { index, own, majority, agreeing } => {
                let reason = format!(
                    "this node's state differs from that of {} of {} voters at index {index} (hash {} here, {} there)",
                    agreeing.len(),
                    voters.len(),
                    short(&own),
                    short(&majority)
                );
                self.fence(reason, &agreeing);
            }
            Verdict::Split { index, hashes } => self.stop_writes(index, &hashes),
            Verdict::Disputed { index, hashes } => {
                let since_us = self.guard.disputed.map_or(self.now_us, |(_, since)| since);
                self.guard.disputed = Some((index, since_us));
                if self.now_us >= since_us + DISPUTE_US {
                    self.stop_writes(index, &hashes);
                }
            }
        }
    }

    fn stop_writes(&mut self, index: u64, hashes: &[(u64, Hash)]) {
        let named = |(id, hash): &(u64, Hash)| {
            let name = if *id == self.identity.raft_id { Some(self.config.node_id.as_str()) } else { self.peers.node_id(*id) };
            format!("{} {}", name.unwrap_or("?"), short(hash))
        };
        let shown: Vec<String> = hashes.iter().map(named).collect();
        self.guard.stopped = Some(format!(
            "writes have stopped: no majority of the voters has the same state at index {index} ({}). Nothing was changed. Copy every \
             data directory, run `taskquorum cluster verify`, and on each node whose state is not to be trusted (hand leadership to \
             another one first) stop the process, move its newest state-* directory aside and start it again: it takes the state of \
             the leader",
            shown.join(", ")
        ));
    }

    /// Leader: proposes a check if anything was applied since the last one, or a difference is open.
    pub(crate) fn check_hashes(&mut self) {
        let open = self.guard.stopped.is_some() || self.guard.disputed.is_some();
        let changed = self.applied_index > self.guard.checked_index || open;
        let index = self.applied_index;
        if !self.guard.verifies.requested.is_empty() && self.may_verify() {
            let verify = self.guard.verifies.requested.remove(0);
            self.guard.verifies.proposed = Some((verify, self.now_us));
            return self.leader.push(Body::HashCheck(HashCheck { index, hash: self.hash.to_vec(), verify }));
        }
        if changed && index > 0 && self.now_us >= self.guard.check_at_us {
            self.guard.check_at_us = self.now_us + CHECK_US;
            self.leader.push(Body::HashCheck(HashCheck { index, hash: self.hash.to_vec(), verify: 0 }));
        }
    }

    /// One verification at a time: everybody reads all rows for it.
    fn may_verify(&self) -> bool {
        let Some((verify, since_us)) = self.guard.verifies.proposed else { return true };
        let round = self.guard.verifies.rounds.iter().find(|r| r.verify == verify);
        round.is_some_and(|r| r.is_complete(&self.verifying_members())) || self.now_us >= since_us + VERIFY_US
    }

    // ---- the fence ---------------------------------------------------------------------------

    /// Stops serving with this state. `sound` are voters that can lead instead; none: whoever is caught up.
    pub(crate) fn fence(&mut self, reason: String, sound: &[u64]) {
        if self.guard.fence.is_some() || self.consensus.is_none() {
            return;
        }
        self.guard.fences += 1;
        let mut fence = Fence { reason, leaving_until_us: None, asked_us: None };
        if self.is_leader() {
            fence.leaving_until_us = Some(self.now_us + HAND_OVER_US);
            let to = self.most_caught_up_of(|id| sound.is_empty() || sound.contains(id));
            if let (Some(to), Some(consensus)) = (to, &mut self.consensus) {
                consensus.transfer_leader(to);
            }
        }
        self.guard.fence = Some(fence);
        self.give_up_waiters();
        self.shut();
    }

    /// Closes the fence once this node does not lead.
    fn shut(&mut self) {
        let (now_us, leads) = (self.now_us, self.is_leader());
        let (Some(fence), Some(consensus)) = (&mut self.guard.fence, &mut self.consensus) else { return };
        if leads {
            if fence.leaving_until_us.is_some_and(|until| now_us < until) {
                return;
            }
            consensus.step_down();
        }
        fence.leaving_until_us = None;
        consensus.set_fenced(true);
        self.effects.push(Effect::Fence { reason: fence.reason.clone() });
    }

    /// Nobody waits for what this node will not answer.
    fn give_up_waiters(&mut self) {
        for token in self.reads.expire(Micros::MAX) {
            self.effects.push(Effect::CompleteRead { token, readable: false });
        }
        self.give_up_beats();
    }

    /// Part of a tick: closes the fence, asks for a snapshot, ends disputes and verifications.
    pub(crate) fn guard_tick(&mut self) {
        if self.guard.fence.as_ref().is_some_and(|f| f.leaving_until_us.is_some()) {
            self.shut();
        }
        let now_us = self.now_us;
        if let (Some(fence), Some(consensus)) = (&mut self.guard.fence, &mut self.consensus)
            && fence.leaving_until_us.is_none()
            && fence.asked_us.is_none_or(|at| now_us >= at + ASK_US)
        {
            fence.asked_us = Some(now_us);
            consensus.request_snapshot();
        }
        if self.guard.disputed.is_some_and(|(_, since)| now_us >= since + DISPUTE_US) {
            self.judge();
        }
        self.ask_to_verify();
    }

    /// A snapshot from the others is in use: this node is sound again.
    pub(crate) fn guard_installed(&mut self) {
        if let (Some(_), Some(consensus)) = (self.guard.fence.take(), &mut self.consensus) {
            consensus.set_fenced(false);
        }
    }

    /// True if the group was refused: this node, or the whole cluster, takes no writes.
    pub(crate) fn refuses(&mut self, token: Token, bodies: &[Body]) -> bool {
        let refuse = self.guard.fence.is_some() || (self.guard.stopped.is_some() && !bodies.iter().all(repairs));
        if refuse {
            self.effects.push(Effect::CompleteProposal { token, end: ProposalEnd::Refused, outcomes: Vec::new() });
        }
        refuse
    }

    /// Leader: what it does not pack while writes stop. Sessions hand their commands over again.
    pub(crate) fn hold_back(&self, commands: &mut Vec<Command>) {
        if self.guard.stopped.is_some() || self.guard.fence.is_some() {
            commands.retain(|c| c.body.as_ref().is_some_and(repairs));
        }
    }

    // ---- messages and reports ----------------------------------------------------------------

    pub(crate) fn guard_received(&mut self, from: u64, body: PeerBody) {
        match body {
            PeerBody::StateHash(StateHash { index, hash }) => self.hash_heard(from, index, &hash),
            PeerBody::VerifyRequest(VerifyRequest { verify }) if self.is_leader() => self.guard.verifies.request(verify),
            PeerBody::VerifyResult(result) => self.verify_result(from, result),
            PeerBody::Acknowledged(acknowledged) => self.acknowledged(&acknowledged),
            _ => {}
        }
    }

    /// A peer's stream came up: what it said before may be of another process, and if this node leads
    /// it says what that peer has acknowledged.
    pub(crate) fn guard_peer_up(&mut self, raft_id: u64) {
        self.peers.hashes.forget(raft_id);
        let Some(consensus) = self.consensus.as_ref().filter(|_| self.is_leader()) else { return };
        let index = consensus.progress().iter().find(|p| p.raft_id == raft_id).map_or(0, |p| p.match_index);
        let acknowledged = Acknowledged { term: consensus.term(), index };
        if index > 0 {
            self.send(raft_id, Lane::Control, PeerBody::Acknowledged(acknowledged));
        }
    }

    /// A leader saw this node acknowledge more in its term than this node remembers: entries, or the term
    /// itself, that were promised are gone, so this identity must never vote again.
    fn acknowledged(&mut self, acknowledged: &Acknowledged) {
        let Some(consensus) = &self.consensus else { return };
        let (last_index, term) = (consensus.last_index(), consensus.term());
        // What was acknowledged in a term can only be cut in a later one.
        let forgotten = term < acknowledged.term || (term == acknowledged.term && last_index < acknowledged.index);
        if !forgotten {
            return;
        }
        self.retire(&format!(
            "the log ends with entry {last_index} and term {term}, but this node had acknowledged entry {} to the leader of term {}",
            acknowledged.index, acknowledged.term
        ));
    }

    /// This log has lost what it had promised: its identity must never vote again.
    pub(crate) fn retire(&mut self, what: &str) {
        let reason = format!("{what}: the directory is an older copy, or has lost what was synced");
        self.effects.push(Effect::Retire { reason });
    }

    /// Rows or records of the state could not be read, or contradict their checksums.
    pub(crate) fn state_damaged(&mut self, reason: String) {
        self.fence(format!("the state is damaged: {reason}"), &[]);
    }

    /// Everybody who has the log; observers follow on their own.
    fn tell_all(&mut self, body: PeerBody) {
        let own = self.identity.raft_id;
        for to in self.with_the_log().into_iter().filter(|id| *id != own) {
            self.send(to, Lane::Control, body.clone());
        }
    }

    fn with_the_log(&self) -> Vec<u64> {
        let Some(consensus) = &self.consensus else { return Vec::new() };
        let configuration = consensus.configuration();
        configuration.voters.iter().chain(&configuration.learners).copied().collect()
    }

    /// Those that a verification waits for: with the log, and heard lately.
    pub(crate) fn verifying_members(&self) -> Vec<u64> {
        let mut members = self.with_the_log();
        members.retain(|id| *id == self.identity.raft_id || self.peers.fresh(*id, self.now_us));
        members
    }

    // ---- verification ------------------------------------------------------------------------

    pub(crate) fn verify(&mut self, token: Token, deadline_us: Micros) {
        let refuse = |driver: &mut Self, detail: &str| {
            driver.effects.push(Effect::CompleteTask { token, done: false, detail: detail.to_owned() });
        };
        if self.consensus.is_none() {
            return refuse(self, "the node belongs to no cluster yet");
        }
        if self.guard.verifies.askers.len() >= WAITING_MAX {
            return refuse(self, "too many verifications wait");
        }
        let verify = self.guard.verifies.number(self.config.incarnation);
        self.guard.verifies.round(verify);
        self.guard.verifies.askers.push(Asker { token, verify, deadline_us, asked_us: None });
        self.ask_to_verify();
    }

    /// Asks the leader until the check is applied, and ends what is complete or late.
    fn ask_to_verify(&mut self) {
        if self.guard.verifies.askers.is_empty() {
            return;
        }
        let (now_us, leads, leader) = (self.now_us, self.is_leader(), self.leader_peer());
        let heard = self.verifying_members();
        let mut waiting = Vec::new();
        for mut asker in std::mem::take(&mut self.guard.verifies.askers) {
            let round = self.guard.verifies.round(asker.verify);
            if round.is_complete(&heard) || now_us >= asker.deadline_us {
                let done = round.index != 0;
                let detail = if done { String::new() } else { "no leader took the verification up in time".to_owned() };
                self.effects.push(Effect::CompleteTask { token: asker.token, done, detail });
                continue;
            }
            if round.index == 0 && asker.asked_us.is_none_or(|at| now_us >= at + ASK_AGAIN_US) {
                asker.asked_us = Some(now_us);
                match leader {
                    _ if leads => self.guard.verifies.request(asker.verify),
                    Some(leader) => {
                        let body = PeerBody::VerifyRequest(VerifyRequest { verify: asker.verify });
                        self.effects.push(Effect::Send { to: leader, lane: Lane::Control, body });
                    }
                    None => {}
                }
            }
            waiting.push(asker);
        }
        self.guard.verifies.askers = waiting;
    }

    /// This node has read its rows.
    pub(crate) fn verified(&mut self, result: VerifyResult) {
        self.tell_all(PeerBody::VerifyResult(result.clone()));
        self.verify_result(self.identity.raft_id, result);
    }

    fn verify_result(&mut self, of: u64, result: VerifyResult) {
        if result.verify == 0 {
            return;
        }
        let Some(voters) = self.consensus.as_ref().map(|c| c.configuration().voters.clone()) else { return };
        let own_id = self.identity.raft_id;
        let round = self.guard.verifies.round(result.verify);
        round.heard(of, result);
        let own = round.results.get(&own_id).cloned();
        let counted = round.count(&voters);
        let agreeing = match counted {
            Count::Majority(hash) => round.agreeing(&voters, hash),
            _ => Vec::new(),
        };
        self.ask_to_verify();
        let Some(own) = own else { return };
        if !own.error.is_empty() {
            return self.state_damaged(own.error);
        }
        match counted {
            Count::Majority(hash) if hash.as_slice() != own.computed.as_slice() => {
                let reason = format!(
                    "the rows of this node's state add up to hash {} at index {}, those of {} of {} voters to {}",
                    short(&own.computed),
                    own.index,
                    agreeing.len(),
                    voters.len(),
                    short(&hash)
                );
                self.fence(reason, &agreeing);
            }
            Count::Majority(_) if own.kept != own.computed => {
                self.alerts.insert(format!("the kept state hash differs from that of the rows at index {}", own.index));
            }
            Count::Majority(_) | Count::Open => {}
            Count::Impossible => {
                let hashes = |r: &crate::verify::VerifyRound| {
                    let of = |id: &u64| r.results.get(id).and_then(|x| Hash::try_from(x.computed.as_slice()).ok());
                    voters.iter().filter_map(|id| of(id).map(|h| (*id, h))).collect::<Vec<_>>()
                };
                let hashes = hashes(self.guard.verifies.round(own.verify));
                self.stop_writes(own.index, &hashes);
            }
        }
    }
}
