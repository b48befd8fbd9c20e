//! Bounds of the replicated state. They are the same on every node, because apply depends on them.

/// Tasks that have not ended. More are refused with `LimitExceeded`.
pub const LIVE_TASKS_MAX: usize = 2_000_000;
/// Tasks of one Submit: a DAG's 10,000 and its parent.
pub const SUBMIT_TASKS_MAX: usize = 10_001;
/// Dependencies of one task.
pub const DEPENDENCIES_MAX: usize = 10_000;
/// Agent rows, those lost or left included until retention forgets them.
pub const AGENTS_MAX: usize = 100_000;
/// Open sessions; one a node.
pub const SESSIONS_MAX: usize = 1_024;
/// Retired sessions remembered for each node, so that a late duplicate of their opening is refused.
pub const RETIRED_SESSIONS_MAX: usize = 16;
/// Outcomes kept above a session's low-water mark.
pub const SESSION_OUTCOMES_MAX: u64 = 4_096;
/// Events in a task's timeline; when full, the middle is dropped.
pub const TIMELINE_MAX: usize = 64;
/// Distinct agents lost with a task before it is parked as poison.
pub const LOST_AGENTS_MAX: usize = 3;
/// Agents excluded from one task; an older one gives way.
pub const EXCLUDED_AGENTS_MAX: usize = 256;
/// An assignment must be held by its agent this long after it was made, in µs of cluster time.
pub const UNCLAIMED_US: u64 = 2_000_000;
/// Bytes of logs kept for an attempt, the newest.
pub const LOG_BYTES_MAX: usize = 64 << 10;
/// Bytes of names that are part of row keys: tenant, task type, agent, node.
pub const NAME_BYTES_MAX: usize = 255;
/// Bytes of a replicated key or an idempotency key.
pub const KEY_BYTES_MAX: usize = 1_024;
/// Longest backoff, in ms: a day.
pub const BACKOFF_MS_MAX: u64 = 86_400_000;
/// Any other duration in a command is cut to this many ms (100 years), so that sums cannot overflow.
pub const DURATION_MS_MAX: u64 = 3_155_760_000_000;
/// Items of one Retention command.
pub const RETENTION_ITEMS_MAX: usize = 1_000;
/// Entries whose state hash is remembered for a HashCheck.
pub const RECENT_HASHES_MAX: usize = 8_192;
/// Bytes of an error message or a progress message that are kept.
pub const MESSAGE_BYTES_MAX: usize = 4_096;
/// Voters that a cluster takes: an entry must reach a majority of them.
pub const VOTERS_MAX: usize = 9;
/// Learners: each gets the whole log from the leader.
pub const LEARNERS_MAX: usize = 8;
pub const OBSERVERS_MAX: usize = 1_024;
/// Lost directories that one member takes the place of at once; an older one has left long ago.
pub const REPLACES_MAX: usize = 8;
