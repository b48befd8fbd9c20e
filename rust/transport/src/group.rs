//! [`NetGroup`]: many nets on one thread, for a process that hosts many observers.

use std::io;
use std::os::fd::AsRawFd;
use std::time::Duration;

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};

use crate::net::Net;

/// Waits for any of several nets: the poll of each is itself polled here.
pub struct NetGroup {
    poll: Poll,
    events: Events,
}

impl NetGroup {
    /// # Errors
    /// The process is out of descriptors.
    pub fn new(nets_max: usize) -> io::Result<Self> {
        Ok(Self { poll: Poll::new()?, events: Events::with_capacity(nets_max.max(1)) })
    }

    /// From now on `key` is ready when `net` has something to do. A net that is dropped leaves by itself.
    ///
    /// # Errors
    /// The poll refuses it.
    pub fn add(&self, key: usize, net: &Net) -> io::Result<()> {
        self.poll.registry().register(&mut SourceFd(&net.poll.as_raw_fd()), Token(key), Interest::READABLE)
    }

    /// Waits at most for `timeout`, and adds the keys of nets that want a [`Net::turn`] to `ready`. Each
    /// is told once for what happened: a turn takes all of it, or is due again at once ([`Net::due_in`]).
    ///
    /// # Errors
    /// The poll itself failed.
    pub fn wait(&mut self, timeout: Duration, ready: &mut Vec<usize>) -> io::Result<()> {
        match self.poll.poll(&mut self.events, Some(timeout)) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(()),
            result => result?,
        }
        ready.extend(self.events.iter().map(|event| event.token().0));
        Ok(())
    }
}
