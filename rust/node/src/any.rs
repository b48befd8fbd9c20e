//! [`NodeDriver`]: a voter's driver or an observer's, for hosts that execute either.

use codec::log::Identity;

use crate::driver::Driver;
use crate::effect::Effect;
use crate::event::{Event, Micros};
use crate::observer::ObserverDriver;
use crate::view::NodeView;

/// One of the two, behind the calls they share. There are few of them in a process, and they live long.
#[expect(clippy::large_enum_variant, reason = "one value a node")]
pub enum NodeDriver {
    Voter(Driver),
    Observer(ObserverDriver),
}

macro_rules! either {
    ($self:ident, $driver:ident => $call:expr) => {
        match $self {
            NodeDriver::Voter($driver) => $call,
            NodeDriver::Observer($driver) => $call,
        }
    };
}

impl NodeDriver {
    pub fn step(&mut self, event: Event) {
        either!(self, driver => driver.step(event));
    }

    pub fn ready(&mut self) -> Vec<Effect> {
        either!(self, driver => driver.ready())
    }

    pub fn view(&self) -> NodeView {
        either!(self, driver => driver.view())
    }

    pub fn observe_time(&mut self, now_us: Micros, wall_us: u64) {
        either!(self, driver => driver.observe_time(now_us, wall_us));
    }

    pub fn next_wake_us(&self) -> Micros {
        either!(self, driver => driver.next_wake_us())
    }

    pub fn set_load(&mut self, load_bp: [u32; 3]) {
        either!(self, driver => driver.set_load(load_bp));
    }

    pub fn is_leader(&self) -> bool {
        either!(self, driver => driver.is_leader())
    }

    pub fn session(&self) -> u64 {
        either!(self, driver => driver.session())
    }

    pub fn identity(&self) -> &Identity {
        either!(self, driver => driver.identity())
    }
}
