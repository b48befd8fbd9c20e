//! The FUSE edge: each call becomes an operation on the model, which passes the disk's gate, and its outcome a reply.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fuser::{
    Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation, INodeNo, LockOwner, OpenFlags, RenameFlags,
    ReplyAttr, ReplyCreate, ReplyData, ReplyDirectory, ReplyEmpty, ReplyEntry, ReplyOpen, ReplyStatfs, ReplyWrite, Request,
    TimeOrNow, WriteFlags,
};
use parking_lot::Mutex;

use crate::disk::{Call, Disk, Refuse};
use crate::model::{Ino, Model};
use crate::rules::Operation;

/// The kernel asks again each time: after a power loss nothing it remembers is true.
const TTL: Duration = Duration::ZERO;
const BLOCK_BYTES: u32 = 4096;
/// A disk of 64 GiB, half of it free.
const BLOCKS: u64 = 16 << 20;

macro_rules! refuse {
    ($($reply:ty),*) => {
        $(impl Refuse for $reply {
            fn refuse(self, errno: Errno) {
                self.error(errno);
            }
        })*
    };
}
refuse!(ReplyAttr, ReplyCreate, ReplyData, ReplyDirectory, ReplyEmpty, ReplyEntry, ReplyOpen, ReplyWrite);

fn now_us() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_micros() as u64)
}

fn attributes(model: &Model, ino: Ino) -> Result<FileAttr, i32> {
    let inode = model.inode(ino)?;
    let changed = UNIX_EPOCH + Duration::from_micros(inode.changed_us);
    Ok(FileAttr {
        ino: INodeNo(ino),
        size: inode.bytes() as u64,
        blocks: (inode.bytes() as u64).div_ceil(512),
        atime: changed,
        mtime: changed,
        ctime: changed,
        crtime: changed,
        kind: if inode.is_dir() { FileType::Directory } else { FileType::RegularFile },
        perm: inode.mode as u16,
        nlink: inode.links,
        uid: 0,
        gid: 0,
        rdev: 0,
        blksize: BLOCK_BYTES,
        flags: 0,
    })
}

fn entry(model: &Model, reply: ReplyEntry, made: Result<Ino, i32>) {
    match made.and_then(|ino| attributes(model, ino)) {
        Ok(attr) => reply.entry(&TTL, &attr, Generation(0)),
        Err(errno) => reply.error(Errno::from_i32(errno)),
    }
}

fn empty(reply: ReplyEmpty, result: Result<(), i32>) {
    match result {
        Ok(()) => reply.ok(),
        Err(errno) => reply.error(Errno::from_i32(errno)),
    }
}

type Listing = Vec<(OsString, Ino, FileType)>;

/// Directories that are being read, by handle.
#[derive(Default)]
struct Listings {
    open: BTreeMap<u64, Listing>,
    next: u64,
}

pub struct LossyFs {
    disk: Arc<Disk>,
    listings: Arc<Mutex<Listings>>,
}

impl LossyFs {
    pub fn new(disk: Arc<Disk>) -> Self {
        Self { disk, listings: Arc::default() }
    }

    fn call<R: Refuse>(
        &self,
        operation: Operation,
        ino: INodeNo,
        name: Option<&OsStr>,
        reply: R,
        work: impl FnOnce(&mut Model, R, bool) + Send + 'static,
    ) {
        self.disk.gate(Call { operation, ino: ino.0, name: name.map(OsStr::to_owned), reply, work: Box::new(work) });
    }
}

impl Filesystem for LossyFs {
    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let wanted = name.to_owned();
        self.call(Operation::Look, parent, Some(name), reply, move |model, reply, _| {
            let found = model.lookup(parent.0, &wanted);
            entry(model, reply, found);
        });
    }

    fn getattr(&self, _: &Request, ino: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        self.call(Operation::Look, ino, None, reply, move |model, reply, _| match attributes(model, ino.0) {
            Ok(attr) => reply.attr(&TTL, &attr),
            Err(errno) => reply.error(Errno::from_i32(errno)),
        });
    }

    fn setattr(
        &self,
        _: &Request,
        ino: INodeNo,
        mode: Option<u32>,
        _: Option<u32>,
        _: Option<u32>,
        size: Option<u64>,
        _: Option<TimeOrNow>,
        mtime: Option<TimeOrNow>,
        _: Option<SystemTime>,
        _: Option<FileHandle>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<fuser::BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let operation = if size.is_some() { Operation::Write } else { Operation::Look };
        self.call(operation, ino, None, reply, move |model, reply, _| {
            let changed_us = match mtime {
                Some(TimeOrNow::SpecificTime(at)) => at.duration_since(UNIX_EPOCH).ok().map(|d| d.as_micros() as u64),
                Some(TimeOrNow::Now) => Some(now_us()),
                None => None,
            };
            let mut change = || {
                mode.map_or(Ok(()), |mode| model.set_mode(ino.0, mode))?;
                size.map_or(Ok(()), |bytes| model.resize(ino.0, bytes, now_us()))?;
                changed_us.map_or(Ok(()), |us| model.set_changed(ino.0, us))?;
                attributes(model, ino.0)
            };
            match change() {
                Ok(attr) => reply.attr(&TTL, &attr),
                Err(errno) => reply.error(Errno::from_i32(errno)),
            }
        });
    }

    fn mknod(&self, _: &Request, parent: INodeNo, name: &OsStr, mode: u32, umask: u32, _: u32, reply: ReplyEntry) {
        if mode & libc::S_IFMT != libc::S_IFREG {
            return reply.error(Errno::EPERM);
        }
        let new = name.to_owned();
        self.call(Operation::Create, parent, Some(name), reply, move |model, reply, _| {
            let made = model.make(parent.0, &new, false, mode & !umask, now_us());
            entry(model, reply, made);
        });
    }

    fn mkdir(&self, _: &Request, parent: INodeNo, name: &OsStr, mode: u32, umask: u32, reply: ReplyEntry) {
        let new = name.to_owned();
        self.call(Operation::Create, parent, Some(name), reply, move |model, reply, _| {
            let made = model.make(parent.0, &new, true, mode & !umask, now_us());
            entry(model, reply, made);
        });
    }

    fn unlink(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let old = name.to_owned();
        self.call(Operation::Remove, parent, Some(name), reply, move |model, reply, _| {
            empty(reply, model.unlink(parent.0, &old, false));
        });
    }

    fn rmdir(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let old = name.to_owned();
        self.call(Operation::Remove, parent, Some(name), reply, move |model, reply, _| {
            empty(reply, model.unlink(parent.0, &old, true));
        });
    }

    fn rename(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        new_parent: INodeNo,
        new_name: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        if !(flags - RenameFlags::RENAME_NOREPLACE).is_empty() {
            return reply.error(Errno::EINVAL);
        }
        let (old, new) = (name.to_owned(), new_name.to_owned());
        self.call(Operation::Rename, parent, Some(name), reply, move |model, reply, _| {
            if flags.contains(RenameFlags::RENAME_NOREPLACE) && model.lookup(new_parent.0, &new).is_ok() {
                return reply.error(Errno::EEXIST);
            }
            empty(reply, model.rename(parent.0, &old, new_parent.0, &new));
        });
    }

    fn link(&self, _: &Request, ino: INodeNo, new_parent: INodeNo, new_name: &OsStr, reply: ReplyEntry) {
        let new = new_name.to_owned();
        self.call(Operation::Create, new_parent, Some(new_name), reply, move |model, reply, _| {
            let made = model.link(ino.0, new_parent.0, &new).map(|()| ino.0);
            entry(model, reply, made);
        });
    }

    fn create(&self, _: &Request, parent: INodeNo, name: &OsStr, mode: u32, umask: u32, _: i32, reply: ReplyCreate) {
        let new = name.to_owned();
        self.call(Operation::Create, parent, Some(name), reply, move |model, reply, _| {
            let mut make = || {
                let ino = model.make(parent.0, &new, false, mode & !umask, now_us())?;
                model.opened(ino)?;
                attributes(model, ino)
            };
            match make() {
                Ok(attr) => reply.created(&TTL, &attr, Generation(0), FileHandle(attr.ino.0), FopenFlags::empty()),
                Err(errno) => reply.error(Errno::from_i32(errno)),
            }
        });
    }

    fn open(&self, _: &Request, ino: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        self.call(Operation::Open, ino, None, reply, move |model, reply, _| match model.opened(ino.0) {
            Ok(()) => reply.opened(FileHandle(ino.0), FopenFlags::empty()),
            Err(errno) => reply.error(Errno::from_i32(errno)),
        });
    }

    fn read(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        self.call(Operation::Read, ino, None, reply, move |model, reply, _| match model.file(ino.0) {
            Ok(file) => {
                let from = (offset as usize).min(file.current.len());
                let to = (from + size as usize).min(file.current.len());
                reply.data(&file.current[from..to]);
            }
            Err(errno) => reply.error(Errno::from_i32(errno)),
        });
    }

    fn write(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        data: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let mut data = data.to_vec();
        self.call(Operation::Write, ino, None, reply, move |model, reply, short| {
            if short {
                data.truncate((data.len() / 2).max(1));
            }
            let length = data.len() as u32;
            match model.write(ino.0, offset, data, now_us()) {
                Ok(()) => reply.written(length),
                Err(errno) => reply.error(Errno::from_i32(errno)),
            }
        });
    }

    /// Closing a file makes nothing durable.
    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        reply.ok();
    }

    fn release(&self, _: &Request, ino: INodeNo, _: FileHandle, _: OpenFlags, _: Option<LockOwner>, _: bool, reply: ReplyEmpty) {
        self.disk.with(|model, _| model.closed(ino.0));
        reply.ok();
    }

    fn fsync(&self, _: &Request, ino: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        self.call(Operation::Sync, ino, None, reply, move |model, reply, _| empty(reply, model.sync(ino.0)));
    }

    fn fsyncdir(&self, _: &Request, ino: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        self.call(Operation::Sync, ino, None, reply, move |model, reply, _| empty(reply, model.sync(ino.0)));
    }

    /// Lists the directory once: while it is read, names may come and go without another being passed over.
    fn opendir(&self, _: &Request, ino: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        let listings = self.listings.clone();
        self.call(Operation::Look, ino, None, reply, move |model, reply, _| {
            let names = match model.dir(ino.0) {
                Ok(dir) => dir.current.iter().map(|(name, child)| (name.clone(), *child)),
                Err(errno) => return reply.error(Errno::from_i32(errno)),
            };
            let own = [".", ".."].map(|name| (OsString::from(name), ino.0));
            let kind = |child| match model.inode(child) {
                Ok(inode) if !inode.is_dir() => FileType::RegularFile,
                _ => FileType::Directory,
            };
            let listing = own.into_iter().chain(names).map(|(name, child)| (name, child, kind(child))).collect();
            let mut listings = listings.lock();
            listings.next += 1;
            let handle = listings.next;
            listings.open.insert(handle, listing);
            reply.opened(FileHandle(handle), FopenFlags::empty());
        });
    }

    fn readdir(&self, _: &Request, ino: INodeNo, handle: FileHandle, offset: u64, reply: ReplyDirectory) {
        let listings = self.listings.clone();
        self.call(Operation::Look, ino, None, reply, move |_, mut reply, _| {
            let listings = listings.lock();
            let listing = listings.open.get(&handle.0).map_or(&[][..], Vec::as_slice);
            for (at, (name, child, kind)) in listing.iter().enumerate().skip(offset as usize) {
                if reply.add(INodeNo(*child), at as u64 + 1, *kind, name) {
                    break;
                }
            }
            reply.ok();
        });
    }

    fn releasedir(&self, _: &Request, _: INodeNo, handle: FileHandle, _: OpenFlags, reply: ReplyEmpty) {
        self.listings.lock().open.remove(&handle.0);
        reply.ok();
    }

    fn statfs(&self, _: &Request, _: INodeNo, reply: ReplyStatfs) {
        reply.statfs(BLOCKS, BLOCKS / 2, BLOCKS / 2, 1 << 20, 1 << 19, BLOCK_BYTES, 255, BLOCK_BYTES);
    }

    /// Space is only reserved, which here is nothing; what would change the size is refused.
    fn fallocate(&self, _: &Request, _: INodeNo, _: FileHandle, _: u64, _: u64, mode: i32, reply: ReplyEmpty) {
        if mode & libc::FALLOC_FL_KEEP_SIZE != 0 && mode & libc::FALLOC_FL_PUNCH_HOLE == 0 {
            reply.ok();
        } else {
            reply.error(Errno::EOPNOTSUPP);
        }
    }
}
