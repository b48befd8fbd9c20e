//! What was synced is found again: a process starts with the log that the one before it left on the
//! disk, or does not start at all.

use std::collections::BTreeMap;

use store::{LogStore, Position};

use super::{Check, broken};
use crate::host::Host;

#[derive(Default)]
pub struct SyncedLog {
    /// Node → end of the log on its disk, seen right after its process had ended.
    left: BTreeMap<usize, Position>,
}

impl SyncedLog {
    pub fn stopped(&mut self, hosts: &[Host], at: usize) {
        self.left.insert(at, hosts[at].disk.log.last());
    }

    pub fn started(&mut self, hosts: &[Host], at: usize) -> Check {
        let found = hosts[at].disk.log.last();
        match self.left.remove(&at) {
            Some(left) if left != found => {
                let text = format!("n{} starts with a log that ends with {found:?}, but {left:?} was synced", at + 1);
                broken("synced entries are found again", text)
            }
            _ => Ok(()),
        }
    }
}
