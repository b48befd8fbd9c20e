//! Acknowledged writes are present, nothing is doubled, and what no leader was ever given is never
//! applied.

use std::collections::BTreeSet;

use codec::command::Body;
use codec::row::{Cf, StateRead};
use codec::{Outcome, TaskId};

use super::keys::Keys;
use super::replay::Replay;
use super::tasks::Tasks;
use super::{Check, broken};
use crate::client::Operation;

const NAME: &str = "acknowledged writes are present";
const NEVER_GIVEN: &str = "what no leader was given is not applied";

#[derive(Default)]
pub struct Acknowledged {
    tasks: Vec<TaskId>,
    /// Values of writes that ended with "no leader was given it".
    never_given: BTreeSet<Vec<u8>>,
}

impl Acknowledged {
    /// A client's write was answered.
    pub fn answered(&mut self, operation: &Operation, outcome: &Outcome, tasks: &Tasks, keys: &Keys) -> Check {
        if !outcome.is_accepted() {
            return Ok(());
        }
        match operation {
            Operation::Submit { ids, .. } => {
                let Some(id) = outcome.task_ids.first().and_then(|id| TaskId::from_slice(id).ok()) else {
                    return broken(NAME, "a submit was answered without an id".to_owned());
                };
                if tasks.get(id).is_none() {
                    return broken(NAME, format!("task {id} was acknowledged and is not there"));
                }
                if !ids.contains(&id) {
                    return broken(NAME, format!("task {id} answers a submit that never named it"));
                }
                self.tasks.push(id);
                Ok(())
            }
            Operation::Write { body } => {
                let (key, value) = match body {
                    Body::PutKey(put) => (&put.key, Some(put.value.as_slice())),
                    Body::DeleteKey(delete) => (&delete.key, None),
                    _ => return Ok(()),
                };
                if value.is_some() && !keys.put_at(key, outcome.revision, value) {
                    return broken(NAME, format!("key {key} was acknowledged at {} and is not there", outcome.revision));
                }
                Ok(())
            }
            Operation::ReadKey { .. } | Operation::ReadTask { .. } => Ok(()),
        }
    }

    /// A write ended, and no leader was ever given it.
    pub fn never_given(&mut self, value: Vec<u8>, keys: &Keys) -> Check {
        if keys.holds(&value) {
            return broken(NEVER_GIVEN, format!("value {value:?} was applied before its client heard of no leader"));
        }
        self.never_given.insert(value);
        Ok(())
    }

    /// A value was applied.
    pub fn written(&self, value: &[u8]) -> Check {
        match self.never_given.contains(value) {
            true => broken(NEVER_GIVEN, format!("value {value:?} is applied after its client heard of no leader")),
            false => Ok(()),
        }
    }

    pub fn at_the_end(&self, tasks: &Tasks, replay: &Replay) -> Check {
        for id in &self.tasks {
            let there = replay.rows.get(Cf::Task, &codec::row::key::task(*id)).ok().flatten().is_some();
            if !there || tasks.get(*id).is_none() {
                return broken(NAME, format!("task {id} was acknowledged and is lost"));
            }
        }
        let distinct: BTreeSet<&TaskId> = self.tasks.iter().collect();
        if distinct.len() != self.tasks.len() {
            return broken(NAME, "two submits were answered with one task".to_owned());
        }
        replay.hash_adds_up()
    }
}
