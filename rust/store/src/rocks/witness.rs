//! The witness: a small file that says how far the log had certainly come (DESIGN rule 4).
//!
//! What always holds: the log on the disk contains the witness's position and a hard state at
//! least as new as its term and vote. Two slots are written in turn, each with a sequence number,
//! so that a torn write leaves the older one, which is true as well.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use codec::frame::to_frame;
use codec::log::{HardState, Witness};
use codec::{Frame, FrameKind};

use super::files;
use crate::{Position, StoreError};

/// Slots lie in pages of their own, so that one torn write cannot reach both.
const SLOT_BYTES: usize = 4096;

pub(super) struct WitnessFile {
    path: PathBuf,
    file: File,
    current: Witness,
}

impl WitnessFile {
    /// Makes the file of a new log; durable on return.
    pub fn create(directory: &Path, path: &Path, position: Position, hard_state: &HardState) -> Result<Self, StoreError> {
        let current = witness(position, hard_state, 1);
        let mut bytes = vec![0; 2 * SLOT_BYTES];
        for slot in bytes.chunks_exact_mut(SLOT_BYTES) {
            let frame = to_frame(FrameKind::Witness, &current);
            slot[..frame.len()].copy_from_slice(&frame);
        }
        files::write_durably(directory, path, &bytes)?;
        let file = open(path)?;
        Ok(Self { path: path.to_owned(), file, current })
    }

    /// Reads the newer of the slots that are whole.
    pub fn load(path: &Path) -> Result<Self, StoreError> {
        let bytes = std::fs::read(path).map_err(|e| StoreError::failed(format!("cannot read {}", path.display()), e))?;
        let slots = [0, SLOT_BYTES].map(|at| bytes.get(at..).and_then(read_slot));
        let Some(current) = slots.into_iter().flatten().max_by_key(|w| w.sequence) else {
            return Err(StoreError::damaged(path, "neither slot of the witness file is whole"));
        };
        Ok(Self { path: path.to_owned(), file: open(path)?, current })
    }

    pub fn position(&self) -> Position {
        Position { index: self.current.index, term: self.current.term, chain: self.current.chain }
    }

    /// Term and vote the saved hard state must not lie before.
    pub fn saved_vote(&self) -> (u64, u64) {
        (self.current.saved_term, self.current.vote)
    }

    /// Writes the other slot and syncs it.
    pub fn save(&mut self, position: Position, hard_state: &HardState) -> Result<(), StoreError> {
        if failpoint::skip!("store::witness::skip_save") {
            return Ok(());
        }
        let next = witness(position, hard_state, self.current.sequence + 1);
        let at = (next.sequence % 2) * SLOT_BYTES as u64;
        failpoint::point!("store::witness::save_before", |reason: String| Err(StoreError::failed(
            "cannot write the witness",
            reason
        )));
        self.file
            .write_all_at(&to_frame(FrameKind::Witness, &next), at)
            .and_then(|()| {
                failpoint::point!("store::witness::written_unsynced");
                self.file.sync_data()
            })
            .map_err(|e| StoreError::failed(format!("cannot write {}", self.path.display()), e))?;
        failpoint::point!("store::witness::save_after");
        self.current = next;
        Ok(())
    }
}

fn open(path: &Path) -> Result<File, StoreError> {
    let opened = OpenOptions::new().read(true).write(true).open(path);
    opened.map_err(|e| StoreError::failed(format!("cannot open {}", path.display()), e))
}

fn witness(position: Position, hard_state: &HardState, sequence: u64) -> Witness {
    Witness {
        term: position.term,
        index: position.index,
        chain: position.chain,
        saved_term: hard_state.term,
        vote: hard_state.vote,
        sequence,
    }
}

fn read_slot(bytes: &[u8]) -> Option<Witness> {
    let (frame, _) = Frame::decode(bytes).ok()?;
    if frame.kind != FrameKind::Witness {
        return None;
    }
    <Witness as codec::Message>::decode(frame.payload).ok()
}
