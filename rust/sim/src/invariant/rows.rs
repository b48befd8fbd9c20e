//! Rows in memory, for the replay.

use std::collections::BTreeMap;

use codec::row::{Cf, Change, ReadError, StateRead};

#[derive(Default)]
pub struct Rows([BTreeMap<Vec<u8>, Vec<u8>>; Cf::ALL.len()]);

impl Rows {
    pub fn write(&mut self, changes: Vec<Change>) {
        for Change { cf, key, value } in changes {
            match value {
                Some(value) => self.0[cf as usize].insert(key, value),
                None => self.0[cf as usize].remove(&key),
            };
        }
    }

    pub fn family(&self, cf: Cf) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.0[cf as usize].iter().map(|(key, value)| (key.as_slice(), value.as_slice()))
    }
}

impl StateRead for Rows {
    fn get(&self, cf: Cf, key: &[u8]) -> Result<Option<Vec<u8>>, ReadError> {
        Ok(self.0[cf as usize].get(key).cloned())
    }

    fn scan(&self, cf: Cf, prefix: &[u8], start: &[u8], visit: &mut dyn FnMut(&[u8], &[u8]) -> bool) -> Result<(), ReadError> {
        for (key, value) in self.0[cf as usize].range(start.max(prefix).to_vec()..) {
            if !key.starts_with(prefix) || !visit(key, value) {
                break;
            }
        }
        Ok(())
    }
}
