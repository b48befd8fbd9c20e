//! No capacity below zero or above the total: an agent never holds more tasks than it has slots, and
//! the machine's count is what the held tasks add up to.

use std::collections::BTreeMap;

use codec::command::Body;
use machine::Machine;

use super::replay::Executed;
use super::tasks::Tasks;
use super::{Check, broken};

#[derive(Default)]
pub struct Capacity {
    slots: BTreeMap<String, u64>,
    touched: Vec<String>,
}

impl Capacity {
    pub fn command(&mut self, executed: &Executed) {
        if let Some(Body::RegisterAgent(register)) = &executed.command.body
            && executed.outcome.is_accepted()
        {
            let slots = register.resources.iter().find(|r| r.name == "slots").map_or(1, |r| r.amount);
            self.slots.insert(register.agent_id.clone(), slots);
            self.touched.push(register.agent_id.clone());
        }
        self.touched.extend(executed.events.iter().filter(|e| !e.agent_id.is_empty()).map(|e| e.agent_id.clone()));
    }

    /// After an entry: the agents it touched.
    pub fn entry(&mut self, tasks: &Tasks, machine: &Machine) -> Check {
        let mut touched = std::mem::take(&mut self.touched);
        touched.sort_unstable();
        touched.dedup();
        for agent in touched {
            let (held, slots) = (tasks.held_by(&agent), self.slots.get(&agent).copied().unwrap_or(0));
            if held > slots {
                return broken("capacity", format!("agent {agent} holds {held} tasks with {slots} slots"));
            }
            let used = machine.agent(&agent).map_or(0, |a| {
                let at = a.row().resources.iter().position(|r| r.name == "slots");
                at.and_then(|at| a.used().get(at).copied()).unwrap_or(0)
            });
            if used != held {
                return broken("capacity", format!("agent {agent} holds {held} tasks, but {used} slots count as taken"));
            }
        }
        Ok(())
    }
}
