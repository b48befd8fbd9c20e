//! An attempt's life: assigned, started, reported on, completed, failed, taken back.

use std::sync::Arc;

use codec::command::{Assign, Assignment, Complete, Fail, Progress, Start};
use codec::row::{AgentStatus, BlobKind, Cf, DrainState, EventKind, Status, TaskError, TaskRow, key};
use codec::{Outcome, Refusal, TaskId};
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::Signal;
use crate::agent::{agent_status, give_back, mismatch, take};
use crate::limits;
use crate::log_lines;
use crate::task::{backoff_ms, default_retry, needs_of, status_of};
use crate::tx::{Old, Step, Tx, broken};

/// Who says something about an attempt.
#[derive(Clone, Copy)]
struct Claim<'a> {
    task_id: &'a [u8],
    epoch: u32,
    agent_id: &'a str,
}

fn task_outcome(row: &TaskRow) -> Outcome {
    Outcome {
        status: row.status,
        epoch: row.epoch,
        agent_id: row.assigned_agent_id.clone(),
        agent_epoch: row.assigned_agent_epoch,
        ..Outcome::accepted(row.revision)
    }
}

fn cut(text: &str, bytes_max: usize) -> String {
    let mut end = text.len().min(bytes_max);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].to_owned()
}

impl Tx<'_> {
    /// What a command on a task answers with: the task as it is now.
    pub(crate) fn answer(&mut self, id: TaskId) -> Step<Outcome> {
        let revision = self.revision;
        Ok(Outcome { revision, ..task_outcome(self.task(id)?) })
    }

    /// Refuses with the task as it is.
    pub(crate) fn refuse_task<T>(&mut self, id: TaskId, refusal: Refusal, detail: impl Into<String>) -> Step<T> {
        let now = task_outcome(self.task(id)?);
        Err(crate::tx::Stop::Refused(Box::new(Outcome { refusal: refusal as i32, detail: detail.into(), ..now })))
    }

    /// The policy's decision: each item is checked again, a stale one is refused alone.
    pub(crate) fn assign(&mut self, command: &Assign) -> Step<Outcome> {
        let mut stale = 0;
        for item in &command.items {
            if let Some((task, agent)) = self.assign_one(item)? {
                stale += 1;
                self.signals.push(Signal::Stale { task, agent });
            }
        }
        let detail = if stale > 0 { format!("{stale} of {} items were stale", command.items.len()) } else { String::new() };
        Ok(Outcome { detail, ..Outcome::accepted(self.revision) })
    }

    /// `None` when the item stands.
    fn assign_one(&mut self, item: &Assignment) -> Step<Option<(TaskId, Arc<str>)>> {
        let id = TaskId::from_slice(&item.task_id).unwrap_or_default();
        let Some((agent_id, _)) = self.machine.agents.get_key_value(item.agent_id.as_str()) else {
            return Ok(Some((id, item.agent_id.as_str().into())));
        };
        let agent_id = agent_id.clone();
        if !self.machine.tasks.contains_key(&id) {
            return Ok(Some((id, agent_id)));
        }
        let agent_row = self.agent_row(&agent_id);
        let placeable = agent_status(&agent_row) == AgentStatus::Up
            && agent_row.agent_epoch == item.agent_epoch
            && self.node_drain(&agent_row.node_id) == DrainState::None;
        let row = self.task(id)?;
        let holds = status_of(row) == Status::Ready && row.epoch == item.epoch && mismatch(&agent_id, &agent_row, row).is_none();
        if !placeable || !holds {
            return Ok(Some((id, agent_id)));
        }
        let needs = needs_of(row).to_vec();
        let agent = self.agent_or_new(&agent_id);
        if !take(&agent_row.resources, &mut agent.used, &needs) {
            return Ok(Some((id, agent_id)));
        }
        agent.added.push(id);
        let cluster_us = self.cluster_us;
        let row = self.task(id)?;
        row.epoch += 1;
        row.attempts += 1;
        row.assigned_agent_id = agent_id.to_string();
        row.assigned_agent_epoch = agent_row.agent_epoch;
        row.assigned_cluster_us = cluster_us;
        let waited_us = cluster_us.saturating_sub(row.ready_cluster_us);
        row.score_terms.clone_from(&item.terms);
        row.progress_bp = 0;
        row.progress_message.clear();
        self.transition(id, Status::Assigned, EventKind::TaskAssigned, "")?;
        self.signals.push(Signal::Taken { task: id, agent: agent_id.clone(), waited_us });
        self.signals.push(Signal::Assigned { agent: agent_id });
        Ok(None)
    }

    /// The task, if the claim is by the attempt that holds it and the status is one of `allowed`.
    fn claimed(&mut self, claim: Claim<'_>, allowed: &[Status]) -> Step<TaskId> {
        let (id, row) = self.named_task(claim.task_id)?;
        let status = status_of(row);
        if row.epoch != claim.epoch || row.assigned_agent_id != claim.agent_id {
            return self.refuse_task(id, Refusal::StaleEpoch, "this attempt does not hold the task any more");
        }
        if !allowed.contains(&status) {
            return self.refuse_task(id, Refusal::WrongState, format!("the task is {}", status.name()));
        }
        Ok(id)
    }

    pub(crate) fn start(&mut self, command: &Start) -> Step<Outcome> {
        let claim = Claim { task_id: &command.task_id, epoch: command.epoch, agent_id: &command.agent_id };
        let id = self.claimed(claim, &[Status::Assigned, Status::Running, Status::Cancelling])?;
        if status_of(self.task(id)?) != Status::Assigned {
            let row = self.task(id)?;
            return Ok(Outcome { replayed: true, ..task_outcome(row) });
        }
        self.mark_started(id)?;
        self.transition(id, Status::Running, EventKind::TaskStarted, "")?;
        self.answer(id)
    }

    fn mark_started(&mut self, id: TaskId) -> Step {
        let (wall_us, cluster_us) = (self.wall_us.max(1), self.cluster_us.max(1));
        let row = self.task(id)?;
        if row.started_wall_us == 0 {
            row.started_wall_us = wall_us;
            row.started_cluster_us = cluster_us;
        }
        Ok(())
    }

    pub(crate) fn progress(&mut self, command: &Progress) -> Step<Outcome> {
        let claim = Claim { task_id: &command.task_id, epoch: command.epoch, agent_id: &command.agent_id };
        let id = self.claimed(claim, &[Status::Assigned, Status::Running, Status::Cancelling])?;
        let row = self.task(id)?;
        let attempt = row.attempts;
        if let Some(progress) = command.progress_bp {
            row.progress_bp = progress.min(10_000);
        }
        if !command.message.is_empty() {
            row.progress_message = cut(&command.message, limits::MESSAGE_BYTES_MAX);
        }
        if let Some(checkpoint) = &command.checkpoint {
            row.has_checkpoint = true;
            self.write(Cf::Blob, key::blob(id, BlobKind::Checkpoint, 0), Some(checkpoint.clone()), Old::Stored);
        }
        if !command.log.is_empty() {
            let key = key::blob(id, BlobKind::Log, attempt);
            let lines = log_lines::append(self.view.get(Cf::Blob, &key)?.unwrap_or_default(), &command.log);
            self.write(Cf::Blob, key, Some(lines), Old::Stored);
        }
        self.announce(id, EventKind::TaskProgressed)?;
        self.answer(id)
    }

    pub(crate) fn complete(&mut self, command: &Complete) -> Step<Outcome> {
        let (_, row) = self.named_task(&command.task_id)?;
        let epoch = if mutant::active("epoch-unchecked-at-completion") { row.epoch } else { command.epoch };
        let claim = Claim { task_id: &command.task_id, epoch, agent_id: &command.agent_id };
        if status_of(row) == Status::Completed && row.finished_by == command.agent_id && row.finished_epoch == command.epoch {
            return Ok(Outcome { replayed: true, ..task_outcome(row) });
        }
        let id = self.claimed(claim, &[Status::Assigned, Status::Running, Status::Cancelling])?;
        self.mark_started(id)?;
        self.count_at_agent(&command.agent_id, true);
        self.release(id, Some(true), command.quality_bp, false)?;
        let row = self.task(id)?;
        row.assigned_agent_id.clone_from(&command.agent_id);
        row.finished_by.clone_from(&command.agent_id);
        row.finished_epoch = command.epoch;
        row.result_bytes = command.result.len() as u64;
        row.cost.clone_from(&command.cost);
        row.progress_bp = 10_000;
        row.error = None;
        if !command.result.is_empty() {
            self.write(Cf::Blob, key::blob(id, BlobKind::Result, 0), Some(command.result.clone()), Old::Absent);
        }
        self.end(id, Status::Completed, EventKind::TaskCompleted, "")?;
        self.cascade()?;
        self.answer(id)
    }

    /// A failure reported by the agent. From `cancelling` it is how the agent says that it stopped.
    pub(crate) fn fail(&mut self, command: &Fail) -> Step<Outcome> {
        let claim = Claim { task_id: &command.task_id, epoch: command.epoch, agent_id: &command.agent_id };
        let (_, row) = self.named_task(&command.task_id)?;
        let same = row.finished_by == command.agent_id && row.finished_epoch == command.epoch;
        if same && status_of(row) != Status::Completed {
            return Ok(Outcome { replayed: true, ..task_outcome(row) });
        }
        let id = self.claimed(claim, &[Status::Assigned, Status::Running, Status::Cancelling])?;
        self.mark_started(id)?;
        self.count_at_agent(&command.agent_id, false);
        let row = self.task(id)?;
        row.cost.clone_from(&command.cost);
        row.finished_by.clone_from(&command.agent_id);
        row.finished_epoch = command.epoch;
        let error = TaskError {
            code: cut(&command.code, limits::NAME_BYTES_MAX),
            message: cut(&command.message, limits::MESSAGE_BYTES_MAX),
            retryable: command.retryable,
        };
        if status_of(row) == Status::Cancelling {
            row.error = Some(error);
            self.release(id, Some(false), None, false)?;
            self.end(id, Status::Cancelled, EventKind::TaskCancelled, "agent_stopped")?;
        } else {
            self.fail_attempt(id, error, command.retry_after_ms, false)?;
        }
        self.cascade()?;
        self.answer(id)
    }

    /// An attempt failed or timed out: again after a backoff, or the end.
    pub(crate) fn fail_attempt(&mut self, id: TaskId, error: TaskError, retry_after_ms: Option<u64>, tell_agent: bool) -> Step {
        self.release(id, Some(false), None, tell_agent)?;
        let (revision, cluster_us, seed) = (self.revision, self.cluster_us, self.seed);
        let row = self.task(id)?;
        row.epoch += 1;
        row.failures += 1;
        row.retry_count += 1;
        let policy = row.retry.clone().unwrap_or_else(default_retry);
        let again = error.retryable && !policy.non_retryable.contains(&error.code) && row.failures < policy.max_attempts;
        let code = error.code.clone();
        row.error = Some(error);
        if !again {
            return self.end(id, Status::Failed, EventKind::TaskFailed, &code);
        }
        let delay_us = match retry_after_ms {
            Some(ms) => ms.min(limits::BACKOFF_MS_MAX).saturating_mul(1_000),
            None => {
                // Up to a quarter more, so that tasks that failed together do not come back together.
                let base = backoff_ms(&policy, row.failures).saturating_mul(1_000);
                let dice = xxh3_64_with_seed(&id.0, seed ^ revision.rotate_left(32));
                base + dice % (base / 4 + 1)
            }
        };
        row.delayed_until_cluster_us = cluster_us.saturating_add(delay_us).max(1);
        self.transition(id, Status::Delayed, EventKind::TaskDelayed, &code)
    }

    /// Frees what the holder gave to the task. The caller moves the task on.
    pub(crate) fn release(&mut self, id: TaskId, success: Option<bool>, quality_bp: Option<u32>, tell_agent: bool) -> Step {
        let cluster_us = self.cluster_us;
        let row = self.task(id)?;
        if !status_of(row).held() {
            return Ok(());
        }
        let agent_id: Arc<str> = std::mem::take(&mut row.assigned_agent_id).into();
        let started = row.started_cluster_us;
        let freed = Signal::Freed {
            task: id,
            agent: agent_id.clone(),
            run_us: if started > 0 { cluster_us.saturating_sub(started) } else { 0 },
            success,
            task_type: row.task_type.clone(),
            size_hint: row.size_hint,
            quality_bp,
        };
        row.assigned_agent_epoch = 0;
        row.assigned_cluster_us = 0;
        row.grace_until_cluster_us = 0;
        let needs = needs_of(row).to_vec();
        let resources = self.agent_row(&agent_id);
        let agent = self.agent_or_new(&agent_id);
        if !give_back(&resources.resources, &mut agent.used, &needs) {
            return broken(format!("agent {agent_id}: capacity of task {id} freed twice"));
        }
        if mutant::active("capacity-freed-twice") {
            give_back(&resources.resources, &mut agent.used, &needs);
        }
        agent.removed.push(id);
        self.signals.push(freed);
        if tell_agent {
            self.signals.push(Signal::Command { agent: agent_id });
        }
        self.freed_nodes.insert(resources.node_id.clone());
        Ok(())
    }

    /// A held task goes back to the queue under a new epoch. Nobody is to blame.
    pub(crate) fn revoke(&mut self, id: TaskId, reason: &str) -> Step {
        if status_of(self.task(id)?) == Status::Cancelling {
            return self.kill(id, reason);
        }
        self.release(id, None, None, true)?;
        self.task(id)?.epoch += 1;
        self.tell(id, EventKind::TaskRevoked, reason)?;
        self.make_ready(id, reason)
    }

    /// The holder's lease is gone. On the third distinct agent the task is parked as poison.
    pub(crate) fn lose_lease(&mut self, id: TaskId, reason: &str) -> Step {
        let row = self.task(id)?;
        if status_of(row) == Status::Cancelling {
            return self.kill(id, reason);
        }
        let agent = row.assigned_agent_id.clone();
        self.release(id, None, None, false)?;
        let row = self.task(id)?;
        row.epoch += 1;
        row.retry_count += 1;
        if !row.lost_agents.contains(&agent) {
            row.lost_agents.push(agent);
        }
        let poison = row.lost_agents.len() >= limits::LOST_AGENTS_MAX;
        self.tell(id, EventKind::TaskRevoked, reason)?;
        if poison {
            self.clear_start(id)?;
            return self.transition(id, Status::Parked, EventKind::TaskParked, "poison");
        }
        self.make_ready(id, reason)
    }

    /// Ends a task at once, whoever holds it.
    pub(crate) fn kill(&mut self, id: TaskId, reason: &str) -> Step {
        self.release(id, None, None, true)?;
        self.task(id)?.epoch += 1;
        self.end(id, Status::Cancelled, EventKind::TaskCancelled, reason)
    }

    fn clear_start(&mut self, id: TaskId) -> Step {
        let row = self.task(id)?;
        row.started_wall_us = 0;
        row.started_cluster_us = 0;
        row.delayed_until_cluster_us = 0;
        Ok(())
    }

    /// Into the queue: the task waits for an agent from now.
    pub(crate) fn make_ready(&mut self, id: TaskId, reason: &str) -> Step {
        self.clear_start(id)?;
        self.task(id)?.ready_cluster_us = self.cluster_us;
        self.transition(id, Status::Ready, EventKind::TaskReady, reason)
    }

    /// Ends a task; [`Tx::cascade`] then tells those that wait for it.
    pub(crate) fn end(&mut self, id: TaskId, status: Status, kind: EventKind, reason: &str) -> Step {
        let wall_us = self.wall_us.max(1);
        let row = self.task(id)?;
        row.completed_wall_us = wall_us;
        row.delayed_until_cluster_us = 0;
        self.transition(id, status, kind, reason)?;
        self.ended.push_back(id);
        Ok(())
    }

    fn count_at_agent(&mut self, agent_id: &str, success: bool) {
        let Some((id, _)) = self.machine.agents.get_key_value(agent_id) else { return };
        let (id, revision) = (id.clone(), self.revision);
        let agent = self.agent_or_new(&id);
        agent.row_changed = true;
        let row = Arc::make_mut(&mut agent.row);
        row.revision = revision;
        if success {
            row.completed += 1;
        } else {
            row.failed += 1;
        }
    }
}
