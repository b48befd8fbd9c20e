//! `lossyfs MOUNTPOINT --control SOCKET [--backing DIRECTORY]`: serves until it is unmounted (`umount`, SIGTERM, SIGINT or
//! the death of the process that started it). Prints `ready` once it is mounted.

use std::ffi::CString;
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use fuser::{Config, MountOption, Session};
use lossyfs::disk::Disk;
use lossyfs::fs::LossyFs;
use lossyfs::model::Model;
use lossyfs::{control, image};

/// Enough that a held or slow operation leaves others to serve the rest.
const THREADS: usize = 2;

struct Arguments {
    mountpoint: PathBuf,
    control: PathBuf,
    backing: Option<PathBuf>,
}

fn arguments() -> Result<Arguments, String> {
    let (mut mountpoint, mut control, mut backing) = (None, None, None);
    let mut words = std::env::args_os().skip(1);
    while let Some(word) = words.next() {
        match word.to_str() {
            Some("--control") => control = words.next().map(PathBuf::from),
            Some("--backing") => backing = words.next().map(PathBuf::from),
            _ if mountpoint.is_none() => mountpoint = Some(PathBuf::from(word)),
            _ => return Err(format!("unknown argument {word:?}")),
        }
    }
    match (mountpoint, control) {
        (Some(mountpoint), Some(control)) => Ok(Arguments { mountpoint, control, backing }),
        _ => Err("usage: lossyfs MOUNTPOINT --control SOCKET [--backing DIRECTORY]".to_owned()),
    }
}

fn main() -> ExitCode {
    match arguments().and_then(|arguments| run(&arguments).map_err(|e| e.to_string())) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("lossyfs: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> io::Result<()> {
    let model = match &arguments.backing {
        Some(backing) if backing.exists() => image::load(backing)?,
        _ => Model::default(),
    };
    let disk = Disk::new(model);
    let listener = UnixListener::bind(&arguments.control)?;
    let mut config = Config::default();
    config.mount_options = vec![MountOption::FSName("lossyfs".to_owned()), MountOption::NoAtime];
    config.n_threads = Some(THREADS);
    let mut session = Session::new(LossyFs::new(disk.clone()), &arguments.mountpoint, &config)?;
    let mut unmounter = session.unmount_callable();
    let (mountpoint, backing, at_the_end) = (arguments.mountpoint.clone(), arguments.backing.clone(), disk.clone());
    on_termination(move || {
        if unmounter.unmount().is_err() {
            // Somebody has files open there: the mount goes all the same, and they get errors.
            detach(&mountpoint);
            let saved = save(backing.as_deref(), &at_the_end);
            std::process::exit(i32::from(saved.is_err()));
        }
    })?;
    let for_control = disk.clone();
    std::thread::Builder::new().name("control".to_owned()).spawn(move || control::serve(listener, for_control))?;
    println!("ready");
    io::stdout().flush()?;
    session.run()?;
    save(arguments.backing.as_deref(), &disk)
}

fn detach(mountpoint: &Path) {
    if let Ok(path) = CString::new(mountpoint.as_os_str().as_bytes()) {
        // SAFETY: the path is a live C string. A mount that is gone already needs no unmounting.
        unsafe { libc::umount2(path.as_ptr(), libc::MNT_DETACH) };
    }
}

/// A clean end makes everything durable.
fn save(backing: Option<&Path>, disk: &Disk) -> io::Result<()> {
    backing.map_or(Ok(()), |backing| disk.with(|model, _| image::save(model, backing)))
}

/// Calls `end` at the first SIGTERM or SIGINT, on a thread of its own; a dead parent sends SIGTERM.
fn on_termination(mut end: impl FnMut() + Send + 'static) -> io::Result<()> {
    // SAFETY: the set is initialised by sigemptyset before it is used; blocking signals in this first thread makes all later
    // threads inherit the mask, so that sigwait alone takes them.
    let signals = unsafe {
        let mut signals: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut signals);
        libc::sigaddset(&raw mut signals, libc::SIGTERM);
        libc::sigaddset(&raw mut signals, libc::SIGINT);
        if libc::pthread_sigmask(libc::SIG_BLOCK, &raw const signals, std::ptr::null_mut()) != 0 {
            return Err(io::Error::last_os_error());
        }
        libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGTERM);
        signals
    };
    std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
        let mut number = 0;
        // SAFETY: both pointers are to live locals.
        if unsafe { libc::sigwait(&raw const signals, &raw mut number) } == 0 {
            end();
        }
    })?;
    Ok(())
}
