//! Bytes of taskquorum: everything that is written to a disk or a socket has its type here.
//!
//! What always holds:
//! * an encoding grows by adding fields; a tag is never reused and never changes its meaning;
//! * decoding never panics, whatever the bytes: every failure is a [`DecodeError`];
//! * golden files in `testdata/` hold what earlier releases wrote, and every release reads them.
//!
//! The crate knows no clock, thread, file or socket.

pub mod command;
pub mod frame;
pub mod id;
pub mod integrity;
pub mod log;
pub mod outcome;
pub mod peer;
pub mod row;
pub mod tail;

pub use command::{Command, EntryPayload};
pub use frame::{DecodeError, Frame, FrameKind};
pub use id::TaskId;
pub use outcome::{Outcome, Refusal};
pub use prost::Message;
