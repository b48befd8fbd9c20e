//! What clients ask of tasks.

use std::collections::BTreeMap;

use codec::command;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::value::{Amounts, Hex, Id, Labels, amounts, amounts_with_slots, labels, raw};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Submit<'a> {
    tenant: String,
    #[serde(default)]
    idempotency_key: String,
    #[serde(default)]
    body_hash: Hex,
    #[serde(borrow)]
    tasks: Vec<TaskSpec<'a>>,
}

impl Submit<'_> {
    pub(super) fn into_command(self) -> command::Submit {
        command::Submit {
            tenant: self.tenant,
            idempotency_key: self.idempotency_key,
            body_hash: self.body_hash.0,
            tasks: self.tasks.into_iter().map(TaskSpec::into_command).collect(),
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TaskSpec<'a> {
    id: Id,
    #[serde(default)]
    name: String,
    #[serde(default)]
    parent_id: Id,
    task_type: String,
    #[serde(default, borrow)]
    payload: Option<&'a RawValue>,
    #[serde(default)]
    priority: i32,
    #[serde(default)]
    requirements: Option<Requirements>,
    #[serde(default)]
    dependencies: Vec<Id>,
    #[serde(default)]
    on_dependency_failure: DependencyFailure,
    #[serde(default)]
    optional: bool,
    #[serde(default)]
    not_before_wall_us: u64,
    #[serde(default)]
    deadline_wall_us: u64,
    #[serde(default)]
    queue_ms: u64,
    #[serde(default)]
    run_ms: u64,
    #[serde(default)]
    total_ms: u64,
    #[serde(default)]
    retry: Option<RetryPolicy>,
    #[serde(default)]
    idempotent: bool,
    #[serde(default)]
    preemptible: bool,
    #[serde(default)]
    size_hint: u64,
    #[serde(default)]
    labels: Labels,
    #[serde(default)]
    cost_estimate: Amounts,
    #[serde(default)]
    join: Option<Join>,
}

impl TaskSpec<'_> {
    fn into_command(self) -> command::TaskSpec {
        command::TaskSpec {
            id: self.id.0,
            name: self.name,
            parent_id: self.parent_id.0,
            task_type: self.task_type,
            payload: raw(self.payload),
            priority: self.priority,
            requirements: Some(self.requirements.unwrap_or_default().into_command()),
            dependencies: self.dependencies.into_iter().map(|id| id.0).collect(),
            on_dependency_failure: self.on_dependency_failure as i32,
            optional: self.optional,
            not_before_wall_us: self.not_before_wall_us,
            deadline_wall_us: self.deadline_wall_us,
            queue_ms: self.queue_ms,
            run_ms: self.run_ms,
            total_ms: self.total_ms,
            retry: self.retry.map(RetryPolicy::into_command),
            idempotent: self.idempotent,
            preemptible: self.preemptible,
            size_hint: self.size_hint,
            labels: labels(self.labels),
            cost_estimate: amounts(self.cost_estimate),
            join: self.join.map(|j| command::Join { policy: j.policy as i32, count: j.count }),
        }
    }
}

/// Discriminants are those of [`command::DependencyFailure`].
#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
enum DependencyFailure {
    #[default]
    Fail = command::DependencyFailure::Fail as isize,
    Skip = command::DependencyFailure::Skip as isize,
    Run = command::DependencyFailure::Run as isize,
}

/// Discriminants are those of [`command::JoinPolicy`].
#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
enum JoinPolicy {
    #[default]
    All = command::JoinPolicy::All as isize,
    Any = command::JoinPolicy::Any as isize,
    Quorum = command::JoinPolicy::Quorum as isize,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Join {
    #[serde(default)]
    policy: JoinPolicy,
    #[serde(default)]
    count: u32,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Requirements {
    #[serde(default)]
    capabilities: BTreeMap<String, CapabilityNeed>,
    #[serde(default)]
    resources: Amounts,
    #[serde(default)]
    labels: Labels,
}

impl Requirements {
    fn into_command(self) -> command::Requirements {
        let need = |(dimension, need): (String, CapabilityNeed)| command::CapabilityNeed {
            dimension,
            min_bp: need.min_bp,
            weight_milli: need.weight_milli,
        };
        command::Requirements {
            capabilities: self.capabilities.into_iter().map(need).collect(),
            resources: amounts_with_slots(self.resources),
            labels: labels(self.labels),
        }
    }
}

fn full_weight() -> u32 {
    1000
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CapabilityNeed {
    #[serde(default)]
    min_bp: u32,
    #[serde(default = "full_weight")]
    weight_milli: u32,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RetryPolicy {
    max_attempts: u32,
    #[serde(default)]
    backoff_ms: u64,
    #[serde(default)]
    factor_milli: u32,
    #[serde(default)]
    max_backoff_ms: u64,
    #[serde(default)]
    non_retryable: Vec<String>,
}

impl RetryPolicy {
    fn into_command(self) -> command::RetryPolicy {
        command::RetryPolicy {
            max_attempts: self.max_attempts,
            backoff_ms: self.backoff_ms,
            factor_milli: self.factor_milli,
            max_backoff_ms: self.max_backoff_ms,
            non_retryable: self.non_retryable,
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Cancel {
    task_id: Id,
    #[serde(default)]
    kill: bool,
    #[serde(default)]
    grace_ms: u64,
}

impl Cancel {
    pub(super) fn into_command(self) -> command::Cancel {
        command::Cancel { task_id: self.task_id.0, kill: self.kill, grace_ms: self.grace_ms }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Reschedule {
    task_id: Id,
    #[serde(default)]
    exclude_agents: Vec<String>,
    #[serde(default)]
    priority: Option<i32>,
    #[serde(default)]
    not_before_wall_us: Option<u64>,
}

impl Reschedule {
    pub(super) fn into_command(self) -> command::Reschedule {
        command::Reschedule {
            task_id: self.task_id.0,
            exclude_agents: self.exclude_agents,
            priority: self.priority,
            not_before_wall_us: self.not_before_wall_us,
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Retry {
    task_id: Id,
}

impl Retry {
    pub(super) fn into_command(self) -> command::Retry {
        command::Retry { task_id: self.task_id.0 }
    }
}
