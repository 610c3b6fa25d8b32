//! Sources of samples, good and bad, the same in every run.

use calls::entropy::Samples;
use zerocopy::FromZeros;

pub trait Source {
    fn sample(&mut self) -> u8;
}

/// Every byte equally likely.
pub struct Good(u64);

impl Good {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// splitmix64.
    pub fn word(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let word = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let word = (word ^ word >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ word >> 31
    }
}

impl Source for Good {
    fn sample(&mut self) -> u8 {
        (self.word() >> 56) as u8
    }
}

/// The same byte for ever.
pub struct Stuck(pub u8);

impl Source for Stuck {
    fn sample(&mut self) -> u8 {
        self.0
    }
}

/// Each bit is 1 with probability `one`.
pub struct Biased {
    good: Good,
    pub one: f64,
}

impl Biased {
    pub fn new(seed: u64, one: f64) -> Self {
        Self { good: Good::new(seed), one }
    }
}

impl Source for Biased {
    fn sample(&mut self) -> u8 {
        (0..8).fold(0, |byte, _| {
            let unit = (self.good.word() >> 11) as f64 / (1u64 << 53) as f64;
            byte << 1 | u8::from(unit < self.one)
        })
    }
}

pub fn block(number: u64, source: &mut (impl Source + ?Sized)) -> Samples {
    let mut block = Samples::new_zeroed();
    block.number = number;
    block.raw.iter_mut().for_each(|sample| *sample = source.sample());
    block.jitter.iter_mut().for_each(|byte| *byte = number as u8);
    block
}
