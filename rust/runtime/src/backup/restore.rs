//! A backup becomes the seed of a new cluster: an empty data directory with the restored state in it.
//!
//! What always holds: the directory appears whole by one rename, or not at all; before that the whole
//! backup was read, and its rows added up to their hash.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use codec::log::{Bootstrap, HardState, LogBase, Seed};
use codec::row::StateRead;
use machine::{Machine, SEED_INDEX, SEED_TERM};
use serde::{Deserialize, Serialize};
use store::rocks::{DataDirectory, RocksOptions, RocksState};
use store::{LogStore, StateStore, meta_of};

use super::format::{BackupError, Manifest, Reading, hex};

const SEED_FILE: &str = "SEED.json";

/// What stands beside the restored rows.
#[derive(Debug, Serialize, Deserialize)]
struct SeedFile {
    digest: String,
    revision: u64,
    cluster_us: u64,
    state_hash: String,
    /// The node and the cluster it was restored for; empty: any.
    node_id: String,
    cluster: Vec<String>,
}

/// Restores `backup` into the new directory `data_dir` of a node that has not run yet. `node_id` and
/// `cluster` (names) are checked when it starts, unless they are empty.
///
/// # Errors
/// What is wrong with the backup or the directory. Nothing is left behind.
pub fn restore(backup: &Path, data_dir: &Path, node_id: &str, cluster: &[String]) -> Result<Manifest, BackupError> {
    if !cluster.is_empty() && !cluster.iter().any(|name| name == node_id) {
        return Err(BackupError::Refused(format!("--cluster does not list the node {node_id:?}")));
    }
    let occupied = || BackupError::Refused(format!("{} is not empty: restore into a new directory", data_dir.display()));
    match fs::read_dir(data_dir) {
        Ok(mut entries) => {
            if entries.next().is_some() {
                return Err(occupied());
            }
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(_) if data_dir.exists() => return Err(occupied()),
        Err(error) => return Err(BackupError::io(data_dir.display())(error)),
    }
    let named = |problem: BackupError| match problem {
        BackupError::Refused(text) => BackupError::Refused(text),
        problem => BackupError::Refused(format!("{}: {problem}. Nothing was restored", backup.display())),
    };
    // Before anything is written the whole of it is read once.
    super::format::verify(backup).map_err(named)?;
    let parent = match data_dir.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => PathBuf::from("."),
    };
    let name = data_dir.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let draft = parent.join(format!(".{name}.restoring-{}", std::process::id()));
    let made = extract(backup, &draft, node_id, cluster).map_err(named).and_then(|manifest| {
        fs::rename(&draft, data_dir).map_err(BackupError::io(data_dir.display()))?;
        sync(&parent)?;
        Ok(manifest)
    });
    if made.is_err() {
        // What cannot be deleted has a name that nobody takes for a data directory.
        let _ = fs::remove_dir_all(&draft);
    }
    made
}

fn sync(path: &Path) -> Result<(), BackupError> {
    File::open(path).and_then(|f| f.sync_all()).map_err(BackupError::io(path.display()))
}

fn extract(backup: &Path, draft: &Path, node_id: &str, cluster: &[String]) -> Result<Manifest, BackupError> {
    let folder = draft.join(store::rocks::SEED_DIR);
    fs::create_dir_all(&folder).map_err(BackupError::io(folder.display()))?;
    let mut reading = Reading::open(backup)?;
    let manifest = reading.manifest.clone();
    let mut files = Vec::new();
    for file in &manifest.files {
        if file.name.contains(['/', '\\', '\0']) || file.name.starts_with('.') || file.name == SEED_FILE {
            return Err(BackupError::Damaged(format!("{:?} is no plain file name", file.name)));
        }
        let path = folder.join(&file.name);
        let made = OpenOptions::new().write(true).create_new(true).open(&path).map_err(BackupError::io(path.display()))?;
        files.push((made, path));
    }
    let digest = reading.files(|at, bytes| {
        let (file, path) = &mut files[at];
        file.write_all(bytes).map_err(BackupError::io(path.display()))
    })?;
    for (file, path) in &files {
        file.sync_all().map_err(BackupError::io(path.display()))?;
    }
    drop(files);
    check_rows(&folder, &manifest)?;
    let mut cluster = cluster.to_vec();
    cluster.sort();
    let seed = SeedFile {
        digest: hex(&digest),
        revision: manifest.revision,
        cluster_us: manifest.cluster_us,
        state_hash: manifest.state_hash.clone(),
        node_id: node_id.to_owned(),
        cluster,
    };
    let json = serde_json::to_vec_pretty(&seed).map_err(|e| BackupError::Refused(e.to_string()))?;
    let path = folder.join(SEED_FILE);
    fs::write(&path, json).map_err(BackupError::io(path.display()))?;
    sync(&path)?;
    sync(&folder)?;
    sync(draft)?;
    Ok(manifest)
}

/// The rows are those of the manifest, and add up.
fn check_rows(folder: &Path, manifest: &Manifest) -> Result<(), BackupError> {
    let damaged = |e: String| BackupError::Damaged(format!("the restored rows: {e}"));
    let state = RocksState::open_read_only(folder, &RocksOptions::default()).map_err(|e| damaged(e.to_string()))?;
    let rows: &dyn StateRead = &state;
    let meta = meta_of(rows).map_err(|e| damaged(e.to_string()))?.ok_or_else(|| damaged("no meta row".to_owned()))?;
    let found = Machine::hash_of_rows(rows).map_err(|e| damaged(e.to_string()))?;
    if (meta.revision, hex(&found)) != (manifest.revision, manifest.state_hash.clone()) || meta.hash != found {
        return Err(damaged(format!(
            "they add up to {} at revision {}, the manifest says {} at {}",
            hex(&found),
            meta.revision,
            manifest.state_hash,
            manifest.revision
        )));
    }
    if meta.machine_version > machine::MACHINE_VERSION {
        return Err(BackupError::Refused(format!(
            "it needs machine version {}, this release has {}: use a newer release",
            meta.machine_version,
            machine::MACHINE_VERSION
        )));
    }
    Ok(())
}

/// The seed of a directory that was restored and belongs to no cluster yet.
///
/// # Errors
/// It was restored for another node or cluster than the one that starts.
pub(crate) fn seed_of(directory: &DataDirectory, node_id: &str, cluster: &[String]) -> Result<Option<Seed>, String> {
    let path = directory.seed_path().join(SEED_FILE);
    let json = match fs::read(&path) {
        Ok(json) => json,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(format!("{}: {error}", path.display())),
    };
    let wrong = |problem: String| format!("{}: {problem}; restore it again for this one", path.display());
    let seed: SeedFile = serde_json::from_slice(&json).map_err(|e| wrong(e.to_string()))?;
    if !seed.node_id.is_empty() && seed.node_id != node_id {
        return Err(wrong(format!("it was restored for node {:?}, not for {node_id:?}", seed.node_id)));
    }
    let mut names = cluster.to_vec();
    names.sort();
    if !seed.cluster.is_empty() && seed.cluster != names {
        return Err(wrong(format!("it was restored for a cluster of {}, not of {}", seed.cluster.join(", "), names.join(", "))));
    }
    let bytes = |text: &str| u128::from_str_radix(text, 16).map(|n| n.to_be_bytes().to_vec()).map_err(|e| wrong(e.to_string()));
    let (digest, hash) = (bytes(&seed.digest)?, bytes(&seed.state_hash)?);
    Ok(Some(Seed { digest, revision: seed.revision, cluster_us: seed.cluster_us, hash }))
}

/// The base and hard state of the log of a cluster that begins with a seed.
pub(crate) fn seed_base(state_dir: String) -> (LogBase, HardState) {
    let base = LogBase { index: SEED_INDEX, term: SEED_TERM, chain: 0, state_dir };
    (base, HardState { term: SEED_TERM, vote: 0, commit: SEED_INDEX })
}

/// Makes the first state directory of `bootstrap`'s cluster out of the seed, durable; the log does not
/// name it yet. Done again, it comes to the same rows.
pub(crate) fn make_seeded_state(directory: &DataDirectory, bootstrap: &Bootstrap) -> Result<String, String> {
    let from = directory.seed_path();
    let failed = |e: std::io::Error| format!("{}: {e}", from.display());
    let (name, path) = directory.new_state_dir().map_err(|e| e.to_string())?;
    for entry in fs::read_dir(&from).map_err(failed)? {
        let file = entry.map_err(failed)?.file_name();
        if file.to_string_lossy() == SEED_FILE {
            continue;
        }
        // Tables never change; the rest is RocksDB's to rewrite.
        let table = Path::new(&file).extension().is_some_and(|e| e == "sst");
        if !table || fs::hard_link(from.join(&file), path.join(&file)).is_err() {
            fs::copy(from.join(&file), path.join(&file)).map_err(failed)?;
        }
    }
    {
        let state = directory.open_state(&name).map_err(|e| e.to_string())?;
        let meta = meta_of(&state).map_err(|e| e.to_string())?.ok_or("the restored state has no meta row")?;
        if Some(&meta.hash) != bootstrap.seed.as_ref().map(|seed| &seed.hash) {
            return Err("the restored state is not the one that the nodes agreed on".to_owned());
        }
        let changes = Machine::seed_rows(&state, bootstrap).map_err(|e| e.to_string())?;
        state.write(&changes).map_err(|e| e.to_string())?;
        state.flush().map_err(|e| e.to_string())?;
    }
    directory.sync_state_dir(&name).map_err(|e| e.to_string())?;
    Ok(name)
}

/// A start between saving who this node is and naming the seeded state: does the rest. Returns the
/// state to use if it did something.
pub(crate) fn finish_seeding(directory: &DataDirectory, log: &mut dyn LogStore) -> Result<Option<Arc<RocksState>>, String> {
    let Some(identity) = log.identity().filter(|identity| identity.cluster_id != 0) else { return Ok(None) };
    let bootstrap = identity.bootstrap.clone().filter(|bootstrap| bootstrap.seed.is_some());
    let Some(bootstrap) = bootstrap.filter(|_| log.base().index == 0) else {
        directory.remove_seed().map_err(|e| e.to_string())?;
        return Ok(None);
    };
    let name = make_seeded_state(directory, &bootstrap)?;
    let (base, hard_state) = seed_base(name.clone());
    log.install(base, &hard_state).map_err(|e| e.to_string())?;
    Ok(Some(Arc::new(directory.open_state(&name).map_err(|e| e.to_string())?)))
}
