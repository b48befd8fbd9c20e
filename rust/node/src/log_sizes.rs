//! How large the log is: what truncation by bytes needs to know, without asking the disk.
//!
//! What always holds: the marks' indexes and totals grow together, and a mark is at most
//! [`MARK_BYTES`] and one entry behind the next, so a cut by bytes is exact to that.

use std::collections::VecDeque;

/// Bytes of entries between two marks.
const MARK_BYTES: u64 = 64 << 10;
/// What a record costs beyond its data: frame, index, term, chain, key.
const RECORD_BYTES: u64 = 64;

/// Cumulative sizes of the log's entries, at a few of its indexes.
#[derive(Clone, Debug, Default)]
pub struct LogSizes {
    /// (index, bytes of all entries up to and with it), oldest first.
    marks: VecDeque<(u64, u64)>,
    /// The newest entry, and the bytes up to and with it.
    last: (u64, u64),
}

impl LogSizes {
    /// An empty log behind `base_index`.
    pub fn new(base_index: u64) -> Self {
        Self { marks: VecDeque::from([(base_index, 0)]), last: (base_index, 0) }
    }

    /// An entry was appended; everything from its index on is replaced by it.
    pub fn appended(&mut self, index: u64, data_bytes: u64) {
        if index <= self.last.0 {
            while self.marks.len() > 1 && self.marks.back().is_some_and(|(at, _)| *at >= index) {
                self.marks.pop_back();
            }
            // The entries between the mark and the cut are forgotten: too small by less than a mark.
            self.last = self.marks.back().copied().unwrap_or_default();
        }
        self.last = (index, self.last.1 + data_bytes + RECORD_BYTES);
        if self.marks.back().is_none_or(|(_, bytes)| self.last.1 >= bytes + MARK_BYTES) {
            self.marks.push_back(self.last);
        }
    }

    /// Entries up to and with `base_index` are gone.
    pub fn cut(&mut self, base_index: u64) {
        while self.marks.get(1).is_some_and(|(index, _)| *index <= base_index) {
            self.marks.pop_front();
        }
    }

    /// Bytes of the log, exact to one mark.
    pub fn bytes(&self) -> u64 {
        self.last.1 - self.marks.front().map_or(self.last.1, |(_, bytes)| *bytes)
    }

    /// The smallest index behind which at most `keep_bytes` lie, exact to one mark and on the safe
    /// side of the bound; the newest entry's when it alone is larger.
    pub fn index_within(&self, keep_bytes: u64) -> u64 {
        let at = self.marks.partition_point(|(_, bytes)| self.last.1 - bytes > keep_bytes);
        self.marks.get(at).map_or(self.last.0, |(index, _)| *index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(entries: u64, data_bytes: u64) -> LogSizes {
        let mut sizes = LogSizes::new(100);
        (101..=100 + entries).for_each(|index| sizes.appended(index, data_bytes));
        sizes
    }

    #[test]
    fn what_is_kept_by_bytes_is_below_the_bound_and_within_a_mark_of_it() {
        let sizes = filled(10_000, 1_000);
        assert_eq!(sizes.bytes(), 10_000 * 1_064);
        for keep in [100_000, 1_000_000, 5_000_000] {
            let kept = (10_100 - sizes.index_within(keep)) * 1_064;
            assert!(kept <= keep && kept + MARK_BYTES + 1_064 > keep, "{kept} of {keep}");
        }
        assert_eq!(sizes.index_within(u64::MAX), 100, "all of it");
        assert_eq!(sizes.index_within(0), 10_100);
    }

    #[test]
    fn a_cut_makes_it_smaller_and_a_conflict_replaces_the_tail() {
        let mut sizes = filled(1_000, 1_000);
        sizes.cut(600);
        assert!((500 * 1_064..500 * 1_064 + MARK_BYTES + 1_064).contains(&sizes.bytes()), "{}", sizes.bytes());
        sizes.appended(900, 10);
        assert!(sizes.bytes() < 310 * 1_064, "{}", sizes.bytes());
        assert_eq!(sizes.index_within(0), 900);
    }

    #[test]
    fn marks_do_not_grow_with_small_entries() {
        assert!(filled(100_000, 0).marks.len() < 110);
    }
}
