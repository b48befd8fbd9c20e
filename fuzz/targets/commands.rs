//! Entries of any content on the log: apply refuses or accepts, and never panics, breaks an invariant, or leaves memory that
//! differs from the rows.
//!
//! The input is entries one after the other, each with its length before it (protobuf's delimited form), applied to a cluster
//! with an agent and tasks. Sessions, sequences and terms are set right, so that commands get behind those checks.
#![no_main]

#[path = "../../rust/machine/tests/common/mod.rs"]
mod common;

use codec::row::Status;
use codec::{EntryPayload, Message, Refusal};
use common::{Cluster, id, register, spec, submit};
use libfuzzer_sys::fuzz_target;

const ENTRIES_MAX: usize = 40;

fuzz_target!(|bytes: &[u8]| {
    let mut cluster = Cluster::new();
    cluster.run(vec![register("a", "n1", 2), submit(spec(id(1))), submit(spec(id(2)))]);
    let mut rest = bytes;
    for _ in 0..ENTRIES_MAX {
        let Ok(payload) = EntryPayload::decode_length_delimited(&mut rest) else { break };
        cluster.cluster_us = payload.cluster_us;
        cluster.wall_us = payload.wall_us;
        let bodies: Vec<_> = payload.commands.into_iter().filter_map(|c| c.body).collect();
        let applied = cluster.run(bodies);
        for outcome in &applied.outcomes {
            assert_ne!(outcome.refusal, Refusal::InternalInvariant as i32, "{outcome:?}");
            assert!(Status::try_from(outcome.status).is_ok());
        }
    }
    cluster.check();
});
