//! The replicated state of taskquorum: `apply(command) -> outcome + changes + signals`.
//!
//! What always holds:
//! * the same entries in the same order give the same rows, byte for byte, on every node: no
//!   clock, no randomness but the entry's seed, no float, no map with a random order;
//! * a command is applied whole or not at all: its changes are computed on the side ([`tx`]),
//!   the invariants are checked, and only then do they reach the state;
//! * what can still change is in memory and in the store; what has ended is in the store alone.
//!
//! The crate performs no I/O: rows are read through [`codec::row::StateRead`] and written by the
//! caller from [`Applied::changes`].

mod agent;
mod dag;
mod event;
mod expire;
mod hash;
mod invariant;
mod key;
pub mod limits;
mod load;
mod log_lines;
mod machine;
mod member;
mod membership;
mod read;
mod retention;
mod seed;
mod session;
mod signal;
mod submit;
mod task;
mod timers;
mod tx;
mod work;

pub use agent::AgentState;
pub use hash::HashSum;
pub use load::{LoadError, LoadPath};
pub use machine::{Applied, MACHINE_VERSION, Machine};
pub use retention::RetentionLimits;
pub use seed::{SEED_INDEX, SEED_REVISION_GAP, SEED_TERM};
pub use session::SessionLookup;
pub use signal::Signal;
pub use task::LiveTask;
