//! The pure driver of one node: consensus and machine with everything around them that decides.
//!
//! Two halves, because two threads own them: [`Driver`] (raft side: identity and bootstrap,
//! persistence order, sessions, read index, leases, flush, truncation and snapshot controllers,
//! time) and [`ApplyDriver`] (apply side: the machine). Both turn inputs into outputs and know no
//! clock, thread, disk or socket; the runtime executes their effects, and a simulator can.
//!
//! The driving loop of the raft side:
//!
//! ```text
//! loop {
//!     for event in inbox.drain_bounded() { driver.step(event) }
//!     for effect in driver.ready() { execute(effect) }      // in order
//! }
//! ```

mod any;
mod apply;
mod bootstrap;
mod clock;
mod config;
mod driver;
pub mod effect;
pub mod event;
mod guard;
mod housekeeping;
mod integrity;
mod leader;
mod leases;
mod log_sizes;
mod membership;
mod observer;
mod observers;
mod peers;
mod plan;
mod reads;
mod sessions;
mod tail;
mod transfer;
mod tree;
mod verify;
mod view;

pub use any::NodeDriver;
pub use apply::{ApplyDriver, ApplyError};
pub use bootstrap::agreement as expected_names;
pub use config::{Config, ConfigError};
pub use driver::{Driver, Start};
pub use effect::{Effect, ProposalEnd};
pub use event::{AppliedBatch, AppliedReport, ApplyInput, CheckApplied, Event, InstalledReport, Member, Micros, Token};
pub use housekeeping::RESUME_US as SNAPSHOT_RESUME_US;
pub use observer::{ObserverDriver, ObserverStart};
pub use tree::CHILDREN_MAX;
pub use verify::VerifyRound;
pub use view::{MemberView, NodeView, OBSERVER, VerifyView};
