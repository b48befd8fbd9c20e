//! What the feed reads of the machine, so that it can be tested without one.

use codec::TaskId;
use codec::row::{AgentRow, DrainState, Status, TaskRow};
use machine::Machine;

/// Live state at the moment after a batch was applied.
pub trait Live {
    /// A task that has not ended.
    fn task(&self, id: TaskId) -> Option<TaskRow>;
    /// Tasks of a graph that have not ended.
    fn graph(&self, parent: TaskId) -> Vec<(TaskId, TaskRow)>;
    /// Tasks that are ready or held by an agent.
    fn each_placeable(&self, visit: &mut dyn FnMut(TaskId, &TaskRow));
    fn agent(&self, agent_id: &str) -> Option<AgentRow>;
    fn each_agent(&self, visit: &mut dyn FnMut(&str, &AgentRow));
    /// The node is draining or drained.
    fn node_drains(&self, node_id: &str) -> bool;
    /// Cluster and wall time of the newest applied entry, in µs.
    fn times(&self) -> (u64, u64);
}

impl Live for Machine {
    fn task(&self, id: TaskId) -> Option<TaskRow> {
        Machine::task(self, id).map(machine::LiveTask::row)
    }

    fn graph(&self, parent: TaskId) -> Vec<(TaskId, TaskRow)> {
        self.children(parent).map(|(id, task)| (id, task.row())).collect()
    }

    fn each_placeable(&self, visit: &mut dyn FnMut(TaskId, &TaskRow)) {
        for (id, task) in self.tasks().filter(|(_, task)| task.status() == Status::Ready || task.status().held()) {
            visit(id, &task.row());
        }
    }

    fn agent(&self, agent_id: &str) -> Option<AgentRow> {
        Machine::agent(self, agent_id).map(|agent| agent.row().clone())
    }

    fn each_agent(&self, visit: &mut dyn FnMut(&str, &AgentRow)) {
        self.agents().for_each(|(agent_id, agent)| visit(agent_id, agent.row()));
    }

    fn node_drains(&self, node_id: &str) -> bool {
        self.members().any(|(member, row)| member == node_id && row.drain() != DrainState::None)
    }

    fn times(&self) -> (u64, u64) {
        (self.cluster_us(), self.wall_us())
    }
}
