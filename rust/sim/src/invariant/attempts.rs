//! A task's effect is accepted once for each (task, epoch), from the agent that holds it; and the
//! leader's own commands only in an entry of their term.

use codec::TaskId;
use codec::command::Body;

use super::replay::Executed;
use super::tasks::Tasks;
use super::{Check, broken};

/// Checks a command against the tasks as they were before it.
pub fn command(executed: &Executed, entry_term: u64, tasks: &Tasks) -> Check {
    let Some(body) = &executed.command.body else { return Ok(()) };
    if body.leader_only() && !executed.events.is_empty() && executed.command.term != entry_term {
        let text = format!("{} of term {} took effect in term {entry_term}", body.name(), executed.command.term);
        return broken("leader-only commands carry their term", text);
    }
    let (task_id, epoch, agent_id) = match body {
        Body::Complete(c) => (&c.task_id, c.epoch, &c.agent_id),
        Body::Fail(c) => (&c.task_id, c.epoch, &c.agent_id),
        Body::Start(c) => (&c.task_id, c.epoch, &c.agent_id),
        Body::Progress(c) => (&c.task_id, c.epoch, &c.agent_id),
        _ => return Ok(()),
    };
    let touched = executed.events.iter().any(|e| e.id == *task_id);
    let Some(task) = TaskId::from_slice(task_id).ok().and_then(|id| tasks.get(id)).filter(|_| touched) else { return Ok(()) };
    if !task.status.held() || task.epoch != epoch || task.agent != *agent_id {
        let text = format!("{} by {agent_id} epoch {epoch} was accepted at {}, but {task:?}", body.name(), executed.revision);
        return broken("one effect a task and epoch", text);
    }
    Ok(())
}
