//! Where each mutant is hunted: the profiles and cluster sizes most likely to notice it, taken in turn seed by seed.

use sim::Profile::{self, Agents, Bridge, Crash, Disk, Everything, Membership, Partition, Snapshot};

/// A profile with so many voters.
pub type Ground = (Profile, usize);

/// The grounds of a mutant, in the order in which they take turns.
pub fn grounds(mutant: &str) -> &'static [Ground] {
    match mutant {
        "read-context-reused" => &[(Partition, 3), (Everything, 3)],
        "read-before-first-commit" => &[(Crash, 3), (Partition, 3)],
        "read-before-round" | "lease-read" => &[(Partition, 3), (Bridge, 5)],
        "vote-not-durable" => &[(Crash, 3), (Crash, 5)],
        "ack-before-fsync" => &[(Crash, 3)],
        "hard-state-apart" => &[(Crash, 3), (Disk, 3)],
        "commit-old-term" => &[(Crash, 5), (Everything, 5)],
        "quorum-off-by-one" => &[(Crash, 5), (Partition, 5)],
        "truncate-after-match" => &[(Partition, 3), (Everything, 5)],
        "stale-pipelined-ack" => &[(Partition, 5)],
        "conf-change-before-noop" | "two-conf-changes" | "removed-leader-leads" => &[(Membership, 3), (Membership, 5)],
        "conf-from-snapshot-late" => &[(Membership, 3), (Membership, 5)],
        "install-before-durable" => &[(Snapshot, 3)],
        "applied-index-apart" => &[(Crash, 3)],
        "truncate-above-flushed" => &[(Snapshot, 3), (Crash, 3)],
        "torn-tail-is-corruption" | "corruption-is-torn-tail" => &[(Disk, 3)],
        "retry-applied-twice" => &[(Partition, 3), (Crash, 3)],
        "dedup-not-in-snapshot" => &[(Snapshot, 3), (Crash, 3)],
        "epoch-unchecked-at-completion" | "renew-old-epoch" | "lease-by-followers-clock" => &[(Agents, 3)],
        "capacity-freed-twice" => &[(Agents, 3), (Crash, 3)],
        "election-timeout-once" => &[(Partition, 3), (Crash, 5)],
        "append-joined-blindly" => &[(Partition, 3), (Partition, 5)],
        _ => &[(Everything, 3), (Everything, 5)],
    }
}

/// Run number `at` (from 0) of a mutant.
pub fn run_of(mutant: &str, at: u64) -> (Profile, usize, u64) {
    let grounds = grounds(mutant);
    let (profile, voters) = grounds[(at % grounds.len() as u64) as usize];
    (profile, voters, 1 + at / grounds.len() as u64)
}
