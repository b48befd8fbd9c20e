//! Events, timelines and index rows: what every change of a task leaves behind, in one code path.

use codec::TaskId;
use codec::row::{Cf, Event, EventKind, Status, TaskRow, TimelineEvent, index};

use crate::Signal;
use crate::invariant::arrow_allowed;
use crate::limits::TIMELINE_MAX;
use crate::task::{parent_of, status_of};
use crate::tx::{Old, Step, TaskEdit, Tx, broken};

impl Tx<'_> {
    /// Moves a task along an arrow: status, revision, timeline, event and signals.
    pub(crate) fn transition(&mut self, id: TaskId, to: Status, kind: EventKind, reason: &str) -> Step {
        let from = status_of(self.task(id)?);
        if !arrow_allowed(Some(from), to) {
            return broken(format!("task {id}: no arrow from {} to {}", from.name(), to.name()));
        }
        self.task(id)?.status = to as i32;
        if from == Status::Ready && !matches!(to, Status::Ready | Status::Assigned) {
            self.signals.push(Signal::Gone { task: id });
        }
        self.arrived(id, kind, reason)
    }

    /// Says that a task is in its state now: after a transition, or when it is new.
    pub(crate) fn arrived(&mut self, id: TaskId, kind: EventKind, reason: &str) -> Step {
        self.tell(id, kind, reason)?;
        let status = status_of(self.task(id)?);
        self.signals.push(Signal::Status { task: id, status });
        if status == Status::Ready {
            self.signals.push(Signal::Ready { task: id });
        }
        Ok(())
    }

    /// Records something that happened to a task: in its timeline and for watch.
    pub(crate) fn tell(&mut self, id: TaskId, kind: EventKind, reason: &str) -> Step {
        let (revision, wall_us) = (self.revision, self.wall_us);
        let row = self.task(id)?;
        row.revision = revision;
        if row.timeline.len() >= TIMELINE_MAX {
            row.timeline.remove(TIMELINE_MAX / 2);
        }
        row.timeline.push(TimelineEvent {
            kind: kind as i32,
            wall_us,
            revision,
            epoch: row.epoch,
            agent_id: row.assigned_agent_id.clone(),
            reason: reason.to_owned(),
        });
        self.announce(id, kind)
    }

    /// An event for watch alone.
    pub(crate) fn announce(&mut self, id: TaskId, kind: EventKind) -> Step {
        let revision = self.revision;
        let row = self.task(id)?;
        row.revision = revision;
        let event = event_of(id, row, kind);
        self.events.push(event);
        Ok(())
    }

    /// An event about anything but a task.
    pub(crate) fn push_event(&mut self, kind: EventKind, id: Vec<u8>) {
        self.events.push(Event { kind: kind as i32, id, ..Event::default() });
    }
}

fn event_of(id: TaskId, row: &TaskRow, kind: EventKind) -> Event {
    Event {
        kind: kind as i32,
        id: id.to_vec(),
        tenant: row.tenant.clone(),
        status: row.status,
        epoch: row.epoch,
        agent_id: row.assigned_agent_id.clone(),
        progress_bp: row.progress_bp,
        task_type: row.task_type.clone(),
        parent_id: row.parent_id.clone(),
        labels: row.labels.clone(),
        ..Event::default()
    }
}

/// Index rows that a task gains and loses by the command.
pub(crate) fn index_changes(tx: &mut Tx<'_>, id: TaskId, edit: &TaskEdit) {
    let (row, before) = (&edit.row, edit.before.as_ref());
    let (now, was) = (status_of(row), before.map(|b| b.status));
    let mut set = |key: Vec<u8>, present: bool| tx.write(Cf::Index, key, present.then(Vec::new), Old::Absent);
    if before.is_none() || edit.forgotten {
        let present = !edit.forgotten;
        set(index::by_time(&row.tenant, row.created_wall_us, id), present);
        set(index::by_type(&row.tenant, &row.task_type, row.created_wall_us, id), present);
        if let Some(parent) = parent_of(row) {
            set(index::by_parent(parent, row.submit_position, id), present);
        }
    }
    if was != Some(now) || edit.forgotten {
        if let Some(was) = was {
            set(index::by_status(&row.tenant, was, row.created_wall_us, id), false);
        }
        if !edit.forgotten {
            set(index::by_status(&row.tenant, now, row.created_wall_us, id), true);
        }
    }
    let held_before = before.filter(|b| b.status.held()).map(|b| b.agent.as_str());
    let held_now = now.held().then_some(row.assigned_agent_id.as_str());
    if held_before != held_now {
        if let Some(agent) = held_before {
            set(index::by_agent(agent, id), false);
        }
        if let Some(agent) = held_now {
            set(index::by_agent(agent, id), true);
        }
    }
    let ended_before = before.filter(|b| b.status.ended()).map(|b| b.completed_wall_us);
    let ended_now = (now.ended() && !edit.forgotten).then_some(row.completed_wall_us);
    if ended_before != ended_now {
        if let Some(at) = ended_before {
            set(index::by_end(at, id), false);
        }
        if let Some(at) = ended_now {
            set(index::by_end(at, id), true);
        }
        let bytes = i64::try_from(row.payload_bytes + row.result_bytes).unwrap_or(i64::MAX);
        match (ended_before, ended_now) {
            (None, Some(_)) => tx.counters.ended_bytes += bytes,
            (Some(_), None) => tx.counters.ended_bytes -= bytes,
            _ => {}
        }
    }
}
