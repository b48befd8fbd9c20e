//! A task among those it depends on, as nodes and edges.

use std::collections::BTreeSet;

use codec::TaskId;
use codec::row::{StateRead, TaskRow};

use super::json::{self, Object};
use super::{Result, children, task_row};

/// `{"root", "nodes": [{id, name, task_type, status, …}], "edges": [{from, to}]}`: all of the DAG the task
/// is in (as parent or child), or the task and its dependencies. `None` if the task is unknown.
pub fn task_graph(rows: &dyn StateRead, id: TaskId) -> Result<Option<Vec<u8>>> {
    let Some(task) = task_row(rows, id)? else { return Ok(None) };
    let root = TaskId::from_slice(&task.parent_id).unwrap_or(id);
    let mut nodes = children(rows, root)?;
    if !nodes.iter().any(|(node, _)| *node == id) {
        nodes.push((id, task));
    }
    let known: BTreeSet<TaskId> = nodes.iter().map(|(node, _)| *node).collect();
    let edges: Vec<(TaskId, TaskId)> =
        nodes.iter().flat_map(|(to, task)| dependencies(task).map(move |from| (from, *to))).collect();
    // Dependencies outside of the DAG are shown too, but not followed.
    let outside: BTreeSet<TaskId> = edges.iter().map(|(from, _)| *from).filter(|from| !known.contains(from)).collect();
    for other in outside {
        nodes.extend(task_row(rows, other)?.map(|task| (other, task)));
    }
    let mut out = Vec::new();
    let mut object = Object::new(&mut out);
    object.id("root", &root.0);
    json::array(object.value("nodes"), &nodes, |out, (id, task)| node(out, *id, task));
    json::array(object.value("edges"), &edges, |out, (from, to)| {
        let mut edge = Object::new(out);
        edge.id("from", &from.0);
        edge.id("to", &to.0);
        edge.end();
    });
    object.end();
    Ok(Some(out))
}

fn dependencies(task: &TaskRow) -> impl Iterator<Item = TaskId> + '_ {
    task.dependencies.iter().filter_map(|bytes| TaskId::from_slice(bytes).ok())
}

fn node(out: &mut Vec<u8>, id: TaskId, task: &TaskRow) {
    let mut object = Object::new(out);
    object.id("id", &id.0);
    object.text_or_null("name", &task.name);
    object.text("task_type", &task.task_type);
    object.text("status", task.status().name());
    object.text_or_null("assigned_agent_id", &task.assigned_agent_id);
    object.decimal("progress", task.progress_bp.into(), 4);
    object.time("started_at", task.started_wall_us);
    object.time("completed_at", task.completed_wall_us);
    object.end();
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Rows, parsed, task_id};
    use super::*;
    use codec::row::Status;
    use serde_json::json;

    /// Scenario: 2 → 3 inside a DAG, 3 also depends on 9 outside → asked through the parent or a
    /// child, the answer has 2, 3, 9 and both edges (and the parent when it was asked for).
    #[test]
    fn parent_and_child_show_the_same_dag() {
        let mut rows = Rows::default();
        rows.put_task(task_id(1), &rows.plain_task(1, Status::Waiting));
        rows.put_task(task_id(9), &rows.plain_task(9, Status::Completed));
        rows.child(1, 2, "a", Status::Completed, &[]);
        rows.child(1, 3, "b", Status::Running, &[2, 9]);
        let of = |number| parsed(&task_graph(&rows, task_id(number)).expect("read").expect("known"));
        let edges = json!([{"from": task_id(2).to_string(), "to": task_id(3).to_string()},
            {"from": task_id(9).to_string(), "to": task_id(3).to_string()}]);
        for (asked, nodes) in [(1, 4), (3, 3)] {
            let graph = of(asked);
            assert_eq!(graph["edges"], edges);
            assert_eq!(graph["root"], json!(task_id(1).to_string()));
            assert_eq!(graph["nodes"].as_array().map(Vec::len), Some(nodes), "asked for {asked}");
        }
        assert_eq!(task_graph(&rows, task_id(7)).expect("read"), None);
    }
}
