//! Receives a snapshot's files into a directory of their own, which outlives the process.
//!
//! What always holds: the raft side hears of a snapshot only once every file is complete, checked and
//! synced, and the rows add up to their hash; a transfer that breaks off leaves what it has for the
//! next one of the same checkpoint.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use codec::peer::{Lane, PeerBody, SnapshotAnswer, SnapshotOffer};
use codec::row::StateRead;
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};
use machine::Machine;
use node::Event;
use store::meta_of;
use store::rocks::DataDirectory;
use transport::NetHandle;

use crate::incoming::{Incoming, check_offer, decode_offer, encode_offer, same_files};
use crate::metrics::Metrics;
use crate::raft_thread::ToRaft;
use crate::state_cell::StateCell;
use crate::transfers::{Direction, Transfers};

/// What an attempt left is kept for so long: no sender holds its checkpoint for longer.
const IDLE: Duration = Duration::from_micros(2 * node::SNAPSHOT_RESUME_US);

pub(crate) struct SnapshotReceiver {
    pub directory: Arc<DataDirectory>,
    pub state: Arc<StateCell>,
    pub net: NetHandle,
    pub messages: Receiver<(u64, PeerBody)>,
    pub raft: Sender<ToRaft>,
    pub metrics: Arc<Metrics>,
    pub transfers: Arc<Transfers>,
}

impl SnapshotReceiver {
    /// One transfer at a time, until all senders are gone: a new offer ends an older transfer.
    pub(crate) fn run(self) {
        let mut current: Option<Incoming> = None;
        loop {
            let (from, body) = match self.messages.recv_timeout(IDLE) {
                Ok(message) => message,
                Err(RecvTimeoutError::Disconnected) => return,
                Err(RecvTimeoutError::Timeout) => {
                    current = None;
                    self.discard();
                    continue;
                }
            };
            self.net.resume();
            match body {
                PeerBody::SnapshotOffer(offer) => {
                    current = None;
                    let (transfer, index) = (offer.transfer, offer.index);
                    match self.begin(from, offer) {
                        Ok(begun) => current = self.go_on(begun),
                        Err(reason) => self.refuse(from, transfer, index, reason),
                    }
                }
                PeerBody::SnapshotChunk(chunk) => {
                    // Chunks of a transfer that was given up are still on their way.
                    let Some(mut incoming) = current.take_if(|c| c.from == from && c.offer.transfer == chunk.transfer) else {
                        continue;
                    };
                    failpoint::point!("runtime::snapshot_in::chunk");
                    match incoming.write(&chunk) {
                        Ok(()) => {
                            self.transfers.moved(Direction::In, chunk.data.len() as u64);
                            self.metrics.snapshot_bytes_received.fetch_add(chunk.data.len() as u64, Ordering::Relaxed);
                            current = self.go_on(incoming);
                        }
                        Err(reason) => {
                            self.metrics.snapshot_chunks_refused.fetch_add(1, Ordering::Relaxed);
                            self.refuse(from, incoming.offer.transfer, incoming.offer.index, reason);
                        }
                    }
                }
                _ => {}
            }
        }
    }

    /// With the files of an earlier attempt, if they are of the same checkpoint; else without any.
    fn begin(&self, from: u64, offer: SnapshotOffer) -> Result<Incoming, String> {
        check_offer(&offer)?;
        let failed = |e: store::StoreError| e.to_string();
        self.transfers.begin(Direction::In, from, offer.index, offer.files.iter().map(|f| f.bytes).sum(), "checking");
        let known = self.directory.incoming_offer().map_err(failed)?.and_then(|bytes| decode_offer(&bytes));
        let incoming = if offer.resumable && known.is_some_and(|known| same_files(&known, &offer)) {
            Incoming::resume(from, offer, self.directory.incoming_path())?
        } else {
            let path = self.directory.begin_incoming(&encode_offer(&offer)).map_err(failed)?;
            Incoming::begin(from, offer, path)
        };
        failpoint::point!("runtime::snapshot_in::begun");
        self.transfers.resumed(Direction::In, incoming.bytes_done());
        self.transfers.phase(Direction::In, "receiving");
        if incoming.offer.resumable {
            // Without a connection the sender finds out by itself.
            let _ = self.net.send(from, Lane::Control, PeerBody::SnapshotResume(incoming.place()));
        }
        Ok(incoming)
    }

    /// The transfer, if it is to go on.
    fn go_on(&self, mut incoming: Incoming) -> Option<Incoming> {
        match incoming.complete() {
            Ok(false) => return Some(incoming),
            Ok(true) => self.finish(incoming),
            Err(reason) => self.refuse(incoming.from, incoming.offer.transfer, incoming.offer.index, reason),
        }
        None
    }

    fn finish(&self, incoming: Incoming) {
        failpoint::point!("runtime::snapshot_in::received");
        self.transfers.phase(Direction::In, "checking");
        let Incoming { from, offer, .. } = incoming;
        let state_dir = match self.verify(&offer).and_then(|()| self.directory.finish_incoming().map_err(|e| e.to_string())) {
            Ok(state_dir) => state_dir,
            Err(reason) => {
                // Its files are as they were sent: they would be no better the next time.
                self.discard();
                return self.refuse(from, offer.transfer, offer.index, reason);
            }
        };
        failpoint::point!("runtime::snapshot_in::verified");
        self.state.expect(state_dir.clone());
        self.metrics.snapshots_received.fetch_add(1, Ordering::Relaxed);
        self.transfers.end(Direction::In);
        let event = Event::SnapshotReceived { from, transfer: offer.transfer, state_dir, raft_message: offer.raft_message };
        // A raft thread that has ended listens no longer.
        let _ = self.raft.send(ToRaft::event(event));
    }

    /// Reads every row: a snapshot that does not add up to its own hash is not taken.
    fn verify(&self, offer: &SnapshotOffer) -> Result<(), String> {
        let state = self.directory.read_state(&self.directory.incoming_path()).map_err(|e| e.to_string())?;
        let meta = meta_of(&state).map_err(|e| e.to_string())?.ok_or("the snapshot holds no meta row")?;
        if meta.applied_index != offer.index {
            return Err(format!("the snapshot holds the state at {}, not at {}", meta.applied_index, offer.index));
        }
        let rows: &dyn StateRead = &state;
        if meta.hash != Machine::hash_of_rows(rows).map_err(|e| e.to_string())? {
            return Err("the snapshot's rows do not add up to its state hash".to_owned());
        }
        Ok(())
    }

    fn discard(&self) {
        if let Err(error) = self.directory.discard_incoming() {
            // The next offer tries again.
            eprintln!("taskquorum: {error}");
        }
    }

    fn refuse(&self, to: u64, transfer: u64, index: u64, reason: String) {
        eprintln!("taskquorum: the snapshot from {to:016x} was not taken: {reason}");
        self.transfers.end(Direction::In);
        let answer = SnapshotAnswer { transfer, index, installed: false, reason };
        // Without a connection the sender finds out by itself.
        let _ = self.net.send(to, Lane::Control, PeerBody::SnapshotAnswer(answer));
    }
}
