//! The policy on the leader, simple and deterministic: the first ready task by priority and age goes
//! to the first agent that fits. Like the real one it proposes from a view that may be old by the
//! time the log decides.

use codec::command::Assignment;
use codec::row::{AgentStatus, Status};
use node::Event;

use crate::world::{What, World};

/// Assignments of one proposal.
const ITEMS_MAX: usize = 32;

impl World {
    /// Something changed on an established leader: the policy looks again soon.
    pub(crate) fn ask_policy(&mut self, at: usize) {
        let number = self.hosts[at].number;
        if let Some(process) = &mut self.hosts[at].process
            && !process.policy_due
        {
            process.policy_due = true;
            let when = self.now + self.rng.skewed(500, 20_000);
            self.queue.push(when, What::Policy { at, number });
        }
    }

    pub(crate) fn policy(&mut self, at: usize, number: u64) {
        if self.paused(at, number, What::Policy { at, number }).is_none() {
            return;
        }
        let Some(process) = self.hosts[at].process(number) else { return };
        process.policy_due = false;
        let Some(apply) = &process.apply else { return };
        let Some(term) = apply.leader_term() else { return };
        let machine = apply.machine();
        let mut ready: Vec<_> =
            machine.tasks().filter(|(_, t)| t.status() == Status::Ready).map(|(id, t)| (-t.priority(), id)).collect();
        if ready.is_empty() {
            return;
        }
        ready.sort_unstable();
        let slots = |agent: &machine::AgentState| {
            let total = agent.row().resources.iter().find(|r| r.name == "slots").map_or(0, |r| r.amount);
            total.saturating_sub(agent.used().first().copied().unwrap_or(0))
        };
        let up = machine.agents().filter(|(_, a)| a.status() == AgentStatus::Up);
        let mut free: Vec<_> = up.map(|(id, agent)| (id.clone(), agent, slots(agent))).filter(|(_, _, free)| *free > 0).collect();
        let mut items = Vec::new();
        for (_, id) in ready {
            if free.is_empty() || items.len() >= ITEMS_MAX {
                break;
            }
            let Some(task) = machine.task(id) else { continue };
            let row = task.row();
            let fits = |a: &machine::AgentState, agent_id: &str| {
                (a.row().task_types.is_empty() || a.row().task_types.contains(&row.task_type))
                    && !row.excluded_agents.iter().any(|e| e == agent_id)
            };
            let Some(chosen) = free.iter().position(|(agent_id, a, _)| fits(a, agent_id)) else { continue };
            let (agent_id, agent, left) = &mut free[chosen];
            items.push(Assignment {
                task_id: id.to_vec(),
                epoch: task.epoch(),
                agent_id: agent_id.to_string(),
                agent_epoch: agent.row().agent_epoch,
                terms: Vec::new(),
            });
            *left -= 1;
            if *left == 0 {
                free.remove(chosen);
            }
        }
        if !items.is_empty() {
            self.tell(at, Event::Assign { term, items });
        }
    }
}
