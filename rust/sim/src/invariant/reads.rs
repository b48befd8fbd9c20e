//! Read ≥ last acknowledged write: a linearizable read shows every write that was acknowledged, and
//! every state that was read, before the read began. All commands go through one log, so that
//! revisions are enough.

use super::{Check, broken};

#[derive(Default)]
pub struct Reads {
    floor: u64,
}

impl Reads {
    /// What a read that begins now must show at least.
    pub fn floor(&self) -> u64 {
        self.floor
    }

    /// A write at this revision was acknowledged.
    pub fn seen(&mut self, revision: u64) {
        self.floor = self.floor.max(revision);
    }

    /// A read that began at `floor` is answered from the state at `revision`.
    pub fn read(&mut self, at: usize, revision: u64, floor: u64) -> Check {
        if revision < floor {
            let text = format!("n{} answers a read at revision {revision}, but {floor} was acknowledged before it", at + 1);
            return broken("read sees the last acknowledged write", text);
        }
        self.seen(revision);
        Ok(())
    }
}
