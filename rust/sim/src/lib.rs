//! The deterministic simulator: whole clusters in one thread around the real `node` crate, with
//! `consensus` and `machine` inside and the memory stores of `store` below. Only disk, network,
//! clock, threads, clients and agents are fakes.
//!
//! What always holds:
//! * a seed, a profile and a shape decide everything: the same run twice has the same trace hash;
//! * everything that happens is an event in one queue, in order of time; all chance comes from
//!   [`rng::Rng`];
//! * a run ends with a cluster that converged, or with the first [`Violation`].

mod agent;
mod client;
mod clock;
mod disk;
mod ending;
mod fault;
mod host;
pub mod invariant;
mod members;
mod network;
mod policy;
pub mod profile;
mod queue;
mod raft_side;
pub mod rng;
mod run;
pub mod shrink;
mod start;
mod storage;
mod trace;
mod transfer;
mod world;

pub use invariant::Violation;
pub use profile::Profile;
pub use run::run;
pub use world::{Options, Report};
