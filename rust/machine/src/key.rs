//! Replicated keys: `PUT | GET | DELETE /state/{key}` with `If-Match` and `If-None-Match`.

use codec::command::{DeleteKey, KeyCondition, PutKey};
use codec::row::{self, Cf, Event, EventKind, KeyRow, key};
use codec::{Outcome, Refusal};

use crate::Signal;
use crate::limits::{KEY_BYTES_MAX, NAME_BYTES_MAX};
use crate::tx::{Old, Step, Tx, refuse};

fn with_row(outcome: Outcome, row: &KeyRow) -> Outcome {
    Outcome { key_revision: row.revision, create_revision: row.create_revision, key_version: row.version, ..outcome }
}

/// Refuses with what is there when the condition does not hold.
fn check(condition: Option<&KeyCondition>, found: Option<&KeyRow>) -> Step {
    let holds = match condition {
        None => true,
        Some(KeyCondition::Revision(revision)) => found.is_some_and(|row| row.revision == *revision),
        Some(KeyCondition::Absent(_)) => found.is_none(),
    };
    if holds {
        return Ok(());
    }
    let detail = match (condition, found) {
        (_, None) => "the key does not exist",
        (Some(KeyCondition::Absent(_)), Some(_)) => "the key exists",
        (_, Some(_)) => "the key has another revision",
    };
    let refused = Outcome::refused(Refusal::PreconditionFailed, "", detail);
    Err(crate::tx::Stop::Refused(Box::new(with_row(refused, found.unwrap_or(&KeyRow::default())))))
}

impl Tx<'_> {
    pub(crate) fn put_key(&mut self, command: &PutKey) -> Step<Outcome> {
        let (row_key, found) = self.find_key(&command.tenant, &command.key)?;
        check(command.condition.as_ref(), found.as_ref())?;
        let revision = self.revision;
        let before = found.unwrap_or(KeyRow { create_revision: revision, ..KeyRow::default() });
        let row = KeyRow { value: command.value.clone(), revision, version: before.version + 1, ..before };
        self.write(Cf::Key, row_key, Some(row::encode(&row)), Old::Stored);
        let outcome = with_row(Outcome::accepted(revision), &row);
        self.key_event(EventKind::KeyPut, &command.tenant, &command.key, row);
        Ok(outcome)
    }

    pub(crate) fn delete_key(&mut self, command: &DeleteKey) -> Step<Outcome> {
        let (row_key, found) = self.find_key(&command.tenant, &command.key)?;
        check(command.condition.as_ref(), found.as_ref())?;
        let Some(row) = found else { return refuse(Refusal::NotFound, "", "the key does not exist") };
        self.write(Cf::Key, row_key, None, Old::Stored);
        let outcome = with_row(Outcome::accepted(self.revision), &row);
        self.key_event(EventKind::KeyDeleted, &command.tenant, &command.key, KeyRow { value: Vec::new(), ..row });
        Ok(outcome)
    }

    fn find_key(&self, tenant: &str, name: &str) -> Step<(Vec<u8>, Option<KeyRow>)> {
        if tenant.len() > NAME_BYTES_MAX || name.is_empty() || name.len() > KEY_BYTES_MAX {
            return refuse(Refusal::Invalid, "/key", format!("a key has 1 to {KEY_BYTES_MAX} bytes"));
        }
        let row_key = key::tenant_scoped(tenant, name);
        let found = self.view.decode(Cf::Key, &row_key)?;
        Ok((row_key, found))
    }

    fn key_event(&mut self, kind: EventKind, tenant: &str, name: &str, row: KeyRow) {
        self.events.push(Event {
            kind: kind as i32,
            id: name.as_bytes().to_vec(),
            tenant: tenant.to_owned(),
            value: row.value,
            key_version: row.version,
            create_revision: row.create_revision,
            ..Event::default()
        });
        self.signals.push(Signal::Key { tenant: tenant.to_owned(), key: name.to_owned() });
    }
}
