//! The constants of the paper's section 6.1, in microseconds, and those of the reference implementations.

use clock::Micros;
pub use clock::SECOND;

pub const REKEY_AFTER_MESSAGES: u64 = 1 << 60;
pub const REJECT_AFTER_MESSAGES: u64 = u64::MAX - (1 << 13);
pub const REKEY_AFTER_TIME: Micros = 120 * SECOND;
pub const REJECT_AFTER_TIME: Micros = 180 * SECOND;
pub const REKEY_ATTEMPT_TIME: Micros = 90 * SECOND;
pub const REKEY_TIMEOUT: Micros = 5 * SECOND;
pub const KEEPALIVE_TIMEOUT: Micros = 10 * SECOND;
/// Added to a wait at random, so that two peers do not go on meeting each other.
pub const JITTER: u32 = 333_000;
/// How long a cookie, and the secret that cookies are made of, are good for.
pub const COOKIE_TIME: Micros = 120 * SECOND;
/// An initiator is heard this often at most.
pub const INITIATION_INTERVAL: Micros = SECOND / 50;
