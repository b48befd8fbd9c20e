//! The state hash: the sum modulo 2¹²⁸ of one hash per replicated row (DESIGN §5).
//!
//! A sum does not depend on the order of rows, and a change costs one subtraction and one addition.

use codec::row::{Cf, row_hash};

/// The sum over all rows of hashed column families.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HashSum(u128);

impl HashSum {
    /// From the 16 big-endian bytes of a meta row; anything else is the empty sum.
    pub fn from_bytes(bytes: &[u8]) -> Self {
        Self(<[u8; 16]>::try_from(bytes).map(u128::from_be_bytes).unwrap_or(0))
    }

    pub fn to_bytes(self) -> [u8; 16] {
        self.0.to_be_bytes()
    }

    /// Counts one row in. Rows of families that are not hashed change nothing.
    pub fn add_row(&mut self, cf: Cf, key: &[u8], value: &[u8]) {
        if cf.hashed() {
            self.add(row_hash(cf, key, value));
        }
    }

    pub fn add(&mut self, hash: u128) {
        self.0 = self.0.wrapping_add(hash);
    }

    pub fn remove(&mut self, hash: u128) {
        self.0 = self.0.wrapping_sub(hash);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sum_forgets_the_order_and_takes_back_what_it_added() {
        let rows: [(&[u8], &[u8]); 3] = [(b"a", b"1"), (b"b", b"2"), (b"c", &[7; 3_000])];
        let mut forward = HashSum::default();
        rows.iter().for_each(|(k, v)| forward.add_row(Cf::Key, k, v));
        let mut backward = HashSum::default();
        rows.iter().rev().for_each(|(k, v)| backward.add_row(Cf::Key, k, v));
        assert_eq!(forward, backward);
        rows.iter().for_each(|(k, v)| backward.remove(row_hash(Cf::Key, k, v)));
        assert_eq!(backward, HashSum::default());
    }

    #[test]
    fn families_that_are_derived_do_not_count() {
        let mut sum = HashSum::default();
        sum.add_row(Cf::Index, b"k", b"v");
        sum.add_row(Cf::Meta, b"", b"v");
        assert_eq!(sum, HashSum::default());
    }
}
