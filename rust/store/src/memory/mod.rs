//! The stores in memory, for tests and the simulator. They model what a disk keeps: `crash` takes
//! back whatever was not synced.

mod log;
mod state;

pub use log::MemoryLog;
pub use state::{MemoryDisk, MemoryState};
