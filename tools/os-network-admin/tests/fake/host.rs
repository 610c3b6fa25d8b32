//! A host that is the same for the same seed: its randomness is a hash of the seed, its time of day the runtime's clock.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use os_network_admin::base::{error::Error, host::Host};
use tokio::time::Instant;

/// Some day.
const SINCE_1970: Duration = Duration::from_secs(1_700_000_000);

pub struct Seeded {
    seed: u8,
    drawn: AtomicU64,
    start: Instant,
}

impl Seeded {
    /// Of a paused runtime, in which it must be made.
    pub fn shared(seed: u8) -> Arc<dyn Host> {
        Arc::new(Self { seed, drawn: AtomicU64::new(0), start: Instant::now() })
    }
}

impl Host for Seeded {
    fn since_1970(&self) -> Duration {
        SINCE_1970 + self.start.elapsed()
    }

    fn fill(&self, bytes: &mut [u8]) -> Result<(), Error> {
        for block in bytes.chunks_mut(32) {
            let number = self.drawn.fetch_add(1, Ordering::Relaxed);
            let hash = crypto::sha256(&[&[self.seed][..], &number.to_be_bytes()].concat());
            block.copy_from_slice(&hash[..block.len()]);
        }
        Ok(())
    }
}
