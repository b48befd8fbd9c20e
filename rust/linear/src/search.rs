//! The search of Wing and Gong with the cache of Lowe, for one object.
//!
//! Calls and returns lie in a list in the order of time. The search walks it from the front: a call is linearized if the
//! model takes it and no earlier branch linearized the same operations and came to the same state; its call and return
//! then leave the list and the walk begins again. A return that is met means that its operation had to be linearized
//! before: the last one linearized is taken back. An operation of unknown outcome has a call alone, so that it is never
//! missed: the search is over when no return is left.
//!
//! Of operations of unknown outcome that do the same only the one called first is tried: whatever order has a later one
//! instead has the same answers with the two exchanged. Without this, twenty lost answers on one object are a million subsets.

use std::collections::HashSet;

use crate::{Model, Timed};

/// What the search may cost. Both bounds end it with [`Verdict::Exhausted`].
#[derive(Clone, Copy, Debug)]
pub struct Budget {
    /// Operations tried on a state.
    pub steps_max: u64,
    /// Pairs of operations linearized and state that are remembered, all objects of a history together at their peak:
    /// about 200 bytes each.
    pub cache_max: usize,
}

impl Default for Budget {
    fn default() -> Self {
        Self { steps_max: 50_000_000, cache_max: 2_000_000 }
    }
}

/// What the search found. Indices are those of the operations handed in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// In this order. Operations of unknown outcome that are not in it did not happen.
    Linearizable(Vec<usize>),
    /// In no order; the longest that was found.
    Impossible(Vec<usize>),
    /// The budget was used up first.
    Exhausted,
}

/// End of the list, and the mark of a call that never returned.
const NONE: usize = usize::MAX;

#[derive(Clone, Copy)]
struct Entry {
    operation: usize,
    is_call: bool,
    next: usize,
    previous: usize,
}

/// Calls and returns, doubly linked. Entry 0 is the head and stands for nothing.
struct List {
    entries: Vec<Entry>,
    /// Call and return of each operation.
    places: Vec<(usize, usize)>,
}

impl List {
    fn new<O>(operations: &[Timed<O>]) -> Self {
        // At the same moment calls come first: operations that only touch are taken as concurrent.
        let mut moments: Vec<(u64, bool, usize)> = Vec::with_capacity(2 * operations.len());
        for (index, operation) in operations.iter().enumerate() {
            moments.push((operation.called, false, index));
            moments.extend(operation.returned.map(|returned| (returned.max(operation.called), true, index)));
        }
        moments.sort_unstable();
        let mut entries = vec![Entry { operation: NONE, is_call: false, next: NONE, previous: NONE }];
        let mut places = vec![(NONE, NONE); operations.len()];
        for (_, is_return, operation) in moments {
            let at = entries.len();
            entries[at - 1].next = at;
            entries.push(Entry { operation, is_call: !is_return, next: NONE, previous: at - 1 });
            if is_return {
                places[operation].1 = at;
            } else {
                places[operation].0 = at;
            }
        }
        Self { entries, places }
    }

    fn first(&self) -> usize {
        self.entries[0].next
    }

    fn unlink(&mut self, at: usize) {
        let Entry { next, previous, .. } = self.entries[at];
        self.entries[previous].next = next;
        if next != NONE {
            self.entries[next].previous = previous;
        }
    }

    fn relink(&mut self, at: usize) {
        let Entry { next, previous, .. } = self.entries[at];
        self.entries[previous].next = at;
        if next != NONE {
            self.entries[next].previous = at;
        }
    }

    fn lift(&mut self, operation: usize) {
        let (call, ret) = self.places[operation];
        self.unlink(call);
        if ret != NONE {
            self.unlink(ret);
        }
    }

    fn unlift(&mut self, operation: usize) {
        let (call, ret) = self.places[operation];
        if ret != NONE {
            self.relink(ret);
        }
        self.relink(call);
    }
}

/// For each operation of unknown outcome: the latest one called before it that does the same, if any.
fn twins<M: Model>(operations: &[Timed<M::Operation>]) -> Vec<Option<usize>> {
    let mut open: Vec<usize> = (0..operations.len()).filter(|index| operations[*index].returned.is_none()).collect();
    open.sort_by_key(|index| (operations[*index].called, *index));
    let mut twins = vec![None; operations.len()];
    for (at, index) in open.iter().enumerate() {
        let alike = |other: &&usize| M::alike(&operations[**other].operation, &operations[*index].operation);
        twins[*index] = open[..at].iter().rev().find(alike).copied();
    }
    twins
}

/// Searches for an order of `operations` on one object. `budget.steps_max` is lowered by the steps taken.
pub fn search<M: Model>(operations: &[Timed<M::Operation>], budget: &mut Budget) -> Verdict {
    let operations = &M::simplify(operations)[..];
    let twins = twins::<M>(operations);
    let mut list = List::new(operations);
    let mut returns_left = operations.iter().filter(|operation| operation.returned.is_some()).count();
    let mut linearized = vec![0u64; operations.len().div_ceil(64)].into_boxed_slice();
    let mut cache: HashSet<(Box<[u64]>, M::State)> = HashSet::new();
    let mut state = M::initial();
    let mut taken: Vec<(usize, M::State)> = Vec::new();
    let mut longest: Vec<usize> = Vec::new();
    let mut at = list.first();
    while returns_left > 0 {
        let Entry { operation, is_call, next, .. } = list.entries[at];
        let waits = |twin: usize| linearized[twin / 64] & (1 << (twin % 64)) == 0;
        if is_call && twins[operation].is_some_and(waits) {
            at = next;
        } else if is_call {
            if budget.steps_max == 0 {
                return Verdict::Exhausted;
            }
            budget.steps_max -= 1;
            let after = M::step(&state, &operations[operation].operation);
            let fresh = after.filter(|after| {
                linearized[operation / 64] |= 1 << (operation % 64);
                let fresh = cache.insert((linearized.clone(), after.clone()));
                linearized[operation / 64] &= !(1 << (operation % 64));
                fresh
            });
            if cache.len() > budget.cache_max {
                return Verdict::Exhausted;
            }
            if let Some(after) = fresh {
                linearized[operation / 64] |= 1 << (operation % 64);
                taken.push((operation, std::mem::replace(&mut state, after)));
                list.lift(operation);
                returns_left -= usize::from(operations[operation].returned.is_some());
                if taken.len() > longest.len() {
                    longest = taken.iter().map(|(operation, _)| *operation).collect();
                }
                at = list.first();
            } else {
                at = next;
            }
        } else {
            let Some((operation, before)) = taken.pop() else { return Verdict::Impossible(longest) };
            state = before;
            linearized[operation / 64] &= !(1 << (operation % 64));
            list.unlift(operation);
            returns_left += usize::from(operations[operation].returned.is_some());
            at = list.entries[list.places[operation].0].next;
        }
    }
    Verdict::Linearizable(taken.into_iter().map(|(operation, _)| operation).collect())
}
