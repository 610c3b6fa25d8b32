//! Who is heard when more comes than can be checked.

use fair::{Draw, Reservoir};

/// How many of a kind may wait.
pub const PLACES: usize = 8;

pub type Waiting<T> = Reservoir<T, PLACES>;

/// A small generator (SplitMix64), for choices only: no secret and no address is made with it.
pub struct Choice(u64);

impl Choice {
    pub fn new(seed: &[u8; 32]) -> Self {
        let [a, b, c, d, e, f, g, h, ..] = *seed;
        Self(u64::from_le_bytes([a, b, c, d, e, f, g, h]))
    }

    /// Uniform below `range`; 0 if that is 0.
    pub fn below(&mut self, range: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        scale(z ^ (z >> 31), range)
    }
}

impl Draw for Choice {
    fn below(&mut self, range: u32) -> u32 {
        Self::below(self, range.into()) as u32
    }
}

/// Brings a random number below `range`, by multiplying, so that no value is favoured by more than 2^-64 of the range.
pub fn scale(random: u64, range: u64) -> u64 {
    ((u128::from(random) * u128::from(range)) >> 64) as u64
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_scaled_number_is_below_its_range(random: u64, range: u64) {
            let scaled = scale(random, range);
            prop_assert!(scaled < range || (range == 0 && scaled == 0));
        }
    }
}
