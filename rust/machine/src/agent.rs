//! Agents: registration, drain, leaving and loss.
//!
//! What is taken of an agent's resources is not stored: it follows from the tasks it holds, so it
//! cannot drift from them. An `agent_epoch` is the revision of the registration, which makes it
//! grow even when retention has forgotten the agent in between.

use std::collections::BTreeSet;
use std::sync::Arc;

use codec::command::{Amount, DrainAgent, LeaveAgent, RegisterAgent};
use codec::row::{AgentRow, AgentStatus, EventKind, TaskRow};
use codec::{Outcome, Refusal, TaskId};

use crate::limits;
use crate::task::needs_of;
use crate::tx::{Step, Tx, refuse};

/// An agent in memory.
#[derive(Clone, Debug, PartialEq)]
pub struct AgentState {
    pub(crate) row: Arc<AgentRow>,
    pub(crate) hash: u128,
    pub(crate) used: Vec<u64>,
    pub(crate) held: BTreeSet<TaskId>,
}

impl AgentState {
    pub fn row(&self) -> &AgentRow {
        &self.row
    }

    /// Amounts taken by held tasks, in the order of `row().resources`.
    pub fn used(&self) -> &[u64] {
        &self.used
    }

    /// Tasks that are assigned to it, run on it, or are being cancelled on it.
    pub fn held(&self) -> impl Iterator<Item = TaskId> + '_ {
        self.held.iter().copied()
    }

    pub fn status(&self) -> AgentStatus {
        agent_status(&self.row)
    }
}

pub(crate) fn agent_status(row: &AgentRow) -> AgentStatus {
    AgentStatus::try_from(row.status).unwrap_or(AgentStatus::Lost)
}

/// Takes `needs` from what is free; false (and nothing taken) when they do not fit.
pub(crate) fn take(resources: &[Amount], used: &mut [u64], needs: &[Amount]) -> bool {
    let fits = needs.iter().all(|need| {
        need.amount == 0
            || resources.iter().position(|r| r.name == need.name).is_some_and(|at| {
                let total = resources[at].amount;
                used[at].checked_add(need.amount).is_some_and(|sum| sum <= total)
            })
    });
    if fits {
        for need in needs.iter().filter(|n| n.amount > 0) {
            if let Some(at) = resources.iter().position(|r| r.name == need.name) {
                used[at] += need.amount;
            }
        }
    }
    fits
}

/// Gives `needs` back; false when more would be free than there is.
pub(crate) fn give_back(resources: &[Amount], used: &mut [u64], needs: &[Amount]) -> bool {
    needs.iter().filter(|n| n.amount > 0).all(|need| {
        let Some(at) = resources.iter().position(|r| r.name == need.name) else { return false };
        match used[at].checked_sub(need.amount) {
            Some(rest) => {
                used[at] = rest;
                true
            }
            None => false,
        }
    })
}

/// Why the agent may not run the task whatever its load, or `None`.
pub(crate) fn mismatch(agent_id: &str, agent: &AgentRow, task: &TaskRow) -> Option<&'static str> {
    if task.excluded_agents.iter().any(|a| a == agent_id) {
        return Some("the agent is excluded");
    }
    if !agent.task_types.is_empty() && !agent.task_types.contains(&task.task_type) {
        return Some("the agent does not take this type");
    }
    let needs = task.requirements.as_ref()?;
    let level = |dimension: &str| agent.capabilities.iter().find(|c| c.name == dimension).map_or(0, |c| c.amount);
    if needs.capabilities.iter().any(|need| level(&need.dimension) < u64::from(need.min_bp)) {
        return Some("a capability is below its minimum");
    }
    if needs.labels.iter().any(|label| !agent.labels.contains(label)) {
        return Some("a label is missing");
    }
    None
}

/// The used amounts that follow from held tasks, or `None` if they do not fit.
pub(crate) fn used_by<'a>(resources: &[Amount], rows: impl Iterator<Item = &'a TaskRow>) -> Option<Vec<u64>> {
    let mut used = vec![0; resources.len()];
    for row in rows {
        if !take(resources, &mut used, needs_of(row)) {
            return None;
        }
    }
    Some(used)
}

impl Tx<'_> {
    /// Registers, or registers again: then what it held goes back, and what it was *running* counts
    /// as a lost lease, because an agent that starts over in the middle of a task may have been
    /// brought down by it.
    pub(crate) fn register_agent(&mut self, command: &RegisterAgent) -> Step<Outcome> {
        check_registration(command)?;
        let id: Arc<str> = command.agent_id.as_str().into();
        let known = self.machine.agents.contains_key(&id);
        if !known && self.machine.agents.len() >= limits::AGENTS_MAX {
            return refuse(Refusal::LimitExceeded, "", format!("{} agents are registered", limits::AGENTS_MAX));
        }
        if known {
            self.give_up_all(&id, "registered_again")?;
        }
        let (revision, wall_us) = (self.revision, self.wall_us);
        let agent = self.agent_or_new(&id);
        let row = Arc::make_mut(&mut agent.row);
        row.node_id.clone_from(&command.node_id);
        row.agent_epoch = revision;
        row.capabilities.clone_from(&command.capabilities);
        row.resources.clone_from(&command.resources);
        if !row.resources.iter().any(|r| r.name == "slots") {
            row.resources.push(Amount { name: "slots".into(), amount: 1 });
        }
        row.resources.sort_by(|a, b| a.name.cmp(&b.name));
        row.labels.clone_from(&command.labels);
        row.task_types.clone_from(&command.task_types);
        row.version.clone_from(&command.version);
        row.status = AgentStatus::Up as i32;
        row.registered_wall_us = wall_us;
        row.changed_wall_us = wall_us;
        agent.used = vec![0; agent.row.resources.len()];
        self.agent_event(&id, EventKind::AgentRegistered);
        Ok(Outcome { agent_epoch: revision, agent_id: command.agent_id.clone(), ..Outcome::accepted(revision) })
    }

    /// The agent says goodbye: its tasks go back at once and count toward nothing.
    pub(crate) fn leave_agent(&mut self, command: &LeaveAgent) -> Step<Outcome> {
        let id = self.known_agent(&command.agent_id)?;
        let row = self.agent_row(&id);
        let epoch = row.agent_epoch;
        if agent_status(&row) == AgentStatus::Left {
            return Ok(Outcome { replayed: true, agent_epoch: epoch, ..Outcome::accepted(row.revision) });
        }
        self.revoke_all(&id, "agent_left")?;
        self.set_agent_status(&id, AgentStatus::Left, EventKind::AgentLeft);
        Ok(Outcome { agent_epoch: epoch, ..Outcome::accepted(self.revision) })
    }

    /// A draining agent keeps what it holds and gets nothing new.
    pub(crate) fn drain_agent(&mut self, command: &DrainAgent) -> Step<Outcome> {
        let id = self.known_agent(&command.agent_id)?;
        let row = self.agent_row(&id);
        let epoch = row.agent_epoch;
        let (wanted, kind) = if command.drain {
            (AgentStatus::Draining, EventKind::AgentDraining)
        } else {
            (AgentStatus::Up, EventKind::AgentResumed)
        };
        match agent_status(&row) {
            now if now == wanted => return Ok(Outcome { replayed: true, agent_epoch: epoch, ..Outcome::accepted(row.revision) }),
            AgentStatus::Up | AgentStatus::Draining => {}
            AgentStatus::Lost | AgentStatus::Left => {
                return refuse(Refusal::WrongState, "", "the agent is lost or has left: it must register again");
            }
        }
        self.set_agent_status(&id, wanted, kind);
        self.signals.push(crate::Signal::Command { agent: id });
        Ok(Outcome { agent_epoch: epoch, ..Outcome::accepted(self.revision) })
    }

    /// The leader saw the lease run out. False when it is not the same registration any more.
    pub(crate) fn expire_agent(&mut self, agent_id: &str, agent_epoch: u64) -> Step<bool> {
        let Some((id, state)) = self.machine.agents.get_key_value(agent_id) else { return Ok(false) };
        let live = matches!(state.status(), AgentStatus::Up | AgentStatus::Draining);
        if !live || state.row.agent_epoch != agent_epoch {
            return Ok(false);
        }
        let id = id.clone();
        let lost = self.held_by(&id);
        for task in &lost {
            self.lose_lease(*task, "lease_lost")?;
        }
        Arc::make_mut(&mut self.agent_or_new(&id).row).leases_lost += lost.len() as u64;
        self.set_agent_status(&id, AgentStatus::Lost, EventKind::AgentLost);
        Ok(true)
    }

    fn give_up_all(&mut self, id: &Arc<str>, reason: &str) -> Step {
        for task in self.held_by(id) {
            if self.task(task)?.started_cluster_us > 0 {
                self.lose_lease(task, reason)?;
            } else {
                self.revoke(task, reason)?;
            }
        }
        Ok(())
    }

    /// Takes every task back without counting it against anybody.
    pub(crate) fn revoke_all(&mut self, id: &Arc<str>, reason: &str) -> Step {
        for task in self.held_by(id) {
            self.revoke(task, reason)?;
        }
        Ok(())
    }

    fn known_agent(&self, agent_id: &str) -> Step<Arc<str>> {
        match self.machine.agents.get_key_value(agent_id) {
            Some((id, _)) => Ok(id.clone()),
            None => refuse(Refusal::NotFound, "", format!("no agent {agent_id}")),
        }
    }

    pub(crate) fn set_agent_status(&mut self, id: &Arc<str>, status: AgentStatus, kind: EventKind) {
        let wall_us = self.wall_us;
        let row = Arc::make_mut(&mut self.agent_or_new(id).row);
        row.status = status as i32;
        row.changed_wall_us = wall_us;
        self.agent_event(id, kind);
    }

    fn agent_event(&mut self, id: &Arc<str>, kind: EventKind) {
        let revision = self.revision;
        let agent = self.agent_or_new(id);
        Arc::make_mut(&mut agent.row).revision = revision;
        agent.row_changed = true;
        self.push_event(kind, id.as_bytes().to_vec());
        self.signals.push(crate::Signal::AgentChanged { agent: id.clone() });
    }
}

fn check_registration(command: &RegisterAgent) -> Step {
    for (field, name) in [("/id", &command.agent_id), ("/node_id", &command.node_id)] {
        if name.is_empty() || name.len() > limits::NAME_BYTES_MAX {
            return refuse(Refusal::Invalid, field, format!("must have 1 to {} bytes", limits::NAME_BYTES_MAX));
        }
    }
    let distinct: BTreeSet<&str> = command.resources.iter().map(|r| r.name.as_str()).collect();
    if distinct.len() != command.resources.len() {
        return refuse(Refusal::Invalid, "/resources", "a resource is named twice");
    }
    Ok(())
}
