//! The disk that the file system and its control share: every operation passes one gate, where rules and a frozen or dead disk
//! act, and then reaches the model.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::sync::Arc;
use std::time::{Duration, Instant};

use fuser::Errno;
use parking_lot::{Condvar, Mutex};

use crate::model::{Ino, Loss, Lost, Model};
use crate::rules::{Action, Operation, Rules};

type Held = Box<dyn FnOnce(Errno) + Send>;

#[derive(Default)]
struct State {
    model: Model,
    rules: Rules,
    /// Nothing is answered: the power goes in a moment.
    frozen: bool,
    /// Everything fails: the power is gone, and the loss has not been settled.
    dead: bool,
    held: VecDeque<Held>,
    operations: u64,
    syncs: u64,
}

/// What the file system and its control share.
#[derive(Default)]
pub struct Disk {
    state: Mutex<State>,
    changed: Condvar,
}

impl Disk {
    pub fn new(model: Model) -> Arc<Self> {
        Arc::new(Self { state: Mutex::new(State { model, ..State::default() }), changed: Condvar::new() })
    }

    /// Runs `look` on rules and model while nothing else happens.
    pub fn with<T>(&self, look: impl FnOnce(&mut Model, &mut Rules) -> T) -> T {
        let state = &mut *self.state.lock();
        look(&mut state.model, &mut state.rules)
    }

    /// Nothing is answered from now on.
    pub fn freeze(&self) {
        self.state.lock().frozen = true;
        self.changed.notify_all();
    }

    /// Waits until a rule has frozen the disk; false when the time ran out.
    pub fn wait_frozen(&self, timeout: Duration) -> bool {
        let until = Instant::now() + timeout;
        let mut state = self.state.lock();
        while !state.frozen {
            if self.changed.wait_until(&mut state, until).timed_out() {
                return state.frozen;
            }
        }
        true
    }

    /// What was held gets EIO, so that killed processes can end, and so does all that follows until [`Disk::lose`].
    pub fn kill(&self) {
        let held = {
            let mut state = self.state.lock();
            (state.frozen, state.dead) = (false, true);
            std::mem::take(&mut state.held)
        };
        for answer in held {
            answer(Errno::EIO);
        }
    }

    /// Settles the loss and works again, without rules.
    pub fn lose(&self, loss: Loss, seed: u64) -> Lost {
        self.kill();
        let mut state = self.state.lock();
        state.rules.clear();
        state.dead = false;
        state.model.lose(loss, seed)
    }

    /// Operations so far, syncs among them, and operations that are not durable.
    pub fn counts(&self) -> (u64, u64, u64) {
        let state = self.state.lock();
        (state.operations, state.syncs, state.model.unsynced())
    }

    /// Decides what happens to an operation, then does it: now, later or never.
    pub(crate) fn gate<R: Refuse>(self: &Arc<Self>, call: Call<R>) {
        let mut state = self.state.lock();
        state.operations += 1;
        state.syncs += u64::from(call.operation == Operation::Sync);
        let action = match state.rules.is_empty() || state.dead || state.frozen {
            true => None,
            false => {
                let path = match &call.name {
                    Some(name) => format!("{}/{}", state.model.path(call.ino), name.to_string_lossy()),
                    None => state.model.path(call.ino),
                };
                state.rules.decide(call.operation, &path)
            }
        };
        match action {
            None => self.carry_out(&mut state, call, false),
            Some(Action::Short) => self.carry_out(&mut state, call, true),
            Some(Action::Error(errno)) => {
                if call.operation == Operation::Sync {
                    // An inode that is gone has nothing to forget.
                    let _ = state.model.fail_sync(call.ino);
                }
                call.reply.refuse(Errno::from_i32(errno));
            }
            Some(Action::Freeze) => {
                state.frozen = true;
                self.changed.notify_all();
                self.carry_out(&mut state, call, false);
            }
            Some(Action::Delay(delay)) => {
                drop(state);
                let disk = self.clone();
                // A slow operation must not stop the others: it waits on a thread of its own.
                std::thread::spawn(move || {
                    std::thread::sleep(delay);
                    let mut state = disk.state.lock();
                    disk.carry_out(&mut state, call, false);
                });
            }
        }
    }

    fn carry_out<R: Refuse>(&self, state: &mut State, call: Call<R>, short: bool) {
        if state.dead {
            return call.reply.refuse(Errno::EIO);
        }
        if state.frozen {
            let reply = call.reply;
            return state.held.push_back(Box::new(move |errno| reply.refuse(errno)));
        }
        (call.work)(&mut state.model, call.reply, short);
    }
}

type Work<R> = Box<dyn FnOnce(&mut Model, R, bool) + Send>;

/// One operation on its way.
pub(crate) struct Call<R> {
    pub(crate) operation: Operation,
    pub(crate) ino: Ino,
    pub(crate) name: Option<OsString>,
    pub(crate) reply: R,
    pub(crate) work: Work<R>,
}

/// A reply that can say no.
pub(crate) trait Refuse: Send + 'static {
    fn refuse(self, errno: Errno);
}
