//! Sends checkpoints to followers whose entries are no longer in the log.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bytes::Bytes;
use codec::peer::{Lane, PeerBody, SnapshotAnswer, SnapshotChunk, SnapshotFile, SnapshotOffer};
use crossbeam_channel::{Receiver, Sender};
use node::Event;
use parking_lot::Mutex;
use protobuf::Message as _;
use store::StoreError;
use store::rocks::DataDirectory;
use transport::{NetHandle, SendError};

use crate::metrics::Metrics;
use crate::raft_thread::ToRaft;

const CHUNK_BYTES: usize = 1 << 20;
/// A receiver that takes no chunk for this long has failed.
const CHUNK_TIMEOUT: Duration = Duration::from_secs(20);
/// Time for the receiver to verify and install what it has.
const INSTALL_TIMEOUT: Duration = Duration::from_secs(120);

/// The checkpoints that stand on disk, and which of them are being sent.
#[derive(Default)]
pub(crate) struct Checkpoints {
    /// Index → senders that read it.
    known: Mutex<BTreeMap<u64, usize>>,
}

impl Checkpoints {
    pub(crate) fn made(&self, index: u64) {
        self.known.lock().entry(index).or_insert(0);
    }

    /// Deletes all but the newest and those that are being sent.
    pub(crate) fn prune(&self, directory: &DataDirectory) -> Result<(), StoreError> {
        let mut known = self.known.lock();
        let newest = known.keys().next_back().copied();
        known.retain(|index, senders| Some(*index) == newest || *senders > 0);
        directory.remove_snapshots(&known.keys().copied().collect::<Vec<_>>())
    }

    /// Keeps a checkpoint until [`Checkpoints::release`]; false if it is not there.
    fn hold(&self, index: u64) -> bool {
        self.known.lock().get_mut(&index).map(|senders| *senders += 1).is_some()
    }

    fn release(&self, index: u64) {
        if let Some(senders) = self.known.lock().get_mut(&index) {
            *senders -= 1;
        }
    }
}

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
    /// Peers that wait for the transfer under way to end.
    pub waiting: Vec<(u64, Bytes)>,
}

impl SnapshotSender {
    /// One transfer at a time, until all senders of news are gone.
    pub(crate) fn run(mut self) {
        loop {
            let (to, raft_message) = match self.waiting.is_empty() {
                false => self.waiting.remove(0),
                true => match self.news.recv() {
                    Ok(SnapshotNews::Send { to, raft_message }) => (to, raft_message),
                    Ok(_) => continue,
                    Err(_) => return,
                },
            };
            let installed = match self.transfer(to, raft_message) {
                Ok(()) => true,
                Err(reason) => {
                    eprintln!("taskquorum: a snapshot for {to:016x} failed: {reason}");
                    false
                }
            };
            if installed {
                self.metrics.snapshots_sent.fetch_add(1, Ordering::Relaxed);
            }
            if self.raft.send(ToRaft::event(Event::SnapshotSent { to, installed })).is_err() {
                return;
            }
        }
    }

    fn transfer(&mut self, to: u64, raft_message: Bytes) -> Result<(), String> {
        let message = raft::eraftpb::Message::parse_from_bytes(&raft_message).map_err(|e| e.to_string())?;
        let metadata = message.get_snapshot().get_metadata();
        if !self.checkpoints.hold(metadata.index) {
            return Err(format!("the checkpoint at {} is no longer there", metadata.index));
        }
        let sent = self.send_files(to, metadata.index, metadata.term, raft_message.clone());
        self.checkpoints.release(metadata.index);
        let transfer = sent?;
        self.wait_for_answer(to, transfer)
    }

    fn send_files(&mut self, to: u64, index: u64, term: u64, raft_message: Bytes) -> Result<u64, String> {
        let path = self.directory.snapshot_path(index);
        let files = list_files(&path).map_err(|e| format!("{}: {e}", path.display()))?;
        let transfer = getrandom::u64().map_err(|e| e.to_string())?;
        let offer =
            SnapshotOffer { transfer, index, term, configuration: None, files: files.clone(), raft_message, resumable: false };
        self.send(to, PeerBody::SnapshotOffer(offer))?;
        let mut buffer = vec![0; CHUNK_BYTES];
        for (at, file) in files.iter().enumerate() {
            let failed = |e: io::Error| format!("{}: {e}", path.join(&file.name).display());
            let mut reader = File::open(path.join(&file.name)).map_err(failed)?;
            let mut offset = 0;
            while offset < file.bytes {
                let length = ((file.bytes - offset) as usize).min(CHUNK_BYTES);
                reader.read_exact(&mut buffer[..length]).map_err(failed)?;
                let data = Bytes::copy_from_slice(&buffer[..length]);
                self.send(to, PeerBody::SnapshotChunk(SnapshotChunk { transfer, file: at as u32, offset, data, crc32c: None }))?;
                offset += length as u64;
                self.look_at_news(to, transfer)?;
            }
        }
        Ok(transfer)
    }

    fn send(&self, to: u64, body: PeerBody) -> Result<(), String> {
        match self.net.send_waiting(to, Lane::Snapshot, body, CHUNK_TIMEOUT) {
            Err(SendError::Full(_)) => Err("the peer takes nothing any more".to_owned()),
            result => result.map_err(|e| e.to_string()),
        }
    }

    /// Ends the transfer early when its receiver has refused it or is gone.
    fn look_at_news(&mut self, to: u64, transfer: u64) -> Result<(), String> {
        while let Ok(news) = self.news.try_recv() {
            self.take(news, to, transfer)?;
        }
        Ok(())
    }

    fn wait_for_answer(&mut self, to: u64, transfer: u64) -> Result<(), String> {
        let until = Instant::now() + INSTALL_TIMEOUT;
        loop {
            let news = self.news.recv_deadline(until).map_err(|_| "the peer did not answer in time".to_owned())?;
            if self.take(news, to, transfer)? {
                return Ok(());
            }
        }
    }

    /// True once the receiver has installed this transfer.
    fn take(&mut self, news: SnapshotNews, current: u64, current_transfer: u64) -> Result<bool, String> {
        match news {
            SnapshotNews::Send { to, raft_message } => self.waiting.push((to, raft_message)),
            SnapshotNews::Answer { from, answer } if from == current && answer.transfer == current_transfer => {
                return if answer.installed { Ok(true) } else { Err(answer.reason) };
            }
            SnapshotNews::Broken { to } if to == current => return Err("the connection broke".to_owned()),
            SnapshotNews::Answer { .. } | SnapshotNews::Broken { .. } => {}
        }
        Ok(false)
    }
}

/// The files of a checkpoint with their checksums; reads all of them once.
fn list_files(path: &Path) -> io::Result<Vec<SnapshotFile>> {
    let mut files = Vec::new();
    let mut buffer = vec![0; CHUNK_BYTES];
    for entry in std::fs::read_dir(path)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        // RocksDB's own log and lock belong to whoever opened the directory.
        if name == "LOCK" || name.starts_with("LOG") || !entry.file_type()?.is_file() {
            continue;
        }
        let mut file = File::open(entry.path())?;
        let (mut bytes, mut crc32c) = (0, 0);
        loop {
            let length = file.read(&mut buffer)?;
            if length == 0 {
                break;
            }
            crc32c = crc32c::crc32c_append(crc32c, &buffer[..length]);
            bytes += length as u64;
        }
        files.push(SnapshotFile { name, bytes, crc32c });
    }
    files.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(files)
}
