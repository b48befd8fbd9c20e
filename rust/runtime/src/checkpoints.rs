//! The checkpoints that stand on disk, and which of them are being sent.
//!
//! What always holds: at most the newest one and those being sent are there; one that nobody wants
//! goes when it has been idle for [`IDLE`], or when it alone holds much space that the state gave up.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use codec::peer::SnapshotFile;
use parking_lot::Mutex;
use store::StoreError;
use store::rocks::DataDirectory;

/// A checkpoint is kept for so long after its last use: a broken transfer may go on.
pub(crate) const IDLE: Duration = Duration::from_micros(node::SNAPSHOT_RESUME_US);
/// A checkpoint shares its files with the state until compaction replaces them. One that is not being
/// sent may hold so many bytes alone, or a quarter of its size if that is more.
const ALONE_BYTES_MAX: u64 = 256 << 20;

struct Held {
    senders: usize,
    used: Instant,
    /// With checksums: worked out once.
    files: Option<Arc<Vec<SnapshotFile>>>,
}

/// What stands in `snapshots/`, by index.
#[derive(Default)]
pub(crate) struct Checkpoints {
    known: Mutex<BTreeMap<u64, Held>>,
}

impl Checkpoints {
    pub(crate) fn made(&self, index: u64) {
        let held = Held { senders: 0, used: Instant::now(), files: None };
        self.known.lock().entry(index).or_insert(held).used = Instant::now();
    }

    /// Deletes all but the newest and those that are being sent, and whatever else lies there. Only
    /// the thread that makes checkpoints calls it.
    pub(crate) fn prune(&self, directory: &DataDirectory) -> Result<(), StoreError> {
        let mut known = self.known.lock();
        let newest = known.keys().next_back().copied();
        known.retain(|index, held| Some(*index) == newest || held.senders > 0);
        directory.remove_snapshots(&known.keys().copied().collect::<Vec<_>>())
    }

    /// Deletes those that are idle for too long or too large, and returns their indexes.
    pub(crate) fn drop_idle(&self, directory: &DataDirectory, now: Instant) -> Result<Vec<u64>, StoreError> {
        let mut known = self.known.lock();
        let mut dropped = Vec::new();
        for (index, held) in known.iter().filter(|(_, held)| held.senders == 0) {
            let (alone, total) = sizes(&directory.snapshot_path(*index));
            if now.saturating_duration_since(held.used) >= IDLE || alone > ALONE_BYTES_MAX.max(total / 4) {
                dropped.push(*index);
            }
        }
        for index in &dropped {
            known.remove(index);
            directory.remove_snapshot(*index)?;
        }
        Ok(dropped)
    }

    /// Keeps a checkpoint until [`Checkpoints::release`]; false if it is not there.
    pub(crate) fn hold(&self, index: u64) -> bool {
        self.known.lock().get_mut(&index).map(|held| held.senders += 1).is_some()
    }

    pub(crate) fn release(&self, index: u64) {
        if let Some(held) = self.known.lock().get_mut(&index) {
            held.senders -= 1;
            held.used = Instant::now();
        }
    }

    /// The list made by [`Checkpoints::listed`].
    pub(crate) fn files(&self, index: u64) -> Option<Arc<Vec<SnapshotFile>>> {
        self.known.lock().get(&index).and_then(|held| held.files.clone())
    }

    pub(crate) fn listed(&self, index: u64, files: Arc<Vec<SnapshotFile>>) {
        if let Some(held) = self.known.lock().get_mut(&index) {
            held.files = Some(files);
        }
    }

    pub(crate) fn count(&self) -> usize {
        self.known.lock().len()
    }
}

/// Bytes of a checkpoint that nobody else holds, and all its bytes. One that is being deleted has none.
fn sizes(path: &Path) -> (u64, u64) {
    let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
    let found = entries.filter_map(|entry| entry.metadata().ok()).filter(|m| m.is_file());
    found.fold((0, 0), |(alone, total), m| (alone + if m.nlink() == 1 { m.len() } else { 0 }, total + m.len()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use store::rocks::RocksOptions;

    fn directory() -> (tempfile::TempDir, DataDirectory) {
        let folder = tempfile::tempdir().unwrap();
        let opened = DataDirectory::open(folder.path(), "a", &RocksOptions::default()).unwrap();
        (folder, opened.directory)
    }

    fn standing(directory: &DataDirectory) -> Vec<u64> {
        let entries = std::fs::read_dir(directory.path().join("snapshots")).unwrap();
        let mut found: Vec<u64> = entries.map(|e| e.unwrap().file_name().to_str().unwrap().parse().unwrap()).collect();
        found.sort_unstable();
        found
    }

    /// made at 1, 2, 3 · 1 is being sent → 2 goes → 1 was sent → 1 goes → 3 is idle → it goes.
    #[test]
    fn what_nobody_wants_goes() {
        let (_folder, directory) = directory();
        let checkpoints = Checkpoints::default();
        for index in 1..=3 {
            std::fs::create_dir_all(directory.snapshot_path(index)).unwrap();
            checkpoints.made(index);
        }
        assert!(checkpoints.hold(1) && !checkpoints.hold(9));
        checkpoints.prune(&directory).unwrap();
        assert_eq!(standing(&directory), [1, 3]);
        let now = Instant::now();
        assert!(checkpoints.drop_idle(&directory, now).unwrap().is_empty());
        assert_eq!(checkpoints.drop_idle(&directory, now + IDLE).unwrap(), [3], "1 is being sent");
        checkpoints.release(1);
        assert_eq!(checkpoints.drop_idle(&directory, now + 2 * IDLE).unwrap(), [1]);
        assert!(standing(&directory).is_empty() && checkpoints.count() == 0);
    }

    #[test]
    fn one_that_holds_much_space_alone_goes_early() {
        let (_folder, directory) = directory();
        let checkpoints = Checkpoints::default();
        let path = directory.snapshot_path(1);
        std::fs::create_dir_all(&path).unwrap();
        let file = std::fs::File::create(path.join("000001.sst")).unwrap();
        file.set_len(ALONE_BYTES_MAX + 1).unwrap();
        checkpoints.made(1);
        std::fs::hard_link(path.join("000001.sst"), directory.path().join("shared")).unwrap();
        assert!(checkpoints.drop_idle(&directory, Instant::now()).unwrap().is_empty(), "the state has the file, too");
        std::fs::remove_file(directory.path().join("shared")).unwrap();
        assert_eq!(checkpoints.drop_idle(&directory, Instant::now()).unwrap(), [1]);
    }
}
