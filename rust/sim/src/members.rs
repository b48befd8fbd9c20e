//! Changes of the membership: what an operator asks for while things go wrong, and asks for again
//! until it is done once everything works.

use codec::command::{AddMember, Body, RemoveMember, ReplaceMember};
use codec::log::ConfState;
use codec::row::{MemberRole, MemberState};
use consensus::has_member;
use node::Event;

use crate::disk::Crash;
use crate::host::{Host, Part, Waiter};
use crate::invariant::Violation;
use crate::queue::Time;
use crate::rng::Rng;
use crate::world::{What, World};

/// A member that is silent for this long counts as not alive, and its place can be given away.
const SILENT_US: Time = 2_200_000;
/// Voters that a removal leaves at least.
pub(crate) const VOTERS_MIN: usize = 3;

impl World {
    /// Proposes a command through the leader, or through anybody if none is known.
    fn ask(&mut self, body: Body) {
        let at = self.leader().unwrap_or(0);
        let token = self.token();
        let deadline_us = self.hosts[at].clock.mono_us(self.now) + 3_000_000;
        if let Some(process) = &mut self.hosts[at].process {
            process.waiters.insert(token, Waiter::Nobody);
        }
        self.tell(at, Event::Propose { token, bodies: vec![body], deadline_us });
    }

    /// Starts an empty directory, under another name if one is given.
    fn start_spare(&mut self, name: Option<&str>) -> Result<Option<usize>, Violation> {
        let Some(at) = self.hosts.iter().position(|h| h.part == Part::Spare) else { return Ok(None) };
        if let Some(name) = name {
            self.hosts[at].rename(name);
        }
        self.hosts[at].part = Part::Member;
        self.start(at)?;
        Ok(Some(at))
    }

    pub(crate) fn add_member(&mut self, dice: &mut Rng) -> Result<(), Violation> {
        if !self.invariants.replay.begun() {
            return Ok(());
        }
        let Some(at) = self.start_spare(None)? else { return Ok(()) };
        let role = if dice.chance(6_000) { MemberRole::Voter } else { MemberRole::Learner };
        let node_id = self.hosts[at].node_id.clone();
        let address = format!("{node_id}:1");
        self.trace.say(self.now, || format!("{node_id} is invited as {role:?}"));
        self.ask(Body::AddMember(AddMember { node_id, address, role: role as i32, alive: Vec::new() }));
        Ok(())
    }

    /// The configuration, if no change is under way and nobody is lost.
    fn settled_configuration(&self) -> Option<ConfState> {
        if self.lost.is_some() || !self.invariants.replay.begun() {
            return None;
        }
        let machine = self.invariants.replay.machine();
        let configuration = machine.configuration();
        let settled = machine.members().all(|(_, m)| m.state() == MemberState::Active);
        (settled && configuration.voters_outgoing.is_empty()).then_some(configuration)
    }

    pub(crate) fn remove_member(&mut self, at: usize) {
        let Some(configuration) = self.settled_configuration() else { return };
        // A removal that was asked for may still be on its way, without a row that says so, and goes by name: it also
        // takes whoever has that name by then.
        let node_id = self.hosts[at].node_id.clone();
        let voter = |host: &Host| configuration.voters.contains(&host.raft_id);
        let stays = |host: &&Host| voter(host) && host.node_id != node_id && !self.asked_away.contains(&host.node_id);
        if voter(&self.hosts[at]) && self.hosts.iter().filter(stays).count() < VOTERS_MIN {
            return;
        }
        self.asked_away.insert(node_id.clone());
        self.trace.say(self.now, || format!("{node_id} is to be removed"));
        self.ask(Body::RemoveMember(RemoveMember { node_id, alive: Vec::new() }));
    }

    /// The node is gone for good; another directory of its name is started, and later asked in. One
    /// at a time, and only while no other change is under way: a majority must be left.
    pub(crate) fn lose_for_good(&mut self, at: usize) -> Result<(), Violation> {
        let member = self.settled_configuration().is_some_and(|c| has_member(&c, self.hosts[at].raft_id));
        if !member || !self.hosts.iter().any(|h| h.part == Part::Spare) {
            return Ok(());
        }
        let name = self.hosts[at].node_id.clone();
        self.trace.say(self.now, || format!("{name} (n{}) is lost for good", at + 1));
        self.stop(at, Crash::Power);
        self.hosts[at].part = Part::Gone;
        if let Some(spare) = self.start_spare(Some(&name))? {
            self.lost = Some((at, spare));
            self.queue.push(self.now + SILENT_US, What::Member);
        }
        Ok(())
    }

    pub(crate) fn replace_lost(&mut self) {
        let Some((lost, _)) = self.lost else { return };
        // Asked once more only while nothing has come of it: a second replacement would be for the new directory.
        let (machine, id) = (self.invariants.replay.machine(), self.hosts[lost].raft_id);
        if !machine.members().any(|(_, m)| m.raft_id == id && m.state() == MemberState::Active) {
            return;
        }
        let node_id = self.hosts[lost].node_id.clone();
        self.ask(Body::ReplaceMember(ReplaceMember { node_id, address: String::new(), alive: Vec::new() }));
    }

    /// Whether every row is settled, and a lost node's place is taken.
    pub(crate) fn members_settled(&mut self) -> bool {
        if !self.invariants.replay.begun() {
            return false;
        }
        let machine = self.invariants.replay.machine();
        if let Some((lost, _)) = self.lost {
            let id = self.hosts[lost].raft_id;
            let named = machine.members().any(|(_, m)| m.raft_id == id || m.replaces.contains(&id));
            if !named && !has_member(&machine.configuration(), id) {
                self.lost = None;
            }
        }
        self.settled_configuration().is_some()
    }

    pub(crate) fn describe_members(&self) -> String {
        let rows = self.invariants.replay.machine().members();
        let one = |(name, m): (&str, &codec::row::MemberRow)| {
            format!("{name} {:?} {:?} {} for {:?}", m.role(), m.state(), m.raft_id, m.replaces)
        };
        rows.map(one).collect::<Vec<_>>().join(", ")
    }

    /// Started directories that were never admitted stop: their invitation came to nothing.
    pub(crate) fn dismiss_strangers(&mut self) {
        let known: Vec<u64> = self.invariants.replay.machine().members().map(|(_, m)| m.raft_id).collect();
        for at in 0..self.hosts.len() {
            let host = &self.hosts[at];
            let outside = host.process.as_ref().is_some_and(|p| p.driver.identity().cluster_id == 0);
            if outside && !known.contains(&host.raft_id) {
                self.stop(at, Crash::Kill);
                self.hosts[at].part = Part::Gone;
            }
        }
    }
}
