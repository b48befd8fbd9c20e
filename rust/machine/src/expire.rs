//! What time does (proposed by the leader, checked again here), and putting tasks back by hand.

use codec::command::{Expire, ExpireReason, ExpiredTask, Reschedule, Retry};
use codec::row::{EventKind, Status, TaskError, TaskRow};
use codec::{Outcome, Refusal, TaskId};

use crate::dag::{Verdict, count_child};
use crate::limits::{EXCLUDED_AGENTS_MAX, LIVE_TASKS_MAX};
use crate::task::{parent_of, status_of};
use crate::timers::Timers;
use crate::tx::{Step, Tx, refuse};

impl Tx<'_> {
    /// Each item stands alone: one that is not due, or of another epoch, is passed over.
    pub(crate) fn expire(&mut self, command: &Expire) -> Step<Outcome> {
        let mut passed_over = 0;
        for item in &command.tasks {
            passed_over += usize::from(!self.expire_task(item)?);
        }
        for item in &command.agents {
            passed_over += usize::from(!self.expire_agent(&item.agent_id, item.agent_epoch)?);
        }
        for node_id in &command.drained_nodes {
            passed_over += usize::from(!self.expire_drain(node_id)?);
        }
        self.cascade()?;
        let detail = if passed_over > 0 { format!("{passed_over} items were not due") } else { String::new() };
        Ok(Outcome { detail, ..Outcome::accepted(self.revision) })
    }

    fn expire_task(&mut self, item: &ExpiredTask) -> Step<bool> {
        let Ok(id) = TaskId::from_slice(&item.task_id) else { return Ok(false) };
        let Ok(reason) = ExpireReason::try_from(item.reason) else { return Ok(false) };
        if !self.machine.tasks.contains_key(&id) {
            return Ok(false);
        }
        let (cluster_us, wall_us) = (self.cluster_us, self.wall_us);
        let row = self.task(id)?;
        if row.epoch != item.epoch || !Timers::of(row).is_due(reason, cluster_us, wall_us) {
            return Ok(false);
        }
        match reason {
            ExpireReason::Delay => self.make_ready(id, "")?,
            ExpireReason::Unclaimed => self.revoke(id, "unclaimed")?,
            ExpireReason::RunTimeout => {
                self.tell(id, EventKind::TaskTimedOut, "run_ms")?;
                self.fail_attempt(id, error("timeout", "the attempt took longer than run_ms", true), None, true)?;
            }
            ExpireReason::Deadline => self.miss_deadline(id)?,
            ExpireReason::CancelGrace => self.kill(id, "grace_over")?,
        }
        Ok(true)
    }

    fn miss_deadline(&mut self, id: TaskId) -> Step {
        self.release(id, None, None, true)?;
        let row = self.task(id)?;
        row.epoch += 1;
        row.error = Some(error("deadline_exceeded", "queue_ms, total_ms or the deadline has passed", false));
        self.end(id, Status::Failed, EventKind::TaskFailed, "deadline_exceeded")?;
        self.kill_children(id, "parent_failed")
    }

    /// Puts a ready, delayed or held task back into the queue with other exclusions, priority or time.
    pub(crate) fn reschedule(&mut self, command: &Reschedule) -> Step<Outcome> {
        let wall_us = self.wall_us;
        let (id, row) = self.named_task(&command.task_id)?;
        let status = status_of(row);
        if !matches!(status, Status::Ready | Status::Delayed | Status::Assigned | Status::Running) {
            return self.refuse_task(id, Refusal::WrongState, format!("the task is {}", status.name()));
        }
        if command.priority.is_some_and(|p| !(-10..=10).contains(&p)) {
            return refuse(Refusal::Invalid, "/priority", "must be from -10 to 10");
        }
        for agent in &command.exclude_agents {
            if !row.excluded_agents.contains(agent) {
                row.excluded_agents.push(agent.clone());
            }
        }
        let surplus = row.excluded_agents.len().saturating_sub(EXCLUDED_AGENTS_MAX);
        row.excluded_agents.drain(..surplus);
        if let Some(priority) = command.priority {
            row.priority = priority;
        }
        row.not_before_wall_us = command.not_before_wall_us.unwrap_or(0);
        let later = row.not_before_wall_us > wall_us;
        if status.held() {
            self.release(id, None, None, true)?;
            self.task(id)?.epoch += 1;
        }
        self.tell(id, EventKind::TaskRescheduled, "")?;
        if later {
            let row = self.task(id)?;
            row.delayed_until_cluster_us = 0;
            row.started_wall_us = 0;
            row.started_cluster_us = 0;
            self.transition(id, Status::Delayed, EventKind::TaskDelayed, "not_before")?;
        } else {
            self.make_ready(id, "rescheduled")?;
        }
        self.answer(id)
    }

    /// A parked or failed task gets all its attempts again.
    pub(crate) fn retry(&mut self, command: &Retry) -> Step<Outcome> {
        let (id, row) = self.named_task(&command.task_id)?;
        let status = status_of(row);
        if !matches!(status, Status::Parked | Status::Failed) {
            return self.refuse_task(id, Refusal::WrongState, format!("the task is {}", status.name()));
        }
        if status == Status::Failed {
            self.reopen(id)?;
        }
        let cluster_us = self.cluster_us;
        let row = self.task(id)?;
        row.failures = 0;
        row.lost_agents.clear();
        row.open_dependencies = 0;
        row.error = None;
        row.completed_wall_us = 0;
        row.finished_by.clear();
        row.finished_epoch = 0;
        row.progress_bp = 0;
        row.created_cluster_us = cluster_us;
        self.tell(id, EventKind::TaskRetried, "")?;
        self.make_ready(id, "retried")?;
        self.answer(id)
    }

    /// What must hold before a failed task may be live again.
    fn reopen(&mut self, id: TaskId) -> Step {
        if self.machine.tasks.len() >= LIVE_TASKS_MAX {
            return refuse(Refusal::LimitExceeded, "", format!("{LIVE_TASKS_MAX} tasks are live"));
        }
        let row: TaskRow = self.task(id)?.clone();
        if row.join.is_some() {
            return self.refuse_task(id, Refusal::WrongState, "a graph that has ended is not opened again: submit it again");
        }
        if let Some(parent) = parent_of(&row) {
            if !self.machine.tasks.contains_key(&parent) {
                return self.refuse_task(id, Refusal::WrongState, format!("its parent {parent} has ended"));
            }
            let revision = self.revision;
            let parent_row = self.task(parent)?;
            count_child(parent_row, Status::Failed, row.optional, -1);
            parent_row.revision = revision;
        }
        match self.weigh_stored_dependencies(&row)? {
            None => Ok(()),
            Some((dependency, status)) => {
                let detail = format!("its dependency {dependency} is {}: retry that first", status.name());
                self.refuse_task(id, Refusal::WrongState, detail)
            }
        }
    }

    /// The first dependency that keeps the task from running. One that retention has forgotten no
    /// longer does.
    fn weigh_stored_dependencies(&mut self, row: &TaskRow) -> Step<Option<(TaskId, Status)>> {
        for dependency in crate::task::dependencies_of(row) {
            let Some(edit) = self.find_task(dependency)? else { continue };
            let status = status_of(&edit.row);
            if crate::dag::verdict(status, crate::task::dependency_failure_of(row)) != Verdict::Done {
                return Ok(Some((dependency, status)));
            }
        }
        Ok(None)
    }
}

fn error(code: &str, message: &str, retryable: bool) -> TaskError {
    TaskError { code: code.into(), message: message.into(), retryable }
}
