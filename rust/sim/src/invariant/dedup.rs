//! A dedup key maps to one id, for ever: a submit that comes again makes no second task and is
//! answered with the first one's.

use std::collections::BTreeMap;

use codec::command::Body;
use codec::row::EventKind;

use super::replay::Executed;
use super::{Check, broken};

#[derive(Default)]
pub struct Dedup {
    ids: BTreeMap<String, Vec<Vec<u8>>>,
}

impl Dedup {
    pub fn command(&mut self, executed: &Executed) -> Check {
        let Some(Body::Submit(submit)) = &executed.command.body else { return Ok(()) };
        if submit.idempotency_key.is_empty() || !executed.outcome.is_accepted() {
            return Ok(());
        }
        let made = executed.events.iter().any(|e| e.kind == EventKind::TaskSubmitted as i32);
        let answered = &executed.outcome.task_ids;
        match self.ids.get(&submit.idempotency_key) {
            None => {
                self.ids.insert(submit.idempotency_key.clone(), answered.clone());
                Ok(())
            }
            Some(first) if made || first != answered => {
                let text = format!("key {} made a second task at {} ({made})", submit.idempotency_key, executed.revision);
                broken("a dedup key maps to one id", text)
            }
            Some(_) => Ok(()),
        }
    }
}
