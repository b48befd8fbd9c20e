//! Equal state hash at equal index, on every node and in the replay.

use node::AppliedReport;

use super::replay::Replay;
use super::{Check, broken};

pub fn applied(at: usize, report: &AppliedReport, replay: &Replay) -> Check {
    for (index, hash) in &report.hashes {
        let expected = replay.entry(*index).map(|e| e.state);
        if expected != Some(*hash) {
            return broken("equal hash", format!("n{} has another state than the replay at {index}", at + 1));
        }
    }
    Ok(())
}
