//! What only a leader does: pack commands into entries, extend leases, propose what is due.

use codec::command::{Assign, Assignment, Body, Command, Expire, Retention};
use codec::peer::{Beat, BeatAnswer, BeatAnswers, Lane, PeerBody, ReadIndexAnswer};
use codec::{EntryPayload, Message};

use crate::driver::Driver;
use crate::effect::Effect;
use crate::event::{ApplyInput, Micros};
use crate::leases::Standing;
use crate::membership;
use crate::reads::Reader;

/// Look for due timers at least this often while tasks are live (it costs one look at a tree).
const LOOK_US: Micros = 10_000;
const RETENTION_LOOK_US: Micros = 1_000_000;
/// Assignments and other own commands that wait to be packed.
const OWN_COMMANDS_MAX: usize = 65_536;

/// State of one leadership; a new one begins with every change of leader or term.
#[derive(Default)]
pub struct Leader {
    /// Own commands of this term, to be packed.
    commands: Vec<Body>,
    /// Leases were granted: the own term's first entry has been applied.
    established: bool,
    first_index: u64,
    look_at_us: Micros,
    retention_at_us: Micros,
    looking: bool,
    /// What was proposed as due stands at or below this index; not looked for again before.
    due_index: u64,
    next_due: (Option<u64>, Option<u64>),
    /// A quorum answered a round that began at this time.
    quorum_us: Option<Micros>,
    /// With the index that must be applied first: the relaying node may have applied a registration
    /// that this one has only committed.
    waiting_beats: Vec<(Option<u64>, Beat, u64)>,
    salt: u64,
}

impl Leader {
    /// When the newest round that a quorum has confirmed began.
    pub fn confirmed_us(&self) -> Option<Micros> {
        self.quorum_us
    }

    /// An own command of this term, packed in the next turn; dropped beyond the bound, and proposed
    /// again by whoever wants it.
    pub(crate) fn push(&mut self, body: Body) {
        if self.commands.len() < OWN_COMMANDS_MAX {
            self.commands.push(body);
        }
    }

    /// Takes in what the apply side found due.
    pub fn applied(
        &mut self,
        due: Option<Expire>,
        retention: Option<Retention>,
        looked: bool,
        next_cluster_us: Option<u64>,
        next_wall_us: Option<u64>,
    ) {
        self.next_due = (next_cluster_us, next_wall_us);
        if looked {
            self.looking = false;
        }
        if !self.established {
            return;
        }
        self.commands.extend(due.map(Body::Expire));
        self.commands.extend(retention.map(Body::Retention));
    }
}

impl Leader {
    pub fn is_established(&self) -> bool {
        self.established
    }

    /// A command on members waits to be packed.
    pub fn has_own_member_command(&self) -> bool {
        self.commands.iter().any(membership::is_own_command)
    }
}

impl Driver {
    /// The policy's decision; one of another term is dropped, as apply would refuse it.
    pub(crate) fn assign(&mut self, term: u64, items: Vec<Assignment>) {
        let current = self.consensus.as_ref().is_some_and(|c| c.term() == term) && self.is_leader();
        if current && self.leader.established && self.leader.commands.len() < OWN_COMMANDS_MAX {
            self.leader.commands.push(Body::Assign(Assign { items }));
        }
    }

    /// Leader's part of a tick: establish, expire, look for what is due.
    pub(crate) fn lead(&mut self) {
        if !self.is_leader() {
            return;
        }
        self.establish();
        if !self.leader.established {
            if mutant::active("conf-change-before-noop") {
                self.lead_membership();
            }
            return;
        }
        let expired = self.leases.take_expired(self.now_us, 1_000);
        if !expired.is_empty() {
            let expire = Expire { agents: expired, ..Expire::default() };
            self.leader.commands.push(Body::Expire(expire));
        }
        self.answer_waiting_beats();
        self.look_for_due();
        self.lead_membership();
        self.check_hashes();
    }

    /// Leadership counts once an entry of the own term is applied: then leases start.
    fn establish(&mut self) {
        if self.leader.established {
            return;
        }
        let Some(consensus) = &self.consensus else { return };
        if self.leader.first_index == 0 {
            self.leader.first_index = consensus.last_index();
        }
        if consensus.committed_in_term() && self.applied_index >= self.leader.first_index {
            self.leader.established = true;
            self.leases.start_leading(self.now_us, self.config.lease_ms * 1_000);
            self.effects.push(Effect::Apply(ApplyInput::Role { leader: true, term: consensus.term() }));
        }
    }

    fn look_for_due(&mut self) {
        if self.leader.looking || self.applied_index < self.leader.due_index || self.now_us < self.leader.look_at_us {
            return;
        }
        let cluster_us = self.clock.now(self.now_us, self.wall_us);
        let (next_cluster, next_wall) = self.leader.next_due;
        let due = next_cluster.is_some_and(|at| at <= cluster_us) || next_wall.is_some_and(|at| at <= self.wall_us);
        let retention = self.now_us >= self.leader.retention_at_us;
        if !due && !retention {
            return;
        }
        if retention {
            self.leader.retention_at_us = self.now_us + RETENTION_LOOK_US;
        }
        self.leader.look_at_us = self.now_us + LOOK_US;
        self.leader.looking = true;
        self.effects.push(Effect::Apply(ApplyInput::LookForDue { cluster_us, wall_us: self.wall_us }));
    }

    /// Packs everything that waits into as few entries as the bounds allow.
    pub(crate) fn pack(&mut self) {
        let Some(term) = self.consensus.as_ref().map(consensus::Consensus::term) else { return };
        let own = std::mem::take(&mut self.leader.commands);
        let due = own.iter().any(|b| matches!(b, Body::Expire(_) | Body::Retention(_)));
        let on_members = own.iter().any(membership::is_own_command);
        let own = own.into_iter().map(|body| Command { term, body: Some(body), ..Command::default() });
        let mut commands: Vec<Command> = std::mem::take(&mut self.incoming_commands);
        for alive in commands.iter_mut().filter_map(|c| membership::alive_in(c.body.as_mut()?)) {
            *alive = self.peers.alive(self.identity.raft_id, self.now_us);
        }
        commands.extend(own);
        self.hold_back(&mut commands);
        let mut rest = commands.into_iter().peekable();
        while rest.peek().is_some() {
            let mut batch = Vec::new();
            let mut bytes = 0;
            while let Some(next) = rest.peek() {
                let size = next.encoded_len();
                if !batch.is_empty()
                    && (bytes + size > self.config.entry_bytes_max || batch.len() >= self.config.entry_commands_max)
                {
                    break;
                }
                bytes += size;
                batch.extend(rest.next());
            }
            if let Err(refused) = self.propose_entry(batch) {
                // Sessions hand their commands over again; the leader keeps its own for the next turn.
                let own = refused.into_iter().chain(rest).filter(|c| c.session == 0).filter_map(|c| c.body);
                self.leader.commands.extend(own);
                break;
            }
        }
        if due && let Some(consensus) = &self.consensus {
            self.leader.due_index = consensus.last_index();
        }
        if on_members && let Some(consensus) = &self.consensus {
            self.membership.asked(consensus.last_index());
        }
    }

    fn propose_entry(&mut self, commands: Vec<Command>) -> Result<(), Vec<Command>> {
        let cluster_us = self.clock.stamp(self.now_us, self.wall_us);
        self.leader.salt += 1;
        let seed = splitmix(self.config.incarnation ^ self.leader.salt.rotate_left(32) ^ cluster_us);
        let payload = EntryPayload { cluster_us, wall_us: self.wall_us, seed, commands };
        let data = codec::frame::to_frame(codec::FrameKind::EntryPayload, &payload);
        match self.consensus.as_mut().map(|c| c.propose(data)) {
            Some(Ok(())) => Ok(()),
            _ => Err(payload.commands),
        }
    }

    /// Beats that reached the leader, from a relaying node or from this one.
    pub(crate) fn beats(&mut self, from: Option<u64>, beats: Vec<Beat>) {
        let leaving = self.guard.fenced().is_some() || self.consensus.as_ref().is_some_and(consensus::Consensus::transferring);
        if !self.is_leader() || leaving {
            let answers = beats.iter().map(|b| BeatAnswer { token: b.token, ..BeatAnswer::default() }).collect();
            self.answer_beats(from, answers);
            return;
        }
        let loads: Vec<_> = beats.iter().filter_map(load_of).collect();
        if !loads.is_empty() {
            self.effects.push(Effect::AgentLoads(loads));
        }
        let index = self.consensus.as_ref().map_or(0, consensus::Consensus::commit_index);
        self.leader.waiting_beats.extend(beats.into_iter().map(|beat| (from, beat, index)));
        self.answer_waiting_beats();
    }

    /// Extends leases while a recent round proves that a quorum still follows; else asks for one.
    pub(crate) fn answer_waiting_beats(&mut self) {
        if self.leader.waiting_beats.is_empty() {
            return;
        }
        let fresh_us = self.config.quorum_fresh_ms * 1_000;
        let age_us = self.leader.quorum_us.map(|at| self.now_us.saturating_sub(at));
        if age_us.is_none_or(|age| age > fresh_us / 2) {
            self.reads.wait(Reader::Lease);
        }
        if !self.leader.established || age_us.is_none_or(|age| age > fresh_us) {
            return;
        }
        let mut by_node: std::collections::BTreeMap<Option<u64>, Vec<BeatAnswer>> = std::collections::BTreeMap::new();
        let lease_us = self.config.lease_ms * 1_000;
        for (from, beat, index) in std::mem::take(&mut self.leader.waiting_beats) {
            if index > self.applied_index {
                self.leader.waiting_beats.push((from, beat, index));
                continue;
            }
            let mut answer = BeatAnswer { token: beat.token, heartbeat_ms: self.config.heartbeat_ms, ..BeatAnswer::default() };
            match self.leases.standing(&beat.agent_id, beat.agent_epoch) {
                Standing::Unknown => answer.unknown = true,
                Standing::Stale => answer.stale = true,
                Standing::Current => {
                    if self.leases.extend(&beat.agent_id, self.now_us + lease_us) {
                        answer.lease_ms = self.config.lease_ms;
                    }
                }
            }
            by_node.entry(from).or_default().push(answer);
        }
        for (from, answers) in by_node {
            self.answer_beats(from, answers);
        }
    }

    fn answer_beats(&mut self, from: Option<u64>, answers: Vec<BeatAnswer>) {
        match from {
            None => self.answer_local_beats(answers),
            Some(to) => self.send(to, Lane::Control, PeerBody::BeatAnswers(BeatAnswers { answers })),
        }
    }

    /// A read index round of this leader was confirmed by a quorum.
    pub(crate) fn confirmed_read(&mut self, id: u64, index: u64) {
        let Some(confirmed) = self.reads.confirm(id, index) else { return };
        self.leader.quorum_us = Some(confirmed.begun_us);
        for (to, round) in confirmed.peers {
            self.send(to, Lane::Control, PeerBody::ReadIndexAnswer(ReadIndexAnswer { round, index }));
        }
        self.complete_reads();
        self.answer_waiting_beats();
    }
}

fn load_of(beat: &Beat) -> Option<(String, [u16; 3])> {
    let load = <[u32; 3]>::try_from(beat.load_bp.as_slice()).ok()?;
    Some((beat.agent_id.clone(), load.map(|bp| bp.min(10_000) as u16)))
}

/// SplitMix64 (Steele, Lea, Flood, OOPSLA 2014): spreads the bits of a counter.
fn splitmix(seed: u64) -> u64 {
    let mut z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
