//! A live task in memory: its encoded row and the few fields that timers and the policy look at.
//!
//! The row stays encoded, which is what keeps a task near half a KiB; a command decodes the rows
//! it touches, and that copy is at the same time the working copy that a refusal throws away.

use std::sync::Arc;

use codec::command::{Amount, DependencyFailure, Requirements, RetryPolicy};
use codec::row::{self, Cf, Status, TaskRow, row_hash};
use codec::{DecodeError, TaskId};

use crate::timers::Timers;

/// A task that has not ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LiveTask {
    value: Box<[u8]>,
    hash: u128,
    status: Status,
    epoch: u32,
    priority: i32,
    agent: Option<Arc<str>>,
    timers: Timers,
}

impl LiveTask {
    pub(crate) fn new(id: TaskId, row: &TaskRow, value: &[u8], agent: Option<Arc<str>>) -> Self {
        Self {
            value: value.into(),
            hash: row_hash(Cf::Task, &id.0, value),
            status: status_of(row),
            epoch: row.epoch,
            priority: row.priority,
            agent,
            timers: Timers::of(row),
        }
    }

    /// The row, decoded: everything that is known of the task but its blobs.
    pub fn row(&self) -> TaskRow {
        row::decode(&self.value).expect("this crate encoded the row")
    }

    /// The row's value as it is stored.
    pub fn value(&self) -> &[u8] {
        &self.value
    }

    pub fn status(&self) -> Status {
        self.status
    }

    pub fn epoch(&self) -> u32 {
        self.epoch
    }

    /// −10..=10, higher first.
    pub fn priority(&self) -> i32 {
        self.priority
    }

    /// Who holds it; `None` unless assigned, running or cancelling.
    pub fn agent(&self) -> Option<&Arc<str>> {
        self.agent.as_ref()
    }

    pub(crate) fn hash(&self) -> u128 {
        self.hash
    }

    pub(crate) fn timers(&self) -> &Timers {
        &self.timers
    }
}

pub(crate) fn decode_row(value: &[u8]) -> Result<TaskRow, DecodeError> {
    row::decode(value)
}

/// The row's status. A number that this release does not know cannot be in a row it wrote.
pub(crate) fn status_of(row: &TaskRow) -> Status {
    Status::try_from(row.status).expect("rows hold known statuses")
}

pub(crate) fn parent_of(row: &TaskRow) -> Option<TaskId> {
    TaskId::from_slice(&row.parent_id).ok()
}

pub(crate) fn dependencies_of(row: &TaskRow) -> impl Iterator<Item = TaskId> + '_ {
    row.dependencies.iter().filter_map(|id| TaskId::from_slice(id).ok())
}

pub(crate) fn dependency_failure_of(row: &TaskRow) -> DependencyFailure {
    DependencyFailure::try_from(row.on_dependency_failure).unwrap_or(DependencyFailure::Fail)
}

/// Resources that an attempt takes, sorted by name; `slots` is always among them (see submit).
pub(crate) fn needs_of(row: &TaskRow) -> &[Amount] {
    row.requirements.as_ref().map_or(&[], |r: &Requirements| r.resources.as_slice())
}

/// Milliseconds to wait before the attempt after `failures` failures, without jitter.
pub(crate) fn backoff_ms(policy: &RetryPolicy, failures: u32) -> u64 {
    let cap = policy.max_backoff_ms.min(crate::limits::BACKOFF_MS_MAX);
    let mut delay = policy.backoff_ms;
    for _ in 1..failures {
        if delay >= cap || policy.factor_milli <= 1_000 {
            break;
        }
        delay = delay.saturating_mul(u64::from(policy.factor_milli)) / 1_000;
    }
    delay.min(cap)
}

/// The policy of a task that names none: three attempts, 0.2 s doubling up to a minute.
pub(crate) fn default_retry() -> RetryPolicy {
    RetryPolicy { max_attempts: 3, backoff_ms: 200, factor_milli: 2_000, max_backoff_ms: 60_000, non_retryable: Vec::new() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backoff_doubles_and_is_capped() {
        let policy = RetryPolicy { max_backoff_ms: 1_000, ..default_retry() };
        let delays: Vec<u64> = (1..=5).map(|k| backoff_ms(&policy, k)).collect();
        assert_eq!(delays, [200, 400, 800, 1_000, 1_000]);
        let endless = RetryPolicy { factor_milli: u32::MAX, max_backoff_ms: u64::MAX, ..default_retry() };
        assert_eq!(backoff_ms(&endless, u32::MAX), crate::limits::BACKOFF_MS_MAX);
        assert_eq!(backoff_ms(&RetryPolicy { factor_milli: 1_000, ..default_retry() }, u32::MAX), 200);
    }
}
