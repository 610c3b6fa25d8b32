//! The two continuous health tests of SP 800-90B, section 4.4, over every sample that the keystore ever
//! looks at, from the first on. A failure is latched: nothing passes after it.
//!
//! docs/entropy.md derives the numbers; a test here computes them again.

use calls::{
    entropy::{BLOCK, Samples},
    keystore::HealthTest,
};
use zerocopy::IntoBytes;
use zeroize::Zeroize;

/// Samples that must pass before a key is made. SP 800-90B, section 4.3, asks for 1024 at least; a source whose bits
/// are 1 nine times in ten gets through so few once in 130 times.
pub const STARTUP: usize = 4096;

/// Repetition count: so many equal samples in a row are a failure. 1 + ceil(20 / H), H = 4 bits per sample.
pub const REPETITION_CUTOFF: u32 = 6;

/// Adaptive proportion: samples of a window, for a source that is not binary.
pub const WINDOW: u32 = 512;

/// Adaptive proportion: the first sample of a window so often in it is a failure. 1 + critbinom(512, 2^-4, 1 - 2^-20).
pub const PROPORTION_CUTOFF: u32 = 62;

/// Which test failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    Repetition,
    Proportion,
}

impl Failure {
    pub const fn test(self) -> HealthTest {
        match self {
            Self::Repetition => HealthTest::Repetition,
            Self::Proportion => HealthTest::Proportion,
        }
    }
}

/// A block that has passed. Only [`Health::test`] makes one, and what uses one up wants it by value: so
/// samples are used tested, and once.
pub struct Tested(Samples);

impl Tested {
    /// Bytes of a block, with those that are credited with nothing.
    pub const SIZE: usize = size_of::<Samples>() - size_of::<u64>();

    pub fn raw(&self) -> &[u8; BLOCK] {
        &self.0.raw
    }

    /// Mixed in beside the samples; no test looks at it and nothing relies on it.
    pub fn jitter(&self) -> &[u8] {
        &self.0.jitter
    }
}

impl Drop for Tested {
    fn drop(&mut self) {
        self.0.as_mut_bytes().zeroize();
    }
}

/// The tests' state.
#[derive(Default)]
pub struct Health {
    last_number: u64,
    failed: Option<Failure>,
    repetition: Repetition,
    proportion: Proportion,
}

impl Health {
    /// Tests a block. `None` if its number says that it, or a later one, was seen already.
    pub fn test(&mut self, mut block: Samples) -> Result<Option<Tested>, Failure> {
        match self.judge(&block) {
            Ok(true) => Ok(Some(Tested(block))),
            outcome => {
                block.as_mut_bytes().zeroize();
                outcome.map(|_| None)
            }
        }
    }

    fn judge(&mut self, block: &Samples) -> Result<bool, Failure> {
        if let Some(failure) = self.failed {
            return Err(failure);
        }
        if block.number <= self.last_number {
            return Ok(false);
        }
        self.last_number = block.number;
        for sample in block.raw {
            let passed = self.repetition.passes(sample).and_then(|()| self.proportion.passes(sample));
            if let Err(failure) = passed {
                self.failed = Some(failure);
                return Err(failure);
            }
        }
        Ok(true)
    }
}

/// SP 800-90B, section 4.4.1.
#[derive(Default)]
struct Repetition {
    value: u8,
    count: u32,
}

impl Repetition {
    fn passes(&mut self, sample: u8) -> Result<(), Failure> {
        if self.count > 0 && sample == self.value {
            self.count += 1;
        } else {
            *self = Self { value: sample, count: 1 };
        }
        if self.count >= REPETITION_CUTOFF { Err(Failure::Repetition) } else { Ok(()) }
    }
}

/// SP 800-90B, section 4.4.2.
#[derive(Default)]
struct Proportion {
    value: u8,
    count: u32,
    seen: u32,
}

impl Proportion {
    fn passes(&mut self, sample: u8) -> Result<(), Failure> {
        if self.seen == 0 {
            *self = Self { value: sample, count: 0, seen: 0 };
        }
        self.count += u32::from(sample == self.value);
        self.seen = (self.seen + 1) % WINDOW;
        if self.count >= PROPORTION_CUTOFF { Err(Failure::Proportion) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use num_bigint::BigUint;

    use super::*;
    use crate::tests::source::{Biased, Good, Source, Stuck, block};

    /// Negative binary logarithm of alpha.
    const ALPHA: u32 = 20;
    /// Claimed min-entropy of a sample, in bits.
    const H: u32 = 4;

    /// How many samples pass before a failure, and which it is; at most `limit`, in whole blocks.
    fn run(source: &mut impl Source, limit: u64) -> (u64, Option<Failure>) {
        let mut health = Health::default();
        for number in 1..=limit / BLOCK as u64 {
            if let Err(failure) = health.test(block(number, source)) {
                return ((number - 1) * BLOCK as u64, Some(failure));
            }
        }
        (limit, None)
    }

    /// The smallest k such that at most k of n trials of probability 2^-h succeed with probability 1 - 2^-a or more.
    fn critbinom(n: u32, h: u32, a: u32) -> u32 {
        let miss = (BigUint::from(1u8) << h) - 1u8;
        // In units of 2^-hn: a term is C(n, k) (2^h - 1)^(n - k).
        let mut term = miss.pow(n);
        let mut sum = term.clone();
        let all = BigUint::from(1u8) << (h * n);
        let enough = (&all << a) - all;
        let mut k = 0;
        while (&sum << a) < enough {
            term = term * (n - k) / (&miss * (k + 1));
            sum += &term;
            k += 1;
        }
        k
    }

    #[test]
    fn the_cutoffs_are_those_of_the_standard() {
        assert_eq!(REPETITION_CUTOFF, 1 + ALPHA.div_ceil(H));
        assert_eq!(PROPORTION_CUTOFF, 1 + critbinom(WINDOW, H, ALPHA));
        assert!(STARTUP >= 1024 && STARTUP.is_multiple_of(BLOCK));
        // The binomial itself, where it can be counted by hand: 1 of 2 fair coins or fewer in 3 of 4 cases.
        assert_eq!((critbinom(2, 1, 2), critbinom(2, 1, 3), critbinom(3, 1, 1)), (1, 2, 1));
    }

    #[test]
    fn repetition_fails_at_the_cutoff_and_not_before() {
        let mut samples = Repetition::default();
        for run in 1..REPETITION_CUTOFF {
            for _ in 0..run {
                assert_eq!(samples.passes(0), Ok(()));
            }
            assert_eq!(samples.passes(run as u8), Ok(()));
            // What follows a run starts a new one.
            assert_eq!(samples.count, 1);
        }
        let results: std::vec::Vec<_> = (0..REPETITION_CUTOFF).map(|_| samples.passes(0)).collect();
        assert!(results[..REPETITION_CUTOFF as usize - 1].iter().all(Result::is_ok));
        assert_eq!(results.last(), Some(&Err(Failure::Repetition)));
    }

    #[test]
    fn proportion_fails_at_the_cutoff_and_counts_within_a_window() {
        // The first sample of a window, `often` times in it, never twice in a row.
        let window =
            |often: u32| (0..WINDOW).map(move |i| if i % 2 == 0 && i / 2 < often { 7 } else { 100 + i as u8 % 50 });
        let mut proportion = Proportion::default();
        for _ in 0..3 {
            assert!(window(PROPORTION_CUTOFF - 1).all(|sample| proportion.passes(sample).is_ok()));
        }
        let failed = window(PROPORTION_CUTOFF).position(|sample| proportion.passes(sample).is_err());
        assert_eq!(failed, Some(2 * (PROPORTION_CUTOFF as usize - 1)));
    }

    #[test]
    fn a_run_across_two_blocks_is_one_run() {
        let mut health = Health::default();
        let mut first = block(1, &mut Good::new(1));
        first.raw[BLOCK - 3..].fill(9);
        let mut second = block(2, &mut Good::new(2));
        second.raw[..3].fill(9);
        assert!(matches!(health.test(first), Ok(Some(_))));
        assert_eq!(health.test(second).err(), Some(Failure::Repetition));
    }

    #[test]
    fn a_failure_is_latched() {
        let mut health = Health::default();
        assert_eq!(health.test(block(1, &mut Stuck(3))).err(), Some(Failure::Repetition));
        assert_eq!(health.test(block(2, &mut Good::new(1))).err(), Some(Failure::Repetition));
    }

    #[test]
    fn a_number_counts_once_and_may_skip() {
        let mut health = Health::default();
        let mut good = Good::new(1);
        let mut passes = |number| health.test(block(number, &mut good)).unwrap().is_some();
        assert!(!passes(0));
        assert!(passes(3));
        assert!(!passes(3) && !passes(2));
        assert!(passes(4) && passes(1000) && passes(u64::MAX));
        assert!(!passes(u64::MAX) && !passes(1));
    }

    #[test]
    fn a_good_source_raises_no_alarm() {
        assert_eq!(run(&mut Good::new(1), 4 << 20), (4 << 20, None));
    }

    #[test]
    fn stuck_and_biased_sources_do_not_pass_the_start() {
        for value in 0..=255 {
            assert_eq!(run(&mut Stuck(value), STARTUP as u64), (0, Some(Failure::Repetition)));
        }
        for seed in 0..2000 {
            let (passed, failure) = run(&mut Biased::new(seed, 0.9), STARTUP as u64);
            assert!(failure.is_some() && passed < STARTUP as u64, "seed {seed}");
        }
    }

    /// docs/entropy.md says what of these is seen.
    #[test]
    fn up_to_eight_values_in_turn_are_caught_and_more_are_not() {
        struct Turning(u8, u16);
        impl Source for Turning {
            fn sample(&mut self) -> u8 {
                self.0 = ((u16::from(self.0) + 1) % self.1) as u8;
                self.0
            }
        }
        let caught = |values| run(&mut Turning(0, values), STARTUP as u64).1;
        for values in 2..=8 {
            assert_eq!(caught(values), Some(Failure::Proportion), "{values}");
        }
        for values in 9..=256 {
            assert_eq!(caught(values), None, "{values}");
        }
    }

    #[test]
    fn a_slowly_failing_source_is_caught_on_its_way() {
        /// Every bit starts fair and drifts to 1 with every sample.
        struct Failing(Biased);
        impl Source for Failing {
            fn sample(&mut self) -> u8 {
                self.0.one = (self.0.one + 1e-6).min(1.0);
                self.0.sample()
            }
        }
        for seed in 0..20 {
            let (passed, failure) = run(&mut Failing(Biased::new(seed, 0.5)), 1 << 20);
            assert!(failure.is_some());
            // Caught after it has left fair, and before a bit is 1 nine times in ten.
            assert!((50_000..400_000).contains(&passed), "seed {seed}: {passed}");
        }
    }
}
