//! Dependencies, parents and children: what the end of one task means for others.
//!
//! * A dependency that did not complete fails, skips or starts its dependents, as each of them
//!   asked for. A parked one keeps them blocked.
//! * A parent completes as soon as its join is reached; children that are still live then can no
//!   longer matter, and are cancelled at once (killed). It fails only when every child has ended: a
//!   clean-up that runs because another child failed is let finish, and a failed child can be retried.
//! * `all` waits for every child, optional ones too, but only a required one can fail it; `any` and
//!   `quorum` count completed children and ask nothing of the others.
//! * A cancelled parent ends at once; children that run are asked first, so they may end after it.
//!   Its counts of children stay as they were when the command that ended it was applied.

use std::ops::RangeInclusive;

use codec::command::{Cancel, DependencyFailure, JoinPolicy};
use codec::row::{EventKind, Status, TaskError, TaskRow};
use codec::{Outcome, Refusal, TaskId};

use crate::Signal;
use crate::limits::DURATION_MS_MAX;
use crate::task::{dependencies_of, dependency_failure_of, parent_of, status_of};
use crate::tx::{Step, Tx};

/// All pairs whose first id is `id`.
pub(crate) fn pairs_of(id: TaskId) -> RangeInclusive<(TaskId, TaskId)> {
    (id, TaskId([0; 16]))..=(id, TaskId([0xff; 16]))
}

/// How a dependency's end looks to one dependent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Open,
    Done,
    Fail,
    Skip,
}

pub(crate) fn verdict(dependency: Status, policy: DependencyFailure) -> Verdict {
    match dependency {
        Status::Completed => Verdict::Done,
        status if !status.ended() => Verdict::Open,
        _ => match policy {
            DependencyFailure::Fail => Verdict::Fail,
            DependencyFailure::Skip => Verdict::Skip,
            DependencyFailure::Run => Verdict::Done,
        },
    }
}

/// The dependency that decides a task's fate, its status and what it means.
pub(crate) type Decided = (TaskId, Status, Verdict);

/// What a parent's counts say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Joined {
    NotYet,
    Reached,
    Impossible,
}

fn joined(row: &TaskRow) -> Joined {
    let Some(join) = &row.join else { return Joined::NotYet };
    let open = row.children.saturating_sub(row.children_ended);
    let quorum = match JoinPolicy::try_from(join.policy).unwrap_or(JoinPolicy::All) {
        JoinPolicy::All if open > 0 => return Joined::NotYet,
        JoinPolicy::All if row.children_failed > 0 => return Joined::Impossible,
        JoinPolicy::All => return Joined::Reached,
        JoinPolicy::Any => 1,
        JoinPolicy::Quorum => join.count,
    };
    if row.children_completed >= quorum {
        Joined::Reached
    } else if open > 0 {
        Joined::NotYet
    } else {
        Joined::Impossible
    }
}

/// Counts one child's end in its parent (`by` 1), or takes it back (`by` −1).
pub(crate) fn count_child(parent: &mut TaskRow, ended_as: Status, optional: bool, by: i32) {
    parent.children_ended = parent.children_ended.saturating_add_signed(by);
    if ended_as == Status::Completed {
        parent.children_completed = parent.children_completed.saturating_add_signed(by);
    } else if !optional {
        parent.children_failed = parent.children_failed.saturating_add_signed(by);
    }
}

impl Tx<'_> {
    /// Tells everybody who waits for the tasks that ended, and for those that end by that.
    pub(crate) fn cascade(&mut self) -> Step {
        while let Some(id) = self.ended.pop_front() {
            for dependent in self.dependents_of(id) {
                self.dependency_ended(dependent, id)?;
            }
            self.child_ended(id)?;
        }
        Ok(())
    }

    fn dependents_of(&self, id: TaskId) -> Vec<TaskId> {
        let known = self.machine.dependents.range(pairs_of(id));
        known.chain(self.new_links.range(pairs_of(id))).map(|(_, dependent)| *dependent).collect()
    }

    fn dependency_ended(&mut self, id: TaskId, dependency: TaskId) -> Step {
        let ended_as = status_of(self.task(dependency)?);
        let row = self.task(id)?;
        if status_of(row) != Status::Blocked {
            return Ok(());
        }
        match verdict(ended_as, dependency_failure_of(row)) {
            Verdict::Open => Ok(()),
            Verdict::Fail => self.fail_dependent(id, dependency, ended_as),
            Verdict::Skip => self.end(id, Status::Skipped, EventKind::TaskSkipped, "dependency"),
            Verdict::Done => {
                let revision = self.revision;
                let row = self.task(id)?;
                row.open_dependencies = row.open_dependencies.saturating_sub(1);
                row.revision = revision;
                if row.open_dependencies == 0 { self.unblock(id) } else { Ok(()) }
            }
        }
    }

    pub(crate) fn fail_dependent(&mut self, id: TaskId, dependency: TaskId, ended_as: Status) -> Step {
        let message = format!("the dependency {dependency} is {}", ended_as.name());
        self.task(id)?.error = Some(TaskError { code: "dependency_failed".into(), message, retryable: false });
        self.end(id, Status::Failed, EventKind::TaskFailed, "dependency_failed")
    }

    fn unblock(&mut self, id: TaskId) -> Step {
        let wall_us = self.wall_us;
        if self.task(id)?.not_before_wall_us > wall_us {
            return self.transition(id, Status::Delayed, EventKind::TaskDelayed, "not_before");
        }
        self.make_ready(id, "")
    }

    fn child_ended(&mut self, id: TaskId) -> Step {
        let child = self.task(id)?;
        let (ended_as, optional) = (status_of(child), child.optional);
        let Some(parent) = parent_of(child) else { return Ok(()) };
        let live = self.machine.tasks.contains_key(&parent) || self.tasks.contains_key(&parent);
        if !live {
            return Ok(());
        }
        let revision = self.revision;
        let row = self.task(parent)?;
        row.revision = revision;
        count_child(row, ended_as, optional, 1);
        if status_of(row) != Status::Waiting {
            return Ok(());
        }
        match joined(row) {
            Joined::NotYet => Ok(()),
            Joined::Reached => {
                self.end(parent, Status::Completed, EventKind::TaskCompleted, "")?;
                self.kill_children(parent, "parent_completed")
            }
            Joined::Impossible => {
                let (completed, failed) = (row.children_completed, row.children_failed);
                let message = format!(
                    "{completed} children completed, {failed} required ones did not; the last, {id}, is {}",
                    ended_as.name()
                );
                self.task(parent)?.error = Some(TaskError { code: "child_failed".into(), message, retryable: false });
                self.end(parent, Status::Failed, EventKind::TaskFailed, "child_failed")
            }
        }
    }

    /// Children that have not ended at this point of the command, in order of id.
    pub(crate) fn live_children(&mut self, parent: TaskId) -> Step<Vec<TaskId>> {
        if self.task(parent)?.join.is_none() {
            return Ok(Vec::new());
        }
        let mut children: Vec<TaskId> = self.machine.children.range(pairs_of(parent)).map(|(_, child)| *child).collect();
        let submitted = self.tasks.iter().filter(|(_, e)| e.before.is_none() && parent_of(&e.row) == Some(parent));
        children.extend(submitted.map(|(id, _)| *id));
        let mut live = Vec::with_capacity(children.len());
        for child in children {
            if !status_of(self.task(child)?).ended() {
                live.push(child);
            }
        }
        Ok(live)
    }

    pub(crate) fn kill_children(&mut self, parent: TaskId, reason: &str) -> Step {
        for child in self.live_children(parent)? {
            self.kill(child, reason)?;
        }
        Ok(())
    }

    /// Cancels a task and its children. What nobody holds ends at once; what is held is asked to
    /// stop first, unless `kill`.
    pub(crate) fn cancel(&mut self, command: &Cancel) -> Step<Outcome> {
        let (id, row) = self.named_task(&command.task_id)?;
        match status_of(row) {
            Status::Cancelled => return Ok(Outcome { replayed: true, ..self.standing(id)? }),
            Status::Cancelling if !command.kill => return Ok(Outcome { replayed: true, ..self.standing(id)? }),
            status if status.ended() => {
                return self.refuse_task(id, Refusal::WrongState, format!("the task is {}", status.name()));
            }
            _ => {}
        }
        // The parent first: a child that ends must not decide its join any more.
        self.cancel_one(id, command)?;
        for child in self.live_children(id)? {
            self.cancel_one(child, command)?;
        }
        self.cascade()?;
        self.answer(id)
    }

    /// The task as a replay answers: under the revision of its own last change.
    fn standing(&mut self, id: TaskId) -> Step<Outcome> {
        let revision = self.task(id)?.revision;
        Ok(Outcome { revision, ..self.answer(id)? })
    }

    fn cancel_one(&mut self, id: TaskId, command: &Cancel) -> Step {
        let cluster_us = self.cluster_us;
        let row = self.task(id)?;
        let status = status_of(row);
        if command.kill {
            return self.kill(id, "killed");
        }
        match status {
            Status::Cancelling => Ok(()),
            Status::Assigned | Status::Running => {
                let grace_us = command.grace_ms.min(DURATION_MS_MAX) * 1_000;
                row.grace_until_cluster_us = cluster_us + grace_us;
                let agent = row.assigned_agent_id.as_str().into();
                self.signals.push(Signal::Command { agent });
                self.transition(id, Status::Cancelling, EventKind::TaskCancelling, "")
            }
            _ => self.end(id, Status::Cancelled, EventKind::TaskCancelled, ""),
        }
    }

    /// How all dependencies of a task look now: the first that decides it, or how many are open.
    pub(crate) fn weigh_dependencies(&mut self, row: &TaskRow) -> Step<(u32, Option<Decided>)> {
        let policy = dependency_failure_of(row);
        let mut open = 0;
        for dependency in dependencies_of(row) {
            let status = status_of(self.task(dependency)?);
            match verdict(status, policy) {
                Verdict::Open => open += 1,
                Verdict::Done => {}
                decided => return Ok((open, Some((dependency, status, decided)))),
            }
        }
        Ok((open, None))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use codec::command::Join;

    fn parent(policy: JoinPolicy, count: u32, counts: [u32; 4]) -> Joined {
        let [children, children_completed, children_ended, children_failed] = counts;
        let join = Some(Join { policy: policy as i32, count });
        joined(&TaskRow { join, children, children_completed, children_ended, children_failed, ..TaskRow::default() })
    }

    #[test]
    fn all_waits_for_every_child_and_fails_with_a_required_one() {
        assert_eq!(parent(JoinPolicy::All, 0, [3, 2, 2, 0]), Joined::NotYet);
        assert_eq!(parent(JoinPolicy::All, 0, [3, 2, 3, 0]), Joined::Reached, "an optional child failed");
        assert_eq!(parent(JoinPolicy::All, 0, [3, 0, 1, 1]), Joined::NotYet, "a clean-up may still run");
        assert_eq!(parent(JoinPolicy::All, 0, [3, 2, 3, 1]), Joined::Impossible);
    }

    #[test]
    fn any_and_quorum_count_completed_children() {
        assert_eq!(parent(JoinPolicy::Any, 0, [3, 1, 1, 0]), Joined::Reached);
        assert_eq!(parent(JoinPolicy::Any, 0, [3, 0, 2, 2]), Joined::NotYet);
        assert_eq!(parent(JoinPolicy::Any, 0, [3, 0, 3, 3]), Joined::Impossible);
        assert_eq!(parent(JoinPolicy::Quorum, 2, [3, 1, 2, 1]), Joined::NotYet);
        assert_eq!(parent(JoinPolicy::Quorum, 2, [3, 1, 3, 2]), Joined::Impossible);
        assert_eq!(parent(JoinPolicy::Quorum, 2, [3, 2, 2, 0]), Joined::Reached);
    }
}
