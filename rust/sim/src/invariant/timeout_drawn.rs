//! A new election timeout is drawn for each term (DESIGN rule 8): with one for ever, members that
//! collided once collide again and again.

use std::collections::BTreeMap;

use consensus::{Consensus, Role};

use super::{Check, broken};

/// The same draw this often in a row is no chance: one in 50⁷.
const SAME_MAX: u32 = 7;

struct Drawn {
    term: u64,
    role: Role,
    ticks: usize,
    again: u32,
}

#[derive(Default)]
pub struct TimeoutDrawn {
    nodes: BTreeMap<usize, Drawn>,
}

impl TimeoutDrawn {
    pub fn forget(&mut self, at: usize) {
        self.nodes.remove(&at);
    }

    pub fn turn(&mut self, at: usize, consensus: &Consensus) -> Check {
        let (term, role, ticks) = (consensus.term(), consensus.role(), consensus.election_timeout_ticks());
        let drawn = self.nodes.entry(at).or_insert(Drawn { term, role, ticks, again: 0 });
        if (drawn.term, drawn.role) == (term, role) {
            return Ok(());
        }
        let again = if drawn.ticks == ticks { drawn.again + 1 } else { 0 };
        *drawn = Drawn { term, role, ticks, again };
        if again >= SAME_MAX {
            return broken(
                "election timeout drawn anew",
                format!("n{}: {ticks} ticks, {again} times again up to term {term}", at + 1),
            );
        }
        Ok(())
    }
}
