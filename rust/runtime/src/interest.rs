//! What the edge waits for: counted sets of tasks, agents, and the event stream.
//!
//! The apply thread asks for every signal, so asking costs one atomic load while nobody listens.
//! The sets also bound the hints in the ring: none is told that nobody watches.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use codec::TaskId;
use parking_lot::Mutex;

/// Things watched at once, of each kind; a node has fewer waiting callers than that.
pub const WATCHED_MAX: usize = 1 << 20;

/// Values with the number of their watchers.
struct Counted<T> {
    /// Distinct values, readable without the lock.
    size: AtomicUsize,
    counts: Mutex<HashMap<T, usize>>,
}

impl<T: Eq + Hash> Counted<T> {
    fn new() -> Self {
        Self { size: AtomicUsize::new(0), counts: Mutex::new(HashMap::new()) }
    }

    fn watch(&self, value: T, watch: bool) -> bool {
        let mut counts = self.counts.lock();
        if watch {
            if counts.len() >= WATCHED_MAX && !counts.contains_key(&value) {
                return false;
            }
            *counts.entry(value).or_insert(0) += 1;
        } else if let Some(count) = counts.get_mut(&value) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&value);
            }
        }
        // Sequentially consistent with the apply thread's load: a watcher that has returned from
        // here and then reads the state misses no later change.
        self.size.store(counts.len(), Ordering::SeqCst);
        true
    }

    fn has<Q: Eq + Hash + ?Sized>(&self, value: &Q) -> bool
    where
        T: std::borrow::Borrow<Q>,
    {
        self.size.load(Ordering::SeqCst) > 0 && self.counts.lock().contains_key(value)
    }
}

/// Shared by the edge, which watches, and the apply thread, which asks.
pub struct Interest {
    tasks: Counted<TaskId>,
    agents: Counted<Arc<str>>,
    events: AtomicUsize,
}

impl Default for Interest {
    fn default() -> Self {
        Self { tasks: Counted::new(), agents: Counted::new(), events: AtomicUsize::new(0) }
    }
}

impl Interest {
    /// As many `false` as `true` end it. False when too many tasks are watched already.
    pub fn watch_task(&self, task: TaskId, watch: bool) -> bool {
        self.tasks.watch(task, watch)
    }

    pub fn watch_agent(&self, agent_id: &str, watch: bool) -> bool {
        self.agents.watch(agent_id.into(), watch)
    }

    pub fn watch_events(&self, watch: bool) {
        if watch {
            self.events.fetch_add(1, Ordering::SeqCst);
        } else {
            // One `false` too many is the caller's bug; it must not turn into 2⁶⁴ watchers.
            let _ = self.events.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1));
        }
    }

    pub fn in_task(&self, task: TaskId) -> bool {
        self.tasks.has(&task)
    }

    pub fn in_agent(&self, agent_id: &str) -> bool {
        self.agents.has(agent_id)
    }

    pub fn in_events(&self) -> bool {
        self.events.load(Ordering::SeqCst) > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn watchers_are_counted() {
        let interest = Interest::default();
        let task = TaskId([1; 16]);
        for watch in [true, true, false] {
            interest.watch_task(task, watch);
        }
        assert!(interest.in_task(task) && !interest.in_task(TaskId([2; 16])));
        interest.watch_task(task, false);
        assert!(!interest.in_task(task));
        interest.watch_agent("a", true);
        assert!(interest.in_agent("a") && !interest.in_agent("b"));
    }

    #[test]
    fn one_false_too_many_does_not_underflow() {
        let interest = Interest::default();
        interest.watch_events(false);
        assert!(!interest.in_events());
        interest.watch_agent("a", false);
        interest.watch_events(true);
        assert!(interest.in_events());
    }
}
