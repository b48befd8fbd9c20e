//! What must hold after every command (TRUST §3). A command that would break one of these is
//! refused everywhere with `internal_invariant` and changes nothing.

use codec::TaskId;
use codec::row::Status;

use crate::machine::Machine;
use crate::task::status_of;
use crate::tx::{AgentEdit, Counters, Step, TaskEdit, broken};

/// The arrows of DESIGN §4. A new task (`from` is `None`) may enter any state that nobody holds.
pub(crate) fn arrow_allowed(from: Option<Status>, to: Status) -> bool {
    use Status::*;
    match from {
        None => matches!(to, Blocked | Delayed | Waiting | Ready),
        Some(Blocked) => matches!(to, Ready | Delayed | Failed | Skipped | Cancelled),
        Some(Delayed) => matches!(to, Ready | Delayed | Failed | Cancelled),
        Some(Waiting) => matches!(to, Completed | Failed | Cancelled),
        Some(Ready) => matches!(to, Ready | Assigned | Delayed | Failed | Cancelled),
        Some(Assigned) => matches!(to, Running | Ready | Delayed | Parked | Completed | Failed | Cancelling | Cancelled),
        Some(Running) => matches!(to, Ready | Delayed | Parked | Completed | Failed | Cancelling | Cancelled),
        Some(Cancelling) => matches!(to, Completed | Failed | Cancelled),
        Some(Parked) => matches!(to, Ready | Failed | Cancelled),
        Some(Failed) => matches!(to, Ready),
        Some(InputRequired) => false,
        Some(Completed | Skipped | Cancelled) => false,
    }
}

/// Epochs grow; a task is held exactly by the agent that it names.
pub(crate) fn check_task(id: TaskId, edit: &TaskEdit) -> Step {
    let (row, status) = (&edit.row, status_of(&edit.row));
    if let Some(before) = &edit.before {
        if row.epoch < before.epoch {
            return broken(format!("task {id}: epoch {} after {}", row.epoch, before.epoch));
        }
        let new_holder = status.held() && (row.assigned_agent_id != before.agent || !before.status.held());
        if new_holder && row.epoch == before.epoch {
            return broken(format!("task {id}: a new holder under the old epoch {}", row.epoch));
        }
        if edit.forgotten && !before.status.ended() {
            return broken(format!("task {id}: forgotten while {}", before.status.name()));
        }
    }
    if status.held() == row.assigned_agent_id.is_empty() && status != Status::Completed {
        return broken(format!("task {id}: {} with agent {:?}", status.name(), row.assigned_agent_id));
    }
    if status.ended() != (row.completed_wall_us > 0) {
        return broken(format!("task {id}: {} with end {}", status.name(), row.completed_wall_us));
    }
    Ok(())
}

/// No capacity below zero (checked when it is given back) or above the total.
pub(crate) fn check_agent(id: &str, edit: &AgentEdit) -> Step {
    let over = edit.row.resources.iter().zip(&edit.used).find(|(total, used)| **used > total.amount);
    match over {
        Some((total, used)) => broken(format!("agent {id}: {used} of {} {} taken", total.amount, total.name)),
        None if edit.used.len() != edit.row.resources.len() => broken(format!("agent {id}: resources and use differ")),
        None => Ok(()),
    }
}

/// Σ statuses = submitted − forgotten, and none below zero.
pub(crate) fn check_counts(machine: &Machine, counters: &Counters) -> Step {
    let mut sum = 0u64;
    for (status, (now, change)) in Status::ALL.iter().zip(machine.meta().tasks_by_status.iter().zip(counters.by_status)) {
        let Some(after) = now.checked_add_signed(change) else {
            return broken(format!("{now} {} tasks, {change} more", status.name()));
        };
        sum += after;
    }
    let expected = machine.meta().tasks_submitted + counters.submitted - machine.meta().tasks_forgotten - counters.forgotten;
    if sum != expected {
        return broken(format!("{sum} tasks by status, {expected} submitted and not forgotten"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_failed_tasks_open_again() {
        for from in Status::ALL.into_iter().filter(|s| s.ended() && *s != Status::Failed) {
            assert!(Status::ALL.into_iter().all(|to| !arrow_allowed(Some(from), to)), "{from:?}");
        }
        assert!(arrow_allowed(Some(Status::Failed), Status::Ready));
    }

    #[test]
    fn only_a_ready_task_is_assigned() {
        let from: Vec<_> = Status::ALL.into_iter().filter(|s| arrow_allowed(Some(*s), Status::Assigned)).collect();
        assert_eq!(from, [Status::Ready]);
        assert!(!arrow_allowed(None, Status::Assigned));
    }
}
