//! `observer-host FILE.json`: hosts observers until SIGTERM or SIGINT, without Python and HTTP.
//!
//! The file is a `runtime::HostConfig`:
//! `{"prefix": "replica", "count": 24, "node": {"data_dir": "/data", "raft_listen": "127.0.0.1:7000",
//! "cluster": [{"node_id": "node-1", "address": "127.0.0.1:5000"}]}}`.

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use runtime::{HostConfig, ObserverHost};

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    let (Some(path), None) = (arguments.next(), arguments.next()) else {
        eprintln!("usage: observer-host FILE.json");
        return ExitCode::from(2);
    };
    let stop = match stop_on_signals() {
        Ok(stop) => stop,
        Err(error) => return fail(format!("signals cannot be awaited: {error}")),
    };
    allow_files();
    let read = std::fs::read(&path).map_err(|error| format!("{}: {error}", path.display()));
    let config = read.and_then(|json| HostConfig::from_json(&json).map_err(|error| error.to_string()));
    let host = config.and_then(|config| ObserverHost::open(&config).map_err(|error| error.to_string()));
    match host.map(|host| host.run(&stop)) {
        Err(reason) => fail(reason),
        Ok(Err(error)) => fail(format!("the network cannot be polled: {error}")),
        Ok(Ok(0)) => ExitCode::SUCCESS,
        Ok(Ok(failed)) => fail(format!("{failed} observers had stopped by themselves")),
    }
}

fn fail(reason: String) -> ExitCode {
    eprintln!("observer-host: {reason}");
    ExitCode::FAILURE
}

/// Blocks the two signals in every thread that follows, and sets the flag once one comes.
fn stop_on_signals() -> std::io::Result<Arc<AtomicBool>> {
    // SAFETY: a zeroed set is valid to be emptied; the calls only read and write the set given.
    let set = unsafe {
        let mut set = std::mem::zeroed::<libc::sigset_t>();
        libc::sigemptyset(&mut set);
        libc::sigaddset(&mut set, libc::SIGTERM);
        libc::sigaddset(&mut set, libc::SIGINT);
        if libc::pthread_sigmask(libc::SIG_BLOCK, &set, std::ptr::null_mut()) != 0 {
            return Err(std::io::Error::last_os_error());
        }
        set
    };
    let stop = Arc::new(AtomicBool::new(false));
    let flag = stop.clone();
    std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
        let mut number = 0;
        // SAFETY: the set is initialised; the number is written.
        while unsafe { libc::sigwait(&set, &mut number) } != 0 {}
        flag.store(true, Ordering::Release);
    })?;
    Ok(stop)
}

/// A state store holds some dozens of files open, and an observer some streams: as many as are allowed.
fn allow_files() {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: both calls get a valid structure. A limit that cannot be raised is told by who runs into it.
    unsafe {
        if libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) == 0 {
            limit.rlim_cur = limit.rlim_max;
            libc::setrlimit(libc::RLIMIT_NOFILE, &limit);
        }
    }
}
