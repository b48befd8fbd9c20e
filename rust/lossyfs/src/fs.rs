//! The FUSE edge: every operation passes one gate, where rules and a frozen disk act, and then the model.

use std::collections::{BTreeMap, VecDeque};
use std::ffi::{OsStr, OsString};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use fuser::{
    Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation, INodeNo, LockOwner, OpenFlags, RenameFlags,
    ReplyAttr, ReplyCreate, ReplyData, ReplyDirectory, ReplyEmpty, ReplyEntry, ReplyOpen, ReplyStatfs, ReplyWrite, Request,
    TimeOrNow, WriteFlags,
};
use parking_lot::{Condvar, Mutex};

use crate::model::{Ino, Loss, Lost, Model};
use crate::rules::{Action, Operation, Rules};

/// The kernel asks again each time: after a power loss nothing it remembers is true.
const TTL: Duration = Duration::ZERO;
const BLOCK_BYTES: u32 = 4096;
/// A disk of 64 GiB, half of it free.
const BLOCKS: u64 = 16 << 20;

type Held = Box<dyn FnOnce(Errno) + Send>;

#[derive(Default)]
struct State {
    model: Model,
    rules: Rules,
    /// Nothing is answered: the power goes in a moment.
    frozen: bool,
    /// Everything fails: the power is gone, and the loss has not been settled.
    dead: bool,
    held: VecDeque<Held>,
    operations: u64,
    syncs: u64,
}

/// What the file system and its control share.
#[derive(Default)]
pub struct Disk {
    state: Mutex<State>,
    changed: Condvar,
}

impl Disk {
    pub fn new(model: Model) -> Arc<Self> {
        Arc::new(Self { state: Mutex::new(State { model, ..State::default() }), changed: Condvar::new() })
    }

    /// Runs `look` on rules and model while nothing else happens.
    pub fn with<T>(&self, look: impl FnOnce(&mut Model, &mut Rules) -> T) -> T {
        let state = &mut *self.state.lock();
        look(&mut state.model, &mut state.rules)
    }

    /// Nothing is answered from now on.
    pub fn freeze(&self) {
        self.state.lock().frozen = true;
        self.changed.notify_all();
    }

    /// Waits until a rule has frozen the disk; false when the time ran out.
    pub fn wait_frozen(&self, timeout: Duration) -> bool {
        let until = Instant::now() + timeout;
        let mut state = self.state.lock();
        while !state.frozen {
            if self.changed.wait_until(&mut state, until).timed_out() {
                return state.frozen;
            }
        }
        true
    }

    /// What was held gets EIO, so that killed processes can end, and so does all that follows until [`Disk::lose`].
    pub fn kill(&self) {
        let held = {
            let mut state = self.state.lock();
            (state.frozen, state.dead) = (false, true);
            std::mem::take(&mut state.held)
        };
        for answer in held {
            answer(Errno::EIO);
        }
    }

    /// Settles the loss and works again, without rules.
    pub fn lose(&self, loss: Loss, seed: u64) -> Lost {
        self.kill();
        let mut state = self.state.lock();
        state.rules.clear();
        state.dead = false;
        state.model.lose(loss, seed)
    }

    /// Operations so far, syncs among them, and operations that are not durable.
    pub fn counts(&self) -> (u64, u64, u64) {
        let state = self.state.lock();
        (state.operations, state.syncs, state.model.unsynced())
    }

    /// Decides what happens to an operation, then does it: now, later or never.
    fn gate<R: Refuse>(self: &Arc<Self>, call: Call<R>) {
        let mut state = self.state.lock();
        state.operations += 1;
        state.syncs += u64::from(call.operation == Operation::Sync);
        let action = match state.rules.is_empty() || state.dead || state.frozen {
            true => None,
            false => {
                let path = match &call.name {
                    Some(name) => format!("{}/{}", state.model.path(call.ino), name.to_string_lossy()),
                    None => state.model.path(call.ino),
                };
                state.rules.decide(call.operation, &path)
            }
        };
        match action {
            None => self.carry_out(&mut state, call, false),
            Some(Action::Short) => self.carry_out(&mut state, call, true),
            Some(Action::Error(errno)) => {
                if call.operation == Operation::Sync {
                    // An inode that is gone has nothing to forget.
                    let _ = state.model.fail_sync(call.ino);
                }
                call.reply.refuse(Errno::from_i32(errno));
            }
            Some(Action::Freeze) => {
                state.frozen = true;
                self.changed.notify_all();
                self.carry_out(&mut state, call, false);
            }
            Some(Action::Delay(delay)) => {
                drop(state);
                let disk = self.clone();
                // A slow operation must not stop the others: it waits on a thread of its own.
                std::thread::spawn(move || {
                    std::thread::sleep(delay);
                    let mut state = disk.state.lock();
                    disk.carry_out(&mut state, call, false);
                });
            }
        }
    }

    fn carry_out<R: Refuse>(&self, state: &mut State, call: Call<R>, short: bool) {
        if state.dead {
            return call.reply.refuse(Errno::EIO);
        }
        if state.frozen {
            let reply = call.reply;
            return state.held.push_back(Box::new(move |errno| reply.refuse(errno)));
        }
        (call.work)(&mut state.model, call.reply, short);
    }
}

type Work<R> = Box<dyn FnOnce(&mut Model, R, bool) + Send>;

/// One operation on its way.
struct Call<R> {
    operation: Operation,
    ino: Ino,
    name: Option<OsString>,
    reply: R,
    work: Work<R>,
}

/// A reply that can say no.
trait Refuse: Send + 'static {
    fn refuse(self, errno: Errno);
}

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
