//! Leader completeness: whoever leads a term holds every entry committed in earlier terms (Raft,
//! figure 3). By log matching it is enough that it holds the last of them.

use consensus::Consensus;

use super::replay::Replay;
use super::{Check, broken};
use crate::host::Host;

/// Node `at` is seen as the leader of its term for the first time.
pub fn elected(hosts: &[Host], at: usize, consensus: &Consensus, replay: &Replay) -> Check {
    let Some(process) = &hosts[at].process else { return Ok(()) };
    let term = consensus.term();
    let Some((index, committed_term)) = replay.last_before(term) else { return Ok(()) };
    let shadow = &process.shadow;
    if shadow.base.0 >= index || shadow.term(index) == Some(committed_term) {
        return Ok(());
    }
    let has = shadow.term(index);
    let text =
        format!("n{} leads term {term} with {has:?} at {index}, where an entry of term {committed_term} is committed", at + 1);
    broken("leader completeness", text)
}
