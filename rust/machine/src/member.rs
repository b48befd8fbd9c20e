//! Members of the cluster: which nodes there are, and which are being drained.

use std::sync::Arc;

use codec::command::DrainNode;
use codec::row::{DrainState, EventKind, MemberRow};
use codec::{Outcome, Refusal};

use crate::Signal;
use crate::limits::DURATION_MS_MAX;
use crate::tx::{Step, Tx, refuse};

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Member {
    pub(crate) row: MemberRow,
    pub(crate) hash: u128,
}

pub(crate) fn drain_state(row: &MemberRow) -> DrainState {
    DrainState::try_from(row.drain).unwrap_or(DrainState::None)
}

impl Tx<'_> {
    pub(crate) fn member(&self, node_id: &str) -> Option<&MemberRow> {
        match self.members.get(node_id) {
            Some(edited) => edited.as_ref(),
            None => self.machine.members.get(node_id).map(|m| &m.row),
        }
    }

    /// A node that is no member (an agent may name any failure domain) is never drained.
    pub(crate) fn node_drain(&self, node_id: &str) -> DrainState {
        self.member(node_id).map_or(DrainState::None, drain_state)
    }

    /// Takes a node's agents out of service: they keep what they hold until the deadline.
    pub(crate) fn drain_node(&mut self, command: &DrainNode) -> Step<Outcome> {
        let Some(row) = self.member(&command.node_id).cloned() else {
            return refuse(Refusal::NotFound, "", format!("no node {}", command.node_id));
        };
        let draining = drain_state(&row) != DrainState::None;
        if draining == command.drain {
            return Ok(Outcome { replayed: true, ..Outcome::accepted(row.revision) });
        }
        if command.drain {
            let until = self.cluster_us + command.deadline_ms.min(DURATION_MS_MAX) * 1_000;
            self.set_drain(&command.node_id, DrainState::Draining, until, EventKind::NodeDraining);
            self.freed_nodes.insert(command.node_id.clone());
        } else {
            self.set_drain(&command.node_id, DrainState::None, 0, EventKind::NodeResumed);
        }
        for agent in self.agents_of_node(&command.node_id) {
            self.signals.push(Signal::AgentChanged { agent: agent.clone() });
            self.signals.push(Signal::Command { agent });
        }
        Ok(Outcome::accepted(self.revision))
    }

    /// The drain's deadline has passed: what its agents still hold goes back.
    pub(crate) fn expire_drain(&mut self, node_id: &str) -> Step<bool> {
        let Some(row) = self.member(node_id) else { return Ok(false) };
        if drain_state(row) != DrainState::Draining || row.drain_until_cluster_us > self.cluster_us {
            return Ok(false);
        }
        for agent in self.agents_of_node(node_id) {
            self.revoke_all(&agent, "node_drained")?;
        }
        self.set_drain(node_id, DrainState::Drained, 0, EventKind::NodeDrained);
        Ok(true)
    }

    /// Draining nodes whose agents hold nothing any more are drained. Runs last in every command.
    pub(crate) fn settle_drains(&mut self) {
        for node_id in std::mem::take(&mut self.freed_nodes) {
            if self.node_drain(&node_id) != DrainState::Draining {
                continue;
            }
            let idle = self.agents_of_node(&node_id).iter().all(|agent| self.held_by(agent).is_empty());
            if idle {
                self.set_drain(&node_id, DrainState::Drained, 0, EventKind::NodeDrained);
            }
        }
    }

    fn set_drain(&mut self, node_id: &str, drain: DrainState, until_cluster_us: u64, kind: EventKind) {
        let Some(mut row) = self.member(node_id).cloned() else { return };
        row.drain = drain as i32;
        row.drain_until_cluster_us = until_cluster_us;
        self.put_member(node_id, Some(row), kind);
    }

    /// Edits a member's row (`None` deletes it), and says what happened to the node.
    pub(crate) fn put_member(&mut self, node_id: &str, row: Option<MemberRow>, kind: EventKind) {
        let row = row.map(|row| MemberRow { revision: self.revision, ..row });
        self.members.insert(node_id.to_owned(), row);
        self.push_event(kind, node_id.as_bytes().to_vec());
        self.signals.push(Signal::Members);
    }

    fn agents_of_node(&self, node_id: &str) -> Vec<Arc<str>> {
        let agents = self.machine.agents.iter().filter(|(_, agent)| agent.row.node_id == node_id);
        agents.map(|(id, _)| id.clone()).collect()
    }
}
