//! The one source of randomness: raw samples come in, are tested, condensed, and drawn from. Nothing else of the
//! keystore sees a sample, the tests or the generator.

mod drbg;
mod health;

use calls::entropy::Samples;
use crypto::{Secret, label};
use shm::{ReadOnly, TooSmall, cell};

#[cfg(not(test))]
use drbg::{Drbg, Pool};
#[cfg(test)]
pub use drbg::{Drbg, Pool, RESEED_AFTER, RESEED_LIMIT};
pub use health::Failure;
#[cfg(not(test))]
use health::Health;
#[cfg(test)]
pub use health::{Health, STARTUP};

/// The blocks of samples, and the notification back that another is wanted.
pub struct Feed<'a> {
    cell: cell::Reader<'a, Samples>,
    signal: bool,
}

impl<'a> Feed<'a> {
    pub fn new(region: ReadOnly<'a>) -> Result<Self, TooSmall> {
        Ok(Self { cell: cell::Reader::new(region)?, signal: false })
    }

    fn want(&mut self) {
        self.signal = true;
    }

    /// Whether the source's domain is to be notified since this was last asked.
    pub fn take_signal(&mut self) -> bool {
        core::mem::take(&mut self.signal)
    }
}

/// From power-up until enough samples have passed. There is nothing to draw from yet.
#[derive(Default)]
pub struct Collecting {
    health: Health,
    pool: Pool,
}

impl Collecting {
    /// Takes the block that has come, if one has, and asks for the next. After a failure nothing is made of it.
    pub fn take(&mut self, feed: &mut Feed<'_>) -> Result<(), Failure> {
        let Some(block) = feed.cell.poll() else { return Ok(()) };
        if let Some(block) = self.health.test(block)? {
            self.pool.add(block);
            if !self.pool.full() {
                feed.want();
            }
        }
        Ok(())
    }

    /// Enough samples have passed.
    pub fn full(&self) -> bool {
        self.pool.full()
    }

    /// A root seed, of all samples and the device secret.
    pub fn root_seed(&self, device_secret: &Secret) -> Secret {
        self.pool.seed(device_secret, label::ROOT_SEED)
    }

    /// What there is to draw from, from here on. Only of a pool that is [`Self::full`].
    pub fn source(&mut self, device_secret: &Secret) -> Source {
        let drbg = Drbg::new(self.pool.seed(device_secret, label::DRBG));
        Source { health: core::mem::take(&mut self.health), drbg, asked: false, lost: None }
    }
}

/// The generator, with the tests that go on.
pub struct Source {
    health: Health,
    drbg: Drbg,
    /// A block was asked for and has not come.
    asked: bool,
    /// The test that the samples have failed since.
    lost: Option<Failure>,
}

impl Source {
    /// Mixes in the block that has come, if one has and no test has failed. A block that comes after a failure stays
    /// where it is, for ever.
    pub fn take(&mut self, feed: &mut Feed<'_>) {
        if self.lost.is_some() {
            return;
        }
        let Some(block) = feed.cell.poll() else { return };
        match self.health.test(block) {
            Ok(None) => {}
            Ok(Some(block)) => {
                self.drbg.reseed(block);
                self.asked = false;
            }
            Err(failure) => self.lost = Some(failure),
        }
    }

    /// Asks for a block when the generator wants one, once.
    pub fn replenish(&mut self, feed: &mut Feed<'_>) {
        if self.lost.is_none() && self.drbg.due() && !self.asked {
            self.asked = true;
            feed.want();
        }
    }

    /// The test that has failed.
    pub fn lost(&self) -> Option<Failure> {
        self.lost
    }

    /// A block was asked for long ago. There is no clock here: what is drawn meanwhile counts.
    pub fn is_silent(&self) -> bool {
        self.lost.is_none() && self.drbg.overdue()
    }

    /// There is something fresh to give: no test has failed, and the generator is not used up.
    pub fn is_fresh(&self) -> bool {
        self.lost.is_none() && !self.drbg.spent()
    }

    /// 32 fresh bytes.
    pub fn draw(&mut self) -> Secret {
        self.drbg.draw()
    }

    /// The first `N` of 32 fresh bytes.
    pub fn bytes<const N: usize>(&mut self) -> [u8; N] {
        self.drbg.bytes()
    }
}
