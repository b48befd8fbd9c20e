//! The simulator's only source of chance: xoshiro256++ (Blackman, Vigna, 2019), seeded by SplitMix64.
//!
//! Streams of one seed are independent of each other: a fault that is left out while a failing seed
//! is shrunk does not change what the network or the clients draw.

#[derive(Clone, Debug)]
pub struct Rng([u64; 4]);

fn splitmix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

impl Rng {
    /// Stream number `stream` of `seed`.
    pub fn new(seed: u64, stream: u64) -> Self {
        let mut state = seed ^ stream.wrapping_mul(0xd6e8_feb8_6659_fd93).rotate_left(32);
        Self(std::array::from_fn(|_| splitmix(&mut state)))
    }

    pub fn number(&mut self) -> u64 {
        let s = &mut self.0;
        let result = s[0].wrapping_add(s[3]).rotate_left(23).wrapping_add(s[0]);
        let t = s[1] << 17;
        s[2] ^= s[0];
        s[3] ^= s[1];
        s[1] ^= s[2];
        s[0] ^= s[3];
        s[2] ^= t;
        s[3] = s[3].rotate_left(45);
        result
    }

    /// A number below `bound` (which is not 0). The bias of the multiplication is below 2⁻⁴⁰ here.
    pub fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.number()) * u128::from(bound)) >> 64) as u64
    }

    /// A number in `[low, high)`.
    pub fn range(&mut self, low: u64, high: u64) -> u64 {
        low + self.below((high - low).max(1))
    }

    /// True in `bp` of 10,000 cases.
    pub fn chance(&mut self, bp: u64) -> bool {
        bp > 0 && self.below(10_000) < bp
    }

    pub fn pick<'a, T>(&mut self, items: &'a [T]) -> Option<&'a T> {
        if items.is_empty() { None } else { items.get(self.below(items.len() as u64) as usize) }
    }

    /// One of the items, by weight; the weights must not all be 0.
    pub fn weighted<T: Copy>(&mut self, items: &[(T, u32)]) -> T {
        let mut at = self.below(items.iter().map(|(_, w)| u64::from(*w)).sum());
        for (item, weight) in items {
            match at.checked_sub(u64::from(*weight)) {
                Some(rest) => at = rest,
                None => return *item,
            }
        }
        items[0].0
    }

    /// A duration that is mostly near `low` and now and then near `high`.
    pub fn skewed(&mut self, low: u64, high: u64) -> u64 {
        let shift = self.below(6);
        low + self.below(((high - low) >> shift).max(1))
    }

    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for at in (1..items.len()).rev() {
            items.swap(at, self.below(at as u64 + 1) as usize);
        }
    }
}
