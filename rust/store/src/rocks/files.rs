//! Files and directories that must survive a power loss once made.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

use crate::StoreError;

fn failed(what: &str, path: &Path) -> impl FnOnce(std::io::Error) -> StoreError {
    let what = format!("cannot {what} {}", path.display());
    move |error| StoreError::failed(what, error)
}

/// Makes the names inside `directory` durable.
pub(super) fn sync_directory(directory: &Path) -> Result<(), StoreError> {
    File::open(directory).and_then(|d| d.sync_all()).map_err(failed("sync", directory))
}

/// Makes a directory and its name durable; one that exists is fine.
pub(super) fn make_directory(path: &Path) -> Result<(), StoreError> {
    fs::create_dir_all(path).map_err(failed("create", path))?;
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => sync_directory(parent),
        _ => Ok(()),
    }
}

/// Writes a file beside `path`, syncs it and renames it into place.
pub(super) fn write_durably(directory: &Path, path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
    let draft = path.with_extension("new");
    let write = || -> std::io::Result<()> {
        let mut file = File::create(&draft)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&draft, path)
    };
    write().map_err(failed("write", path))?;
    sync_directory(directory)
}

/// Syncs every file of a flat directory, then the directory and its name.
pub(super) fn sync_tree(directory: &Path) -> Result<(), StoreError> {
    for entry in fs::read_dir(directory).map_err(failed("read", directory))? {
        let path = entry.map_err(failed("read", directory))?.path();
        File::open(&path).and_then(|f| f.sync_all()).map_err(failed("sync", &path))?;
    }
    sync_directory(directory)?;
    directory.parent().map_or(Ok(()), sync_directory)
}

/// Moves a file or directory within one file system; durable once both parents are synced.
pub(super) fn rename(from: &Path, to: &Path) -> Result<(), StoreError> {
    fs::rename(from, to).map_err(failed("move", from))
}

pub(super) fn read(path: &Path) -> Result<Vec<u8>, StoreError> {
    fs::read(path).map_err(failed("read", path))
}

/// Names of everything in a directory, sorted.
pub(super) fn names(path: &Path) -> Result<Vec<String>, StoreError> {
    let mut names = Vec::new();
    for entry in fs::read_dir(path).map_err(failed("read", path))? {
        names.extend(entry.map_err(failed("read", path))?.file_name().into_string().ok());
    }
    names.sort();
    Ok(names)
}

/// Names of the sub-directories, sorted; a directory that does not exist has none.
pub(super) fn directories(path: &Path) -> Result<Vec<String>, StoreError> {
    let entries = match fs::read_dir(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(failed("read", path))?,
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.map_err(failed("read", path))?;
        if entry.file_type().map_err(failed("read", path))?.is_dir() {
            names.extend(entry.file_name().into_string().ok());
        }
    }
    names.sort();
    Ok(names)
}

pub(super) fn remove_directory(path: &Path) -> Result<(), StoreError> {
    fs::remove_dir_all(path).map_err(failed("remove", path))
}
