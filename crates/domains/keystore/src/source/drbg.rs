//! Conditioning and the generator: HKDF-SHA-256 over tested samples, then fast key erasure.
//!
//! Every output comes with the next key, and the old key is overwritten before the output is used:
//! whoever learns the state later learns no output from before.

use calls::entropy::BLOCK;
use crypto::{Label, Secret, label};
use zeroize::Zeroizing;

use super::health::{STARTUP, Tested};

/// Outputs after which a tested block is asked for and mixed in.
pub const RESEED_AFTER: u32 = 256;
/// Outputs after which there are no more until a block has been mixed in.
pub const RESEED_LIMIT: u32 = 64 * RESEED_AFTER;

const BLOCKS: usize = STARTUP / BLOCK;

/// Tested samples, condensed, until there are enough to make a key.
#[derive(Default)]
pub struct Pool {
    state: Secret,
    blocks: usize,
}

impl Pool {
    pub fn full(&self) -> bool {
        self.blocks >= BLOCKS
    }

    pub fn add(&mut self, block: Tested) {
        self.state = mix(&self.state, block);
        self.blocks += 1;
    }

    /// A seed of all that is in the pool and of the device secret: neither alone tells it.
    pub fn seed(&self, device_secret: &Secret, label: Label) -> Secret {
        crypto::derive(&**device_secret, &*self.state, label, &[])
    }
}

/// The samples of a block on top of what was there, which stays in: a block that is worth nothing does no harm.
fn mix(state: &Secret, block: Tested) -> Secret {
    let mut samples = Zeroizing::new([0; Tested::SIZE]);
    let (raw, jitter) = samples.split_at_mut(BLOCK);
    raw.copy_from_slice(block.raw());
    jitter.copy_from_slice(block.jitter());
    crypto::derive(&**state, &*samples, label::DRBG, &[b"samples"])
}

/// The generator.
pub struct Drbg {
    key: Secret,
    outputs: u32,
}

impl Drbg {
    /// `seed` is a [`Pool::seed`] of a full pool.
    pub fn new(seed: Secret) -> Self {
        Self { key: seed, outputs: 0 }
    }

    /// 32 fresh bytes.
    pub fn draw(&mut self) -> Secret {
        let output = crypto::derive(&[], &*self.key, label::DRBG, &[b"output"]);
        self.key = crypto::derive(&[], &*self.key, label::DRBG, &[b"next key"]);
        self.outputs = self.outputs.saturating_add(1);
        output
    }

    /// The first `N` of 32 fresh bytes.
    pub fn bytes<const N: usize>(&mut self) -> [u8; N] {
        const { assert!(N <= 32) };
        let mut bytes = [0; N];
        bytes.copy_from_slice(&self.draw()[..N]);
        bytes
    }

    pub fn reseed(&mut self, block: Tested) {
        self.key = mix(&self.key, block);
        self.outputs = 0;
    }

    /// A tested block is wanted.
    pub fn due(&self) -> bool {
        self.outputs >= RESEED_AFTER
    }

    /// It has been wanted for as long as one lasts.
    pub fn overdue(&self) -> bool {
        self.outputs >= 2 * RESEED_AFTER
    }

    /// Nothing fresh is left to give until a block has been mixed in.
    pub fn spent(&self) -> bool {
        self.outputs >= RESEED_LIMIT
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use calls::entropy::Samples;
    use zerocopy::IntoBytes;

    use super::*;
    use crate::{source::Health, tests::source};

    fn tested(health: &mut Health, block: Samples) -> Tested {
        health.test(block).ok().flatten().unwrap()
    }

    fn first_block(seed: u64) -> Tested {
        tested(&mut Health::default(), source::block(1, &mut source::Good::new(seed)))
    }

    /// A full pool, with one bit of one byte of one block changed.
    fn pool(change: Option<(usize, usize)>) -> Pool {
        let (mut health, mut source) = (Health::default(), source::Good::new(1));
        let mut pool = Pool::default();
        for number in 0..BLOCKS {
            let mut block = source::block(1 + number as u64, &mut source);
            if let Some((_, at)) = change.filter(|(of, _)| *of == number) {
                block.as_mut_bytes()[8 + at] ^= 1;
            }
            assert!(!pool.full());
            pool.add(tested(&mut health, block));
        }
        assert!(pool.full());
        pool
    }

    #[test]
    fn a_seed_hangs_on_device_secret_label_and_every_sample() {
        let secret = Secret::new([1; 32]);
        let first = pool(None).seed(&secret, label::ROOT_SEED);
        assert_eq!(first, pool(None).seed(&secret, label::ROOT_SEED));
        assert_ne!(first, pool(None).seed(&secret, label::DRBG));
        assert_ne!(first, pool(None).seed(&Secret::new([2; 32]), label::ROOT_SEED));
        for block in 0..BLOCKS {
            for at in (0..Tested::SIZE).step_by(7) {
                assert_ne!(first, pool(Some((block, at))).seed(&secret, label::ROOT_SEED), "{block}, {at}");
            }
        }
    }

    #[test]
    fn outputs_do_not_repeat_and_the_old_key_is_gone() {
        let mut drbg = Drbg::new(Secret::new([1; 32]));
        let mut seen = HashSet::new();
        for _ in 0..2000 {
            let key = *drbg.key;
            let output = *drbg.draw();
            assert_ne!(*drbg.key, key);
            assert!(seen.insert(key) && seen.insert(output));
        }
    }

    #[test]
    fn a_reseed_changes_what_follows_and_keeps_the_old_key_in() {
        let next = |key: u8, seed: Option<u64>| {
            let mut drbg = Drbg::new(Secret::new([key; 32]));
            if let Some(seed) = seed {
                drbg.reseed(first_block(seed));
            }
            *drbg.draw()
        };
        let outputs: HashSet<_> =
            [(1, None), (1, Some(1)), (1, Some(2)), (2, Some(1))].map(|(key, seed)| next(key, seed)).into();
        assert_eq!(outputs.len(), 4);
    }

    #[test]
    fn it_asks_for_a_block_and_at_last_insists() {
        let mut drbg = Drbg::new(Secret::new([1; 32]));
        for outputs in 0..=RESEED_LIMIT {
            assert_eq!(drbg.due(), outputs >= RESEED_AFTER);
            assert_eq!(drbg.overdue(), outputs >= 2 * RESEED_AFTER);
            assert_eq!(drbg.spent(), outputs >= RESEED_LIMIT);
            drbg.draw();
        }
        drbg.reseed(first_block(1));
        assert!(!drbg.due() && !drbg.overdue() && !drbg.spent());
    }
}
