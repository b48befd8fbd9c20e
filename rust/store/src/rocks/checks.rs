//! Start-up checks (DESIGN §5): what the log, its witness and the state say about each other. They
//! only read.

use std::path::Path;

use codec::row::MetaRow;

use super::log::OpenedLog;
use super::witness::WitnessFile;
use crate::{Position, StoreError};

/// The log reaches its witness and its own commit index, agrees with the witness, and no vote is forgotten.
pub(super) fn witness(path: &Path, witness: &WitnessFile, log: &OpenedLog) -> Result<(), StoreError> {
    let seen = witness.position();
    let base = log.base.as_ref().map(Position::of_base).unwrap_or_default();
    let saved = &log.hard_state;
    if saved.commit > log.last.index {
        let what = format!("the log ends with entry {}, but entry {} had been committed", log.last.index, saved.commit);
        return Err(StoreError::damaged(path, what));
    }
    if log.last.index < seen.index {
        let what = format!("the log ends with entry {}, but entry {} had been synced", log.last.index, seen.index);
        return Err(StoreError::damaged(path, what));
    }
    if seen.index >= base.index && log.at_witness != Some(seen) {
        let found = log.at_witness.unwrap_or_default();
        let what = format!(
            "entry {} is of term {} with chain hash {:016x}, but term {} with {:016x} had been synced",
            seen.index, found.term, found.chain, seen.term, seen.chain
        );
        return Err(StoreError::damaged(path, what));
    }
    let (term, vote) = witness.saved_vote();
    if saved.term < term || (saved.term == term && vote != 0 && saved.vote != vote) {
        let what = format!(
            "the saved term {} and vote {:x} are older than term {term} and vote {vote:x}, which had been synced",
            saved.term, saved.vote
        );
        return Err(StoreError::damaged(path, what));
    }
    Ok(())
}

/// The directory belongs to this node.
pub(super) fn owner(path: &Path, node_id: &str, log: &OpenedLog) -> Result<(), StoreError> {
    match &log.identity {
        Some(identity) if identity.node_id != node_id => {
            let what = format!("the directory belongs to node {:?}, not to {node_id:?}", identity.node_id);
            Err(StoreError::Foreign { path: path.to_owned(), what })
        }
        _ => Ok(()),
    }
}

/// The state belongs to the same cluster as the log and `base ≤ applied ≤ last`. Returns the applied
/// index (0 without rows).
pub(super) fn state(log_path: &Path, state_path: &Path, log: &OpenedLog, meta: Option<&MetaRow>) -> Result<u64, StoreError> {
    let base_index = log.base.as_ref().map_or(0, |b| b.index);
    let cluster_id = log.identity.as_ref().map_or(0, |i| i.cluster_id);
    let Some(meta) = meta else {
        return match can_be_rebuilt(log) {
            true => Ok(0),
            false => Err(StoreError::damaged(
                state_path,
                format!("it has no rows, but the log holds entries {} to {}", base_index + 1, log.last.index),
            )),
        };
    };
    if log.identity.is_none() {
        return Err(StoreError::damaged(log_path, "the identity record is missing, but the state has rows"));
    }
    if meta.cluster_id != cluster_id {
        let what = format!("its rows are of cluster {:016x}, but this node is of {cluster_id:016x}", meta.cluster_id);
        return Err(StoreError::Foreign { path: state_path.to_owned(), what });
    }
    let (applied, last) = (meta.applied_index, log.last.index);
    if applied < base_index {
        let what = format!("it ends with entry {applied}, but the log begins after {base_index}: entries are missing between");
        return Err(StoreError::damaged(state_path, what));
    }
    if applied > last {
        let what = format!("it ends with entry {last}, but the state has applied and flushed entry {applied}");
        return Err(StoreError::damaged(log_path, what));
    }
    Ok(applied)
}

/// Whether the log alone can bring the state back: nothing was applied yet, or everything since
/// the first configuration is still in the log.
pub(super) fn can_be_rebuilt(log: &OpenedLog) -> bool {
    let from_the_start = log.base.as_ref().is_none_or(|b| b.index == 0);
    let has_bootstrap = log.identity.as_ref().is_some_and(|i| i.bootstrap.is_some());
    from_the_start && (log.last.index == 0 || has_bootstrap)
}
