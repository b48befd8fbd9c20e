//! The pure driver of one node.
pub mod effect;
pub mod event;
pub use effect::{Effect, ProposalEnd};
pub use event::{AppliedBatch, AppliedReport, ApplyInput, Event, InstalledReport, Micros, Token};
