//! The mounted file system, used through the kernel as a database uses it. Skipped, with a message, where FUSE is missing.

#![allow(clippy::unwrap_used)]

use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

struct Mount {
    _directory: tempfile::TempDir,
    process: Child,
    root: PathBuf,
    socket: PathBuf,
    backing: PathBuf,
}

impl Mount {
    fn new() -> Option<Self> {
        if OpenOptions::new().read(true).write(true).open("/dev/fuse").is_err() {
            eprintln!("SKIPPED: /dev/fuse cannot be opened here (it needs FUSE in the kernel, and root or fusermount)");
            return None;
        }
        let directory = tempfile::tempdir().unwrap();
        let [root, socket, backing] = ["mount", "control", "backing"].map(|name| directory.path().join(name));
        fs::create_dir(&root).unwrap();
        fs::create_dir(&backing).unwrap();
        fs::write(backing.join("before"), b"from the backing directory").unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_lossyfs"));
        command.arg(&root).arg("--control").arg(&socket).arg("--backing").arg(&backing);
        let mut process = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n");
        Some(Self { _directory: directory, process, root, socket, backing })
    }

    fn obey(&self, command: &str) -> String {
        let mut stream = UnixStream::connect(&self.socket).unwrap();
        writeln!(stream, "{command}").unwrap();
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line).unwrap();
        assert!(line.starts_with("ok"), "{command}: {line}");
        line
    }

    /// Ends it cleanly; the backing directory lives as long as this.
    fn end(&mut self) {
        assert!(Command::new("kill").arg(self.process.id().to_string()).status().unwrap().success());
        assert!(self.process.wait().unwrap().success());
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = Command::new("umount").arg("-l").arg(&self.root).stderr(Stdio::null()).status();
    }
}

fn sync_directory(path: &Path) {
    File::open(path).unwrap().sync_all().unwrap();
}

fn read(path: &Path) -> String {
    let mut text = String::new();
    File::open(path).unwrap().read_to_string(&mut text).unwrap();
    text
}

#[test]
fn an_unsynced_write_is_dropped_and_a_synced_one_kept() {
    let Some(mount) = Mount::new() else { return };
    assert_eq!(read(&mount.root.join("before")), "from the backing directory");
    let path = mount.root.join("file");
    let mut file = File::create(&path).unwrap();
    file.write_all(b"kept ").unwrap();
    file.sync_data().unwrap();
    sync_directory(&mount.root);
    file.write_all(b"lost").unwrap();
    assert_eq!(read(&path), "kept lost");
    let lost = mount.obey("lose clear 1");
    assert!(lost.contains("lost=1") && lost.contains("bytes_lost=4"), "{lost}");
    assert_eq!(read(&path), "kept ", "neither the file system nor the kernel remembers");
}

#[test]
fn a_rename_without_a_directory_sync_is_dropped() {
    let Some(mount) = Mount::new() else { return };
    let (old, new) = (mount.root.join("draft"), mount.root.join("final"));
    for synced in [false, true] {
        File::create(&old).unwrap().sync_all().unwrap();
        sync_directory(&mount.root);
        fs::rename(&old, &new).unwrap();
        if synced {
            sync_directory(&mount.root);
        }
        mount.obey("lose clear 1");
        assert_eq!((old.exists(), new.exists()), (!synced, synced));
    }
}

/// sync fails once with EIO, the next one answers well: the data is gone after the loss.
#[test]
fn a_sync_fails_once_and_its_data_is_gone() {
    let Some(mount) = Mount::new() else { return };
    let file = File::create(mount.root.join("wal")).unwrap();
    sync_directory(&mount.root);
    mount.obey("rule sync error=EIO path=wal count=1");
    file.write_all_at(b"gone", 0).unwrap();
    assert_eq!(file.sync_data().unwrap_err().raw_os_error(), Some(libc::EIO));
    file.sync_data().unwrap();
    mount.obey("lose clear 1");
    assert_eq!(read(&mount.root.join("wal")), "");
}

#[test]
fn writes_run_out_of_space_are_cut_short_and_slow() {
    let Some(mount) = Mount::new() else { return };
    let file = File::create(mount.root.join("wal")).unwrap();
    mount.obey("rule write short path=wal count=1");
    assert_eq!(file.write_at(b"12345678", 0).unwrap(), 4);
    mount.obey("rule write error=ENOSPC path=wal count=1");
    assert_eq!(file.write_at(b"5678", 4).unwrap_err().raw_os_error(), Some(libc::ENOSPC));
    mount.obey("rule sync delay=300 path=wal count=1");
    let began = Instant::now();
    file.sync_data().unwrap();
    assert!(began.elapsed() >= Duration::from_millis(300));
    assert!(mount.obey("stats").contains("hits=3"));
}

/// A disk frozen at its next sync answers nothing until the power has gone; the write before that sync is lost.
#[test]
fn a_frozen_disk_loses_what_was_not_synced() {
    let Some(mount) = Mount::new() else { return };
    let path = mount.root.join("wal");
    let file = File::create(&path).unwrap();
    sync_directory(&mount.root);
    mount.obey("rule sync freeze path=wal");
    file.write_all_at(b"lost", 0).unwrap();
    let syncing = std::thread::spawn(move || file.sync_data());
    assert!(mount.obey("wait-frozen 10000").contains("frozen=1"));
    mount.obey("kill");
    assert!(syncing.join().unwrap().is_err(), "a sync under way fails with the power");
    mount.obey("lose clear 1");
    assert_eq!(read(&path), "");
}

#[test]
fn a_clean_end_writes_everything_to_the_backing_directory() {
    let Some(mut mount) = Mount::new() else { return };
    fs::create_dir(mount.root.join("d")).unwrap();
    fs::write(mount.root.join("d/f"), b"unsynced").unwrap();
    mount.end();
    assert_eq!(fs::read(mount.backing.join("d/f")).unwrap(), b"unsynced");
    assert!(mount.backing.join("before").exists());
}

/// More names than one answer of the kernel's holds, removed while they are read: none is passed over.
#[test]
fn a_directory_can_be_emptied_while_it_is_read() {
    let Some(mount) = Mount::new() else { return };
    let directory = mount.root.join("d");
    fs::create_dir(&directory).unwrap();
    for number in 0..2000 {
        File::create(directory.join(format!("a-name-of-some-length-{number}"))).unwrap();
    }
    fs::remove_dir_all(&directory).unwrap();
    assert!(!directory.exists());
}

/// The process ends although files are open, and leaves no mount behind.
#[test]
fn a_busy_mount_ends_too() {
    let Some(mut mount) = Mount::new() else { return };
    let file = File::create(mount.root.join("open")).unwrap();
    mount.end();
    assert!(file.sync_data().is_err(), "whoever has files open gets errors");
    assert!(!fs::read_to_string("/proc/mounts").unwrap().contains(mount.root.to_str().unwrap()));
}
