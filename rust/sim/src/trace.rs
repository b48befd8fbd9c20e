//! The trace of a run: a hash over everything that happened, and on request the text of it.

use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::queue::Time;

pub struct Trace {
    hash: u64,
    pub events: u64,
    print: bool,
}

impl Trace {
    pub fn new(print: bool) -> Self {
        Self { hash: 0, events: 0, print }
    }

    /// Something happened: `kind` names it, `a` and `b` are its numbers.
    pub fn fold(&mut self, at: Time, kind: u64, a: u64, b: u64) {
        let mut hash = self.hash;
        for part in [at ^ kind << 56, a, b] {
            hash = (hash.rotate_left(5) ^ part).wrapping_mul(0x517c_c1b7_2722_0a95);
        }
        self.hash = hash;
    }

    /// Bytes that left a node.
    pub fn fold_bytes(&mut self, bytes: &[u8]) {
        self.hash = xxh3_64_with_seed(bytes, self.hash);
    }

    pub fn hash(&self) -> u64 {
        self.hash
    }

    pub fn say(&self, at: Time, text: impl FnOnce() -> String) {
        if self.print {
            eprintln!("{:>10.6} {}", at as f64 / 1e6, text());
        }
    }
}
