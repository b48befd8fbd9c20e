//! A key of `/state`: a register with compare.
//!
//! What always holds of one copy: each write gives the key a revision larger than any before it, and a version one larger
//! than before it (1 if there was none). Answers carry both, so that they tell even equal values apart.

use std::collections::HashSet;

use serde::{Deserialize, Serialize};

use crate::{Model, Timed};

/// What was asked of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Call {
    Get,
    /// Writes without a condition.
    Put {
        value: i64,
    },
    /// Writes if the key's revision is this one (`If-Match`).
    PutIf {
        value: i64,
        revision: u64,
    },
    /// Writes if there is no such key (`If-None-Match: *`).
    Create {
        value: i64,
    },
    Delete,
}

/// A key as an answer shows it. An answer about a condition that did not hold shows no value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Shown {
    #[serde(default)]
    pub value: Option<i64>,
    pub revision: u64,
    pub version: u64,
}

/// What came back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Answer {
    /// Whether it was done (a read is always done).
    pub ok: bool,
    /// The key as it was left by a write, or found by a read or a condition; none: there was no such key.
    #[serde(default)]
    pub key: Option<Shown>,
}

#[derive(Clone, Copy, Debug)]
pub struct Operation {
    pub call: Call,
    /// None: unknown.
    pub answer: Option<Answer>,
}

/// What is known of a revision.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Revision {
    Is(u64),
    /// Given by a write whose answer nobody saw.
    Above(u64),
}

impl Revision {
    /// It turned out to be `found`.
    fn seen(self, found: u64) -> Option<Self> {
        let agrees = match self {
            Self::Is(known) => known == found,
            Self::Above(floor) => found > floor,
        };
        agrees.then_some(Self::Is(found))
    }

    fn floor(self) -> u64 {
        match self {
            Self::Is(revision) | Self::Above(revision) => revision,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Stored {
    value: i64,
    version: u64,
    revision: Revision,
}

/// The key, and a bound that every later revision is above.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct State {
    stored: Option<Stored>,
    floor: u64,
}

impl State {
    /// The state once an answer has shown the key, or `None` if it is not as shown.
    fn seen(self, shown: Option<Shown>) -> Option<Self> {
        match (self.stored, shown) {
            (None, None) => Some(self),
            (Some(stored), Some(shown)) => {
                let same = stored.version == shown.version && shown.value.is_none_or(|value| value == stored.value);
                let revision = stored.revision.seen(shown.revision)?;
                same.then_some(Self { stored: Some(Stored { revision, ..stored }), floor: self.floor.max(shown.revision) })
            }
            _ => None,
        }
    }

    fn written(self, value: i64, answer: Option<Answer>) -> Option<Self> {
        let version = self.stored.map_or(1, |stored| stored.version + 1);
        let written = Self { stored: Some(Stored { value, version, revision: Revision::Above(self.floor) }), ..self };
        match answer {
            Some(answer) => written.seen(Some(answer.key?)),
            None => Some(written),
        }
    }

    fn deleted(self, answer: Option<Answer>) -> Option<Self> {
        self.stored?;
        answer.is_none_or(|answer| answer.key.is_none()).then_some(Self { stored: None, floor: self.floor })
    }
}

/// The model.
#[derive(Debug)]
pub enum Key {}

impl Model for Key {
    type State = State;
    type Operation = Operation;

    fn initial() -> State {
        State { stored: None, floor: 0 }
    }

    fn step(state: &State, operation: &Operation) -> Option<State> {
        let Operation { call, answer } = *operation;
        let refused = answer.is_some_and(|answer| !answer.ok);
        // A refused operation is a look at the key, and the condition must not have held.
        let looked = || state.seen(answer.and_then(|answer| answer.key));
        match call {
            Call::Get => looked().filter(|_| !refused && answer.is_some()),
            Call::Put { value } => state.written(value, answer).filter(|_| !refused),
            Call::PutIf { revision, .. } if refused => {
                looked().filter(|state| state.stored.is_none_or(|stored| stored.revision != Revision::Is(revision)))
            }
            Call::PutIf { value, revision } => {
                let stored = state.stored?;
                let revision = stored.revision.seen(revision)?;
                let found = State { stored: Some(Stored { revision, ..stored }), floor: state.floor.max(revision.floor()) };
                found.written(value, answer)
            }
            Call::Create { .. } if refused => looked().filter(|state| state.stored.is_some()),
            Call::Create { value } => state.written(value, answer).filter(|_| state.stored.is_none()),
            Call::Delete if refused => looked().filter(|state| state.stored.is_none()),
            Call::Delete => state.deleted(answer),
        }
    }

    fn forget(operation: &Operation) -> Option<Operation> {
        let refused = operation.answer.is_some_and(|answer| !answer.ok);
        (operation.call != Call::Get && !refused).then_some(Operation { answer: None, ..*operation })
    }

    /// Values of unknown writes that no read has seen are as good as one value.
    fn simplify(operations: &[Timed<Operation>]) -> Vec<Timed<Operation>> {
        let shown = |timed: &Timed<Operation>| timed.operation.answer.and_then(|answer| answer.key).and_then(|key| key.value);
        let seen: HashSet<i64> = operations.iter().filter_map(shown).collect();
        let mut unseen = None;
        let mut simple = operations.to_vec();
        for timed in simple.iter_mut().filter(|timed| timed.operation.answer.is_none()) {
            if let Call::Put { value } | Call::PutIf { value, .. } | Call::Create { value } = &mut timed.operation.call
                && !seen.contains(value)
            {
                *value = *unseen.get_or_insert(*value);
            }
        }
        simple
    }

    fn alike(one: &Operation, other: &Operation) -> bool {
        one.call == other.call
    }
}
