//! Windows, deadlines and budgets: a read-only region that the image prefills. All zero means the defaults.

use shm::{Micros, ReadOnly, cell};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, little_endian::U32};

pub const MAGIC: [u8; 8] = *b"GNSPARM1";

/// The region's first bytes. Times are in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Params {
    pub magic: [u8; 8],
    /// How long a node scans at first boot. 0: it forks at once.
    pub scan_ms: U32,
    /// Hellos over the scan window.
    pub scan_hellos: U32,
    /// The longest random delay before a hello that answers a find.
    pub hello_delay_ms: U32,
    /// How long a hello's nonce is good for.
    pub nonce_ms: U32,
    /// How long a token is good for, and with it a gate without a running claim.
    pub token_ms: U32,
    /// How long a connection may take to present the token.
    pub pending_ms: U32,
    /// How long a claim may take in all, from the token on.
    pub claim_ms: U32,
    /// Signature checks of finds, per second.
    pub find_budget: U32,
    /// Checks of opens, per second.
    pub open_budget: U32,
    /// How often telemetry sends a record unasked.
    pub telemetry_ms: U32,
    /// How often the workload's heartbeat rises.
    pub heartbeat_ms: U32,
    pub zero: [u8; 4],
}

impl Params {
    pub const DEFAULT: Self = Self {
        magic: MAGIC,
        scan_ms: U32::new(30_000),
        scan_hellos: U32::new(4),
        hello_delay_ms: U32::new(500),
        nonce_ms: U32::new(30_000),
        token_ms: U32::new(30_000),
        pending_ms: U32::new(3_000),
        claim_ms: U32::new(20_000),
        find_budget: U32::new(64),
        open_budget: U32::new(64),
        telemetry_ms: U32::new(10_000),
        heartbeat_ms: U32::new(10_000),
        zero: [0; 4],
    };

    /// What the region says; the defaults if it says nothing sensible.
    pub fn read(region: &ReadOnly<'_>) -> Self {
        let params: Self = cell::read_static(region);
        if params.magic == MAGIC { params } else { Self::DEFAULT }
    }
}

/// A window as the domain's clock counts it.
pub fn micros(ms: U32) -> Micros {
    u64::from(ms.get()) * 1000
}
