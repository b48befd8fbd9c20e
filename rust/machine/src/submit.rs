//! Submit: one task or a DAG, taken whole or not at all.

use std::collections::{BTreeMap, BTreeSet};

use codec::command::{Amount, JoinPolicy, Requirements, Submit, TaskSpec};
use codec::row::{BlobKind, Cf, EventKind, IdempotencyRow, Status, TaskRow, index, key};
use codec::{Outcome, Refusal, TaskId};

use crate::dag::Verdict;
use crate::limits;
use crate::tx::{Old, Step, TaskEdit, Tx, refuse};

/// Where a task stands in the request's body, as a JSON pointer. A DAG's `tasks` begin after its parent.
fn pointer(command: &Submit, position: usize) -> String {
    match (is_dag(command), position) {
        (true, 1..) => format!("/tasks/{}", position - 1),
        _ => String::new(),
    }
}

fn is_dag(command: &Submit) -> bool {
    command.tasks.first().is_some_and(|t| t.join.is_some())
}

impl Tx<'_> {
    pub(crate) fn submit(&mut self, command: &Submit) -> Step<Outcome> {
        if command.tenant.len() > limits::NAME_BYTES_MAX {
            return refuse(Refusal::Invalid, "/tenant", format!("at most {} bytes", limits::NAME_BYTES_MAX));
        }
        let Some(first) = command.tasks.first() else { return refuse(Refusal::Invalid, "/tasks", "no task") };
        if let Some(outcome) = self.replay_of_key(command)? {
            return Ok(outcome);
        }
        let ids = check_shape(command)?;
        if let Some(outcome) = self.replay_of_id(command, ids[0])? {
            return Ok(outcome);
        }
        if self.machine.tasks.len() + ids.len() > limits::LIVE_TASKS_MAX {
            return refuse(Refusal::LimitExceeded, "", format!("{} tasks are live", limits::LIVE_TASKS_MAX));
        }
        for (position, id) in ids.iter().enumerate().skip(1) {
            if self.find_task(*id)?.is_some() {
                return refuse(Refusal::Exists, format!("{}/id", pointer(command, position)), format!("the id {id} is taken"));
            }
        }
        self.check_dependencies(command, &ids)?;
        for (position, (spec, id)) in command.tasks.iter().zip(&ids).enumerate() {
            self.insert(command, spec, *id, position);
        }
        if let Some(parent) = self.tasks.get_mut(&ids[0]).filter(|_| first.join.is_some()) {
            parent.row.children = u32::try_from(ids.len() - 1).unwrap_or(u32::MAX);
        }
        for id in &ids {
            self.place(*id)?;
        }
        self.cascade()?;
        let status = self.task(ids[0])?.status;
        let outcome = Outcome {
            status,
            task_ids: command.tasks.iter().map(|t| t.id.clone()).collect(),
            names: command.tasks.iter().map(|t| t.name.clone()).collect(),
            ..Outcome::accepted(self.revision)
        };
        self.save_key(command, &outcome);
        Ok(outcome)
    }

    fn check_dependencies(&mut self, command: &Submit, ids: &[TaskId]) -> Step {
        let own: BTreeMap<TaskId, usize> = ids.iter().enumerate().map(|(at, id)| (*id, at)).collect();
        let mut blocks: Vec<Vec<usize>> = vec![Vec::new(); ids.len()];
        let mut open = vec![0usize; ids.len()];
        for (position, spec) in command.tasks.iter().enumerate() {
            for (at, raw) in spec.dependencies.iter().enumerate() {
                let field = format!("{}/dependencies/{at}", pointer(command, position));
                let Ok(id) = TaskId::from_slice(raw) else { return refuse(Refusal::Invalid, field, "a task id has 16 bytes") };
                match own.get(&id) {
                    Some(0) if is_dag(command) => return refuse(Refusal::Cycle, field, "a child cannot wait for its parent"),
                    Some(other) => {
                        blocks[*other].push(position);
                        open[position] += 1;
                    }
                    None if self.find_task(id)?.is_none() => {
                        return refuse(Refusal::UnknownDependency, field, format!("no task {id}"));
                    }
                    None => {}
                }
            }
        }
        // Kahn: what is never free is on a cycle or behind one.
        let mut free: Vec<usize> = (0..ids.len()).filter(|at| open[*at] == 0).collect();
        let mut seen = 0;
        while let Some(at) = free.pop() {
            seen += 1;
            for next in &blocks[at] {
                open[*next] -= 1;
                if open[*next] == 0 {
                    free.push(*next);
                }
            }
        }
        match open.iter().position(|count| *count > 0) {
            Some(at) if seen < ids.len() => {
                refuse(Refusal::Cycle, format!("{}/dependencies", pointer(command, at)), "the dependencies form a cycle")
            }
            _ => Ok(()),
        }
    }

    fn insert(&mut self, command: &Submit, spec: &TaskSpec, id: TaskId, position: usize) {
        let row = TaskRow {
            created_wall_us: self.wall_us,
            created_cluster_us: self.cluster_us,
            ready_cluster_us: self.cluster_us,
            revision: self.revision,
            submit_revision: self.revision,
            submit_position: u32::try_from(position).unwrap_or(u32::MAX),
            body_hash: if position == 0 { command.body_hash.clone() } else { Vec::new() },
            tenant: command.tenant.clone(),
            ..row_of(spec)
        };
        self.new_links.extend(crate::task::dependencies_of(&row).map(|dependency| (dependency, id)));
        self.tasks.insert(id, Box::new(TaskEdit { before: None, row, forgotten: false }));
        if !spec.payload.is_empty() {
            self.write(Cf::Blob, key::blob(id, BlobKind::Payload, 0), Some(spec.payload.clone()), Old::Absent);
        }
    }

    /// The first state of a new task. Dependencies that have ended already decide at once.
    fn place(&mut self, id: TaskId) -> Step {
        let wall_us = self.wall_us;
        let row = self.task(id)?.clone();
        let (open, decided) = self.weigh_dependencies(&row)?;
        let (status, kind, reason) = if row.join.is_some() {
            (Status::Waiting, EventKind::TaskWaiting, "")
        } else if open > 0 || decided.is_some() {
            (Status::Blocked, EventKind::TaskBlocked, "")
        } else if row.not_before_wall_us > wall_us {
            (Status::Delayed, EventKind::TaskDelayed, "not_before")
        } else {
            (Status::Ready, EventKind::TaskReady, "")
        };
        let row = self.task(id)?;
        row.status = status as i32;
        row.open_dependencies = open;
        self.announce(id, EventKind::TaskSubmitted)?;
        self.arrived(id, kind, reason)?;
        match decided {
            Some((dependency, ended_as, Verdict::Fail)) => self.fail_dependent(id, dependency, ended_as),
            Some(_) => self.end(id, Status::Skipped, EventKind::TaskSkipped, "dependency"),
            None => Ok(()),
        }
    }

    fn replay_of_key(&mut self, command: &Submit) -> Step<Option<Outcome>> {
        if command.idempotency_key.is_empty() {
            return Ok(None);
        }
        if command.idempotency_key.len() > limits::KEY_BYTES_MAX {
            return refuse(Refusal::Invalid, "/idempotency_key", format!("at most {} bytes", limits::KEY_BYTES_MAX));
        }
        let row_key = key::tenant_scoped(&command.tenant, &command.idempotency_key);
        let Some(row) = self.view.decode::<IdempotencyRow>(Cf::Idempotency, &row_key)? else { return Ok(None) };
        if row.body_hash != command.body_hash {
            return refuse(Refusal::IdempotencyMismatch, "", "the idempotency key was used with another body");
        }
        Ok(Some(Outcome { replayed: true, ..row.outcome.unwrap_or_default() }))
    }

    fn save_key(&mut self, command: &Submit, outcome: &Outcome) {
        if command.idempotency_key.is_empty() {
            return;
        }
        let row = IdempotencyRow {
            body_hash: command.body_hash.clone(),
            outcome: Some(outcome.clone()),
            created_cluster_us: self.cluster_us,
        };
        self.write_idempotency(key::tenant_scoped(&command.tenant, &command.idempotency_key), &row);
    }

    /// The same id again: the first submit's answer if the body is the same.
    fn replay_of_id(&mut self, command: &Submit, id: TaskId) -> Step<Option<Outcome>> {
        let Some(edit) = self.find_task(id)? else { return Ok(None) };
        let row = &edit.row;
        let same = row.tenant == command.tenant && row.submit_position == 0 && row.body_hash == command.body_hash;
        if !same || row.parent_id.len() == 16 {
            return refuse(Refusal::Exists, "/id", format!("the id {id} is taken by another body"));
        }
        let (status, revision, children) = (row.status, row.submit_revision, row.children as usize);
        let mut outcome = Outcome { status, replayed: true, ..Outcome::accepted(revision) };
        outcome.task_ids.push(id.to_vec());
        outcome.names.push(row.name.clone());
        let prefix = index::by_parent_prefix(id);
        for (index_key, _) in self.view.scan(Cf::Index, &prefix, &prefix, children.max(1))? {
            let Some(child) = index::plain_id_at_end(&index_key) else { continue };
            if let Some(edit) = self.find_task(child)? {
                outcome.task_ids.push(child.to_vec());
                outcome.names.push(edit.row.name.clone());
            }
        }
        Ok(Some(outcome))
    }
}

/// Checks what needs no state, and gives the ids in order.
fn check_shape(command: &Submit) -> Step<Vec<TaskId>> {
    let invalid = |position, field: &str, detail: String| refuse(Refusal::Invalid, pointer(command, position) + field, detail);
    if command.tasks.len() > limits::SUBMIT_TASKS_MAX {
        return invalid(0, "/tasks", format!("at most {} tasks", limits::SUBMIT_TASKS_MAX));
    }
    let first = &command.tasks[0];
    if first.join.is_none() && command.tasks.len() > 1 {
        return invalid(0, "/tasks", "several tasks need a parent with a join".into());
    }
    if let Some(join) = &first.join {
        let children = command.tasks.len() - 1;
        let quorum = join.policy == JoinPolicy::Quorum as i32;
        if children == 0 {
            return invalid(0, "/tasks", "a DAG has at least one task".into());
        }
        if JoinPolicy::try_from(join.policy).is_err() || (quorum && !(1..=children).contains(&(join.count as usize))) {
            return invalid(0, "/join", format!("a quorum is from 1 to {children}"));
        }
        if !first.dependencies.is_empty() {
            return invalid(0, "/dependencies", "the parent of a DAG has no dependencies".into());
        }
    }
    let mut ids = Vec::with_capacity(command.tasks.len());
    let mut seen = BTreeSet::new();
    for (position, spec) in command.tasks.iter().enumerate() {
        let Ok(id) = TaskId::from_slice(&spec.id) else { return invalid(position, "/id", "a task id has 16 bytes".into()) };
        if !seen.insert(id) {
            return invalid(position, "/id", format!("the id {id} is there twice"));
        }
        let parent_holds = if position == 0 { spec.parent_id.is_empty() } else { spec.parent_id == first.id };
        if !parent_holds || (position > 0 && spec.join.is_some()) {
            return invalid(position, "/parent_task_id", "every other task of a DAG names the first as its parent".into());
        }
        if spec.task_type.is_empty() || spec.task_type.len() > limits::NAME_BYTES_MAX {
            return invalid(position, "/task_type", format!("must have 1 to {} bytes", limits::NAME_BYTES_MAX));
        }
        if !(-10..=10).contains(&spec.priority) {
            return invalid(position, "/priority", "must be from -10 to 10".into());
        }
        if spec.dependencies.len() > limits::DEPENDENCIES_MAX {
            return invalid(position, "/dependencies", format!("at most {}", limits::DEPENDENCIES_MAX));
        }
        if spec.retry.as_ref().is_some_and(|r| r.max_attempts == 0) {
            return invalid(position, "/retry/max_attempts", "must be at least 1".into());
        }
        ids.push(id);
    }
    Ok(ids)
}

/// The stored part of a spec, made regular: dependencies once each, `slots` among the resources,
/// resources sorted by name, durations bounded.
fn row_of(spec: &TaskSpec) -> TaskRow {
    let mut seen = BTreeSet::new();
    let dependencies = spec.dependencies.iter().filter(|id| seen.insert(id.as_slice())).cloned().collect();
    let mut requirements: Requirements = spec.requirements.clone().unwrap_or_default();
    if spec.join.is_none() && !requirements.resources.iter().any(|r| r.name == "slots") {
        requirements.resources.push(Amount { name: "slots".into(), amount: 1 });
    }
    requirements.resources.sort_by(|a, b| a.name.cmp(&b.name));
    let ms = |value: u64| value.min(limits::DURATION_MS_MAX);
    TaskRow {
        name: spec.name.clone(),
        parent_id: spec.parent_id.clone(),
        task_type: spec.task_type.clone(),
        dependencies,
        priority: spec.priority,
        requirements: Some(requirements),
        not_before_wall_us: spec.not_before_wall_us,
        deadline_wall_us: spec.deadline_wall_us,
        queue_ms: ms(spec.queue_ms),
        run_ms: ms(spec.run_ms),
        total_ms: ms(spec.total_ms),
        retry: spec.retry.clone(),
        labels: spec.labels.clone(),
        on_dependency_failure: spec.on_dependency_failure,
        optional: spec.optional,
        idempotent: spec.idempotent,
        preemptible: spec.preemptible,
        size_hint: spec.size_hint,
        join: spec.join.clone(),
        payload_bytes: spec.payload.len() as u64,
        cost_estimate: spec.cost_estimate.clone(),
        status: Status::Ready as i32,
        ..TaskRow::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_regular_whatever_the_spec_says() {
        let dependency = vec![1; 16];
        let spec =
            TaskSpec { dependencies: vec![dependency.clone(), dependency.clone()], run_ms: u64::MAX, ..TaskSpec::default() };
        let row = row_of(&spec);
        assert_eq!(row.dependencies, [dependency]);
        assert_eq!(row.run_ms, limits::DURATION_MS_MAX);
        assert_eq!(crate::task::needs_of(&row), [Amount { name: "slots".into(), amount: 1 }]);
        assert_eq!(crate::task::status_of(&row), Status::Ready);
    }
}
