//! The time of day and randomness: the one seam between the library and its host, so that a simulator gives both.
//!
//! Monotonic time and sleeping are tokio's, whose clock a paused runtime makes virtual. What runs on a given host, an in-memory
//! registry and such a runtime is the same for the same seed, with one exception: the masks of WebSocket frames, which
//! `tungstenite` draws itself. They change bytes of the stream, no length and no decision. WireGuard in user space
//! ([`crate::mesh::engine`]) is boringtun's, which asks the system itself: a simulator does without it.

use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use super::error::{Error, Exit};

pub trait Host: Send + Sync {
    /// Time since 1970. Zero before then.
    fn since_1970(&self) -> Duration;

    /// Fills with bytes that nobody else can know.
    fn fill(&self, bytes: &mut [u8]) -> Result<(), Error>;

    /// Milliseconds since 1970, as the registry has them.
    fn now_ms(&self) -> i64 {
        i64::try_from(self.since_1970().as_millis()).unwrap_or(i64::MAX)
    }
}

impl dyn Host + '_ {
    pub fn random<const N: usize>(&self) -> Result<[u8; N], Error> {
        let mut bytes = [0; N];
        self.fill(&mut bytes)?;
        Ok(bytes)
    }
}

/// An error if the system's clock says that it is before 1970: counters and stamps are made of it, and what counts from there
/// (a WireGuard in user space) cannot run.
pub fn check_clock() -> Result<(), Error> {
    check_time(SystemTime::now())
}

fn check_time(now: SystemTime) -> Result<(), Error> {
    let set = "this host's clock says that it is before 1970: set it, then try again";
    now.duration_since(UNIX_EPOCH).map(|_| ()).map_err(|_| Error::new(Exit::Other, set))
}

/// The system that this process runs on.
pub struct System;

impl Host for System {
    fn since_1970(&self) -> Duration {
        SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
    }

    fn fill(&self, bytes: &mut [u8]) -> Result<(), Error> {
        getrandom::fill(bytes)
            .map_err(|error| Error::new(Exit::Other, format!("the system gives no random bytes: {error}")))
    }
}

/// The system, as what is given a host takes it.
pub fn system() -> Arc<dyn Host> {
    Arc::new(System)
}

/// A time in Unix milliseconds, for people.
pub fn time(ms: i64) -> String {
    let since = u64::try_from(ms).ok().map(Duration::from_millis);
    match since.and_then(|since| UNIX_EPOCH.checked_add(since)) {
        // Past this humantime has no form for it.
        Some(time) if ms < 253_402_300_800_000 => humantime::format_rfc3339_seconds(time).to_string(),
        _ => format!("{ms} ms after 1970"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_before_1970_is_named() {
        assert!(check_time(UNIX_EPOCH).is_ok() && check_clock().is_ok());
        let error = check_time(UNIX_EPOCH - Duration::from_secs(1)).unwrap_err();
        assert!(error.message.contains("this host's clock"), "{error}");
    }
}
