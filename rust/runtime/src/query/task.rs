//! One task: the object of the API, its timeline, logs and status.

use codec::TaskId;
use codec::command::{Amount, DependencyFailure, JoinPolicy, Label, Requirements};
use codec::row::{self, BlobKind, Cf, EventKind, StateRead, TaskRow, TimelineEvent};

use super::json::{self, Object};
use super::{Result, blob, children, result, task_row};

/// What of a task's blobs an object shows.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Detail {
    /// Payload, result (a DAG's is gathered from its leaves) and checkpoint.
    Full,
    /// Payload and the task's own result: an item of a list.
    Item,
}

/// The task as a JSON object, with its children and timeline on request; `None` if unknown.
pub fn task(rows: &dyn StateRead, id: TaskId, with_children: bool, with_events: bool) -> Result<Option<Vec<u8>>> {
    let Some(task) = task_row(rows, id)? else { return Ok(None) };
    let mut out = Vec::with_capacity(1024 + task.payload_bytes as usize + task.result_bytes as usize);
    let mut object = Object::new(&mut out);
    fields(&mut object, rows, id, &task, Detail::Full)?;
    if with_children {
        let list = object.value("children");
        let mut failure = None;
        json::array(list, children(rows, id)?, |out, (child, row)| {
            failure = failure.take().or(write(out, rows, child, &row, Detail::Item).err());
        });
        failure.map_or(Ok(()), Err)?;
    }
    if with_events {
        json::array(object.value("events"), timeline(&task), timeline_event);
    }
    object.end();
    Ok(Some(out))
}

/// Writes one task as a JSON object.
pub(super) fn write(out: &mut Vec<u8>, rows: &dyn StateRead, id: TaskId, task: &TaskRow, detail: Detail) -> Result<()> {
    let mut object = Object::new(out);
    let written = fields(&mut object, rows, id, task, detail);
    object.end();
    written
}

fn fields(object: &mut Object<'_>, rows: &dyn StateRead, id: TaskId, task: &TaskRow, detail: Detail) -> Result<()> {
    object.id("id", &id.0);
    object.id("parent_task_id", &task.parent_id);
    object.text_or_null("name", &task.name);
    object.text("task_type", &task.task_type);
    object.raw_or_null("task_data", blob(rows, id, BlobKind::Payload)?.as_deref());
    object.text("status", task.status().name());
    object.text_or_null("assigned_agent_id", &task.assigned_agent_id);
    object.time("created_at", task.created_wall_us);
    object.time("started_at", task.started_wall_us);
    object.time("completed_at", task.completed_wall_us);
    object.ids("dependencies", task.dependencies.iter().map(Vec::as_slice));
    object.signed("priority", task.priority);
    object.number("retry_count", task.retry_count.into());
    object.number("epoch", task.epoch.into());
    object.number("revision", task.revision);
    object.number("attempts", task.attempts.into());
    policy_fields(object, task);
    object.text("tenant", &task.tenant);
    labels(object.value("labels"), &task.labels);
    result_fields(object, rows, id, task, detail)
}

/// What the client asked for at submit.
fn policy_fields(object: &mut Object<'_>, task: &TaskRow) {
    requirements(object.value("requirements"), task.requirements.as_ref());
    object.text("on_dependency_failure", dependency_failure(task.on_dependency_failure()));
    object.boolean("optional", task.optional);
    object.time("not_before", task.not_before_wall_us);
    object.time("deadline", task.deadline_wall_us);
    let mut timeouts = Object::new(object.value("timeouts"));
    timeouts.number("queue_ms", task.queue_ms);
    timeouts.number("run_ms", task.run_ms);
    timeouts.number("total_ms", task.total_ms);
    timeouts.end();
    match &task.retry {
        None => object.null("retry"),
        Some(policy) => retry_policy(object.value("retry"), policy),
    }
    object.boolean("idempotent", task.idempotent);
    object.boolean("preemptible", task.preemptible);
    object.number("size_hint", task.size_hint);
    amounts(object.value("cost_estimate"), &task.cost_estimate);
    match &task.join {
        None => object.null("join"),
        Some(join) => join_fields(object, join, task),
    }
}

fn join_fields(object: &mut Object<'_>, join: &codec::command::Join, task: &TaskRow) {
    let mut out = Object::new(object.value("join"));
    out.text("policy", join_policy(join.policy()));
    if join.policy() == JoinPolicy::Quorum {
        out.number("count", join.count.into());
    }
    out.number("children", task.children.into());
    out.number("completed", task.children_completed.into());
    out.number("ended", task.children_ended.into());
    out.end();
}

/// What came of it.
fn result_fields(object: &mut Object<'_>, rows: &dyn StateRead, id: TaskId, task: &TaskRow, detail: Detail) -> Result<()> {
    let result = match detail {
        Detail::Full => result::of_task(rows, id, task)?,
        Detail::Item => blob(rows, id, BlobKind::Result)?,
    };
    object.raw_or_null("result", result.as_deref());
    match &task.error {
        None => object.null("error"),
        Some(error) => {
            let mut out = Object::new(object.value("error"));
            out.text("code", &error.code);
            out.text("message", &error.message);
            out.boolean("retryable", error.retryable);
            out.end();
        }
    }
    object.decimal("progress", task.progress_bp.into(), 4);
    object.text_or_null("progress_message", &task.progress_message);
    amounts(object.value("cost"), &task.cost);
    if detail == Detail::Full {
        let checkpoint = if task.has_checkpoint { blob(rows, id, BlobKind::Checkpoint)? } else { None };
        object.raw_or_null("checkpoint", checkpoint.as_deref());
        object.texts("excluded_agents", task.excluded_agents.iter().map(String::as_str));
    }
    Ok(())
}

/// (status or `None` when unknown, epoch).
pub fn task_status(rows: &dyn StateRead, id: TaskId) -> Result<Option<(row::Status, u32)>> {
    Ok(task_row(rows, id)?.map(|task| (task.status(), task.epoch)))
}

/// The timeline as a JSON array, oldest first; `None` if the task is unknown.
pub fn task_events(rows: &dyn StateRead, id: TaskId) -> Result<Option<Vec<u8>>> {
    let Some(task) = task_row(rows, id)? else { return Ok(None) };
    let mut out = Vec::new();
    json::array(&mut out, timeline(&task), timeline_event);
    Ok(Some(out))
}

/// The stored events after the submit, which the row's own columns tell.
fn timeline(task: &TaskRow) -> impl Iterator<Item = TimelineEvent> + '_ {
    let submitted = TimelineEvent {
        kind: EventKind::TaskSubmitted as i32,
        wall_us: task.created_wall_us,
        revision: task.submit_revision,
        ..TimelineEvent::default()
    };
    std::iter::once(submitted).chain(task.timeline.iter().cloned())
}

fn timeline_event(out: &mut Vec<u8>, event: TimelineEvent) {
    let mut object = Object::new(out);
    object.text("type", EventKind::try_from(event.kind).map_or("unknown", EventKind::name));
    object.time("at", event.wall_us);
    object.number("revision", event.revision);
    object.number("epoch", event.epoch.into());
    object.text_or_null("agent_id", &event.agent_id);
    object.text_or_null("reason", &event.reason);
    object.end();
}

/// NDJSON lines of one attempt (0: the newest), empty if it wrote none; `None` if the task is unknown.
pub fn task_logs(rows: &dyn StateRead, id: TaskId, attempt: u32) -> Result<Option<Vec<u8>>> {
    let Some(task) = task_row(rows, id)? else { return Ok(None) };
    let attempt = if attempt == 0 { task.attempts } else { attempt };
    Ok(Some(rows.get(Cf::Blob, &row::key::blob(id, BlobKind::Log, attempt))?.unwrap_or_default()))
}

pub(super) fn labels(out: &mut Vec<u8>, labels: &[Label]) {
    let mut object = Object::new(out);
    for label in labels {
        object.text(&label.key, &label.value);
    }
    object.end();
}

pub(super) fn amounts(out: &mut Vec<u8>, amounts: &[Amount]) {
    let mut object = Object::new(out);
    for amount in amounts {
        object.number(&amount.name, amount.amount);
    }
    object.end();
}

/// Levels in basis points as numbers from 0 to 1.
pub(super) fn levels(out: &mut Vec<u8>, levels: &[Amount]) {
    let mut object = Object::new(out);
    for level in levels {
        object.decimal(&level.name, level.amount, 4);
    }
    object.end();
}

pub(super) fn requirements(out: &mut Vec<u8>, requirements: Option<&Requirements>) {
    let none = Requirements::default();
    let requirements = requirements.unwrap_or(&none);
    let mut object = Object::new(out);
    let mut needs = Object::new(object.value("capabilities"));
    for need in &requirements.capabilities {
        let mut out = Object::new(needs.value(&need.dimension));
        out.decimal("min", need.min_bp.into(), 4);
        out.decimal("weight", need.weight_milli.into(), 3);
        out.end();
    }
    needs.end();
    amounts(object.value("resources"), &requirements.resources);
    labels(object.value("labels"), &requirements.labels);
    object.end();
}

pub(super) fn retry_policy(out: &mut Vec<u8>, policy: &codec::command::RetryPolicy) {
    let mut object = Object::new(out);
    object.number("max_attempts", policy.max_attempts.into());
    object.number("backoff_ms", policy.backoff_ms);
    object.decimal("factor", policy.factor_milli.into(), 3);
    object.number("max_backoff_ms", policy.max_backoff_ms);
    object.texts("non_retryable", policy.non_retryable.iter().map(String::as_str));
    object.end();
}

pub(super) fn dependency_failure(policy: DependencyFailure) -> &'static str {
    match policy {
        DependencyFailure::Fail => "fail",
        DependencyFailure::Skip => "skip",
        DependencyFailure::Run => "run",
    }
}

pub(super) fn join_policy(policy: JoinPolicy) -> &'static str {
    match policy {
        JoinPolicy::All => "all",
        JoinPolicy::Any => "any",
        JoinPolicy::Quorum => "quorum",
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Rows, parsed, task_id};
    use super::*;
    use codec::row::Status;
    use serde_json::json;

    /// Scenario: a task with everything set → the object shows the specification's columns and ours.
    #[test]
    fn a_task_shows_its_columns() {
        let mut rows = Rows::default();
        let mut row = rows.plain_task(1, Status::Running);
        row.assigned_agent_id = "a".to_owned();
        row.started_wall_us = 1_795_521_600_000_000;
        row.progress_bp = 2_500;
        row.requirements = Some(Requirements {
            capabilities: vec![codec::command::CapabilityNeed { dimension: "nlp".into(), min_bp: 7_000, weight_milli: 1_000 }],
            resources: vec![Amount { name: "slots".into(), amount: 1 }],
            labels: vec![Label { key: "region".into(), value: "eu".into() }],
        });
        rows.put_task(task_id(1), &row);
        rows.put_blob(task_id(1), BlobKind::Payload, b"{\"kept\" : 1.0}");
        let text = task(&rows, task_id(1), false, false).expect("read").expect("known");
        assert!(String::from_utf8_lossy(&text).contains(r#""task_data":{"kept" : 1.0}"#), "the payload is verbatim");
        let object = parsed(&text);
        assert_eq!(object["status"], "running");
        assert_eq!(object["started_at"], "2026-11-24T12:00:00.000000Z");
        assert_eq!(object["completed_at"], json!(null));
        assert_eq!(object["parent_task_id"], json!(null));
        assert_eq!(object["progress"], json!(0.25));
        assert_eq!(object["requirements"]["capabilities"], json!({"nlp": {"min": 0.7, "weight": 1.0}}));
        assert_eq!(object["requirements"]["resources"], json!({"slots": 1}));
        assert!(object.get("children").is_none() && object.get("events").is_none());
    }

    #[test]
    fn children_and_events_are_included_on_request() {
        let mut rows = Rows::default();
        let mut parent = rows.plain_task(1, Status::Waiting);
        parent.join = Some(codec::command::Join::default());
        parent.timeline = vec![TimelineEvent { kind: EventKind::TaskWaiting as i32, revision: 1, ..Default::default() }];
        rows.put_task(task_id(1), &parent);
        rows.child(1, 2, "x", Status::Ready, &[]);
        let object = parsed(&task(&rows, task_id(1), true, true).expect("read").expect("known"));
        assert_eq!(object["children"][0]["name"], "x");
        assert_eq!(object["events"][0]["type"], "submitted");
        assert_eq!(object["events"][1]["type"], "waiting");
        assert_eq!(object["join"]["policy"], "all");
    }

    #[test]
    fn the_newest_attempt_is_the_default_of_logs() {
        let mut rows = Rows::default();
        let mut row = rows.plain_task(1, Status::Running);
        row.attempts = 2;
        rows.put_task(task_id(1), &row);
        rows.put(Cf::Blob, row::key::blob(task_id(1), BlobKind::Log, 1), b"one\n".to_vec());
        rows.put(Cf::Blob, row::key::blob(task_id(1), BlobKind::Log, 2), b"two\n".to_vec());
        assert_eq!(task_logs(&rows, task_id(1), 0).expect("read").as_deref(), Some(&b"two\n"[..]));
        assert_eq!(task_logs(&rows, task_id(1), 1).expect("read").as_deref(), Some(&b"one\n"[..]));
        assert_eq!(task_logs(&rows, task_id(1), 3).expect("read").as_deref(), Some(&b""[..]));
        assert_eq!(task_logs(&rows, task_id(9), 0).expect("read"), None);
    }
}
