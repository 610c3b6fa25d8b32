//! The timestamps of this host's handshakes. Neither engine takes them from outside: boringtun's are the clock's when a tunnel was
//! made, and rise with the monotonic one from there; the kernel's are the clock's. So the highest that may have been used is
//! stored, and below it no mesh begins.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::{
    base::{
        error::{Error, Exit},
        host::Host,
    },
    output,
    registry::Registry,
};

/// How far the stored one may be behind. If this process is killed and the clock is set back, nodes do not answer for so long.
pub const BEHIND_MS: i64 = 60_000;
/// A clock that is behind by no more, as after a small correction, is waited for.
const WAIT_MS: i64 = 10_000;

/// The highest that may have been used.
#[derive(Debug, Clone)]
pub struct Stamps {
    origin: Instant,
    /// Since 1970, at the origin.
    at_origin: Duration,
}

impl Stamps {
    pub fn new() -> Self {
        Self { origin: Instant::now(), at_origin: Duration::ZERO }
    }

    /// From now on some begin at this time of the clock.
    pub fn begin(&mut self, since_1970: Duration) {
        self.at_origin = self.at_origin.max(since_1970.saturating_sub(self.origin.elapsed()));
    }

    /// In Unix milliseconds; 0: there was none.
    pub fn highest_ms(&self) -> i64 {
        if self.at_origin.is_zero() {
            return 0;
        }
        i64::try_from((self.at_origin + self.origin.elapsed()).as_millis() + 1).unwrap_or(i64::MAX)
    }
}

/// Waits until the clock is above the highest stamp, if that is soon; else it is an error. What is used from then on is stored.
pub async fn claim(registry: &Registry, host: &dyn Host) -> Result<(), Error> {
    loop {
        let (stored, now) = (registry.stamp_ms()?, host.now_ms());
        match behind(stored, now) {
            None => return registry.raise_stamp(now),
            Some(ms) if ms <= WAIT_MS => sleep(Duration::from_millis(ms.unsigned_abs())).await,
            Some(_) => {
                return Err(Error::new(
                    Exit::Other,
                    format!(
                        "this host's clock says {}, but handshakes of this mesh were stamped up to {}, and a node answers \
                         none that is below: set the clock right; if it is right and was ahead then, see \"The clock\" in \
                         docs/os-network-admin.md",
                        output::time(now),
                        output::time(stored)
                    ),
                ));
            }
        }
    }
}

/// How long it takes until a clock is above what is stored. A clock before 1970 says nothing.
fn behind(stored: i64, now: i64) -> Option<i64> {
    (now <= stored).then(|| stored.saturating_sub(now).saturating_add(1))
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Mutex,
        atomic::{AtomicI64, Ordering},
    };

    use super::*;
    use crate::base::host::system;

    struct Clock(AtomicI64, Mutex<Option<Instant>>);

    impl Host for Clock {
        fn since_1970(&self) -> Duration {
            let begun = *self.1.lock().unwrap().get_or_insert_with(Instant::now);
            Duration::from_millis(self.0.load(Ordering::Relaxed).unsigned_abs()) + begun.elapsed()
        }

        fn fill(&self, _: &mut [u8]) -> Result<(), Error> {
            unreachable!("nothing is random here")
        }
    }

    #[tokio::test(start_paused = true)]
    async fn stamps_rise_with_time_whatever_the_clock_does() {
        let mut stamps = Stamps::new();
        assert_eq!(stamps.highest_ms(), 0);
        tokio::time::advance(Duration::from_secs(5)).await;
        stamps.begin(Duration::from_secs(1000));
        assert_eq!(stamps.highest_ms(), 1_000_001);
        tokio::time::advance(Duration::from_secs(10)).await;
        // The clock was set back; those that began before go on.
        stamps.begin(Duration::from_secs(900));
        assert_eq!(stamps.highest_ms(), 1_010_001);
        stamps.begin(Duration::from_secs(5000));
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(stamps.highest_ms(), 5_001_001);
    }

    #[tokio::test(start_paused = true)]
    async fn no_mesh_begins_below_the_highest_stamp() {
        const YEAR: i64 = 365 * 24 * 3_600_000;
        let registry = Registry::in_memory(system()).unwrap();
        let clock = Clock(AtomicI64::new(1_700_000_000_000 + YEAR), Mutex::default());
        claim(&registry, &clock).await.unwrap();
        let stored = registry.stamp_ms().unwrap();
        assert_eq!(stored, 1_700_000_000_000 + YEAR);
        // The right clock: an error that names both times.
        clock.0.store(1_700_000_000_000, Ordering::Relaxed);
        let error = claim(&registry, &clock).await.unwrap_err();
        assert!(error.message.contains("2023-11-14T22:13:20Z") && error.message.contains("2024-11-13T22:13:20Z"));
        // It never falls.
        registry.raise_stamp(5).unwrap();
        assert_eq!(registry.stamp_ms().unwrap(), stored);
        // A small correction is waited for.
        clock.0.store(stored - 3000, Ordering::Relaxed);
        *clock.1.lock().unwrap() = None;
        claim(&registry, &clock).await.unwrap();
        assert_eq!(registry.stamp_ms().unwrap(), stored + 1);
        // And the next time is above.
        assert_eq!((behind(stored, stored), behind(0, 0), behind(stored, stored + 1)), (Some(1), Some(1), None));
    }
}
