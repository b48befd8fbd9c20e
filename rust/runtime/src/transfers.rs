//! How far the snapshots on their way are: written by the threads that move them, read by whoever asks.

use std::time::Instant;

use parking_lot::Mutex;

/// One transfer that is under way.
#[derive(Clone, Debug, PartialEq)]
pub struct TransferView {
    /// Raft id of the other node.
    pub peer: u64,
    /// Applied index of the snapshot.
    pub index: u64,
    /// Bytes that are there, those of an earlier attempt included.
    pub bytes_done: u64,
    pub bytes_total: u64,
    /// Bytes a second, since this attempt began.
    pub rate: u64,
    /// `sending`, `receiving`, `checking`, `installing`
    pub phase: &'static str,
}

struct UnderWay {
    view: TransferView,
    began: Instant,
    resumed_at: u64,
}

/// At most one transfer in each direction.
#[derive(Default)]
pub struct Transfers {
    out: Mutex<Option<UnderWay>>,
    incoming: Mutex<Option<UnderWay>>,
}

/// Which of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    Out,
    In,
}

impl Transfers {
    fn slot(&self, direction: Direction) -> &Mutex<Option<UnderWay>> {
        match direction {
            Direction::Out => &self.out,
            Direction::In => &self.incoming,
        }
    }

    pub(crate) fn begin(&self, direction: Direction, peer: u64, index: u64, bytes_total: u64, phase: &'static str) {
        let view = TransferView { peer, index, bytes_done: 0, bytes_total, rate: 0, phase };
        *self.slot(direction).lock() = Some(UnderWay { view, began: Instant::now(), resumed_at: 0 });
    }

    /// Bytes begin to move, from `at` on.
    pub(crate) fn resumed(&self, direction: Direction, at: u64) {
        if let Some(under_way) = self.slot(direction).lock().as_mut() {
            (under_way.resumed_at, under_way.view.bytes_done, under_way.began) = (at, at, Instant::now());
        }
    }

    pub(crate) fn moved(&self, direction: Direction, bytes: u64) {
        if let Some(under_way) = self.slot(direction).lock().as_mut() {
            under_way.view.bytes_done += bytes;
            let seconds = under_way.began.elapsed().as_secs_f64().max(1e-3);
            under_way.view.rate = ((under_way.view.bytes_done - under_way.resumed_at) as f64 / seconds) as u64;
        }
    }

    pub(crate) fn phase(&self, direction: Direction, phase: &'static str) {
        if let Some(under_way) = self.slot(direction).lock().as_mut() {
            under_way.view.phase = phase;
        }
    }

    pub(crate) fn end(&self, direction: Direction) {
        *self.slot(direction).lock() = None;
    }

    /// The transfer in one direction, if there is one.
    pub fn view(&self, direction: Direction) -> Option<TransferView> {
        self.slot(direction).lock().as_ref().map(|under_way| under_way.view.clone())
    }
}
