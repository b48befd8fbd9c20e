//! What the feed reads of the machine, so that it can be tested without one.

use codec::TaskId;
use codec::row::{AgentRow, TaskRow};

/// Live state at the moment after a batch was applied.
pub trait Live {
    /// A task that has not ended.
    fn task(&self, id: TaskId) -> Option<TaskRow>;
    fn each_task(&self, visit: &mut dyn FnMut(TaskId, &TaskRow));
    fn agent(&self, agent_id: &str) -> Option<AgentRow>;
    fn each_agent(&self, visit: &mut dyn FnMut(&str, &AgentRow));
    /// The node is draining or drained.
    fn node_drains(&self, node_id: &str) -> bool;
    /// Cluster and wall time of the newest applied entry, in µs.
    fn times(&self) -> (u64, u64);
}
