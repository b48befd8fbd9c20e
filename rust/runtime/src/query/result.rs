//! Results: a task's own, what a DAG's leaves add up to, and the inputs of a task.

use std::collections::BTreeSet;

use codec::TaskId;
use codec::row::{BlobKind, StateRead, Status, TaskRow};

use super::json::Object;
use super::{Result, blob, children, limits, task_row};

/// What is known of a task's result.
#[derive(Debug, PartialEq, Eq)]
pub struct TaskResult {
    /// `None` when the task is unknown.
    pub status: Option<Status>,
    /// JSON text, once there is one.
    pub json: Option<Vec<u8>>,
}

pub fn task_result(rows: &dyn StateRead, id: TaskId) -> Result<TaskResult> {
    let Some(task) = task_row(rows, id)? else { return Ok(TaskResult { status: None, json: None }) };
    Ok(TaskResult { status: Some(task.status()), json: of_task(rows, id, &task)? })
}

/// The stored result, or for a completed DAG's parent one object: each leaf (a child that no other
/// child depends on) by its name, else its id, with its result.
pub(super) fn of_task(rows: &dyn StateRead, id: TaskId, task: &TaskRow) -> Result<Option<Vec<u8>>> {
    if let Some(json) = blob(rows, id, BlobKind::Result)? {
        return Ok(Some(json));
    }
    if task.join.is_none() || task.status() != Status::Completed {
        return Ok(None);
    }
    let children = children(rows, id)?;
    let inner: BTreeSet<&[u8]> = children.iter().flat_map(|(_, child)| &child.dependencies).map(Vec::as_slice).collect();
    let mut out = Vec::new();
    let mut object = Object::new(&mut out);
    let mut room = limits::INLINE_BYTES_MAX;
    for (child_id, child) in children.iter().filter(|(child_id, _)| !inner.contains(&child_id.0[..])) {
        match inline(rows, *child_id, child, &mut room)? {
            Inline::Here(json) => object.raw_or_null(&label(*child_id, child), json.as_deref()),
            Inline::Elsewhere => {
                let mut reference = Object::new(object.value(&label(*child_id, child)));
                reference_fields(&mut reference, *child_id, Some(child.status()));
                reference.text("href", &href(*child_id));
                reference.end();
            }
        }
    }
    object.end();
    Ok(Some(out))
}

/// Writes `inputs`: each dependency by its name, else its id, as `{task_id, status, result | href}`.
pub(super) fn inputs(out: &mut Vec<u8>, rows: &dyn StateRead, task: &TaskRow) -> Result<()> {
    let mut object = Object::new(out);
    let mut room = limits::INLINE_BYTES_MAX;
    let mut written = Ok(());
    for bytes in &task.dependencies {
        let Ok(id) = TaskId::from_slice(bytes) else { continue };
        written = input(&mut object, rows, id, &mut room);
        if written.is_err() {
            break;
        }
    }
    object.end();
    written
}

fn input(object: &mut Object<'_>, rows: &dyn StateRead, id: TaskId, room: &mut usize) -> Result<()> {
    let Some(task) = task_row(rows, id)? else {
        // Retention has forgotten it: the agent sees that it was there.
        let mut out = Object::new(object.value(&id.to_string()));
        reference_fields(&mut out, id, None);
        out.null("result");
        out.end();
        return Ok(());
    };
    let value = inline(rows, id, &task, room)?;
    let mut out = Object::new(object.value(&label(id, &task)));
    reference_fields(&mut out, id, Some(task.status()));
    match value {
        Inline::Here(json) => out.raw_or_null("result", json.as_deref()),
        Inline::Elsewhere => out.text("href", &href(id)),
    }
    out.end();
    Ok(())
}

enum Inline {
    Here(Option<Vec<u8>>),
    /// It does not fit into what is left of the answer.
    Elsewhere,
}

/// Takes a result out of the room that is left. A DAG among the dependencies is gathered too.
fn inline(rows: &dyn StateRead, id: TaskId, task: &TaskRow, room: &mut usize) -> Result<Inline> {
    if task.result_bytes as usize > *room {
        return Ok(Inline::Elsewhere);
    }
    let json = of_task(rows, id, task)?;
    let bytes = json.as_ref().map_or(0, Vec::len);
    if bytes > *room {
        return Ok(Inline::Elsewhere);
    }
    *room -= bytes;
    Ok(Inline::Here(json))
}

fn label(id: TaskId, task: &TaskRow) -> String {
    if task.name.is_empty() { id.to_string() } else { task.name.clone() }
}

fn reference_fields(object: &mut Object<'_>, id: TaskId, status: Option<Status>) {
    object.id("task_id", &id.0);
    match status {
        Some(status) => object.text("status", status.name()),
        None => object.null("status"),
    }
}

fn href(id: TaskId) -> String {
    format!("/api/v1/tasks/{id}/result")
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Rows, parsed, task_id};
    use super::*;
    use serde_json::json;

    fn diamond(rows: &mut Rows) {
        let mut parent = rows.plain_task(1, Status::Completed);
        parent.join = Some(codec::command::Join::default());
        rows.put_task(task_id(1), &parent);
        rows.child(1, 2, "root", Status::Completed, &[]);
        rows.child(1, 3, "left", Status::Completed, &[2]);
        rows.child(1, 4, "", Status::Skipped, &[2]);
        rows.put_blob(task_id(2), BlobKind::Result, b"\"hidden\"");
        rows.put_blob(task_id(3), BlobKind::Result, b"[1]");
    }

    /// Scenario: root → (left, right); the DAG completed → its result holds the two leaves only.
    #[test]
    fn a_dag_gathers_its_leaves() {
        let mut rows = Rows::default();
        diamond(&mut rows);
        let result = task_result(&rows, task_id(1)).expect("read");
        assert_eq!(result.status, Some(Status::Completed));
        assert_eq!(parsed(&result.json.expect("gathered")), json!({"left": [1], task_id(4).to_string(): null}));
    }

    #[test]
    fn a_live_dag_and_an_unknown_task_have_none() {
        let mut rows = Rows::default();
        let mut parent = rows.plain_task(1, Status::Waiting);
        parent.join = Some(codec::command::Join::default());
        rows.put_task(task_id(1), &parent);
        assert_eq!(task_result(&rows, task_id(1)).expect("read").json, None);
        assert_eq!(task_result(&rows, task_id(9)).expect("read"), TaskResult { status: None, json: None });
    }

    /// Scenario: two results of 0.6 MiB → the first is inlined, the second named by its address.
    #[test]
    fn results_beyond_a_mebibyte_are_referenced() {
        let mut rows = Rows::default();
        let large = format!("\"{}\"", "x".repeat(600 << 10));
        for (number, name) in [(2, "a"), (3, "b")] {
            rows.child(1, number, name, Status::Completed, &[]);
            rows.put_blob(task_id(number), BlobKind::Result, large.as_bytes());
        }
        let mut task = rows.plain_task(4, Status::Assigned);
        task.dependencies = [2, 3, 9].map(|n| task_id(n).to_vec()).to_vec();
        let mut out = Vec::new();
        inputs(&mut out, &rows, &task).expect("read");
        let inputs = parsed(&out);
        assert_eq!(inputs["a"]["result"].as_str().map(str::len), Some(600 << 10));
        assert_eq!(inputs["b"]["href"], format!("/api/v1/tasks/{}/result", task_id(3)));
        assert!(inputs["b"].get("result").is_none());
        assert_eq!(inputs[task_id(9).to_string()], json!({"task_id": task_id(9).to_string(), "status": null, "result": null}));
    }
}
