//! What others read of the state in memory; nothing here changes it.

use std::sync::Arc;

use codec::TaskId;
use codec::log::ConfState;
use codec::row::{MemberRow, MetaRow};

use crate::Machine;
use crate::agent::AgentState;
use crate::dag::pairs_of;
use crate::session::SessionLookup;
use crate::task::LiveTask;

impl Machine {
    pub fn meta(&self) -> &MetaRow {
        &self.meta
    }

    pub fn applied_index(&self) -> u64 {
        self.meta.applied_index
    }

    pub fn applied_term(&self) -> u64 {
        self.meta.applied_term
    }

    pub fn revision(&self) -> u64 {
        self.meta.revision
    }

    pub fn cluster_us(&self) -> u64 {
        self.meta.cluster_us
    }

    pub fn wall_us(&self) -> u64 {
        self.meta.wall_us
    }

    /// The state hash at the applied index, big-endian.
    pub fn hash(&self) -> [u8; 16] {
        self.hash.to_bytes()
    }

    pub fn cluster_id(&self) -> u64 {
        self.meta.cluster_id
    }

    pub fn configuration(&self) -> ConfState {
        self.meta.configuration.clone().unwrap_or_default()
    }

    /// Members by node id.
    pub fn members(&self) -> impl Iterator<Item = (&str, &MemberRow)> {
        self.members.iter().map(|(node_id, m)| (node_id.as_str(), &m.row))
    }

    pub fn session_outcome(&self, session: u64, sequence: u64) -> SessionLookup {
        self.sessions.get(&session).map_or(SessionLookup::Unknown, |s| s.lookup(sequence))
    }

    /// The open session of a node.
    pub fn session_of_node(&self, node_id: &str) -> Option<u64> {
        self.sessions.iter().find(|(_, s)| !s.row.retired && s.row.node_id == node_id).map(|(id, _)| *id)
    }

    pub fn task(&self, id: TaskId) -> Option<&LiveTask> {
        self.tasks.get(&id)
    }

    /// Live tasks in order of id.
    pub fn tasks(&self) -> impl Iterator<Item = (TaskId, &LiveTask)> {
        self.tasks.iter().map(|(id, task)| (*id, task))
    }

    /// Live tasks of a graph, in order of id.
    pub fn children(&self, parent: TaskId) -> impl Iterator<Item = (TaskId, &LiveTask)> {
        self.children.range(pairs_of(parent)).filter_map(|(_, child)| self.tasks.get(child).map(|task| (*child, task)))
    }

    pub fn live_tasks(&self) -> usize {
        self.tasks.len()
    }

    pub fn agent(&self, id: &str) -> Option<&AgentState> {
        self.agents.get(id)
    }

    /// Agents in order of id, those lost or left included until retention forgets them.
    pub fn agents(&self) -> impl Iterator<Item = (&Arc<str>, &AgentState)> {
        self.agents.iter()
    }
}
