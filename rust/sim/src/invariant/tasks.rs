//! What the events say of every task: ids are unique, status moves along the arrows, epochs grow, one
//! attempt is live at a time.

use std::collections::BTreeMap;

use codec::TaskId;
use codec::row::{self, Event, EventKind, Status, TaskRow};

use super::{Check, arrows, broken};

#[derive(Clone, Debug, PartialEq)]
pub struct Task {
    pub status: Status,
    pub epoch: u32,
    /// Empty unless held.
    pub agent: String,
    pub submitted: u64,
    pub changed: u64,
}

#[derive(Default)]
pub struct Tasks {
    tasks: BTreeMap<TaskId, Task>,
    order: Vec<TaskId>,
    /// How many tasks each agent holds.
    held: BTreeMap<String, u64>,
    pub by_status: [u64; 16],
}

impl Tasks {
    pub fn get(&self, id: TaskId) -> Option<&Task> {
        self.tasks.get(&id)
    }

    /// Every task that was ever submitted, in order.
    pub fn known(&self) -> &[TaskId] {
        &self.order
    }

    pub fn live(&self) -> u64 {
        self.tasks.len() as u64 - self.ended()
    }

    fn ended(&self) -> u64 {
        Status::ALL.iter().filter(|s| s.ended()).map(|s| self.by_status[*s as usize]).sum()
    }

    pub fn held_by(&self, agent: &str) -> u64 {
        self.held.get(agent).copied().unwrap_or(0)
    }

    fn count_held(held: &mut BTreeMap<String, u64>, status: Status, agent: &str, by: i64) {
        if status.held() {
            match held.get_mut(agent) {
                Some(count) => *count = count.wrapping_add_signed(by),
                None => drop(held.insert(agent.to_owned(), 0u64.wrapping_add_signed(by))),
            }
        }
    }

    /// Tasks that have not ended, for the operator.
    pub fn left_behind(&self) -> impl Iterator<Item = (TaskId, Status)> + '_ {
        self.tasks.iter().filter(|(_, t)| !t.status.ended()).map(|(id, t)| (*id, t.status))
    }

    pub fn describe_live(&self) -> String {
        let live: Vec<String> = self
            .left_behind()
            .take(8)
            .map(|(id, status)| format!("{id} {} {:?}", status.name(), self.tasks.get(&id).map(|t| &t.agent)))
            .collect();
        format!("{} ({})", self.live(), live.join(", "))
    }

    /// One event of an applied command.
    pub fn event(&mut self, revision: u64, event: &Event) -> Check {
        let Ok(kind) = EventKind::try_from(event.kind) else { return Ok(()) };
        if kind.aggregate() != "task" {
            return Ok(());
        }
        let (Ok(id), Ok(status)) = (TaskId::from_slice(&event.id), Status::try_from(event.status)) else {
            return broken("id unique", format!("event of {revision} without an id or status"));
        };
        let (epoch, agent) = (event.epoch, event.agent_id.clone());
        let Some(task) = self.tasks.get_mut(&id) else {
            if kind != EventKind::TaskSubmitted {
                return broken("id unique", format!("task {id}: {} before it was submitted", kind.name()));
            }
            Self::count_held(&mut self.held, status, &agent, 1);
            self.tasks.insert(id, Task { status, epoch, agent, submitted: revision, changed: revision });
            self.order.push(id);
            self.by_status[status as usize] += 1;
            return Ok(());
        };
        if kind == EventKind::TaskSubmitted {
            return broken("id unique", format!("task {id} is submitted at {} and at {revision}", task.submitted));
        }
        if kind == EventKind::TaskForgotten {
            self.by_status[task.status as usize] -= 1;
            Self::count_held(&mut self.held, task.status, &task.agent, -1);
            self.tasks.remove(&id);
            return Ok(());
        }
        if status != task.status && !arrows::allowed(task.status, status) {
            let text = format!("task {id}: {} → {} at {revision} ({})", task.status.name(), status.name(), kind.name());
            return broken("status moves along the arrows", text);
        }
        if epoch < task.epoch {
            return broken("epochs grow", format!("task {id}: epoch {} → {epoch} at {revision}", task.epoch));
        }
        let newly_held = kind == EventKind::TaskAssigned;
        if newly_held && (task.status != Status::Ready || epoch != task.epoch + 1) {
            let text = format!("task {id}: assigned from {} with epoch {} → {epoch}", task.status.name(), task.epoch);
            return broken("one live attempt", text);
        }
        let same_holder = matches!(kind, EventKind::TaskStarted | EventKind::TaskProgressed | EventKind::TaskCancelling);
        if same_holder && task.status.held() && (epoch != task.epoch || agent != task.agent) {
            let text =
                format!("task {id}: {} by {agent} epoch {epoch}, held by {} epoch {}", kind.name(), task.agent, task.epoch);
            return broken("one live attempt", text);
        }
        if newly_held && agent.is_empty() {
            return broken("one live attempt", format!("task {id}: assigned to nobody"));
        }
        self.by_status[task.status as usize] -= 1;
        self.by_status[status as usize] += 1;
        Self::count_held(&mut self.held, task.status, &task.agent, -1);
        Self::count_held(&mut self.held, status, &agent, 1);
        let holder = if status.held() { agent } else { String::new() };
        *task = Task { status, epoch, agent: holder, submitted: task.submitted, changed: revision };
        Ok(())
    }

    /// A read of the task's row from a state at `revision`.
    pub fn read(&self, id: TaskId, value: Option<&[u8]>, revision: u64) -> Check {
        let Some(task) = self.tasks.get(&id) else { return Ok(()) };
        let Some(value) = value else {
            if task.submitted <= revision {
                return broken("acknowledged writes are present", format!("task {id} is missing at revision {revision}"));
            }
            return Ok(());
        };
        let Ok(row) = row::decode::<TaskRow>(value) else { return broken("equal hash", format!("task {id} cannot be decoded")) };
        // Not changed since the read's revision: the row must be the newest.
        if task.changed <= revision && (row.status != task.status as i32 || row.epoch != task.epoch) {
            let text = format!("task {id} is {:?} epoch {}, the events say {task:?}", row.status(), row.epoch);
            return broken("read sees the last acknowledged write", text);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(kind: EventKind, status: Status, epoch: u32, agent: &str) -> Event {
        Event { kind: kind as i32, id: vec![1; 16], status: status as i32, epoch, agent_id: agent.into(), ..Event::default() }
    }

    fn assigned() -> Tasks {
        let mut tasks = Tasks::default();
        assert!(tasks.event(1, &event(EventKind::TaskSubmitted, Status::Ready, 0, "")).is_ok());
        assert!(tasks.event(2, &event(EventKind::TaskAssigned, Status::Assigned, 1, "a")).is_ok());
        tasks
    }

    #[test]
    fn each_rule_notices_what_breaks_it() {
        let broken = [
            ("id unique", event(EventKind::TaskSubmitted, Status::Ready, 0, "")),
            ("status moves along the arrows", event(EventKind::TaskSkipped, Status::Skipped, 1, "")),
            ("epochs grow", event(EventKind::TaskReady, Status::Ready, 0, "")),
            ("one live attempt", event(EventKind::TaskStarted, Status::Running, 1, "b")),
        ];
        for (rule, event) in broken {
            let found = assigned().event(3, &event);
            assert!(found.as_ref().is_err_and(|b| b.invariant == rule), "{rule}: {found:?}");
        }
        assert!(assigned().event(3, &event(EventKind::TaskStarted, Status::Running, 1, "a")).is_ok());
    }

    #[test]
    fn what_is_completed_never_opens_again() {
        let mut tasks = assigned();
        assert!(tasks.event(3, &event(EventKind::TaskCompleted, Status::Completed, 1, "a")).is_ok());
        assert_eq!(tasks.live(), 0);
        assert!(tasks.event(4, &event(EventKind::TaskReady, Status::Ready, 2, "")).is_err());
    }
}
