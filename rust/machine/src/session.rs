//! Sessions: each command of a node applies once, however often it is sent (DESIGN §3).
//!
//! A session keeps a low-water mark below which everything is resolved at the proposer, and the
//! outcomes of at most 4,096 sequences from there on. They are stored as one row per entry, which
//! goes when all its sequences are below the mark. Retired sessions leave a row without outcomes,
//! so that a late duplicate of their opening cannot bring them (and their commands) back.

use std::collections::BTreeMap;

use codec::row::{self, Cf, SessionOutcomes, SessionRow, key, row_hash};
use codec::{Command, Outcome, Refusal};

use crate::limits::{RETIRED_SESSIONS_MAX, SESSION_OUTCOMES_MAX, SESSIONS_MAX};
use crate::machine::{Entry, Machine};
use crate::{Signal, limits};

/// What a session knows of one sequence.
#[derive(Clone, Debug, PartialEq)]
pub enum SessionLookup {
    /// The session was never opened, or is retired.
    Unknown,
    /// Resolved long ago: the proposer said that it needs no answer.
    Forgotten,
    Known(Outcome),
    /// Not applied yet.
    NotYet,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Session {
    pub(crate) row: SessionRow,
    pub(crate) hash: u128,
    /// Outcomes from the low-water mark on.
    pub(crate) outcomes: BTreeMap<u64, Outcome>,
    /// Stored rows of outcomes: (highest sequence, entry index) → the row's hash.
    pub(crate) entries: BTreeMap<(u64, u64), u128>,
}

/// How to go on with a command of a session.
pub(crate) enum Gate {
    Apply,
    Answer(Outcome),
}

impl Session {
    pub(crate) fn lookup(&self, sequence: u64) -> SessionLookup {
        if self.row.retired {
            SessionLookup::Unknown
        } else if sequence < self.row.resolved_below {
            SessionLookup::Forgotten
        } else {
            self.outcomes.get(&sequence).cloned().map_or(SessionLookup::NotYet, SessionLookup::Known)
        }
    }
}

impl Machine {
    /// Raises the low-water mark, and says whether the command still has to be applied.
    pub(crate) fn session_gate(&mut self, entry: &mut Entry, command: &Command) -> Gate {
        let unknown = || Gate::Answer(Outcome::refused(Refusal::SessionUnknown, "", "the session is not open"));
        let Some(session) = self.sessions.get_mut(&command.session).filter(|s| !s.row.retired) else { return unknown() };
        if command.resolved_below > session.row.resolved_below {
            session.row.resolved_below = command.resolved_below;
            session.outcomes = session.outcomes.split_off(&command.resolved_below);
            entry.sessions.entry(command.session).or_default();
            while let Some((&(highest, index), &hash)) = session.entries.first_key_value() {
                if highest >= command.resolved_below {
                    break;
                }
                session.entries.pop_first();
                self.hash.remove(hash);
                entry.set(Cf::Session, key::session_outcomes(command.session, index), None);
            }
        }
        match session.lookup(command.sequence) {
            SessionLookup::NotYet if command.sequence >= session.row.resolved_below.saturating_add(SESSION_OUTCOMES_MAX) => {
                let detail = format!("more than {SESSION_OUTCOMES_MAX} outcomes are unresolved");
                Gate::Answer(Outcome::refused(Refusal::LimitExceeded, "", detail))
            }
            SessionLookup::NotYet => Gate::Apply,
            SessionLookup::Known(_) if mutant::active("retry-applied-twice") => Gate::Apply,
            SessionLookup::Known(outcome) => Gate::Answer(outcome),
            SessionLookup::Forgotten => Gate::Answer(Outcome::refused(Refusal::Forgotten, "", "resolved long ago")),
            SessionLookup::Unknown => unknown(),
        }
    }

    pub(crate) fn save_outcome(&mut self, entry: &mut Entry, command: &Command, outcome: &Outcome) {
        let Some(session) = self.sessions.get_mut(&command.session) else { return };
        session.outcomes.insert(command.sequence, outcome.clone());
        let row = entry.sessions.entry(command.session).or_default();
        row.sequences.push(command.sequence);
        row.outcomes.push(outcome.clone());
    }

    /// Opens `command.session` for a node and retires the node's older ones.
    pub(crate) fn open_session(&mut self, entry: &mut Entry, session: u64, node_id: &str) -> Outcome {
        if session == 0 || node_id.is_empty() || node_id.len() > limits::NAME_BYTES_MAX {
            return Outcome::refused(Refusal::Invalid, "/node_id", "a session has a number and a node");
        }
        if let Some(found) = self.sessions.get(&session) {
            if found.row.retired || found.row.node_id != node_id {
                return Outcome::refused(
                    Refusal::SessionUnknown,
                    "",
                    "the session is retired, or another node's: draw a new number",
                );
            }
            entry.signals.push(Signal::SessionOpened { session, node_id: node_id.to_owned() });
            return Outcome { replayed: true, ..Outcome::accepted(found.row.opened_revision) };
        }
        let of_node: Vec<(u64, u64)> =
            self.sessions.iter().filter(|(_, s)| s.row.node_id == node_id).map(|(id, s)| (s.row.opened_revision, *id)).collect();
        if of_node.is_empty() && self.sessions.values().filter(|s| !s.row.retired).count() >= SESSIONS_MAX {
            return Outcome::refused(Refusal::LimitExceeded, "", format!("{SESSIONS_MAX} sessions are open"));
        }
        self.retire_sessions(entry, of_node);
        let revision = self.revision();
        let row = SessionRow { node_id: node_id.to_owned(), resolved_below: 1, opened_revision: revision, retired: false };
        self.sessions.insert(session, Session { row, ..Session::default() });
        entry.sessions.entry(session).or_default();
        entry.signals.push(Signal::SessionOpened { session, node_id: node_id.to_owned() });
        Outcome::accepted(revision)
    }

    /// A node has left: its sessions are retired, so that names that come and go use up no bound. Of
    /// nodes that are no members, the newest retired sessions are remembered.
    pub(crate) fn retire_sessions_of(&mut self, entry: &mut Entry, node_id: &str) {
        let of_node = self.sessions.iter().filter(|(_, s)| s.row.node_id == node_id && !s.row.retired);
        let of_node = of_node.map(|(id, s)| (s.row.opened_revision, *id)).collect();
        self.retire_sessions(entry, of_node);
        let gone = |s: &Session| s.row.retired && !self.members.contains_key(&s.row.node_id);
        let mut gone: Vec<(u64, u64)> =
            self.sessions.iter().filter(|(_, s)| gone(s)).map(|(id, s)| (s.row.opened_revision, *id)).collect();
        gone.sort_unstable();
        let surplus = gone.len().saturating_sub(SESSIONS_MAX);
        for (_, id) in gone.into_iter().take(surplus) {
            self.forget_session(entry, id);
        }
    }

    fn forget_session(&mut self, entry: &mut Entry, id: u64) {
        if let Some(session) = self.sessions.remove(&id) {
            self.hash.remove(session.hash);
            entry.sessions.remove(&id);
            entry.set(Cf::Session, key::session(id), None);
        }
    }

    fn retire_sessions(&mut self, entry: &mut Entry, mut of_node: Vec<(u64, u64)>) {
        of_node.sort_unstable();
        let forget = (of_node.len() + 1).saturating_sub(RETIRED_SESSIONS_MAX);
        for (at, (_, id)) in of_node.into_iter().enumerate() {
            let Some(session) = self.sessions.get_mut(&id) else { continue };
            for (&(_, index), &hash) in &session.entries {
                self.hash.remove(hash);
                entry.set(Cf::Session, key::session_outcomes(id, index), None);
            }
            session.entries.clear();
            session.outcomes.clear();
            session.row.retired = true;
            // What this entry would have stored for it is void.
            entry.sessions.insert(id, SessionOutcomes::default());
            if at < forget {
                self.forget_session(entry, id);
            }
        }
    }

    /// Writes the session rows that the entry changed, once each.
    pub(crate) fn store_sessions(&mut self, entry: &mut Entry, index: u64) {
        for (id, mut saved) in std::mem::take(&mut entry.sessions) {
            let Some(session) = self.sessions.get_mut(&id) else { continue };
            let (row_key, value) = (key::session(id), row::encode(&session.row));
            let hash = row_hash(Cf::Session, &row_key, &value);
            if hash != session.hash {
                self.hash.remove(session.hash);
                self.hash.add(hash);
                session.hash = hash;
                entry.set(Cf::Session, row_key, Some(value));
            }
            // Outcomes that a later command of the same entry resolved need no row.
            if saved.sequences.iter().any(|s| *s < session.row.resolved_below) {
                let resolved_below = session.row.resolved_below;
                let kept = saved.sequences.iter().zip(saved.outcomes).filter(|(s, _)| **s >= resolved_below);
                let (sequences, outcomes) = kept.map(|(s, o)| (*s, o)).unzip();
                saved = SessionOutcomes { sequences, outcomes };
            }
            let Some(highest) = saved.sequences.iter().max().copied() else { continue };
            let (row_key, value) = (key::session_outcomes(id, index), row::encode(&saved));
            let hash = row_hash(Cf::Session, &row_key, &value);
            self.hash.add(hash);
            session.entries.insert((highest, index), hash);
            entry.set(Cf::Session, row_key, Some(value));
        }
    }
}
