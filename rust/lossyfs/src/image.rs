//! The backing directory: read into a new model, written from an old one.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::model::{Body, Ino, Model, ROOT};

/// A model that holds what the directory holds, all of it durable. Only files and directories are taken.
///
/// # Errors
/// The directory cannot be read.
pub fn load(from: &Path) -> io::Result<Model> {
    let mut model = Model::default();
    load_into(&mut model, ROOT, from)?;
    Ok(model)
}

fn load_into(model: &mut Model, parent: Ino, from: &Path) -> io::Result<()> {
    let refused = io::Error::from_raw_os_error;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (meta, name) = (entry.metadata()?, entry.file_name());
        if !meta.is_dir() && !meta.is_file() {
            continue;
        }
        let ino = model.make(parent, &name, meta.is_dir(), meta.permissions().mode(), 0).map_err(refused)?;
        if meta.is_dir() {
            load_into(model, ino, &entry.path())?;
        } else {
            model.write(ino, 0, fs::read(entry.path())?, 0).map_err(refused)?;
            model.sync(ino).map_err(refused)?;
        }
    }
    model.sync(parent).map_err(refused)
}

/// Writes the current content into a directory, which is emptied first.
///
/// # Errors
/// It cannot be written.
pub fn save(model: &Model, to: &Path) -> io::Result<()> {
    if to.exists() {
        fs::remove_dir_all(to)?;
    }
    save_from(model, ROOT, to)
}

fn save_from(model: &Model, ino: Ino, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    let dir = model.dir(ino).map_err(io::Error::from_raw_os_error)?;
    for (name, child) in &dir.current {
        match &model.inode(*child).map_err(io::Error::from_raw_os_error)?.body {
            Body::Dir(_) => save_from(model, *child, &to.join(name))?,
            Body::File(file) => fs::write(to.join(name), &file.current)?,
        }
    }
    Ok(())
}
