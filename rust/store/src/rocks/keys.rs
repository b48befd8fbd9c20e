//! Names inside the data directory and keys inside the log database. All of them are on disk.

/// Directory of the log database.
pub const LOG_DIR: &str = "log";
/// State directories are `state-<n>`; the log's base names the current one.
pub const STATE_PREFIX: &str = "state-";
/// Checkpoints to send or keep, one directory each.
pub const SNAPSHOTS_DIR: &str = "snapshots";
/// A snapshot that is being received.
pub const INCOMING_DIR: &str = "incoming";
/// Copies of the state that are being streamed to somebody as a backup; they end with the process.
pub const BACKUPS_DIR: &str = "backups";
/// A restored backup that waits to become the first state of a new cluster.
pub const SEED_DIR: &str = "seed";
/// Held by the process that uses the directory; its text is that process's id.
pub const LOCK_FILE: &str = "LOCK";
pub const WITNESS_FILE: &str = "witness";
/// Who an observer is, and its state directory; in place of log and witness.
pub const OBSERVER_FILE: &str = "observer";
/// A copy of the identity, for the day on which the log cannot be read.
pub const IDENTITY_FILE: &str = "identity";
/// Takes the place of a damaged state until another one is installed; holds nothing worth keeping.
pub const REBUILDING_DIR: &str = "rebuilding";

/// Column family of the log database: entry key → log record.
pub const ENTRIES: &str = "entries";
/// Column family of the log database: the three keys below → one frame each.
pub const META: &str = "meta";
pub const IDENTITY: &[u8] = b"identity";
pub const HARD_STATE: &[u8] = b"hard_state";
pub const BASE: &[u8] = b"base";

/// Key of an entry: byte order is the order of the log.
pub fn entry(index: u64) -> [u8; 8] {
    index.to_be_bytes()
}

/// Index of an entry's key.
pub fn entry_index(key: &[u8]) -> Option<u64> {
    key.try_into().ok().map(u64::from_be_bytes)
}

/// Name of the `number`th state directory.
pub fn state_dir(number: u64) -> String {
    format!("{STATE_PREFIX}{number}")
}

/// Number of a state directory's name.
pub fn state_dir_number(name: &str) -> Option<u64> {
    let number = name.strip_prefix(STATE_PREFIX)?.parse().ok()?;
    (state_dir(number) == name).then_some(number)
}
