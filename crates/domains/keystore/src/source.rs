//! The one source of randomness: raw samples come in, are tested, condensed, and drawn from. Nothing else of the
//! keystore sees a sample, the tests or the generator.

mod drbg;
mod health;

use calls::entropy::Samples;
use crypto::{Secret, label};
use shm::{ReadOnly, TooSmall, cell};

use crate::Channel;

#[cfg(not(test))]
use drbg::{Drbg, Pool};
#[cfg(test)]
pub use drbg::{Drbg, Pool, RESEED_AFTER, RESEED_LIMIT};
pub use health::Failure;
#[cfg(not(test))]
use health::Health;
#[cfg(test)]
pub use health::{Health, STARTUP};

/// A source is silent when so many requests that waited for one block have been given up. Each has some seconds.
const PATIENCE: u32 = 3;

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
        let health = core::mem::take(&mut self.health);
        Source {
            health,
            drbg,
            asked: None,
            renewed: None,
            waiting: None,
            last: Channel::Entropy,
            given_up: 0,
            lost: None,
        }
    }
}

/// The generator, with the tests that go on.
pub struct Source {
    health: Health,
    drbg: Drbg,
    /// A block was asked for and has not come.
    asked: Option<Wanted>,
    /// The block that was asked for on behalf of this client has been mixed in.
    renewed: Option<Channel>,
    /// The clients that were told to wait, of those the one whose turn is next after `last`.
    waiting: Option<(Channel, u64)>,
    /// Who had the last block.
    last: Channel,
    /// How many requests of the client that a block was asked for have been given up since.
    given_up: u32,
    /// The test that the samples have failed since.
    lost: Option<Failure>,
}

/// Why a block was asked for.
#[derive(Clone, Copy)]
enum Wanted {
    /// The generator has given enough since the last.
    Due,
    /// This client has a request that waits for one; the number of the last that did.
    For(Channel, u64),
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
                self.given_up = 0;
                if let Some(Wanted::For(client, _)) = self.asked.take() {
                    self.renewed = Some(client);
                }
            }
            Err(failure) => self.lost = Some(failure),
        }
    }

    /// Whether a block has been mixed in that was asked for after a request of this client's had come, once for each. If
    /// not, one will be asked for. Every request that waits is to be looked at in each step.
    pub fn renewed(&mut self, client: Channel, number: u64) -> bool {
        if self.renewed.take_if(|of| *of == client).is_some() {
            self.last = client;
            return true;
        }
        // In turn, so that nobody waits for ever behind others who ask without end.
        let turn = |(of, _): &(Channel, u64)| (*of <= self.last, *of);
        self.waiting = self.waiting.into_iter().chain([(client, number)]).min_by_key(turn);
        if let Some(Wanted::For(of, last)) = &mut self.asked
            && *of == client
            && *last != number
        {
            *last = number;
            self.given_up = self.given_up.saturating_add(1);
        }
        false
    }

    /// Asks for a block if a request waits for one or the generator wants one, one at a time. A block that was under way
    /// when a request came is not younger than that request. Called after all requests have been looked at: a block whose
    /// request is gone serves no later one.
    pub fn replenish(&mut self, feed: &mut Feed<'_>) {
        self.renewed = None;
        let waiting = self.waiting.take().map(|(client, number)| Wanted::For(client, number));
        let wanted = waiting.or_else(|| self.drbg.due().then_some(Wanted::Due));
        if self.lost.is_none() && self.asked.is_none() && wanted.is_some() {
            self.asked = wanted;
            feed.want();
        }
    }

    /// The test that has failed.
    pub fn lost(&self) -> Option<Failure> {
        self.lost
    }

    /// A block was asked for long ago. There is no clock here: what is drawn meanwhile counts, and who loses patience.
    pub fn is_silent(&self) -> bool {
        self.lost.is_none() && (self.drbg.overdue() || self.given_up >= PATIENCE)
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
