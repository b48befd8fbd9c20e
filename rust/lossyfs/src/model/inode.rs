//! One inode: what every call sees, what a power loss leaves, and the operations that lie between the two.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};

pub type Ino = u64;

/// A change of a file's bytes that is not durable yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum DataOp {
    Write { offset: usize, data: Vec<u8> },
    Resize { bytes: usize },
}

/// A change of a directory's names that is not durable yet. A rename within the directory is one change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum NameOp {
    Link { name: OsString, ino: Ino },
    Unlink { name: OsString },
    Rename { from: OsString, to: OsString, ino: Ino },
}

#[derive(Debug, Default)]
pub struct FileBody {
    pub current: Vec<u8>,
    pub(super) durable: Vec<u8>,
    pub(super) pending: Vec<DataOp>,
}

#[derive(Debug, Default)]
pub struct DirBody {
    pub current: BTreeMap<OsString, Ino>,
    pub(super) durable: BTreeMap<OsString, Ino>,
    pub(super) pending: Vec<NameOp>,
}

#[derive(Debug)]
pub enum Body {
    File(FileBody),
    Dir(DirBody),
}

#[derive(Debug)]
pub struct Inode {
    pub body: Body,
    pub mode: u32,
    /// Microseconds since 1970 of the last change.
    pub changed_us: u64,
    /// Current names.
    pub links: u32,
    pub open: u32,
    /// Where it was linked last, for rules that name a path.
    pub(super) parent: Ino,
    pub(super) name: OsString,
}

impl Inode {
    pub(super) fn new(body: Body, mode: u32, now_us: u64, parent: Ino, name: &OsStr) -> Self {
        Self { body, mode, changed_us: now_us, links: 1, open: 0, parent, name: name.to_owned() }
    }

    pub fn is_dir(&self) -> bool {
        matches!(self.body, Body::Dir(_))
    }

    pub fn bytes(&self) -> usize {
        match &self.body {
            Body::File(file) => file.current.len(),
            Body::Dir(_) => 4096,
        }
    }

    pub(super) fn names(&self) -> Option<impl Iterator<Item = &Ino>> {
        match &self.body {
            Body::Dir(dir) => Some(dir.current.values()),
            Body::File(_) => None,
        }
    }
}

impl FileBody {
    pub(super) fn change(&mut self, op: DataOp) {
        apply_data(&mut self.current, &op);
        self.pending.push(op);
    }
}

impl DirBody {
    pub(super) fn change(&mut self, op: NameOp) {
        apply_name(&mut self.current, &op);
        self.pending.push(op);
    }
}

pub(super) fn apply_data(content: &mut Vec<u8>, op: &DataOp) {
    match op {
        DataOp::Write { offset, data } => {
            let end = offset + data.len();
            if content.len() < end {
                content.resize(end, 0);
            }
            content[*offset..end].copy_from_slice(data);
        }
        DataOp::Resize { bytes } => content.resize(*bytes, 0),
    }
}

pub(super) fn apply_name(names: &mut BTreeMap<OsString, Ino>, op: &NameOp) {
    match op {
        NameOp::Link { name, ino } => drop(names.insert(name.clone(), *ino)),
        NameOp::Unlink { name } => drop(names.remove(name)),
        NameOp::Rename { from, to, ino } => {
            names.remove(from);
            names.insert(to.clone(), *ino);
        }
    }
}
