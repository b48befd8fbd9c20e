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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_read_below_what_was_seen_before_it_is_stale() {
        let mut reads = Reads::default();
        reads.seen(7);
        let floor = reads.floor();
        assert!(reads.read(0, 9, floor).is_ok());
        assert!(reads.read(1, 8, floor).is_ok(), "it began before the other ended");
        assert!(reads.read(1, 8, reads.floor()).is_err(), "what one reader saw, a later one sees");
        assert!(reads.read(0, 6, floor).is_err());
    }
}
