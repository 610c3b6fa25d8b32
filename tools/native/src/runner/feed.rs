//! Fills the pipe behind an entropy device, as fast as the domain drains it.

use std::{
    io::{self, Write},
    os::fd::OwnedFd,
    thread,
};

use super::Entropy;

/// Bytes that are written to a pipe at a time: a page of it.
const CHUNK: usize = 4096;
/// A biased bit is one for this many of a byte's 256 values, which is a probability of 0.9.
const MOSTLY: u8 = 230;
const STUCK: u8 = 0x5a;

/// Feeds a pipe from a source until the other end is closed.
pub fn feed(pipe: OwnedFd, source: Entropy) -> io::Result<()> {
    let mut pipe = std::fs::File::from(pipe);
    let mut feeder = move || {
        let mut given = 0;
        let mut chunk = [0; CHUNK];
        loop {
            fill(source, given, &mut chunk)?;
            pipe.write_all(&chunk)?;
            given += CHUNK as u64;
        }
    };
    // Its only end is the closed pipe: the domain's death.
    let run = move || drop::<io::Result<()>>(feeder());
    thread::Builder::new().name("entropy".to_owned()).spawn(run).map(drop)
}

fn fill(source: Entropy, given: u64, chunk: &mut [u8]) -> io::Result<()> {
    match source {
        Entropy::Good => random(chunk),
        Entropy::Stuck => {
            chunk.fill(STUCK);
            Ok(())
        }
        Entropy::Biased => {
            let mut bits = [0; 8];
            for byte in chunk {
                random(&mut bits)?;
                *byte = bits.iter().fold(0, |byte, bit| byte << 1 | u8::from(*bit < MOSTLY));
            }
            Ok(())
        }
        Entropy::FailsAfter(bytes) => {
            let good = usize::try_from(bytes.saturating_sub(given)).unwrap_or(usize::MAX).min(chunk.len());
            let (good, bad) = chunk.split_at_mut(good);
            bad.fill(STUCK);
            random(good)
        }
    }
}

fn random(to: &mut [u8]) -> io::Result<()> {
    getrandom::fill(to).map_err(|error| io::Error::other(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(source: Entropy, given: u64) -> Vec<u8> {
        let mut bytes = vec![0; 8192];
        fill(source, given, &mut bytes).unwrap();
        bytes
    }

    #[test]
    fn a_source_fails_at_exactly_its_byte() {
        let ends_stuck = |bytes: &[u8]| bytes.iter().rev().take_while(|byte| **byte == STUCK).count();
        assert_eq!(ends_stuck(&filled(Entropy::Stuck, 0)), 8192);
        // The last good byte happens to be the stuck value once in 256 times; 16 in a row, never.
        assert!((8092..8108).contains(&ends_stuck(&filled(Entropy::FailsAfter(10_100), 10_000))));
        assert_eq!(ends_stuck(&filled(Entropy::FailsAfter(10_000), 10_000)), 8192);
        assert!(ends_stuck(&filled(Entropy::FailsAfter(u64::MAX), 0)) < 16);
    }

    #[test]
    fn a_biased_source_is_biased() {
        let ones: u32 = filled(Entropy::Biased, 0).iter().map(|byte| byte.count_ones()).sum();
        // 65536 bits at 0.898: the mean is 58880, the standard deviation 77.
        assert!((58_000..59_800).contains(&ones), "{ones}");
    }
}
