//! Decides whether a recorded history of operations is linearizable: whether each operation can be given one moment
//! between its call and its return so that all of them, in the order of these moments, are what one copy of the object
//! would have answered.
//!
//! The search is that of Wing and Gong ("Testing and verifying concurrent objects", 1993) with the two improvements of
//! Lowe ("Testing for linearizability", 2017): a cache of (operations linearized, state), and P-composition, which checks
//! each object apart. An operation whose outcome is unknown may have happened at any moment after its call, or never.
//!
//! `history` reads the format of docs/history-format.md, `key` and `task` are the objects' models, `search` is the
//! algorithm and knows neither, `explain` reduces a failure to what shows it, `check` puts them together.

pub mod check;
pub mod explain;
pub mod history;
pub mod key;
pub mod search;
pub mod task;

use std::fmt::Debug;
use std::hash::Hash;

/// A sequential object: what one operation answers in a state, and the state after it.
pub trait Model {
    /// What is known of the object: it may stand for several states that no answer has told apart yet.
    type State: Clone + Eq + Hash + Debug;
    type Operation: Clone + Debug;

    /// The object before any operation.
    fn initial() -> Self::State;

    /// The state after `operation`, or `None` if an object in `state` would not have answered so. An operation of unknown
    /// outcome may also return `None` where it would have changed nothing.
    fn step(state: &Self::State, operation: &Self::Operation) -> Option<Self::State>;

    /// The same operation with its outcome forgotten, or `None` if it then tells nothing and can be left out.
    fn forget(operation: &Self::Operation) -> Option<Self::Operation>;

    /// The same history with operations of unknown outcome made equal where no answer can tell them apart.
    fn simplify(operations: &[Timed<Self::Operation>]) -> Vec<Timed<Self::Operation>> {
        operations.to_vec()
    }

    /// Whether two operations of unknown outcome do the same.
    fn alike(one: &Self::Operation, other: &Self::Operation) -> bool;
}

/// An operation with the times of its call and its return, in one clock of any unit.
#[derive(Clone, Debug)]
pub struct Timed<O> {
    pub called: u64,
    /// `None`: the outcome is unknown, the operation may take effect at any moment after its call, or never.
    pub returned: Option<u64>,
    /// Where it stands in its file, for people.
    pub line: usize,
    pub operation: O,
}
