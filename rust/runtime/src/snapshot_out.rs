//! Sends checkpoints to followers whose entries are no longer in the log.
//!
//! What always holds: one transfer at a time, at the rate that is set; every byte is read, hashed and
//! paced on this thread alone; a peer that takes nothing costs a bounded wait of this thread and
//! nothing of any other.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bytes::Bytes;
use codec::peer::{Lane, PeerBody, SnapshotAnswer, SnapshotChunk, SnapshotFile, SnapshotOffer, SnapshotResume};
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};
use node::Event;
use protobuf::Message as _;
use store::rocks::DataDirectory;
use transport::{NetHandle, SendError};

use crate::checkpoints::Checkpoints;
use crate::metrics::Metrics;
use crate::raft_thread::ToRaft;
use crate::rate::TokenBucket;
use crate::transfers::{Direction, Transfers};

/// Small enough that a chunk delays nothing else on the machine, and a transfer is paced evenly.
const CHUNK_BYTES: usize = 256 << 10;
/// A receiver that takes no chunk for this long has failed.
const CHUNK_TIMEOUT: Duration = Duration::from_secs(20);
/// Time for the receiver to check what it has. One of a release that cannot resume never answers, and
/// is sent everything.
const RESUME_TIMEOUT: Duration = Duration::from_secs(60);
/// Time for the receiver to verify and install what it has.
const INSTALL_TIMEOUT: Duration = Duration::from_secs(600);
/// A receiver slower than this while others wait loses its turn after [`TURN`].
const SLOW_BYTES_PER_S: u64 = 1 << 20;
const TURN: Duration = Duration::from_secs(60);
/// Checksums of files are worked out at so many times the rate.
const HASH_FACTOR: u64 = 8;
/// How often idle checkpoints are looked at.
const IDLE_CHECK: Duration = Duration::from_secs(60);

/// What the sender is told.
pub(crate) enum SnapshotNews {
    Send {
        to: u64,
        raft_message: Bytes,
    },
    Answer {
        from: u64,
        answer: SnapshotAnswer,
    },
    Resume {
        from: u64,
        resume: SnapshotResume,
    },
    /// The stream to a peer broke.
    Broken {
        to: u64,
    },
}

pub(crate) struct SnapshotSender {
    pub directory: Arc<DataDirectory>,
    pub checkpoints: Arc<Checkpoints>,
    pub net: NetHandle,
    pub news: Receiver<SnapshotNews>,
    pub raft: Sender<ToRaft>,
    pub metrics: Arc<Metrics>,
    pub transfers: Arc<Transfers>,
    pub bytes_per_s: u64,
    /// Peers that wait for the transfer under way to end: each once.
    pub waiting: Vec<(u64, Bytes)>,
}

/// The transfer under way.
struct Current {
    to: u64,
    transfer: u64,
    began: Instant,
    sent: u64,
}

/// What news meant for it.
enum Word {
    Installed,
    Resume(SnapshotResume),
    Nothing,
}

impl SnapshotSender {
    /// One transfer at a time, until all senders of news are gone.
    pub(crate) fn run(mut self) {
        loop {
            let (to, raft_message) = match self.waiting.is_empty() {
                false => self.waiting.remove(0),
                true => match self.news.recv_timeout(IDLE_CHECK) {
                    Ok(SnapshotNews::Send { to, raft_message }) => (to, raft_message),
                    Ok(_) => continue,
                    Err(RecvTimeoutError::Timeout) => {
                        self.drop_idle();
                        continue;
                    }
                    Err(RecvTimeoutError::Disconnected) => return,
                },
            };
            let installed = match self.transfer(to, raft_message) {
                Ok(()) => true,
                Err(reason) => {
                    eprintln!("taskquorum: a snapshot for {to:016x} failed: {reason}");
                    false
                }
            };
            self.transfers.end(Direction::Out);
            if installed {
                self.metrics.snapshots_sent.fetch_add(1, Ordering::Relaxed);
            }
            if self.raft.send(ToRaft::event(Event::SnapshotSent { to, installed })).is_err() {
                return;
            }
        }
    }

    fn drop_idle(&self) {
        match self.checkpoints.drop_idle(&self.directory, Instant::now()) {
            // A raft thread that has ended listens no longer.
            Ok(dropped) => {
                dropped.into_iter().for_each(|index| drop(self.raft.send(ToRaft::event(Event::CheckpointDropped { index }))))
            }
            Err(error) => eprintln!("taskquorum: an idle checkpoint cannot be deleted: {error}"),
        }
    }

    fn transfer(&mut self, to: u64, raft_message: Bytes) -> Result<(), String> {
        let message = raft::eraftpb::Message::parse_from_bytes(&raft_message).map_err(|e| e.to_string())?;
        let metadata = message.get_snapshot().get_metadata();
        let (index, term) = (metadata.index, metadata.term);
        if !self.checkpoints.hold(index) {
            // The next peer that needs one has a new one made. A raft thread that has ended listens no longer.
            let _ = self.raft.send(ToRaft::event(Event::CheckpointDropped { index }));
            return Err(format!("the checkpoint at {index} is no longer there"));
        }
        let sent = self.send_files(to, index, term, raft_message);
        self.checkpoints.release(index);
        let mut current = sent?;
        failpoint::point!("runtime::snapshot_out::sent");
        self.transfers.phase(Direction::Out, "installing");
        self.wait_for_answer(&mut current)
    }

    fn send_files(&mut self, to: u64, index: u64, term: u64, raft_message: Bytes) -> Result<Current, String> {
        let path = self.directory.snapshot_path(index);
        let transfer = getrandom::u64().map_err(|e| e.to_string())?;
        let mut current = Current { to, transfer, began: Instant::now(), sent: 0 };
        self.transfers.begin(Direction::Out, to, index, 0, "checking");
        let files = self.list(&mut current, index, &path)?;
        self.transfers.begin(Direction::Out, to, index, files.iter().map(|f| f.bytes).sum(), "checking");
        let offer =
            SnapshotOffer { transfer, index, term, configuration: None, files: files.to_vec(), raft_message, resumable: true };
        failpoint::point!("runtime::snapshot_out::offer_before");
        self.send(to, PeerBody::SnapshotOffer(offer))?;
        let (first, mut offset) = self.agree_where_to_begin(&mut current, &path, &files)?;
        let before: u64 = files.iter().take(first).map(|f| f.bytes).sum::<u64>() + offset;
        if before > 0 {
            self.metrics.snapshots_resumed.fetch_add(1, Ordering::Relaxed);
        }
        self.transfers.resumed(Direction::Out, before);
        self.transfers.phase(Direction::Out, "sending");
        current.began = Instant::now();
        let mut bucket = TokenBucket::new(self.bytes_per_s, current.began);
        for (at, file) in files.iter().enumerate().skip(first) {
            let failed = |e: io::Error| format!("{}: {e}", path.join(&file.name).display());
            let mut reader = File::open(path.join(&file.name)).map_err(failed)?;
            reader.seek(SeekFrom::Start(offset)).map_err(failed)?;
            while offset < file.bytes {
                let mut data = vec![0; ((file.bytes - offset) as usize).min(CHUNK_BYTES)];
                reader.read_exact(&mut data).map_err(failed)?;
                let (length, crc32c) = (data.len(), Some(crc32c::crc32c(&data)));
                let chunk = SnapshotChunk { transfer, file: at as u32, offset, data: data.into(), crc32c };
                self.send(to, PeerBody::SnapshotChunk(chunk))?;
                failpoint::point!("runtime::snapshot_out::chunk_sent", |reason: String| Err(reason));
                offset += length as u64;
                current.sent += length as u64;
                self.transfers.moved(Direction::Out, length as u64);
                self.metrics.snapshot_bytes_sent.fetch_add(length as u64, Ordering::Relaxed);
                self.pause(&mut current, bucket.take(length, Instant::now()))?;
            }
            offset = 0;
        }
        Ok(current)
    }

    /// The files of a checkpoint with their checksums: read once, at a bounded rate, and remembered.
    fn list(&mut self, current: &mut Current, index: u64, path: &Path) -> Result<Arc<Vec<SnapshotFile>>, String> {
        if let Some(files) = self.checkpoints.files(index) {
            return Ok(files);
        }
        let mut bucket = TokenBucket::new(self.bytes_per_s.saturating_mul(HASH_FACTOR), Instant::now());
        let failed = |e: io::Error| format!("{}: {e}", path.display());
        let mut files = Vec::new();
        for name in file_names(path).map_err(failed)? {
            let mut reader = File::open(path.join(&name)).map_err(failed)?;
            let (bytes, crc32c) = self.hash(current, &mut reader, u64::MAX, &mut bucket).map_err(|e| format!("{name}: {e}"))?;
            files.push(SnapshotFile { name, bytes, crc32c });
        }
        let files = Arc::new(files);
        self.checkpoints.listed(index, files.clone());
        Ok(files)
    }

    /// Length and CRC32C of at most `bytes_max` bytes.
    fn hash(
        &mut self,
        current: &mut Current,
        reader: &mut File,
        bytes_max: u64,
        bucket: &mut TokenBucket,
    ) -> Result<(u64, u32), String> {
        let (mut bytes, mut crc32c) = (0, 0);
        let mut buffer = vec![0; CHUNK_BYTES];
        loop {
            let wanted = (bytes_max - bytes).min(CHUNK_BYTES as u64) as usize;
            let length = reader.read(&mut buffer[..wanted]).map_err(|e| e.to_string())?;
            if length == 0 {
                return Ok((bytes, crc32c));
            }
            crc32c = crc32c::crc32c_append(crc32c, &buffer[..length]);
            bytes += length as u64;
            self.pause(current, bucket.take(length, Instant::now()))?;
        }
    }

    /// (file, offset) from which the receiver misses the rest. What it says it has of that file is
    /// compared with what is here.
    fn agree_where_to_begin(
        &mut self,
        current: &mut Current,
        path: &Path,
        files: &[SnapshotFile],
    ) -> Result<(usize, u64), String> {
        let until = Instant::now() + RESUME_TIMEOUT;
        let resume = loop {
            match self.news.recv_deadline(until) {
                Err(RecvTimeoutError::Timeout) => return Ok((0, 0)),
                Err(RecvTimeoutError::Disconnected) => return Err("the node is stopping".to_owned()),
                Ok(news) => {
                    if let Word::Resume(resume) = self.take(news, current)? {
                        break resume;
                    }
                }
            }
        };
        let at = resume.file as usize;
        if at == files.len() && resume.offset == 0 {
            return Ok((at, 0));
        }
        let Some(file) = files.get(at).filter(|f| resume.offset <= f.bytes) else {
            return Err(format!("the peer wants to go on at file {at}, offset {}", resume.offset));
        };
        if resume.offset > 0 {
            let failed = |e: io::Error| format!("{}: {e}", path.join(&file.name).display());
            let mut reader = File::open(path.join(&file.name)).map_err(failed)?;
            let mut bucket = TokenBucket::new(self.bytes_per_s.saturating_mul(HASH_FACTOR), Instant::now());
            let found = self.hash(current, &mut reader, resume.offset, &mut bucket)?;
            if found != (resume.offset, resume.crc32c) {
                return Ok((at, 0));
            }
        }
        Ok((at, resume.offset))
    }

    fn send(&self, to: u64, body: PeerBody) -> Result<(), String> {
        match self.net.send_waiting(to, Lane::Snapshot, body, CHUNK_TIMEOUT) {
            Err(SendError::Full(_)) => Err("the peer takes nothing any more".to_owned()),
            result => result.map_err(|e| e.to_string()),
        }
    }

    /// Waits, hearing news meanwhile: ends the transfer early when its receiver has refused it, is
    /// gone, or is too slow while others wait.
    fn pause(&mut self, current: &mut Current, wait: Duration) -> Result<(), String> {
        let until = Instant::now() + wait;
        loop {
            match self.news.recv_deadline(until) {
                Ok(news) => {
                    self.take(news, current)?;
                }
                Err(RecvTimeoutError::Timeout) => break,
                Err(RecvTimeoutError::Disconnected) => return Err("the node is stopping".to_owned()),
            }
        }
        let lasted = current.began.elapsed();
        let slow = current.sent < SLOW_BYTES_PER_S.min(self.bytes_per_s / 2).saturating_mul(lasted.as_secs());
        if lasted > TURN && slow && !self.waiting.is_empty() {
            return Err("the peer is slow and others wait: it goes on later".to_owned());
        }
        Ok(())
    }

    fn wait_for_answer(&mut self, current: &mut Current) -> Result<(), String> {
        let until = Instant::now() + INSTALL_TIMEOUT;
        loop {
            let news = self.news.recv_deadline(until).map_err(|_| "the peer did not answer in time".to_owned())?;
            if matches!(self.take(news, current)?, Word::Installed) {
                return Ok(());
            }
        }
    }

    fn take(&mut self, news: SnapshotNews, current: &Current) -> Result<Word, String> {
        match news {
            SnapshotNews::Send { to, raft_message } => {
                self.waiting.retain(|(waiting, _)| *waiting != to);
                self.waiting.push((to, raft_message));
            }
            SnapshotNews::Answer { from, answer } if from == current.to && answer.transfer == current.transfer => {
                return if answer.installed { Ok(Word::Installed) } else { Err(answer.reason) };
            }
            SnapshotNews::Resume { from, resume } if from == current.to && resume.transfer == current.transfer => {
                return Ok(Word::Resume(resume));
            }
            SnapshotNews::Broken { to } if to == current.to => return Err("the connection broke".to_owned()),
            SnapshotNews::Answer { .. } | SnapshotNews::Resume { .. } | SnapshotNews::Broken { .. } => {}
        }
        Ok(Word::Nothing)
    }
}

/// The files of a checkpoint that its receiver needs, sorted.
pub(crate) fn file_names(path: &Path) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(path)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        // RocksDB's own log and lock belong to whoever opened the directory.
        if name != "LOCK" && !name.starts_with("LOG") && entry.file_type()?.is_file() {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}
