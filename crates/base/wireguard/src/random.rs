//! Randomness from a seed, with fast key erasure: each output comes with the next key, which overwrites the last.

use crypto::{Secret, noise::hkdf2};

pub struct Random(Secret);

impl Random {
    pub fn new(seed: Secret) -> Self {
        Self(seed)
    }

    /// What was there stays in: a seed that is worth nothing does no harm.
    pub fn reseed(&mut self, seed: &Secret) {
        let [key, _] = hkdf2(&self.0, &**seed);
        self.0 = key;
    }

    pub fn draw(&mut self) -> Secret {
        let [key, output] = hkdf2(&self.0, &[]);
        self.0 = key;
        output
    }

    /// The first `N` bytes of an output.
    pub fn bytes<const N: usize>(&mut self) -> [u8; N] {
        const { assert!(N <= 32) };
        let mut bytes = [0; N];
        bytes.copy_from_slice(&self.draw()[..N]);
        bytes
    }

    pub fn number(&mut self) -> u32 {
        u32::from_le_bytes(self.bytes())
    }
}

impl fair::Draw for Random {
    /// By multiplying: no value is favoured by more than 2^-32 of the range.
    fn below(&mut self, range: u32) -> u32 {
        ((u64::from(self.number()) * u64::from(range)) >> 32) as u32
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn outputs_do_not_repeat_and_the_old_key_is_gone() {
        let mut random = Random::new(Secret::new([1; 32]));
        let mut seen = HashSet::new();
        for _ in 0..1000 {
            let key = *random.0;
            let output = *random.draw();
            assert_ne!(*random.0, key);
            assert!(seen.insert(key) && seen.insert(output));
        }
    }

    #[test]
    fn a_reseed_changes_what_follows_and_keeps_the_old_key_in() {
        let next = |key: u8, seed: Option<u8>| {
            let mut random = Random::new(Secret::new([key; 32]));
            if let Some(seed) = seed {
                random.reseed(&Secret::new([seed; 32]));
            }
            *random.draw()
        };
        let outputs: HashSet<_> =
            [(1, None), (1, Some(1)), (1, Some(2)), (2, Some(1))].map(|(key, seed)| next(key, seed)).into();
        assert_eq!(outputs.len(), 4);
    }
}
