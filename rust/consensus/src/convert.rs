//! Between the codec's log types and raft's protobuf types; payload bytes are shared, not copied.

use codec::log::{ConfState, EntryKind, HardState, LogEntry};
use raft::eraftpb;

pub(crate) fn to_raft_entry(entry: LogEntry) -> eraftpb::Entry {
    eraftpb::Entry {
        entry_type: match entry.kind {
            EntryKind::Normal => eraftpb::EntryType::EntryNormal,
            EntryKind::ConfChange => eraftpb::EntryType::EntryConfChangeV2,
        },
        term: entry.term,
        index: entry.index,
        data: entry.data,
        ..Default::default()
    }
}

pub(crate) fn from_raft_entry(entry: eraftpb::Entry) -> LogEntry {
    let kind = match entry.entry_type {
        eraftpb::EntryType::EntryNormal => EntryKind::Normal,
        eraftpb::EntryType::EntryConfChange | eraftpb::EntryType::EntryConfChangeV2 => EntryKind::ConfChange,
    };
    LogEntry { index: entry.index, term: entry.term, kind, data: entry.data }
}

pub(crate) fn to_raft_hard_state(state: &HardState) -> eraftpb::HardState {
    eraftpb::HardState { term: state.term, vote: state.vote, commit: state.commit, ..Default::default() }
}

pub(crate) fn from_raft_hard_state(state: &eraftpb::HardState) -> HardState {
    HardState { term: state.term, vote: state.vote, commit: state.commit }
}

pub(crate) fn to_raft_configuration(configuration: &ConfState) -> eraftpb::ConfState {
    eraftpb::ConfState {
        voters: configuration.voters.clone(),
        learners: configuration.learners.clone(),
        voters_outgoing: configuration.voters_outgoing.clone(),
        learners_next: configuration.learners_next.clone(),
        auto_leave: configuration.auto_leave,
        ..Default::default()
    }
}

/// Sorted, so that equal configurations are equal bytes on every replica.
pub(crate) fn from_raft_configuration(configuration: &eraftpb::ConfState) -> ConfState {
    let sorted = |ids: &[u64]| {
        let mut ids = ids.to_vec();
        ids.sort_unstable();
        ids
    };
    ConfState {
        voters: sorted(&configuration.voters),
        learners: sorted(&configuration.learners),
        voters_outgoing: sorted(&configuration.voters_outgoing),
        learners_next: sorted(&configuration.learners_next),
        auto_leave: configuration.auto_leave,
    }
}
