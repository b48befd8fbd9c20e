//! What a node puts out: Raft's rounds as effects, and what waited for a leader.
//!
//! Commands and reads go to the leader before the rounds are taken, so that what this node proposes
//! leaves with the same turn.

use codec::command::Command;
use codec::log::LogBase;
use codec::peer::{Forward, Lane, PeerBody, ReadIndexRequest};
use consensus::{Consensus, Outgoing, Role, Round};

use super::Driver;
use crate::effect::Effect;
use crate::event::ApplyInput;
use crate::leader::Leader;

impl Driver {
    /// Everything to do now, in order.
    pub fn ready(&mut self) -> Vec<Effect> {
        self.route_commands();
        self.begin_reads();
        loop {
            let Some(round) = self.consensus.as_mut().and_then(Consensus::ready) else { break };
            self.round(round);
        }
        self.refuse_offers();
        self.serve_observers();
        self.fetch_and_snapshot();
        std::mem::take(&mut self.effects)
    }

    fn round(&mut self, round: Round) {
        round.entries.iter().for_each(|e| self.keeping.appended(e.index, e.data.len() as u64));
        let snapshot = round.snapshot;
        if let Some(meta) = snapshot {
            let at = self.offers.iter().position(|o| o.index == meta.index);
            let incoming = at.map(|at| self.offers.swap_remove(at));
            let state_dir = incoming.as_ref().map(|i| i.state_dir.clone()).unwrap_or_default();
            let base = LogBase { index: meta.index, term: meta.term, chain: 0, state_dir };
            let hard_state = round.hard_state.clone().unwrap_or_default();
            self.effects.push(Effect::InstallSnapshot { number: round.persist, base, hard_state });
            self.installing = incoming;
            if !round.entries.is_empty() {
                self.effects.push(Effect::Persist { number: round.persist, entries: round.entries, hard_state: None });
            }
        } else if round.persist != 0 {
            self.effects.push(Effect::Persist { number: round.persist, entries: round.entries, hard_state: round.hard_state });
        }
        for message in round.messages {
            self.send_raft(message);
        }
        if !round.committed.is_empty() && !self.guard.is_shut() {
            let (entries, configurations) = (round.committed, round.configurations);
            self.observers_committed(&entries);
            self.effects.push(Effect::Apply(ApplyInput::Entries { entries, configurations }));
        }
        for (id, index) in round.readable {
            self.confirmed_read(id, index);
        }
        if round.role_changed {
            self.role_changed();
        }
    }

    fn send_raft(&mut self, message: Outgoing) {
        let Outgoing { to, urgent, snapshot, bytes } = message;
        if snapshot {
            self.keeping.snapshot_sending(to, consensus::snapshot_index(&bytes).unwrap_or_default());
            self.effects.push(Effect::SendSnapshot { to, raft_message: bytes });
        } else {
            let lane = if urgent { Lane::Control } else { Lane::Append };
            self.effects.push(Effect::Send { to, lane, body: PeerBody::Raft(bytes) });
        }
    }

    fn role_changed(&mut self) {
        let Some(consensus) = &self.consensus else { return };
        let (leader, term, role) = (consensus.leader(), consensus.term(), consensus.role());
        if role == Role::Candidate {
            self.elections += 1;
        }
        if self.told_leader == (leader, term) {
            return;
        }
        self.told_leader = (leader, term);
        if leader != 0 {
            self.leader_changes += 1;
            self.sessions.resend_all();
            self.session_asked_us = None;
        }
        self.reads.forget_peers();
        self.leases.stop_leading();
        self.keeping.stop_sending();
        self.leader = Leader::default();
        self.membership.stop_leading();
        self.incoming_commands.retain(|c| c.session == 0 || leader == self.identity.raft_id);
        let is_self = leader == self.identity.raft_id;
        // The policy starts later, once the own term's first entry is applied.
        self.effects.push(Effect::Apply(ApplyInput::Role { leader: false, term }));
        let node_id = self.peers.node_id(leader).map(str::to_owned);
        self.effects.push(Effect::LeaderChanged { leader, node_id, term, is_self });
    }

    /// Local commands go to whoever leads: into the own packer, or over the forward lane.
    fn route_commands(&mut self) {
        let Some(consensus) = &self.consensus else { return };
        let leader = consensus.leader();
        if leader == 0 || self.guard.is_shut() {
            return;
        }
        let mut commands = Vec::new();
        if !self.session_open {
            let due = self.session_asked_us.is_none_or(|at| self.now_us >= at + 500_000);
            if due && !self.config.node_id.is_empty() {
                self.session_asked_us = Some(self.now_us);
                let body =
                    codec::command::Body::OpenSession(codec::command::OpenSession { node_id: self.config.node_id.clone() });
                commands.push(Command { session: self.sessions.session(), body: Some(body), ..Command::default() });
            }
        } else {
            commands = self.sessions.take_unsent(self.now_us);
        }
        if leader == self.identity.raft_id {
            self.incoming_commands.append(&mut commands);
            self.pack();
        } else {
            self.incoming_commands.clear();
            if !commands.is_empty() {
                self.send(leader, Lane::Forward, PeerBody::Forward(Forward { commands }));
            }
        }
    }

    fn begin_reads(&mut self) {
        let leading = self.is_leader();
        let leader = self.leader_peer();
        let Some(consensus) = &mut self.consensus else { return };
        if leading {
            let may_read = consensus.committed_in_term() || mutant::active("read-before-first-commit");
            if may_read && let Some(round) = self.reads.begin(self.now_us) {
                if mutant::active("read-before-round") {
                    let index = consensus.commit_index();
                    self.confirmed_read(round, index);
                } else if !consensus.read_index(round) {
                    self.reads.give_up();
                }
            }
        } else if let Some(leader) = leader
            && let Some(round) = self.reads.begin(self.now_us)
        {
            self.send(leader, Lane::Control, PeerBody::ReadIndexRequest(ReadIndexRequest { round }));
        }
    }
}
