//! Σ statuses = submitted − forgotten, and the machine's counts are what the events add up to.

use codec::row::Status;
use machine::Machine;

use super::tasks::Tasks;
use super::{Check, broken};

pub fn entry(tasks: &Tasks, machine: &Machine) -> Check {
    let meta = machine.meta();
    for (status, count) in Status::ALL.iter().zip(&meta.tasks_by_status) {
        let expected = tasks.by_status[*status as usize];
        if *count != expected {
            return broken("Σ statuses", format!("{count} tasks count as {}, the events say {expected}", status.name()));
        }
    }
    let sum: u64 = meta.tasks_by_status.iter().sum();
    if sum != meta.tasks_submitted - meta.tasks_forgotten {
        let text = format!("{sum} tasks by status, {} submitted, {} forgotten", meta.tasks_submitted, meta.tasks_forgotten);
        return broken("Σ statuses", text);
    }
    Ok(())
}
