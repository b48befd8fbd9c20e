//! What a node keeps on its disk: the Raft log and the replicated state.
//!
//! What always holds:
//! * a [`LogStore`] call that saves entries or hard state returns only when they are on the disk
//!   together; a [`StateStore`] loses its unflushed rows together with their applied index;
//! * a failed write or sync poisons the store: every later call is refused, nothing is retried;
//! * nothing damaged is deleted or repaired: [`StoreError::Damaged`] says what it is and what to do.
//!
//! Two implementations pass one conformance suite (`tests/conformance.rs`): [`memory`] for tests
//! and the simulator, `rocks` (feature `rocks`, on by default) for everything else.

mod error;
mod log;
pub mod memory;
#[cfg(feature = "rocks")]
pub mod rocks;
mod state;

pub use error::{Damage, StoreError};
pub use log::{LogReader, LogStore, Position};
pub use state::{Hashed, StateStore, meta_of, state_hash, state_hash_paced};
