//! Frames of the log database: one codec frame a value, its checksum verified on every read.

use std::path::Path;

use codec::log::{LogEntry, LogRecord};
use codec::{DecodeError, Frame, FrameKind, Message};
use rocksdb::{ColumnFamily, DB, ReadOptions};

use super::keys;
use crate::{Position, StoreError};

/// A column family that the database was opened with.
pub(super) fn family<'a>(db: &'a DB, name: &str) -> &'a ColumnFamily {
    db.cf_handle(name).expect("the database was opened with all column families")
}

/// What a frame that cannot be decoded means: bytes of a newer release, or damage.
pub(super) fn undecodable(path: &Path, what: String, error: DecodeError) -> StoreError {
    match error {
        DecodeError::UnknownVersion { .. } => StoreError::Unusable(format!("{}: {what}: {error}", path.display())),
        error => StoreError::damaged(path, format!("{what} cannot be read: {error}")),
    }
}

/// What a failed read of the database means.
pub(super) fn unreadable(path: &Path, error: rocksdb::Error) -> StoreError {
    let text = error.to_string();
    match error.kind() {
        rocksdb::ErrorKind::Corruption => StoreError::damaged(path, text),
        // A file that the database names is not there.
        rocksdb::ErrorKind::IOError if text.contains("No such file or directory") => StoreError::damaged(path, text),
        // A manifest that was cut names too few families; one of a newer release names more.
        rocksdb::ErrorKind::InvalidArgument if text.contains("not opened") => StoreError::Unusable(text),
        rocksdb::ErrorKind::InvalidArgument => StoreError::damaged(path, text),
        _ => StoreError::failed(format!("cannot read {}", path.display()), error),
    }
}

/// Reads one of the three single frames.
pub(super) fn read_meta<M: Message + Default>(db: &DB, key: &[u8], kind: FrameKind) -> Result<Option<M>, StoreError> {
    let value = db.get_pinned_cf(family(db, keys::META), key).map_err(|e| unreadable(db.path(), e))?;
    let Some(value) = value else { return Ok(None) };
    let what = || format!("the {kind:?} record");
    Frame::decode_message(kind, &value).map(Some).map_err(|e| undecodable(db.path(), what(), e))
}

/// Decodes the record stored under `index` and checks that it is that entry's.
pub(super) fn decode(path: &Path, index: u64, value: &[u8]) -> Result<(LogEntry, u64), StoreError> {
    let what = || format!("the record of entry {index}");
    let record = LogRecord::decode_frame(value).map_err(|e| undecodable(path, what(), e))?;
    if record.index != index {
        return Err(StoreError::damaged(path, format!("the record of entry {index} holds entry {}", record.index)));
    }
    let chain = record.chain;
    record.into_entry().map(|entry| (entry, chain)).map_err(|e| undecodable(path, what(), e))
}

/// Visits entries from `low` on in order, each with its position, having verified checksum,
/// sequence, terms and chain against `before`, the position of `low - 1`; until `visit` returns
/// false or the entries end.
pub(super) fn walk(
    db: &DB,
    mut options: ReadOptions,
    before: Position,
    mut visit: impl FnMut(LogEntry, Position) -> bool,
) -> Result<(), StoreError> {
    options.set_verify_checksums(true);
    let mut position = before;
    let mut rows = db.raw_iterator_cf_opt(family(db, keys::ENTRIES), options);
    rows.seek(keys::entry(before.index + 1));
    while let Some((key, value)) = rows.item() {
        let index = position.index + 1;
        match keys::entry_index(key) {
            Some(found) if found == index => {}
            Some(found) => return Err(StoreError::damaged(db.path(), format!("entries {index} to {} are missing", found - 1))),
            None => {
                return Err(StoreError::damaged(db.path(), format!("a key of {} bytes after entry {}", key.len(), index - 1)));
            }
        }
        let (entry, stored_chain) = decode(db.path(), index, value)?;
        let next = position.after(&entry);
        if stored_chain != next.chain {
            let what =
                format!("the hash chain breaks at entry {index}: stored {stored_chain:016x}, computed {:016x}", next.chain);
            return Err(StoreError::damaged(db.path(), what));
        }
        if entry.term < position.term {
            let what = format!("entry {index} of term {} follows one of term {}", entry.term, position.term);
            return Err(StoreError::damaged(db.path(), what));
        }
        position = next;
        if !visit(entry, next) {
            return Ok(());
        }
        rows.next();
    }
    rows.status().map_err(|e| unreadable(db.path(), e))
}
