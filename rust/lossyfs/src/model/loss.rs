//! What of the pending operations a power loss lets through, by chance from a seed.

use super::inode::DataOp;

/// The largest unit that a disk writes whole.
const SECTOR_BYTES: usize = 512;

/// What a power loss does with operations that were not synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// All are lost.
    Clear,
    /// Of each file a prefix of them survives, and of the next write only some of its sectors. Of each directory a prefix.
    TornOp,
    /// Of each file any of them survive, whatever their order. Of each directory a prefix.
    TornSequence,
}

/// What a power loss came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lost {
    pub operations_lost: u64,
    pub operations_kept: u64,
    pub writes_torn: u64,
    pub bytes_lost: u64,
}

pub(super) fn survivors(pending: Vec<DataOp>, loss: Loss, chance: &mut Chance, lost: &mut Lost) -> Vec<DataOp> {
    let total = pending.len() as u64;
    let bytes = |ops: &[DataOp]| -> u64 {
        ops.iter().map(|op| if let DataOp::Write { data, .. } = op { data.len() as u64 } else { 0 }).sum()
    };
    let all_bytes = bytes(&pending);
    let mut kept: Vec<DataOp> = match loss {
        Loss::Clear => Vec::new(),
        Loss::TornOp => {
            let whole = chance.below(pending.len() + 1);
            let mut kept: Vec<DataOp> = pending[..whole].to_vec();
            if let Some(DataOp::Write { offset, data }) = pending.get(whole) {
                lost.writes_torn += 1;
                kept.extend(sectors(*offset, data, chance));
            }
            lost.operations_kept += whole as u64;
            lost.operations_lost += total - whole as u64;
            lost.bytes_lost += all_bytes - bytes(&kept);
            return kept;
        }
        Loss::TornSequence => pending.into_iter().filter(|_| chance.below(2) == 0).collect(),
    };
    kept.shrink_to_fit();
    lost.operations_kept += kept.len() as u64;
    lost.operations_lost += total - kept.len() as u64;
    lost.bytes_lost += all_bytes - bytes(&kept);
    kept
}

/// Some of the sectors that a write covers.
fn sectors(offset: usize, data: &[u8], chance: &mut Chance) -> Vec<DataOp> {
    let mut kept = Vec::new();
    let mut at = 0;
    while at < data.len() {
        let end = (at + SECTOR_BYTES - (offset + at) % SECTOR_BYTES).min(data.len());
        if chance.below(2) == 0 {
            kept.push(DataOp::Write { offset: offset + at, data: data[at..end].to_vec() });
        }
        at = end;
    }
    kept
}

/// SplitMix64 (Steele, Lea, Flood 2014): small, and the same everywhere.
pub(super) struct Chance(u64);

impl Chance {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(super) fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) % bound.max(1) as u64) as usize
    }
}
