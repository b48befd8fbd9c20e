//! Reading, changing and hashing rows, whatever holds them.

use super::Cf;

const ROW_HASH_BUFFER_BYTES: usize = 1_024;
/// Most rows fit into this, and a buffer is cleared before it is filled.
const SMALL_BUFFER_BYTES: usize = 256;

/// H of DESIGN §5: what one row adds, modulo 2^128, to the state hash. Defined over
/// `[cf: u8][key length: u32 BE][key][value]`, with `value` as it is stored (version byte included).
/// Rows of column families that are not [`Cf::hashed`] are never counted.
pub fn row_hash(cf: Cf, key: &[u8], value: &[u8]) -> u128 {
    let key_length = u32::try_from(key.len()).expect("keys are far below 4 GiB");
    let total = 5 + key.len() + value.len();
    if total <= ROW_HASH_BUFFER_BYTES {
        // Setting up a streaming hasher costs more than copying a small row.
        let hash = |buffer: &mut [u8]| {
            buffer[0] = cf as u8;
            buffer[1..5].copy_from_slice(&key_length.to_be_bytes());
            buffer[5..5 + key.len()].copy_from_slice(key);
            buffer[5 + key.len()..].copy_from_slice(value);
            xxhash_rust::xxh3::xxh3_128(buffer)
        };
        return match total <= SMALL_BUFFER_BYTES {
            true => hash(&mut [0u8; SMALL_BUFFER_BYTES][..total]),
            false => hash(&mut [0u8; ROW_HASH_BUFFER_BYTES][..total]),
        };
    }
    let mut hasher = xxhash_rust::xxh3::Xxh3::new();
    hasher.update(&[cf as u8]);
    hasher.update(&key_length.to_be_bytes());
    hasher.update(key);
    hasher.update(value);
    hasher.digest128()
}

/// One change to a row: what apply computes and a state store writes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    pub cf: Cf,
    pub key: Vec<u8>,
    /// `None` deletes the row.
    pub value: Option<Vec<u8>>,
}

/// A row could not be read: the node stops (DESIGN rule 4).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the state store cannot be read: {0}")]
pub struct ReadError(pub String);

/// Reading of rows: a state store, a snapshot of one, or either with pending changes on top.
pub trait StateRead {
    fn get(&self, cf: Cf, key: &[u8]) -> Result<Option<Vec<u8>>, ReadError>;

    /// Visits rows in key order from `start` (included) while the key begins with `prefix`, until
    /// `visit` returns false.
    fn scan(&self, cf: Cf, prefix: &[u8], start: &[u8], visit: &mut dyn FnMut(&[u8], &[u8]) -> bool) -> Result<(), ReadError>;
}

#[cfg(test)]
mod tests {
    use super::{ROW_HASH_BUFFER_BYTES, SMALL_BUFFER_BYTES, row_hash};
    use crate::row::Cf;

    /// The definition, written out.
    fn defined(cf: Cf, key: &[u8], value: &[u8]) -> u128 {
        let mut bytes = vec![cf as u8];
        bytes.extend_from_slice(&(key.len() as u32).to_be_bytes());
        bytes.extend_from_slice(key);
        bytes.extend_from_slice(value);
        xxhash_rust::xxh3::xxh3_128(&bytes)
    }

    #[test]
    fn short_and_long_rows_are_hashed_by_the_one_definition() {
        let value: Vec<u8> = (0..2 * ROW_HASH_BUFFER_BYTES).map(|i| (i % 251) as u8).collect();
        for length in [
            0,
            1,
            240,
            241,
            SMALL_BUFFER_BYTES - 8,
            SMALL_BUFFER_BYTES - 7,
            ROW_HASH_BUFFER_BYTES - 9,
            ROW_HASH_BUFFER_BYTES - 8,
            value.len(),
        ] {
            let value = &value[..length];
            assert_eq!(row_hash(Cf::Task, b"key", value), defined(Cf::Task, b"key", value), "{length} bytes of value");
        }
    }

    #[test]
    fn the_border_between_key_and_value_counts() {
        assert_ne!(row_hash(Cf::Key, b"ab", b"c"), row_hash(Cf::Key, b"a", b"bc"));
        assert_ne!(row_hash(Cf::Key, b"a", b"b"), row_hash(Cf::Task, b"a", b"b"));
    }
}
