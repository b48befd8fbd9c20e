//! Agents: that they come, go and are drained, and what they report of the assignments they hold.

use codec::command;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::value::{Amounts, Id, Labels, amounts, amounts_with_slots, labels, raw};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RegisterAgent {
    agent_id: String,
    #[serde(default)]
    node_id: String,
    #[serde(default)]
    capabilities: Amounts,
    #[serde(default)]
    resources: Amounts,
    #[serde(default)]
    labels: Labels,
    #[serde(default)]
    task_types: Vec<String>,
    #[serde(default)]
    version: String,
    #[serde(default)]
    via_node_id: String,
}

impl RegisterAgent {
    pub(super) fn into_command(self) -> command::RegisterAgent {
        command::RegisterAgent {
            agent_id: self.agent_id,
            node_id: self.node_id,
            capabilities: amounts(self.capabilities),
            resources: amounts_with_slots(self.resources),
            labels: labels(self.labels),
            task_types: self.task_types,
            version: self.version,
            via_node_id: self.via_node_id,
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct LeaveAgent {
    agent_id: String,
}

impl LeaveAgent {
    pub(super) fn into_command(self) -> command::LeaveAgent {
        command::LeaveAgent { agent_id: self.agent_id }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct DrainAgent {
    agent_id: String,
    drain: bool,
}

impl DrainAgent {
    pub(super) fn into_command(self) -> command::DrainAgent {
        command::DrainAgent { agent_id: self.agent_id, drain: self.drain }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct DrainNode {
    node_id: String,
    drain: bool,
    #[serde(default)]
    deadline_ms: u64,
}

impl DrainNode {
    pub(super) fn into_command(self) -> command::DrainNode {
        command::DrainNode { node_id: self.node_id, drain: self.drain, deadline_ms: self.deadline_ms }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Start {
    task_id: Id,
    epoch: u32,
    agent_id: String,
}

impl Start {
    pub(super) fn into_command(self) -> command::Start {
        command::Start { task_id: self.task_id.0, epoch: self.epoch, agent_id: self.agent_id }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Progress<'a> {
    task_id: Id,
    epoch: u32,
    agent_id: String,
    #[serde(default)]
    progress_bp: Option<u32>,
    #[serde(default)]
    message: String,
    #[serde(default, borrow)]
    checkpoint: Option<&'a RawValue>,
    #[serde(default)]
    log: Vec<LogLine>,
}

impl Progress<'_> {
    pub(super) fn into_command(self) -> command::Progress {
        let line = |l: LogLine| command::LogLine { wall_us: l.wall_us, level: l.level, text: l.text };
        command::Progress {
            task_id: self.task_id.0,
            epoch: self.epoch,
            agent_id: self.agent_id,
            progress_bp: self.progress_bp,
            message: self.message,
            checkpoint: self.checkpoint.map(|c| c.get().as_bytes().to_vec()),
            log: self.log.into_iter().map(line).collect(),
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LogLine {
    wall_us: u64,
    #[serde(default)]
    level: String,
    text: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Complete<'a> {
    task_id: Id,
    epoch: u32,
    agent_id: String,
    #[serde(default, borrow)]
    result: Option<&'a RawValue>,
    #[serde(default)]
    cost: Amounts,
    #[serde(default)]
    quality_bp: Option<u32>,
}

impl Complete<'_> {
    pub(super) fn into_command(self) -> command::Complete {
        command::Complete {
            task_id: self.task_id.0,
            epoch: self.epoch,
            agent_id: self.agent_id,
            result: raw(self.result),
            cost: amounts(self.cost),
            quality_bp: self.quality_bp,
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Fail {
    task_id: Id,
    epoch: u32,
    agent_id: String,
    #[serde(default)]
    code: String,
    #[serde(default)]
    message: String,
    #[serde(default)]
    retryable: bool,
    #[serde(default)]
    retry_after_ms: Option<u64>,
    #[serde(default)]
    cost: Amounts,
}

impl Fail {
    pub(super) fn into_command(self) -> command::Fail {
        command::Fail {
            task_id: self.task_id.0,
            epoch: self.epoch,
            agent_id: self.agent_id,
            code: self.code,
            message: self.message,
            retryable: self.retryable,
            retry_after_ms: self.retry_after_ms,
            cost: amounts(self.cost),
        }
    }
}
