//! How threads are started, and what happens when one of them panics.

use std::any::Any;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread::{Builder, JoinHandle};

/// Starts a thread that the node cannot go on without. If it panics, the process says which one and
/// why, and aborts: a node that has lost a half may answer, but must not vote.
pub fn spawn_vital(name: &'static str, work: impl FnOnce() + Send + 'static) -> io::Result<JoinHandle<()>> {
    Builder::new().name(format!("tq-{name}")).spawn(move || {
        // Nothing is looked at after a panic but its message.
        if let Err(panic) = catch_unwind(AssertUnwindSafe(work)) {
            eprintln!("taskquorum: the {name} thread failed: {}; the process stops here", reason(&panic));
            std::process::abort();
        }
    })
}

fn reason(panic: &Box<dyn Any + Send>) -> &str {
    panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message")
}
