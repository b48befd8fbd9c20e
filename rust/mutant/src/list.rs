//! Every mutant: its name, what it breaks and where its hook stands.

/// A bug that can be switched on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mutant {
    /// Lower-case words joined by hyphens.
    pub name: &'static str,
    /// What the bug does, in one line.
    pub breaks: &'static str,
    /// The crate with the hook; `raft` is patched on a copy (`mutants/patches`).
    pub lives_in: &'static str,
}

const fn mutant(name: &'static str, lives_in: &'static str, breaks: &'static str) -> Mutant {
    Mutant { name, breaks, lives_in }
}

/// In the order of TRUST §2; what stands below the line of its items are relatives of them.
pub const ALL: &[Mutant] = &[
    mutant("read-context-reused", "node", "a new read index round bears the number of the one given up before"),
    mutant("read-before-first-commit", "node, consensus, raft", "a new leader serves reads before it committed in its term"),
    mutant("read-before-round", "node", "the leader answers reads before a quorum confirmed that it still leads"),
    mutant("lease-read", "consensus", "reads rest on the leader's lease instead of a round (ReadOnlyOption::LeaseBased)"),
    mutant("vote-not-durable", "store", "a hard state without entries beside it is not written: term and vote are forgotten"),
    mutant("ack-before-fsync", "consensus", "a round counts as durable as soon as it is handed to the disk"),
    mutant(
        "hard-state-apart",
        "store",
        "entries are synced without the hard state beside them, which follows with the next write",
    ),
    mutant("commit-old-term", "raft", "an entry of an old term is committed by counting its copies"),
    mutant("quorum-off-by-one", "raft", "two acknowledgements of five voters commit"),
    mutant("truncate-after-match", "raft", "an append whose entries all match cuts off what stands behind them"),
    mutant("stale-pipelined-ack", "raft", "an acknowledgement of an older term counts after the log was reverted"),
    mutant(
        "conf-change-before-noop",
        "raft, node",
        "a new leader proposes a configuration change before its first entry is committed",
    ),
    mutant(
        "conf-from-snapshot-late",
        "raft, consensus",
        "an installed snapshot's configuration is used only after the next start",
    ),
    mutant("two-conf-changes", "raft, node", "a configuration change is proposed while another is in flight"),
    mutant("removed-leader-leads", "node, consensus", "a leader that was removed from the configuration goes on leading"),
    mutant("install-before-durable", "sim", "the log is cleared for a snapshot whose files are not synced"),
    mutant("applied-index-apart", "store", "the applied index is durable before the rows that belong to it"),
    mutant("truncate-above-flushed", "node", "the log is cut up to the applied index, not to the flushed one"),
    mutant("torn-tail-is-corruption", "sim", "a tail torn before it was synced counts as damage"),
    mutant("corruption-is-torn-tail", "sim", "a bad record in the middle of the log counts as its end"),
    mutant("retry-applied-twice", "machine", "a session's command that was applied is applied again"),
    mutant("dedup-not-in-snapshot", "machine", "sessions come out of stored rows without the outcomes of their commands"),
    mutant("epoch-unchecked-at-completion", "machine", "a completion by an attempt that lost the task is accepted"),
    mutant("renew-old-epoch", "node", "a beat of an agent's older registration extends the lease of the newer one"),
    mutant("capacity-freed-twice", "machine", "the end of a task gives its resources back twice"),
    mutant("lease-by-followers-clock", "node", "a new leader expires leases by what its own clock saw as a follower"),
    mutant("election-timeout-once", "consensus", "the election timeout is drawn once per process"),
    mutant(
        "append-joined-blindly",
        "consensus",
        "raft's batch_append joins entries to an append that names another index (found here)",
    ),
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::ALL;

    #[test]
    fn names_are_distinct_and_of_one_form() {
        let names: BTreeSet<_> = ALL.iter().map(|m| m.name).collect();
        assert_eq!(names.len(), ALL.len());
        assert!(names.iter().all(|n| n.chars().all(|c| c.is_ascii_lowercase() || c == '-')));
        assert!(ALL.len() >= 22, "TRUST §2 asks for at least 22");
    }
}
