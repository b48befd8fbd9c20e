//! Reduces a history that is not linearizable to what shows it.
//!
//! First the shortest prefix in time: whatever is not linearizable stays so when more happens, so that bisection finds
//! the return that made it impossible. Then each operation of the prefix is forgotten in turn (a look at the object is
//! left out, a change becomes one of unknown outcome); what stays impossible without an operation's answer was not shown
//! by it. Forgetting only allows more, so what is left is impossible by itself.

use crate::search::{Budget, Verdict, search};
use crate::{Model, Timed};

/// Steps for one attempt to forget an operation; an attempt that needs more keeps it.
const FORGET_STEPS_MAX: u64 = 200_000;
/// A longer prefix is shown as it is.
const FORGET_OPERATIONS_MAX: usize = 2_000;

/// What shows that an object is not linearizable. Indices are those of the operations handed in, in the order of calls.
#[derive(Clone, Debug)]
pub struct Reason {
    /// How many operations were called before the prefix ended.
    pub prefix: usize,
    /// The operation whose return ended the shortest prefix that is not linearizable.
    pub last: usize,
    /// What cannot be explained together.
    pub offending: Vec<usize>,
    /// Changes before the end of the prefix whose answers do not matter: they do not explain it either, whether they
    /// happened or not.
    pub others: Vec<usize>,
}

/// The history up to `end`: what returned later is under way, with an unknown outcome.
fn prefix<M: Model>(operations: &[Timed<M::Operation>], end: u64) -> Vec<(usize, Timed<M::Operation>)> {
    let mut kept = Vec::new();
    for (index, operation) in operations.iter().enumerate().filter(|(_, operation)| operation.called <= end) {
        if operation.returned.is_some_and(|returned| returned <= end) {
            kept.push((index, operation.clone()));
        } else if let Some(open) = M::forget(&operation.operation) {
            kept.push((index, Timed { returned: None, operation: open, ..operation.clone() }));
        }
    }
    kept
}

fn verdict<M: Model>(kept: &[(usize, Timed<M::Operation>)], budget: &mut Budget) -> Verdict {
    let operations: Vec<_> = kept.iter().map(|(_, operation)| operation.clone()).collect();
    search::<M>(&operations, budget)
}

/// Explains why `operations`, which are known not to be linearizable, are not. `None` when the budget is used up before.
pub fn explain<M: Model>(operations: &[Timed<M::Operation>], budget: &mut Budget) -> Option<Reason> {
    let mut ends: Vec<(u64, usize)> =
        operations.iter().enumerate().filter_map(|(index, operation)| Some((operation.returned?, index))).collect();
    ends.sort_unstable();
    // The first return after which it is impossible lies in low..=high.
    let (mut low, mut high) = (0, ends.len().checked_sub(1)?);
    while low < high {
        let middle = low + (high - low) / 2;
        match verdict::<M>(&prefix::<M>(operations, ends[middle].0), budget) {
            Verdict::Impossible(_) => high = middle,
            Verdict::Linearizable(_) => low = middle + 1,
            Verdict::Exhausted => return None,
        }
    }
    let (end, last) = ends[high];
    let mut kept = prefix::<M>(operations, end);
    let prefix = kept.len();
    if prefix <= FORGET_OPERATIONS_MAX {
        forget::<M>(&mut kept, budget);
    }
    let (answered, open): (Vec<_>, Vec<_>) = kept.into_iter().partition(|(_, operation)| operation.returned.is_some());
    let indices = |kept: Vec<(usize, Timed<M::Operation>)>| kept.into_iter().map(|(index, _)| index).collect();
    Some(Reason { prefix, last, offending: indices(answered), others: indices(open) })
}

/// Forgets what can be forgotten, the oldest first.
fn forget<M: Model>(kept: &mut Vec<(usize, Timed<M::Operation>)>, budget: &mut Budget) {
    let mut at = 0;
    while at < kept.len() {
        let mut without = kept.clone();
        let (_, operation) = &mut without[at];
        let known = operation.returned.is_some();
        match M::forget(&operation.operation) {
            Some(open) => (operation.operation, operation.returned) = (open, None),
            None => drop(without.remove(at)),
        }
        let removed = without.len() < kept.len();
        let forgotten = known && impossible::<M>(&without, budget);
        if forgotten {
            *kept = without;
        }
        at += usize::from(!(forgotten && removed));
    }
}

fn impossible<M: Model>(kept: &[(usize, Timed<M::Operation>)], budget: &mut Budget) -> bool {
    let mut own = Budget { steps_max: FORGET_STEPS_MAX.min(budget.steps_max), ..*budget };
    let granted = own.steps_max;
    let verdict = verdict::<M>(kept, &mut own);
    budget.steps_max -= granted - own.steps_max;
    matches!(verdict, Verdict::Impossible(_))
}
