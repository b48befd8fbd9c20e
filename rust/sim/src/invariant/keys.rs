//! The replicated keys as the events tell them: what a read at a revision must show.

use std::collections::BTreeMap;

use codec::row::{self, Event, EventKind, KeyRow};

use super::acknowledged::Acknowledged;
use super::{Check, broken};

/// A revision, and the value from there on (or none).
type Change = (u64, Option<Vec<u8>>);

#[derive(Default)]
pub struct Keys {
    /// By key, oldest first.
    history: BTreeMap<String, Vec<Change>>,
}

impl Keys {
    pub fn event(&mut self, revision: u64, event: &Event, acknowledged: &Acknowledged) -> Check {
        let value = match EventKind::try_from(event.kind) {
            Ok(EventKind::KeyPut) => Some(event.value.clone()),
            Ok(EventKind::KeyDeleted) => None,
            _ => return Ok(()),
        };
        if let Some(value) = &value {
            acknowledged.written(value)?;
        }
        let key = String::from_utf8_lossy(&event.id).into_owned();
        self.history.entry(key).or_default().push((revision, value));
        Ok(())
    }

    /// The key's value after `revision`.
    pub fn at(&self, key: &str, revision: u64) -> Option<&[u8]> {
        let history = self.history.get(key)?;
        let newest = history.partition_point(|(r, _)| *r <= revision).checked_sub(1)?;
        history[newest].1.as_deref()
    }

    /// Whether any key ever had this value. Clients never write one twice.
    pub fn holds(&self, value: &[u8]) -> bool {
        self.history.values().flatten().any(|(_, v)| v.as_deref() == Some(value))
    }

    /// Whether exactly this value was written at this revision.
    pub fn put_at(&self, key: &str, revision: u64, value: Option<&[u8]>) -> bool {
        self.history.get(key).is_some_and(|h| h.iter().any(|(r, v)| *r == revision && v.as_deref() == value))
    }

    /// A read of the key's row from a state at `revision`.
    pub fn read(&self, key: &str, value: Option<&[u8]>, revision: u64) -> Check {
        let found = value.and_then(|v| row::decode::<KeyRow>(v).ok()).map(|row| row.value);
        let expected = self.at(key, revision);
        if found.as_deref() != expected {
            let text = format!("key {key} at revision {revision}: {found:?}, the events say {expected:?}");
            return broken("read sees the last acknowledged write", text);
        }
        Ok(())
    }
}
