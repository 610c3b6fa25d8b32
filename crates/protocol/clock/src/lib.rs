//! How time is counted, by the domains and by what both ends share.
#![no_std]
#![forbid(unsafe_code)]

/// Microseconds on a monotonic counter of one's own; where it starts means nothing.
pub type Micros = u64;

pub const SECOND: Micros = 1_000_000;
