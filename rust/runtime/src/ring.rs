//! Completions and hints on their way to the edge, and the descriptor that wakes it up.
//!
//! What always holds:
//! * a slot is reserved when work is proposed ([`Ring::reserve`]), so a completion always fits;
//! * hints (a watched task changed, …) are kept once each, so the sets of [`crate::interest`] bound them;
//! * the descriptor is readable exactly while something is inside, and written only when the ring
//!   turns from empty to not: a thousand completions cost one wake-up.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::os::fd::RawFd;
use std::sync::Arc;

use codec::row::Status;
use codec::{Outcome, TaskId};
use node::{ProposalEnd, Token};
use parking_lot::Mutex;

use crate::wake::Wake;

/// What [`Ring::drain`] returns.
#[derive(Clone, Debug, PartialEq)]
pub enum Notice {
    /// A group of proposals ended; `revision` is the node's own when it did.
    Proposed {
        token: Token,
        end: ProposalEnd,
        revision: u64,
        outcomes: Vec<Outcome>,
    },
    /// Local state is as new as the read index (or the round failed).
    Readable {
        token: Token,
        readable: bool,
    },
    Beaten {
        token: Token,
        lease_ms: u64,
        heartbeat_ms: u64,
        stale: bool,
        unknown: bool,
    },
    /// The end of a leadership transfer or a snapshot.
    Done {
        token: Token,
        done: bool,
        detail: String,
    },
    Task {
        task: TaskId,
        status: Status,
    },
    Agent {
        agent_id: Arc<str>,
    },
    /// Events up to this revision can be read.
    Events {
        revision: u64,
    },
    Leader {
        node_id: Option<String>,
        term: u64,
        is_self: bool,
    },
    /// The node cannot go on.
    Stopped {
        detail: String,
    },
}

/// Every slot is taken: push back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the completion ring is full")]
pub struct RingFull;

#[derive(Default)]
struct Inside {
    reserved: usize,
    completions: VecDeque<Notice>,
    tasks: BTreeMap<TaskId, Status>,
    agents: BTreeSet<Arc<str>>,
    events: Option<u64>,
    leader: Option<Notice>,
    stopped: Option<Notice>,
    /// The descriptor has been written and not read since.
    awake: bool,
}

impl Inside {
    fn is_empty(&self) -> bool {
        let hints = self.tasks.is_empty() && self.agents.is_empty() && self.events.is_none();
        hints && self.completions.is_empty() && self.leader.is_none() && self.stopped.is_none()
    }

    /// The rare and urgent first, then completions, then hints.
    fn pop(&mut self) -> Option<Notice> {
        if let Some(notice) = self.stopped.take().or_else(|| self.leader.take()) {
            return Some(notice);
        }
        if let Some(notice) = self.completions.pop_front() {
            self.reserved -= 1;
            return Some(notice);
        }
        if let Some((task, status)) = self.tasks.pop_first() {
            return Some(Notice::Task { task, status });
        }
        if let Some(agent_id) = self.agents.pop_first() {
            return Some(Notice::Agent { agent_id });
        }
        self.events.take().map(|revision| Notice::Events { revision })
    }
}

/// Shared by all threads that complete something and the one that drains.
pub struct Ring {
    capacity: usize,
    inside: Mutex<Inside>,
    wake: Wake,
}

impl Ring {
    /// A ring for at most `capacity` completions that are reserved or waiting to be drained.
    ///
    /// # Errors
    /// The process has no file descriptor left.
    pub fn new(capacity: usize) -> io::Result<Self> {
        Ok(Self { capacity, inside: Mutex::new(Inside::default()), wake: Wake::new()? })
    }

    /// Readable while [`Ring::drain`] has something to return. It lives as long as the ring.
    pub fn notify_fd(&self) -> RawFd {
        self.wake.fd()
    }

    /// Reserves `slots` completions; each is given back when it is drained or by [`Ring::release`].
    ///
    /// # Errors
    /// [`RingFull`], with nothing reserved.
    pub fn reserve(&self, slots: usize) -> Result<(), RingFull> {
        let mut inside = self.inside.lock();
        if inside.reserved.saturating_add(slots) > self.capacity {
            return Err(RingFull);
        }
        inside.reserved += slots;
        Ok(())
    }

    /// Gives slots back whose work was never proposed.
    pub fn release(&self, slots: usize) {
        let mut inside = self.inside.lock();
        assert!(slots <= inside.reserved - inside.completions.len(), "only unused slots are released");
        inside.reserved -= slots;
    }

    /// Completes reserved work, in order.
    ///
    /// # Panics
    /// When more is completed than was reserved: a bug that would fill the ring without bound.
    pub fn complete(&self, notices: impl IntoIterator<Item = Notice>) {
        self.put(|inside| {
            inside.completions.extend(notices);
            assert!(inside.completions.len() <= inside.reserved, "a completion without a reserved slot");
        });
    }

    /// Tells hints; the caller has asked [`crate::interest::Interest`] for each.
    pub fn hint(&self, hints: &mut Hints) {
        if hints.is_empty() {
            return;
        }
        self.put(|inside| {
            inside.tasks.append(&mut hints.tasks);
            inside.agents.append(&mut hints.agents);
            inside.events = hints.events.take().or(inside.events);
        });
    }

    /// Replaces what was last told of the leader.
    pub fn leader(&self, node_id: Option<String>, term: u64, is_self: bool) {
        self.put(|inside| inside.leader = Some(Notice::Leader { node_id, term, is_self }));
    }

    /// The first reason is the one that counts.
    pub fn stopped(&self, detail: String) {
        self.put(|inside| {
            inside.stopped.get_or_insert(Notice::Stopped { detail });
        });
    }

    /// Takes up to `limit` notices. The descriptor stays readable if more are left.
    pub fn drain(&self, limit: usize) -> Vec<Notice> {
        let mut inside = self.inside.lock();
        let mut taken = Vec::new();
        while taken.len() < limit
            && let Some(notice) = inside.pop()
        {
            taken.push(notice);
        }
        if inside.awake && inside.is_empty() {
            inside.awake = false;
            self.wake.clear();
        }
        taken
    }

    /// The descriptor moves under the lock, so that it and `awake` cannot differ.
    fn put(&self, change: impl FnOnce(&mut Inside)) {
        let mut inside = self.inside.lock();
        change(&mut inside);
        if !inside.awake && !inside.is_empty() {
            inside.awake = true;
            self.wake.signal();
        }
    }
}

/// Hints of one batch, gathered by the apply thread and told at once.
#[derive(Default)]
pub struct Hints {
    pub tasks: BTreeMap<TaskId, Status>,
    pub agents: BTreeSet<Arc<str>>,
    pub events: Option<u64>,
}

impl Hints {
    pub fn is_empty(&self) -> bool {
        self.tasks.is_empty() && self.agents.is_empty() && self.events.is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn readable(ring: &Ring) -> bool {
        let mut poll = libc::pollfd { fd: ring.notify_fd(), events: libc::POLLIN, revents: 0 };
        // SAFETY: one valid `pollfd`.
        unsafe { libc::poll(&mut poll, 1, 0) == 1 }
    }

    fn read_completion(token: Token) -> Notice {
        Notice::Readable { token, readable: true }
    }

    /// Scenario: three completions in two steps → the descriptor is readable until the last is drained.
    #[test]
    fn the_descriptor_is_readable_exactly_while_something_is_inside() {
        let ring = Ring::new(8).expect("ring");
        assert!(!readable(&ring));
        ring.reserve(3).expect("room");
        ring.complete([read_completion(1), read_completion(2)]);
        ring.complete([read_completion(3)]);
        assert!(readable(&ring));
        assert_eq!(ring.drain(2), [read_completion(1), read_completion(2)]);
        assert!(readable(&ring));
        assert_eq!(ring.drain(2), [read_completion(3)]);
        assert!(!readable(&ring));
        assert_eq!(ring.drain(2), []);
        ring.leader(None, 2, false);
        assert!(readable(&ring));
    }

    #[test]
    fn a_full_ring_takes_nothing_until_it_is_drained() {
        let ring = Ring::new(2).expect("ring");
        ring.reserve(2).expect("room");
        assert_eq!(ring.reserve(1), Err(RingFull));
        ring.release(1);
        ring.reserve(1).expect("released");
        ring.complete([read_completion(1), read_completion(2)]);
        assert_eq!(ring.reserve(1), Err(RingFull), "a completion holds its slot until it is drained");
        ring.drain(1);
        ring.reserve(1).expect("drained");
    }

    #[test]
    #[should_panic(expected = "without a reserved slot")]
    fn nothing_completes_without_a_slot() {
        Ring::new(2).expect("ring").complete([read_completion(1)]);
    }

    /// Scenario: a task changes twice and events move on twice before the edge looks → one hint each.
    #[test]
    fn hints_are_kept_once_with_the_newest_value() {
        let ring = Ring::new(1).expect("ring");
        let task = TaskId([7; 16]);
        for (status, revision) in [(Status::Assigned, 4), (Status::Running, 5)] {
            let mut hints = Hints { events: Some(revision), ..Hints::default() };
            hints.tasks.insert(task, status);
            hints.agents.insert("a".into());
            ring.hint(&mut hints);
            assert!(hints.is_empty());
        }
        let expected = [
            Notice::Task { task, status: Status::Running },
            Notice::Agent { agent_id: "a".into() },
            Notice::Events { revision: 5 },
        ];
        assert_eq!(ring.drain(10), expected);
    }

    #[test]
    fn threads_lose_nothing() {
        let ring = Ring::new(4_000).expect("ring");
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let ring = &ring;
                scope.spawn(move || {
                    for number in 0..1_000 {
                        ring.reserve(1).expect("room");
                        ring.complete([read_completion(thread * 1_000 + number)]);
                    }
                });
            }
            let mut seen = 0;
            while seen < 4_000 {
                seen += ring.drain(64).len();
                std::thread::yield_now();
            }
        });
        assert!(!readable(&ring) && ring.drain(1).is_empty());
    }
}
