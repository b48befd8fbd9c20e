//! A command of a session takes effect once, however often it stands in the log.

use std::collections::BTreeSet;

use super::replay::Executed;
use super::{Check, broken};

#[derive(Default)]
pub struct Once {
    done: BTreeSet<(u64, u64)>,
}

impl Once {
    pub fn command(&mut self, executed: &Executed) -> Check {
        let command = &executed.command;
        if command.session == 0 || command.sequence == 0 || executed.events.is_empty() {
            return Ok(());
        }
        if !self.done.insert((command.session, command.sequence)) {
            let name = command.body.as_ref().map_or("", codec::command::Body::name);
            let text = format!(
                "{name} {} of session {:x} took effect again at {}",
                command.sequence, command.session, executed.revision
            );
            return broken("a command takes effect once", text);
        }
        Ok(())
    }
}
