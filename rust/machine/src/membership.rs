//! Which nodes the cluster wants: the commands that change member rows.
//!
//! A row says what is wanted, and its state whether Raft's configuration has followed. Nothing here
//! changes that configuration: the leader's controller does, entry by entry, and settles the row.
//! What only the leader can know (who is alive) it writes into the command before it is packed, so
//! that every replica judges by the same knowledge.

use codec::command::{AddMember, AdmitMember, RemoveMember, ReplaceMember, SettleMember, SwapVoter};
use codec::row::{EventKind, MemberRole, MemberRow, MemberState};
use codec::{Outcome, Refusal};

use crate::limits::{LEARNERS_MAX, NAME_BYTES_MAX, OBSERVERS_MAX, REPLACES_MAX, VOTERS_MAX};
use crate::tx::{Step, Tx, refuse};

const ADDRESS_BYTES_MAX: usize = 512;

/// Whether the row counts for what the cluster wants to be.
fn stays(row: &MemberRow) -> bool {
    row.state() != MemberState::Leaving
}

impl Tx<'_> {
    /// Rows with this command's edits, in order of name.
    fn member_rows(&self) -> Vec<(String, MemberRow)> {
        let stored = self.machine.members.iter().filter(|(id, _)| !self.members.contains_key(*id));
        let stored = stored.map(|(id, m)| (id.clone(), m.row.clone()));
        let edited = self.members.iter().filter_map(|(id, row)| Some((id.clone(), row.clone()?)));
        let mut rows: Vec<_> = stored.chain(edited).collect();
        rows.sort_by(|a, b| a.0.cmp(&b.0));
        rows
    }

    fn existing_member(&self, node_id: &str) -> Step<MemberRow> {
        match self.member(node_id) {
            Some(row) => Ok(row.clone()),
            None => refuse(Refusal::NotFound, "/node_id", format!("no node {node_id}")),
        }
    }

    fn unchanged_member(row: &MemberRow) -> Step<Outcome> {
        Ok(Outcome { replayed: true, ..Outcome::accepted(row.revision) })
    }

    /// Refused where the voters that are left without the member, and without those that leave
    /// already, are not alive in their majority. Who votes says the configuration as it is now.
    fn keep_quorum(&self, node_id: &str, row: &MemberRow, alive: &[u64]) -> Step {
        let rows = self.member_rows();
        let leaving = rows.iter().filter(|(_, other)| !stays(other)).map(|(_, other)| other);
        let gone: Vec<u64> = leaving.chain([row]).flat_map(|m| m.replaces.iter().chain([&m.raft_id])).copied().collect();
        let voters = self.machine.configuration().voters;
        let left: Vec<u64> = voters.into_iter().filter(|id| !gone.contains(id)).collect();
        let stay = |(id, row): &(String, MemberRow)| id != node_id && stays(row) && row.role() == MemberRole::Voter;
        if left.is_empty() || !rows.iter().any(stay) {
            return refuse(Refusal::WouldLoseQuorum, "/node_id", format!("{node_id} is the cluster's last voter"));
        }
        let named =
            |id: u64| rows.iter().find(|(_, row)| row.raft_id == id).map_or(format!("{id:016x}"), |(name, _)| name.clone());
        let dead: Vec<String> = left.iter().filter(|id| !alive.contains(id)).map(|id| named(*id)).collect();
        if left.len() - dead.len() > left.len() / 2 {
            return Ok(());
        }
        let (count, dead) = (left.len(), dead.join(", "));
        let detail = format!("without {node_id} the cluster would have {count} voters, and the leader does not hear {dead}");
        refuse(Refusal::WouldLoseQuorum, "/node_id", detail)
    }

    fn keep_limit(&self, node_id: &str, role: MemberRole) -> Step {
        let same = |(id, row): &&(String, MemberRow)| id != node_id && stays(row) && row.role() == role;
        let count = self.member_rows().iter().filter(same).count();
        let max = match role {
            MemberRole::Voter => VOTERS_MAX,
            MemberRole::Learner => LEARNERS_MAX,
            MemberRole::Observer => OBSERVERS_MAX,
        };
        if count < max {
            return Ok(());
        }
        refuse(Refusal::LimitExceeded, "/role", format!("a cluster has at most {max} members with the role {}", role.name()))
    }

    pub(crate) fn add_member(&mut self, command: &AddMember) -> Step<Outcome> {
        let node_id = command.node_id.as_str();
        if node_id.is_empty() || node_id.len() > NAME_BYTES_MAX {
            return refuse(Refusal::Invalid, "/node_id", format!("must have 1 to {NAME_BYTES_MAX} bytes"));
        }
        let Ok(role) = MemberRole::try_from(command.role) else {
            return refuse(Refusal::Invalid, "/role", "must be voter, learner or observer");
        };
        check_address(&command.address)?;
        let Some(row) = self.member(node_id).cloned() else {
            if command.address.is_empty() {
                return refuse(Refusal::Invalid, "/address", "a node that is no member yet needs an address");
            }
            self.keep_limit(node_id, role)?;
            let row = MemberRow {
                address: command.address.clone(),
                role: role as i32,
                state: MemberState::Joining as i32,
                ..MemberRow::default()
            };
            self.put_member(node_id, Some(row), EventKind::NodeJoining);
            return Ok(Outcome::accepted(self.revision));
        };
        self.change_member(node_id, row, role, command)
    }

    /// Another role or address for a member, or a replacement that is called off.
    fn change_member(&mut self, node_id: &str, mut row: MemberRow, role: MemberRole, command: &AddMember) -> Step<Outcome> {
        let (state, was) = (row.state(), row.role());
        if state == MemberState::Leaving {
            return refuse(Refusal::WrongState, "/node_id", format!("{node_id} is being removed: wait until it is gone"));
        }
        let moved = !command.address.is_empty() && command.address != row.address;
        if role == was && !moved && state != MemberState::Replacing {
            return Self::unchanged_member(&row);
        }
        if role != was {
            if was == MemberRole::Observer || role == MemberRole::Observer {
                let detail = format!("{node_id} is {}: remove it, and add it again with an empty directory", was.name());
                return refuse(Refusal::WrongState, "/role", detail);
            }
            if !row.replaces.is_empty() {
                return refuse(Refusal::WrongState, "/role", format!("{node_id} takes another node's place: wait until it has"));
            }
            self.keep_limit(node_id, role)?;
            if was == MemberRole::Voter {
                self.keep_quorum(node_id, &row, &command.alive)?;
            }
            row.role = role as i32;
            row.state = MemberState::Joining as i32;
        } else if state == MemberState::Replacing {
            let waits = !row.replaces.is_empty();
            row.state = if waits { MemberState::Joining } else { MemberState::Active } as i32;
        }
        if moved {
            row.address = command.address.clone();
        }
        let kind = if row.state() == MemberState::Active { EventKind::NodeJoined } else { EventKind::NodeJoining };
        self.put_member(node_id, Some(row), kind);
        Ok(Outcome::accepted(self.revision))
    }

    pub(crate) fn remove_member(&mut self, command: &RemoveMember) -> Step<Outcome> {
        let node_id = command.node_id.as_str();
        let mut row = self.existing_member(node_id)?;
        if !stays(&row) {
            return Self::unchanged_member(&row);
        }
        if row.role() == MemberRole::Voter {
            self.keep_quorum(node_id, &row, &command.alive)?;
        }
        // A voter whose place it was about to take keeps it.
        for (id, mut other) in self.member_rows() {
            if id != node_id && row.replaces.contains(&other.raft_id) && other.role() == MemberRole::Learner {
                other.role = MemberRole::Voter as i32;
                self.put_member(&id, Some(other), EventKind::NodeJoining);
            }
        }
        if row.raft_id == 0 {
            // It was invited and never met: nothing else knows of it.
            self.put_member(node_id, None, EventKind::NodeRemoved);
        } else {
            row.state = MemberState::Leaving as i32;
            self.put_member(node_id, Some(row), EventKind::NodeLeaving);
        }
        Ok(Outcome::accepted(self.revision))
    }

    pub(crate) fn replace_member(&mut self, command: &ReplaceMember) -> Step<Outcome> {
        let node_id = command.node_id.as_str();
        let mut row = self.existing_member(node_id)?;
        check_address(&command.address)?;
        match row.state() {
            MemberState::Leaving => {
                return refuse(Refusal::WrongState, "/node_id", format!("{node_id} is being removed: wait until it is gone"));
            }
            MemberState::Active | MemberState::Joining if row.raft_id != 0 => {
                if command.alive.contains(&row.raft_id) {
                    let detail = format!("{node_id} is alive: stop it, or remove it, before another takes its place");
                    return refuse(Refusal::MemberAlive, "/node_id", detail);
                }
                row.state = MemberState::Replacing as i32;
            }
            // Asked for already, or never met.
            _ if command.address.is_empty() || command.address == row.address => return Self::unchanged_member(&row),
            _ => {}
        }
        if !command.address.is_empty() {
            row.address = command.address.clone();
        }
        self.put_member(node_id, Some(row), EventKind::NodeJoining);
        Ok(Outcome::accepted(self.revision))
    }

    pub(crate) fn admit_member(&mut self, command: &AdmitMember) -> Step<Outcome> {
        let mut row = self.existing_member(&command.node_id)?;
        let raft_id = command.raft_id;
        let known = |row: &MemberRow| row.raft_id == raft_id || row.replaces.contains(&raft_id);
        if raft_id == 0 || self.member_rows().iter().any(|(_, row)| known(row)) {
            return refuse(Refusal::WrongState, "/raft_id", format!("{raft_id:016x} is or was another member's"));
        }
        match row.state() {
            MemberState::Joining if row.raft_id == 0 => {}
            MemberState::Active | MemberState::Joining | MemberState::Replacing
                if row.raft_id == command.retires || row.state() == MemberState::Replacing =>
            {
                row.replaces.push(row.raft_id);
                let surplus = row.replaces.len().saturating_sub(REPLACES_MAX);
                row.replaces.drain(..surplus);
            }
            _ => return refuse(Refusal::WrongState, "/node_id", format!("{} waits for nobody", command.node_id)),
        }
        row.raft_id = raft_id;
        row.state = MemberState::Joining as i32;
        self.put_member(&command.node_id, Some(row), EventKind::NodeJoining);
        Ok(Outcome::accepted(self.revision))
    }

    pub(crate) fn settle_member(&mut self, command: &SettleMember) -> Step<Outcome> {
        let mut row = self.existing_member(&command.node_id)?;
        if (row.raft_id, row.state, row.role) != (command.raft_id, command.state, command.role) {
            return refuse(Refusal::WrongState, "/node_id", format!("{} waits for something else by now", command.node_id));
        }
        match row.state() {
            MemberState::Leaving => self.put_member(&command.node_id, None, EventKind::NodeRemoved),
            MemberState::Joining => {
                row.state = MemberState::Active as i32;
                row.replaces = Vec::new();
                self.put_member(&command.node_id, Some(row), EventKind::NodeJoined);
            }
            MemberState::Active | MemberState::Replacing => return Self::unchanged_member(&row),
        }
        Ok(Outcome::accepted(self.revision))
    }

    pub(crate) fn swap_voter(&mut self, command: &SwapVoter) -> Step<Outcome> {
        let mut learner = self.existing_member(&command.learner)?;
        let mut voter = self.existing_member(&command.voter)?;
        let fits = |row: &MemberRow, role| row.state() == MemberState::Active && row.role() == role;
        if !fits(&learner, MemberRole::Learner) || !fits(&voter, MemberRole::Voter) {
            let detail = format!("{} is no learner at rest, or {} no voter", command.learner, command.voter);
            return refuse(Refusal::WrongState, "/learner", detail);
        }
        learner.role = MemberRole::Voter as i32;
        learner.state = MemberState::Joining as i32;
        learner.replaces = vec![voter.raft_id];
        voter.role = MemberRole::Learner as i32;
        voter.state = MemberState::Joining as i32;
        self.put_member(&command.learner, Some(learner), EventKind::NodeJoining);
        self.put_member(&command.voter, Some(voter), EventKind::NodeJoining);
        Ok(Outcome::accepted(self.revision))
    }
}

/// Empty, or host:port. Names are looked up where they are dialed.
fn check_address(address: &str) -> Step {
    let port = address.rsplit_once(':').filter(|(host, _)| !host.is_empty()).and_then(|(_, port)| port.parse::<u16>().ok());
    if address.is_empty() || (address.len() <= ADDRESS_BYTES_MAX && port.is_some_and(|port| port != 0)) {
        return Ok(());
    }
    refuse(Refusal::Invalid, "/address", "must be host:port")
}
