//! A task of the queue, known by an idempotency key or an id: submitted once, handed over under growing epochs, ended once.
//!
//! Between operations the cluster moves a task by itself: it assigns it, sees it started, takes it back (epoch + 1), parks
//! it. So an answer that shows the task need not show it as the last one did, only as it can have become since.
//!
//! What always holds of one copy:
//! - The first submit fixes the id; every later one answers with it.
//! - The epoch never falls, and at one epoch the status only goes from assigned to running, under one holder.
//! - One epoch is handed over to one agent. A hand-over may be **late**: the node that answers the poll reads its own state,
//!   so the task may have been taken back already; the epoch then fences the agent. So a hand-over is only checked against
//!   who else held that epoch, and it never shows an epoch that is not yet.
//! - It is completed once, by an agent that held it under the epoch at that moment; the same completion again is accepted.
//!   Completed and cancelled never change again.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::Model;

/// What was asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Call {
    Submit,
    Get,
    /// A poll's answer listed the task.
    HandOver {
        agent: String,
        epoch: u32,
    },
    Complete {
        agent: String,
        epoch: u32,
        result: i64,
    },
    /// `mode: kill`.
    Cancel,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    Ready,
    Assigned,
    Running,
    Parked,
    Completed,
    Cancelled,
}

impl Status {
    fn held(self) -> bool {
        matches!(self, Self::Assigned | Self::Running)
    }

    fn ended(self) -> bool {
        matches!(self, Self::Completed | Self::Cancelled)
    }
}

/// A task as an answer shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Shown {
    #[serde(default)]
    pub id: Option<String>,
    #[serde(default)]
    pub status: Option<Status>,
    #[serde(default)]
    pub epoch: Option<u32>,
    /// Who holds it, or completed it.
    #[serde(default)]
    pub agent: Option<String>,
    #[serde(default)]
    pub result: Option<i64>,
}

/// What came back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Answer {
    /// Whether it was accepted (a read always is).
    pub ok: bool,
    /// The task as it was found or left; none: there was no such task, or the answer did not show it.
    #[serde(default)]
    pub task: Option<Shown>,
}

#[derive(Clone, Debug)]
pub struct Operation {
    pub call: Call,
    /// None: unknown.
    pub answer: Option<Answer>,
}

type Agent = Option<String>;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Stage {
    Absent,
    /// As last shown, at the state's epoch; the cluster may have moved it on since.
    Live {
        status: Status,
        agent: Agent,
    },
    Completed {
        agent: String,
        result: i64,
    },
    Cancelled,
}

/// What is known of the task.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct State {
    /// None before the first submit, and after one whose answer nobody saw.
    id: Option<String>,
    stage: Stage,
    /// The epoch as last shown. Exact unless the task is live, or `epoch_open`.
    epoch: u32,
    /// A cancel whose answer nobody saw left an epoch that is not known, at or above `epoch`.
    epoch_open: bool,
    /// Who held which epoch: nobody, or the one.
    holders: BTreeMap<u32, Agent>,
}

impl State {
    /// With `agent` as the holder of `epoch`, unless another (or nobody) was.
    fn holding(mut self, epoch: u32, agent: Agent) -> Option<Self> {
        let known = self.holders.entry(epoch).or_insert_with(|| agent.clone());
        (*known == agent).then_some(self)
    }

    fn named(mut self, id: Option<&str>) -> Option<Self> {
        let Some(shown) = id else { return Some(self) };
        let known = self.id.get_or_insert_with(|| shown.to_owned());
        (known == shown).then_some(self)
    }

    /// The cluster has moved a live task to `status` at `epoch` by itself.
    fn moved(self, status: Status, epoch: u32, agent: Agent) -> Option<Self> {
        let Stage::Live { status: before, agent: holder } = &self.stage else { return None };
        let reachable = if epoch == self.epoch {
            *holder == agent && (*before == status || (*before == Status::Assigned && status == Status::Running))
        } else {
            epoch > self.epoch && *before != Status::Parked
        };
        if !reachable || status.held() != agent.is_some() {
            return None;
        }
        let now = Self { stage: Stage::Live { status, agent: agent.clone() }, epoch, ..self };
        now.holding(epoch, agent)
    }

    /// A cancelled task shows `epoch`, which nobody holds.
    fn cancelled_at(self, epoch: u32) -> Option<Self> {
        let agrees = if self.epoch_open { epoch >= self.epoch } else { epoch == self.epoch };
        let now = Self { epoch, epoch_open: false, ..self };
        if agrees { now.holding(epoch, None) } else { None }
    }

    /// An answer has shown the task (a status is shown together with the epoch, or not at all).
    fn seen(self, shown: Option<&Shown>) -> Option<Self> {
        let Some(shown) = shown else { return (self.stage == Stage::Absent).then_some(self) };
        if self.stage == Stage::Absent {
            return None;
        }
        let this = self.named(shown.id.as_deref())?;
        let (Some(status), Some(epoch)) = (shown.status, shown.epoch) else { return Some(this) };
        match &this.stage {
            Stage::Completed { agent, result } => {
                let same = status == Status::Completed
                    && shown.agent.as_ref() == Some(agent)
                    && shown.result.is_none_or(|shown| shown == *result);
                (same && epoch == this.epoch).then_some(this)
            }
            Stage::Cancelled if status == Status::Cancelled && shown.agent.is_none() => this.cancelled_at(epoch),
            Stage::Live { .. } if !status.ended() => this.moved(status, epoch, shown.agent.clone()),
            _ => None,
        }
    }

    fn submitted(self, answer: Option<&Answer>) -> Option<Self> {
        let fresh = self.stage == Stage::Absent;
        let this = if fresh {
            let stage = Stage::Live { status: Status::Ready, agent: None };
            Self { stage, epoch: 0, ..self }.holding(0, None)?
        } else {
            self
        };
        match answer {
            Some(Answer { ok: true, task: Some(shown) }) => this.seen(Some(shown)),
            Some(_) => None,
            None => fresh.then_some(this),
        }
    }

    fn handed_over(self, agent: &str, epoch: u32) -> Option<Self> {
        match self.stage {
            Stage::Absent => None,
            Stage::Live { status: Status::Parked, .. } if epoch > self.epoch => None,
            Stage::Live { .. } if epoch > self.epoch => self.moved(Status::Assigned, epoch, Some(agent.to_owned())),
            Stage::Cancelled if self.epoch_open && epoch >= self.epoch => {
                let this = Self { epoch: self.epoch.max(epoch + 1), ..self };
                this.holding(epoch, Some(agent.to_owned()))
            }
            _ if epoch > self.epoch => None,
            _ => self.holding(epoch, Some(agent.to_owned())),
        }
    }

    fn completed(self, agent: &str, epoch: u32, result: i64, answer: Option<&Answer>) -> Option<Self> {
        if let Some(Answer { ok: false, task }) = answer {
            let now = self.seen(task.as_ref())?;
            let by = match &now.stage {
                Stage::Live { status, agent } if status.held() => agent.as_deref(),
                Stage::Completed { agent, .. } => Some(agent.as_str()),
                _ => None,
            };
            return (by != Some(agent) || now.epoch != epoch).then_some(now);
        }
        match &self.stage {
            Stage::Completed { agent: by, .. } => (answer.is_some() && by == agent && self.epoch == epoch).then_some(self),
            Stage::Live { .. } => {
                let status = if epoch == self.epoch { Status::Running } else { Status::Assigned };
                let held = self.moved(status, epoch, Some(agent.to_owned()))?;
                Some(Self { stage: Stage::Completed { agent: agent.to_owned(), result }, ..held })
            }
            _ => None,
        }
    }

    fn cancelled(self, answer: Option<&Answer>) -> Option<Self> {
        if let Some(Answer { ok: false, task }) = answer {
            return self.seen(task.as_ref()).filter(|now| matches!(now.stage, Stage::Absent | Stage::Completed { .. }));
        }
        let now = match self.stage {
            Stage::Live { .. } => Self { stage: Stage::Cancelled, epoch: self.epoch + 1, epoch_open: true, ..self },
            Stage::Cancelled if answer.is_some() => self,
            _ => return None,
        };
        match answer.and_then(|answer| answer.task.as_ref()) {
            Some(shown) => now.seen(Some(shown)),
            None => Some(now),
        }
    }
}

/// The model.
#[derive(Debug)]
pub enum Task {}

impl Model for Task {
    type State = State;
    type Operation = Operation;

    fn initial() -> State {
        State { id: None, stage: Stage::Absent, epoch: 0, epoch_open: false, holders: BTreeMap::new() }
    }

    fn step(state: &State, operation: &Operation) -> Option<State> {
        let (state, answer) = (state.clone(), operation.answer.as_ref());
        match &operation.call {
            Call::Submit => state.submitted(answer),
            Call::Get => state.seen(answer?.task.as_ref()).filter(|_| answer.is_some_and(|answer| answer.ok)),
            Call::HandOver { agent, epoch } => answer.and_then(|_| state.handed_over(agent, *epoch)),
            Call::Complete { agent, epoch, result } => state.completed(agent, *epoch, *result, answer),
            Call::Cancel => state.cancelled(answer),
        }
    }

    fn forget(operation: &Operation) -> Option<Operation> {
        let looks = matches!(operation.call, Call::Get | Call::HandOver { .. });
        let refused = operation.answer.as_ref().is_some_and(|answer| !answer.ok);
        (!looks && !refused).then(|| Operation { answer: None, ..operation.clone() })
    }

    fn alike(one: &Operation, other: &Operation) -> bool {
        one.call == other.call
    }
}
