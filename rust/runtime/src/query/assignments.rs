//! What a poll answers: the assignments an agent does not hold yet, and what it must stop.
//!
//! Read from state, not from a queue: a lost answer is repaired by the next poll.

use std::collections::BTreeMap;

use codec::TaskId;
use codec::row::{AgentStatus, BlobKind, StateRead, Status, TaskRow, index};

use super::agent::node_drains;
use super::json::{self, Object};
use super::result::inputs;
use super::{QueryError, Result, agent_row, blob, indexed, limits, task_row};

/// What the agent says it holds: task → epoch.
pub type Held = BTreeMap<TaskId, u32>;

/// Two JSON arrays for one agent.
#[derive(Debug, PartialEq, Eq)]
pub struct Assignments {
    pub assignments: Vec<u8>,
    pub commands: Vec<u8>,
}

/// Reads the JSON array of `[task_id, epoch]` that a poll carries.
///
/// # Errors
/// [`QueryError::Query`] if it is none, or longer than [`limits::HELD_MAX`].
pub fn held(bytes: &[u8]) -> Result<Held> {
    let bad = |what: &str| QueryError::Query(format!("held: {what}"));
    let pairs: Vec<(String, u32)> = serde_json::from_slice(bytes).map_err(|error| bad(&error.to_string()))?;
    if pairs.len() > limits::HELD_MAX {
        return Err(bad("too many items"));
    }
    pairs
        .into_iter()
        .map(|(id, epoch)| Some((TaskId::parse(&id)?, epoch)))
        .collect::<Option<Held>>()
        .ok_or_else(|| bad("not a task id"))
}

/// Assignments of the agent that are not in `held` (at most `limit`, within the inline limit but
/// always at least one), and commands about items of `held` that no longer stand.
pub fn assignments(rows: &dyn StateRead, agent_id: &str, held: &Held, limit: usize) -> Result<Assignments> {
    if agent_id.len() > 255 {
        return Err(QueryError::Query("agent_id is longer than 255 bytes".to_owned()));
    }
    let mut out = vec![b'['];
    let mut taken = 0;
    for id in indexed(rows, &index::by_agent_prefix(agent_id), limits::HELD_MAX)? {
        if taken >= limit || out.len() >= limits::PAGE_BYTES_MAX {
            break;
        }
        let Some(task) = task_row(rows, id)? else { continue };
        let to_do = matches!(task.status(), Status::Assigned | Status::Running) && task.assigned_agent_id == agent_id;
        if !to_do || held.get(&id) == Some(&task.epoch) {
            continue;
        }
        if taken > 0 {
            out.push(b',');
        }
        assignment(&mut out, rows, id, &task)?;
        taken += 1;
    }
    out.push(b']');
    Ok(Assignments { assignments: out, commands: commands(rows, agent_id, held)? })
}

fn assignment(out: &mut Vec<u8>, rows: &dyn StateRead, id: TaskId, task: &TaskRow) -> Result<()> {
    let mut object = Object::new(out);
    object.id("task_id", &id.0);
    object.number("epoch", task.epoch.into());
    object.number("attempt", task.attempts.into());
    object.text("task_type", &task.task_type);
    object.raw_or_null("task_data", blob(rows, id, BlobKind::Payload)?.as_deref());
    inputs(object.value("inputs"), rows, task)?;
    let checkpoint = if task.has_checkpoint { blob(rows, id, BlobKind::Checkpoint)? } else { None };
    object.raw_or_null("checkpoint", checkpoint.as_deref());
    object.time("deadline", task.deadline_wall_us);
    object.number("run_ms", task.run_ms);
    object.end();
    Ok(())
}

struct Command {
    kind: &'static str,
    task: Option<(TaskId, u32)>,
    reason: String,
}

fn commands(rows: &dyn StateRead, agent_id: &str, held: &Held) -> Result<Vec<u8>> {
    let mut commands = Vec::new();
    for (&id, &epoch) in held {
        let task = task_row(rows, id)?;
        commands.extend(about(agent_id, epoch, task.as_ref()).map(|(kind, reason)| Command {
            kind,
            task: Some((id, epoch)),
            reason,
        }));
    }
    if let Some(agent) = agent_row(rows, agent_id)? {
        let reason = match agent.status() {
            AgentStatus::Draining => Some("agent"),
            _ if node_drains(rows, &agent.node_id)? => Some("node"),
            _ => None,
        };
        commands.extend(reason.map(|reason| Command { kind: "drain", task: None, reason: reason.to_owned() }));
    }
    let mut out = Vec::new();
    json::array(&mut out, &commands, |out, command| {
        let mut object = Object::new(out);
        object.text("kind", command.kind);
        if let Some((id, epoch)) = command.task {
            object.id("task_id", &id.0);
            object.number("epoch", epoch.into());
        }
        object.text("reason", &command.reason);
        object.end();
    });
    Ok(out)
}

/// What the agent must be told about one item it holds; `None` while it stands, and when this node's
/// state is older than the hand-over: a node that lags knows nothing of what the agent was given.
fn about(agent_id: &str, epoch: u32, task: Option<&TaskRow>) -> Option<(&'static str, String)> {
    let task = task.filter(|task| task.epoch >= epoch)?;
    if task.epoch == epoch && task.assigned_agent_id == agent_id && task.status().held() {
        return (task.status() == Status::Cancelling)
            .then(|| ("cancel", last_reason(task).unwrap_or_else(|| "cancelled".to_owned())));
    }
    let ended_by_it = task.finished_by == agent_id && task.finished_epoch == epoch;
    let reason = match task.status() {
        status if ended_by_it || (status.ended() && status != Status::Cancelled) => status.name().to_owned(),
        _ => last_reason(task).unwrap_or_else(|| task.status().name().to_owned()),
    };
    Some(("revoke", reason))
}

/// Why the newest event of the timeline that gives a reason happened.
fn last_reason(task: &TaskRow) -> Option<String> {
    task.timeline.iter().rev().find(|event| !event.reason.is_empty()).map(|event| event.reason.clone())
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Rows, parsed, task_id};
    use super::*;
    use codec::row::{AgentRow, Cf, DrainState, MemberRow, TimelineEvent};
    use serde_json::json;

    fn assigned(rows: &mut Rows, number: u8, status: Status, epoch: u32) {
        let mut task = rows.plain_task(number, status);
        (task.assigned_agent_id, task.epoch, task.attempts) = ("a".to_owned(), epoch, 1);
        rows.put_task(task_id(number), &task);
        rows.put_blob(task_id(number), BlobKind::Payload, format!("{{\"n\": {number}}}").as_bytes());
    }

    fn poll(rows: &Rows, held: &[(u8, u32)]) -> (serde_json::Value, serde_json::Value) {
        let held = held.iter().map(|&(n, epoch)| (task_id(n), epoch)).collect();
        let answer = assignments(rows, "a", &held, 100).expect("read");
        (parsed(&answer.assignments), parsed(&answer.commands))
    }

    /// Scenario: three assignments, one held under its epoch, one under an old epoch →
    /// the other two are handed over, and the old epoch is revoked.
    #[test]
    fn a_poll_gets_what_it_does_not_hold() {
        let mut rows = Rows::default();
        assigned(&mut rows, 1, Status::Running, 1);
        assigned(&mut rows, 2, Status::Assigned, 3);
        assigned(&mut rows, 3, Status::Assigned, 1);
        let (list, commands) = poll(&rows, &[(1, 1), (2, 1)]);
        let ids: Vec<_> = list.as_array().expect("array").iter().map(|a| (a["task_id"].clone(), a["epoch"].clone())).collect();
        assert_eq!(ids, [(json!(task_id(2).to_string()), json!(3)), (json!(task_id(3).to_string()), json!(1))]);
        assert_eq!(list[1]["task_data"], json!({"n": 3}));
        assert_eq!(list[1]["inputs"], json!({}));
        assert_eq!(commands, json!([{"kind": "revoke", "task_id": task_id(2).to_string(), "epoch": 1, "reason": "assigned"}]));
    }

    #[test]
    fn a_cancel_asks_the_holder_and_is_not_handed_over() {
        let mut rows = Rows::default();
        assigned(&mut rows, 1, Status::Cancelling, 1);
        let (list, commands) = poll(&rows, &[(1, 1)]);
        assert_eq!(list, json!([]));
        assert_eq!(commands[0]["kind"], "cancel");
        assert_eq!(poll(&rows, &[]), (json!([]), json!([])));
    }

    #[test]
    fn a_revocation_says_why() {
        let mut rows = Rows::default();
        let mut task = rows.plain_task(1, Status::Ready);
        task.epoch = 2;
        task.timeline = vec![TimelineEvent { reason: "lease_lost".into(), ..Default::default() }, TimelineEvent::default()];
        rows.put_task(task_id(1), &task);
        let (_, commands) = poll(&rows, &[(1, 1)]);
        assert_eq!(commands[0]["reason"], "lease_lost");
    }

    #[test]
    fn a_node_that_lags_revokes_nothing_it_has_not_seen_handed_over() {
        let mut rows = Rows::default();
        let mut task = rows.plain_task(1, Status::Ready);
        task.epoch = 1;
        rows.put_task(task_id(1), &task);
        let (_, commands) = poll(&rows, &[(1, 2), (9, 1)]);
        assert_eq!(commands, json!([]), "an older row and a missing one");
    }

    #[test]
    fn a_drain_of_the_agent_or_its_node_is_told() {
        let mut rows = Rows::default();
        rows.put_agent("a", &AgentRow { node_id: "n".into(), ..AgentRow::default() });
        assert_eq!(poll(&rows, &[]).1, json!([]));
        let member = MemberRow { drain: DrainState::Draining as i32, ..MemberRow::default() };
        rows.put(Cf::Member, b"n".to_vec(), codec::row::encode(&member));
        assert_eq!(poll(&rows, &[]).1, json!([{"kind": "drain", "reason": "node"}]));
        rows.put_agent("a", &AgentRow { status: AgentStatus::Draining as i32, ..AgentRow::default() });
        assert_eq!(poll(&rows, &[]).1, json!([{"kind": "drain", "reason": "agent"}]));
    }

    #[test]
    fn held_is_checked() {
        assert_eq!(held(format!("[[\"{}\", 4]]", task_id(1)).as_bytes()).expect("held"), Held::from([(task_id(1), 4)]));
        for bad in ["{}", "[[\"x\", 1]]", "[[1, 1]]", "["] {
            assert!(matches!(held(bad.as_bytes()), Err(QueryError::Query(_))), "{bad}");
        }
    }
}
