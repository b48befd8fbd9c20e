//! Inodes with two contents each: the current one, which every call sees, and the durable one, which a power loss leaves.
//! Between them lie the pending operations, in order. Pure: no clock, no I/O; chance comes from a seed.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ffi::OsStr;

mod inode;
mod loss;

use inode::{DataOp, NameOp, apply_data, apply_name};
use loss::{Chance, survivors};

pub use inode::{Body, DirBody, FileBody, Ino, Inode};
pub use loss::{Loss, Lost};

pub const ROOT: Ino = 1;

/// Why an operation is refused, as an errno.
pub type Refused = i32;
pub type Result<T> = std::result::Result<T, Refused>;

#[derive(Debug)]
pub struct Model {
    inodes: BTreeMap<Ino, Inode>,
    next: Ino,
}

impl Default for Model {
    fn default() -> Self {
        let mut inodes = BTreeMap::new();
        inodes.insert(ROOT, Inode::new(Body::Dir(DirBody::default()), 0o755, 0, ROOT, OsStr::new("")));
        Self { inodes, next: ROOT + 1 }
    }
}

impl Model {
    pub fn inode(&self, ino: Ino) -> Result<&Inode> {
        self.inodes.get(&ino).ok_or(libc::ENOENT)
    }

    fn inode_mut(&mut self, ino: Ino) -> Result<&mut Inode> {
        self.inodes.get_mut(&ino).ok_or(libc::ENOENT)
    }

    pub fn dir(&self, ino: Ino) -> Result<&DirBody> {
        match &self.inode(ino)?.body {
            Body::Dir(dir) => Ok(dir),
            Body::File(_) => Err(libc::ENOTDIR),
        }
    }

    fn dir_mut(&mut self, ino: Ino) -> Result<&mut DirBody> {
        match &mut self.inode_mut(ino)?.body {
            Body::Dir(dir) => Ok(dir),
            Body::File(_) => Err(libc::ENOTDIR),
        }
    }

    pub fn file(&self, ino: Ino) -> Result<&FileBody> {
        match &self.inode(ino)?.body {
            Body::File(file) => Ok(file),
            Body::Dir(_) => Err(libc::EISDIR),
        }
    }

    fn file_mut(&mut self, ino: Ino) -> Result<&mut FileBody> {
        match &mut self.inode_mut(ino)?.body {
            Body::File(file) => Ok(file),
            Body::Dir(_) => Err(libc::EISDIR),
        }
    }

    pub fn lookup(&self, parent: Ino, name: &OsStr) -> Result<Ino> {
        self.dir(parent)?.current.get(name).copied().ok_or(libc::ENOENT)
    }

    /// The path below the root, as it was named last.
    pub fn path(&self, mut ino: Ino) -> String {
        let mut parts = VecDeque::new();
        while ino != ROOT {
            let Some(inode) = self.inodes.get(&ino) else { break };
            parts.push_front(inode.name.to_string_lossy().into_owned());
            ino = inode.parent;
        }
        parts.make_contiguous().join("/")
    }

    /// Makes a file or directory. Errors: EEXIST, ENOTDIR, ENOENT.
    pub fn make(&mut self, parent: Ino, name: &OsStr, dir: bool, mode: u32, now_us: u64) -> Result<Ino> {
        if self.dir(parent)?.current.contains_key(name) {
            return Err(libc::EEXIST);
        }
        let ino = self.next;
        self.next += 1;
        let body = if dir { Body::Dir(DirBody::default()) } else { Body::File(FileBody::default()) };
        self.inodes.insert(ino, Inode::new(body, mode & 0o7777, now_us, parent, name));
        self.dir_mut(parent)?.change(NameOp::Link { name: name.to_owned(), ino });
        Ok(ino)
    }

    /// A second name of a file.
    pub fn link(&mut self, ino: Ino, parent: Ino, name: &OsStr) -> Result<()> {
        self.file(ino)?;
        if self.dir(parent)?.current.contains_key(name) {
            return Err(libc::EEXIST);
        }
        self.dir_mut(parent)?.change(NameOp::Link { name: name.to_owned(), ino });
        self.inode_mut(ino)?.links += 1;
        Ok(())
    }

    /// Removes a name. A directory must be empty.
    pub fn unlink(&mut self, parent: Ino, name: &OsStr, dir: bool) -> Result<()> {
        let ino = self.lookup(parent, name)?;
        self.removable(ino, dir)?;
        self.dir_mut(parent)?.change(NameOp::Unlink { name: name.to_owned() });
        self.inode_mut(ino)?.links -= 1;
        Ok(())
    }

    fn removable(&self, ino: Ino, dir: bool) -> Result<()> {
        match &self.inode(ino)?.body {
            Body::Dir(_) if !dir => Err(libc::EISDIR),
            Body::File(_) if dir => Err(libc::ENOTDIR),
            Body::Dir(body) if !body.current.is_empty() => Err(libc::ENOTEMPTY),
            _ => Ok(()),
        }
    }

    /// Renames, replacing what has the new name.
    pub fn rename(&mut self, parent: Ino, name: &OsStr, new_parent: Ino, new_name: &OsStr) -> Result<()> {
        let ino = self.lookup(parent, name)?;
        if (parent, name) == (new_parent, new_name) {
            return Ok(());
        }
        if let Ok(replaced) = self.lookup(new_parent, new_name) {
            if replaced == ino {
                return Ok(());
            }
            self.removable(replaced, self.inode(ino)?.is_dir())?;
            self.inode_mut(replaced)?.links -= 1;
        }
        if parent == new_parent {
            self.dir_mut(parent)?.change(NameOp::Rename { from: name.to_owned(), to: new_name.to_owned(), ino });
        } else {
            self.dir_mut(new_parent)?.change(NameOp::Link { name: new_name.to_owned(), ino });
            self.dir_mut(parent)?.change(NameOp::Unlink { name: name.to_owned() });
        }
        let inode = self.inode_mut(ino)?;
        (inode.parent, inode.name) = (new_parent, new_name.to_owned());
        Ok(())
    }

    pub fn write(&mut self, ino: Ino, offset: u64, data: Vec<u8>, now_us: u64) -> Result<()> {
        let offset = usize::try_from(offset).map_err(|_| libc::EFBIG)?;
        self.file_mut(ino)?.change(DataOp::Write { offset, data });
        self.inode_mut(ino)?.changed_us = now_us;
        Ok(())
    }

    pub fn resize(&mut self, ino: Ino, bytes: u64, now_us: u64) -> Result<()> {
        let bytes = usize::try_from(bytes).map_err(|_| libc::EFBIG)?;
        let file = self.file_mut(ino)?;
        if file.current.len() != bytes {
            file.change(DataOp::Resize { bytes });
            self.inode_mut(ino)?.changed_us = now_us;
        }
        Ok(())
    }

    pub fn set_mode(&mut self, ino: Ino, mode: u32) -> Result<()> {
        self.inode_mut(ino)?.mode = mode & 0o7777;
        Ok(())
    }

    pub fn set_changed(&mut self, ino: Ino, changed_us: u64) -> Result<()> {
        self.inode_mut(ino)?.changed_us = changed_us;
        Ok(())
    }

    /// Makes a file's bytes, or a directory's names, durable.
    pub fn sync(&mut self, ino: Ino) -> Result<()> {
        match &mut self.inode_mut(ino)?.body {
            Body::File(file) => {
                for op in std::mem::take(&mut file.pending) {
                    apply_data(&mut file.durable, &op);
                }
            }
            Body::Dir(dir) => {
                for op in std::mem::take(&mut dir.pending) {
                    apply_name(&mut dir.durable, &op);
                }
                self.collect();
            }
        }
        Ok(())
    }

    /// A sync that failed: what it should have written stays visible, but is never written. Later syncs answer well all the
    /// same, as on Linux, where the pages are marked clean.
    pub fn fail_sync(&mut self, ino: Ino) -> Result<()> {
        match &mut self.inode_mut(ino)?.body {
            Body::File(file) => file.pending.clear(),
            // Names are journaled: a later sync still writes them.
            Body::Dir(_) => {}
        }
        Ok(())
    }

    pub fn opened(&mut self, ino: Ino) -> Result<()> {
        self.inode_mut(ino)?.open += 1;
        Ok(())
    }

    /// Closing what a power loss took is nothing.
    pub fn closed(&mut self, ino: Ino) {
        if let Some(inode) = self.inodes.get_mut(&ino) {
            inode.open = inode.open.saturating_sub(1);
            if inode.links == 0 && inode.open == 0 {
                self.collect();
            }
        }
    }

    /// Operations that a power loss would take now.
    pub fn unsynced(&self) -> u64 {
        let pending = |inode: &Inode| match &inode.body {
            Body::File(file) => file.pending.len(),
            Body::Dir(dir) => dir.pending.len(),
        };
        self.inodes.values().map(|inode| pending(inode) as u64).sum()
    }

    /// Drops inodes that neither a name, durable or not, nor an open file leads to.
    fn collect(&mut self) {
        let mut named = BTreeSet::from([ROOT]);
        for inode in self.inodes.values() {
            let Body::Dir(dir) = &inode.body else { continue };
            named.extend(dir.current.values().chain(dir.durable.values()));
            named.extend(dir.pending.iter().filter_map(|op| match op {
                NameOp::Link { ino, .. } | NameOp::Rename { ino, .. } => Some(ino),
                NameOp::Unlink { .. } => None,
            }));
        }
        self.inodes.retain(|ino, inode| inode.open > 0 || named.contains(ino));
    }

    /// The power goes. Afterwards every inode has a new number, so that nothing that the kernel remembers fits any more.
    pub fn lose(&mut self, loss: Loss, seed: u64) -> Lost {
        let mut chance = Chance::new(seed);
        let mut lost = Lost::default();
        for inode in self.inodes.values_mut() {
            match &mut inode.body {
                Body::File(file) => {
                    for op in survivors(std::mem::take(&mut file.pending), loss, &mut chance, &mut lost) {
                        apply_data(&mut file.durable, &op);
                    }
                    file.current.clone_from(&file.durable);
                }
                Body::Dir(dir) => {
                    let pending = std::mem::take(&mut dir.pending);
                    let kept = if loss == Loss::Clear { 0 } else { chance.below(pending.len() + 1) };
                    lost.operations_kept += kept as u64;
                    lost.operations_lost += (pending.len() - kept) as u64;
                    for op in &pending[..kept] {
                        apply_name(&mut dir.durable, op);
                    }
                    dir.current.clone_from(&dir.durable);
                }
            }
        }
        self.renumber();
        lost
    }

    fn renumber(&mut self) {
        let mut new = BTreeMap::from([(ROOT, ROOT)]);
        let mut queue = VecDeque::from([ROOT]);
        let mut parents = BTreeMap::new();
        while let Some(old) = queue.pop_front() {
            let Some(Inode { body: Body::Dir(dir), .. }) = self.inodes.get(&old) else { continue };
            for (name, child) in &dir.current {
                if !new.contains_key(child) && self.inodes.contains_key(child) {
                    new.insert(*child, self.next);
                    parents.insert(*child, (new[&old], name.clone()));
                    self.next += 1;
                    queue.push_back(*child);
                }
            }
        }
        let old = std::mem::take(&mut self.inodes);
        for (ino, mut inode) in old {
            let Some(number) = new.get(&ino) else { continue };
            if let Some((parent, name)) = parents.remove(&ino) {
                (inode.parent, inode.name) = (parent, name);
            }
            (inode.open, inode.links) = (0, 0);
            if let Body::Dir(dir) = &mut inode.body {
                dir.current.retain(|_, child| match new.get(child) {
                    Some(number) => {
                        *child = *number;
                        true
                    }
                    None => false,
                });
                dir.durable.clone_from(&dir.current);
            }
            self.inodes.insert(*number, inode);
        }
        let named: Vec<Ino> = self.inodes.values().filter_map(|i| i.names()).flatten().copied().collect();
        for ino in named {
            if let Some(inode) = self.inodes.get_mut(&ino) {
                inode.links += 1;
            }
        }
    }
}
