//! Receives a snapshot's files into a state directory of their own.
//!
//! What always holds: nothing that a peer names leaves that directory, and the raft side hears of
//! it only once every file is complete, checked and synced, and the rows add up to their hash.

use std::fs::File;
use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use codec::peer::{Lane, PeerBody, SnapshotAnswer, SnapshotChunk, SnapshotOffer};
use crossbeam_channel::{Receiver, Sender};
use machine::Machine;
use node::Event;
use store::meta_of;
use store::rocks::DataDirectory;
use transport::NetHandle;

use crate::metrics::Metrics;
use crate::raft_thread::ToRaft;
use crate::state_cell::StateCell;

/// Files of one snapshot.
const FILES_MAX: usize = 100_000;

struct Transfer {
    from: u64,
    offer: SnapshotOffer,
    state_dir: String,
    path: PathBuf,
    /// Position in `offer.files` of the file being written.
    file: usize,
    open: Option<File>,
    offset: u64,
    crc32c: u32,
}

pub(crate) struct SnapshotReceiver {
    pub directory: Arc<DataDirectory>,
    pub state: Arc<StateCell>,
    pub net: NetHandle,
    pub messages: Receiver<(u64, PeerBody)>,
    pub raft: Sender<ToRaft>,
    pub metrics: Arc<Metrics>,
}

impl SnapshotReceiver {
    /// One transfer at a time, until all senders are gone: a new offer ends an older transfer.
    pub(crate) fn run(self) {
        let mut current: Option<Transfer> = None;
        while let Ok((from, body)) = self.messages.recv() {
            self.net.resume();
            match body {
                PeerBody::SnapshotOffer(offer) => {
                    if let Some(older) = current.take() {
                        self.discard(older, "another snapshot was offered");
                    }
                    let (transfer, index) = (offer.transfer, offer.index);
                    match self.begin(from, offer) {
                        Ok(begun) => current = Some(begun),
                        Err(reason) => self.answer(from, transfer, index, reason),
                    }
                }
                PeerBody::SnapshotChunk(chunk) => {
                    // Chunks of a transfer that was given up are still on their way.
                    let Some(mut transfer) = current.take_if(|t| t.from == from && t.offer.transfer == chunk.transfer) else {
                        continue;
                    };
                    match transfer.write(&chunk) {
                        Err(reason) => self.discard(transfer, &reason),
                        Ok(false) => current = Some(transfer),
                        Ok(true) => self.finish(transfer),
                    }
                }
                _ => {}
            }
        }
    }

    fn begin(&self, from: u64, offer: SnapshotOffer) -> Result<Transfer, String> {
        if offer.files.is_empty() || offer.files.len() > FILES_MAX {
            return Err(format!("an offer of {} files", offer.files.len()));
        }
        for file in &offer.files {
            let plain =
                !file.name.starts_with('.') && !file.name.contains(['/', '\\', '\0']) && (1..=255).contains(&file.name.len());
            if !plain {
                return Err(format!("{:?} is no plain file name", file.name));
            }
        }
        let (state_dir, path) = self.directory.new_state_dir().map_err(|e| e.to_string())?;
        self.state.expect(state_dir.clone());
        Ok(Transfer { from, offer, state_dir, path, file: 0, open: None, offset: 0, crc32c: 0 })
    }

    fn finish(&self, transfer: Transfer) {
        if let Err(reason) = self.verify(&transfer) {
            return self.discard(transfer, &reason);
        }
        self.metrics.snapshots_received.fetch_add(1, Ordering::Relaxed);
        let Transfer { from, offer, state_dir, .. } = transfer;
        let event = Event::SnapshotReceived { from, transfer: offer.transfer, state_dir, raft_message: offer.raft_message };
        // A raft thread that has ended listens no longer.
        let _ = self.raft.send(ToRaft::event(event));
    }

    /// Reads every row: a snapshot that does not add up to its own hash is not taken.
    fn verify(&self, transfer: &Transfer) -> Result<(), String> {
        {
            let state = self.directory.open_state(&transfer.state_dir).map_err(|e| e.to_string())?;
            let meta = meta_of(&state).map_err(|e| e.to_string())?.ok_or("the snapshot holds no meta row")?;
            if meta.applied_index != transfer.offer.index {
                return Err(format!("the snapshot holds the state at {}, not at {}", meta.applied_index, transfer.offer.index));
            }
            let found = Machine::hash_of_rows(&state).map_err(|e| e.to_string())?;
            if meta.hash != found {
                return Err("the snapshot's rows do not add up to its state hash".to_owned());
            }
        }
        self.directory.sync_state_dir(&transfer.state_dir).map_err(|e| e.to_string())
    }

    fn discard(&self, transfer: Transfer, reason: &str) {
        let Transfer { from, offer, state_dir, path, open, .. } = transfer;
        drop(open);
        if let Err(error) = std::fs::remove_dir_all(&path) {
            // The next start deletes it: nothing names it.
            eprintln!("taskquorum: {}: {error}", path.display());
        }
        self.state.forget(&state_dir);
        self.answer(from, offer.transfer, offer.index, reason.to_owned());
    }

    fn answer(&self, to: u64, transfer: u64, index: u64, reason: String) {
        eprintln!("taskquorum: the snapshot from {to:016x} was not taken: {reason}");
        let answer = SnapshotAnswer { transfer, index, installed: false, reason };
        // Without a connection the sender finds out by itself.
        let _ = self.net.send(to, Lane::Control, PeerBody::SnapshotAnswer(answer));
    }
}

impl Transfer {
    /// Writes one chunk; true after the last one.
    fn write(&mut self, chunk: &SnapshotChunk) -> Result<bool, String> {
        self.skip_empty()?;
        let Some(file) = self.offer.files.get(self.file).cloned() else { return Ok(true) };
        let fits = chunk.data.len() as u64 <= file.bytes - self.offset;
        if chunk.file as usize != self.file || chunk.offset != self.offset || chunk.data.is_empty() || !fits {
            return Err(format!("{}: a chunk at {} where {} was expected", file.name, chunk.offset, self.offset));
        }
        let failed = |e: std::io::Error| format!("{}: {e}", file.name);
        if self.open.is_none() {
            self.open = Some(File::create_new(self.path.join(&file.name)).map_err(failed)?);
        }
        if let Some(open) = &mut self.open {
            open.write_all(&chunk.data).map_err(failed)?;
        }
        self.crc32c = crc32c::crc32c_append(self.crc32c, &chunk.data);
        self.offset += chunk.data.len() as u64;
        if self.offset == file.bytes {
            if self.crc32c != file.crc32c {
                return Err(format!("{}: checksum mismatch", file.name));
            }
            (self.open, self.offset, self.crc32c) = (None, 0, 0);
            self.file += 1;
            self.skip_empty()?;
        }
        Ok(self.file == self.offer.files.len())
    }

    /// Empty files have no chunk.
    fn skip_empty(&mut self) -> Result<(), String> {
        while let Some(file) = self.offer.files.get(self.file).filter(|f| f.bytes == 0) {
            File::create_new(self.path.join(&file.name)).map_err(|e| format!("{}: {e}", file.name))?;
            self.file += 1;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use codec::peer::SnapshotFile;

    fn transfer(path: PathBuf, files: &[(&str, &[u8])]) -> Transfer {
        let file = |(name, data): &(&str, &[u8])| SnapshotFile {
            name: (*name).to_owned(),
            bytes: data.len() as u64,
            crc32c: crc32c::crc32c(data),
        };
        let offer = SnapshotOffer { transfer: 1, files: files.iter().map(file).collect(), ..Default::default() };
        Transfer { from: 1, offer, state_dir: "state-2".to_owned(), path, file: 0, open: None, offset: 0, crc32c: 0 }
    }

    fn chunk(file: u32, offset: u64, data: &'static [u8]) -> SnapshotChunk {
        SnapshotChunk { transfer: 1, file, offset, data: data.into(), crc32c: None }
    }

    #[test]
    fn chunks_in_order_make_the_files() {
        let directory = tempfile::tempdir().unwrap();
        let mut transfer = transfer(directory.path().to_owned(), &[("a", b""), ("b", b"hello"), ("c", b"x"), ("d", b"")]);
        assert_eq!(transfer.write(&chunk(1, 0, b"hel")), Ok(false));
        assert_eq!(transfer.write(&chunk(1, 3, b"lo")), Ok(false));
        assert_eq!(transfer.write(&chunk(2, 0, b"x")), Ok(true));
        for (name, data) in [("a", &b""[..]), ("b", b"hello"), ("c", b"x"), ("d", b"")] {
            assert_eq!(std::fs::read(directory.path().join(name)).unwrap(), data);
        }
    }

    #[test]
    fn a_gap_a_flipped_bit_and_a_byte_too_many_are_refused() {
        for bad in [chunk(0, 1, b"hello"), chunk(0, 0, b"hellp"), chunk(0, 0, b"hello!"), chunk(1, 0, b"hello")] {
            let directory = tempfile::tempdir().unwrap();
            let mut transfer = transfer(directory.path().to_owned(), &[("b", b"hello"), ("c", b"hello")]);
            assert!(transfer.write(&bad).is_err());
        }
    }
}
