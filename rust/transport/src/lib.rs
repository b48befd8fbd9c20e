//! Messages between nodes: frames over one TCP stream per peer and lane, all on one thread.
//!
//! What always holds:
//! * a node sends on the streams it dialed and receives on those it accepted; only `Hello` also
//!   travels the other way. Streams that a duplex peer dialed carry both ([`NetConfig::hello`]);
//! * nothing but `Hello` is taken from, or given to, a stream before both sides said `Hello`, and
//!   two nodes of different clusters never get further;
//! * every queue and buffer has a bound in bytes; [`NetHandle::send`] never blocks and says what it
//!   could not take;
//! * when a stream of the lanes control, append or forward breaks, all of that peer's break and
//!   [`NetEvent::PeerDown`] is told: what was queued is gone, and the protocols above send it again;
//! * a malformed frame closes its stream.
//!
//! [`framing`], [`queue`], [`handshake`] and [`backoff`] decide without touching a socket; [`Net`]
//! acts.

pub mod backoff;
mod conn;
mod dial;
mod duplex;
mod event;
pub mod framing;
mod group;
pub mod handshake;
mod link;
mod net;
mod outbox;
pub mod queue;

pub use event::{NetConfig, NetEvent, PeerAddress, Sink};
pub use group::NetGroup;
pub use handshake::{PROTOCOL_VERSION, Refused};
pub use net::Net;
pub use outbox::{NetCounters, NetHandle, SendError};

use codec::peer::Lane;

/// Most bytes of one frame on a lane. An append carries at most 1 MiB of commands and one batch
/// body of 8 MiB, and so does a forward.
pub fn frame_bytes_max(lane: Lane) -> usize {
    match lane {
        Lane::Control => 1 << 20,
        Lane::Append | Lane::Forward => 24 << 20,
        Lane::Snapshot => 4 << 20,
    }
}

/// Most bytes that wait in one peer's queue of a lane. A single frame always fits into an empty one.
pub fn queue_bytes_max(lane: Lane) -> usize {
    match lane {
        Lane::Control => 2 << 20,
        Lane::Append | Lane::Forward => 32 << 20,
        Lane::Snapshot => 4 << 20,
    }
}
