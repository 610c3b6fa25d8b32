//! `entropy` to `keystore`: raw samples, latest wins. The keystore's notification says that the block
//! is used up and another is wanted; no bytes flow back.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Samples in a block, one byte each.
pub const BLOCK: usize = 256;

/// One block of raw, untested samples.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Samples {
    /// Rises by one per block; the keystore uses each number once.
    pub number: u64,
    /// What the source gave.
    pub raw: [u8; BLOCK],
    /// Low bits of the counter when parts of the block arrived: mixed in, credited with nothing.
    pub jitter: [u8; 32],
}
