//! Everything random in a simulation comes from its seed.

use std::{cell::Cell, rc::Rc};

/// SplitMix64 (Steele, Lea, Flood 2014): small, and good enough for schedules and for samples that are only tested. Copies
/// of the handle go on with the same sequence.
#[derive(Clone)]
pub struct Rng(Rc<Cell<u64>>);

impl Rng {
    pub fn new(seed: u64) -> Self {
        Self(Rc::new(Cell::new(seed)))
    }

    /// Another sequence, that depends on this one's next value only.
    pub fn split(&self) -> Self {
        Self::new(self.next())
    }

    pub fn next(&self) -> u64 {
        let state = self.0.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
        self.0.set(state);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Below `bound`, which is not zero. The bias is below 2^-32 for what is simulated here.
    pub fn below(&self, bound: u64) -> u64 {
        self.next() % bound
    }

    pub fn fill(&self, to: &mut [u8]) {
        for chunk in to.chunks_mut(8) {
            let bytes = self.next().to_le_bytes();
            chunk.iter_mut().zip(bytes).for_each(|(to, byte)| *to = byte);
        }
    }
}
