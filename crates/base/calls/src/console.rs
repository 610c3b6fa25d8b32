//! `lifecycle` to `console`: events, each a slot of a ring. `console` words them.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Slot of the ring.
pub const SLOT: usize = 128;

/// One event: a code, a number and bytes, as the code says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Event {
    pub code: u32,
    pub number: u32,
    pub data: [u8; 64],
}

/// [`Event::code`].
pub mod code {
    /// The phase: `number`.
    pub const PHASE: u32 = 1;
    /// F: `data[..32]`; how it is anchored: `number` ([`crate::keystore::anchor`]).
    pub const IDENTITY: u32 = 2;
    /// The link: `data[..16]` address, `data[16..22]` MAC.
    pub const LINK: u32 = 3;
    /// No key, for the reason in `number` (a [`crate::keystore::state`]); the test that failed: `data[0]`.
    pub const FAULT: u32 = 4;
    /// The gate is open to `data[..16]` address, `data[16..22]` MAC.
    pub const GATE_OPEN: u32 = 5;
    /// The gate has closed: `number`, a [`crate::lifecycle::end`] or a [`super::closed`].
    pub const GATE_CLOSED: u32 = 6;
    /// A binding is committed: fleet `data[..16]`, epoch `data[16..24]` big-endian; rivals: `number`.
    pub const COMMITTED: u32 = 7;
    /// The claim is final.
    pub const CLAIMED: u32 = 8;
    /// A valid open was turned away because the gate is another's; how many so far: `number`.
    pub const RIVAL: u32 = 9;
    /// The keystore does not answer.
    pub const KEYSTORE_SILENT: u32 = 10;
    /// A domain broke the rules of a shared structure: `number` the [`crate::Domain`] at its other end.
    pub const MISBEHAVED: u32 = 11;
    /// The ring was full: `number` events were lost.
    pub const LOST: u32 = 12;
    /// A domain has died: `number` a [`crate::Domain`].
    pub const DIED: u32 = 13;
    /// The authority has made its first handshake in the mesh.
    pub const JOINED: u32 = 14;
    /// A configuration is in force: its hash `data[..32]`, epoch `data[32..40]` big-endian; how many peers: `number`.
    pub const CONFIGURED: u32 = 15;
    /// An update was refused: `number`, a [`wire::telemetry::result`].
    pub const UPDATE_REFUSED: u32 = 16;
    /// The authority has isolated the node: 1, or let it rejoin: 0.
    pub const ISOLATED: u32 = 17;
}

/// Why a gate closed, besides the reasons that `claim` gives.
pub mod closed {
    /// The claim is final.
    pub const DONE: u32 = 0;
    /// Nobody presented the token in time.
    pub const EXPIRED: u32 = 5;
    /// The same peer opened anew.
    pub const REPLACED: u32 = 6;
    /// Something failed for good.
    pub const SEALED: u32 = 7;
}

impl Event {
    pub fn new(code: u32, number: u32, parts: &[&[u8]]) -> Self {
        let mut data = [0; 64];
        for (to, from) in data.iter_mut().zip(parts.iter().copied().flatten()) {
            *to = *from;
        }
        Self { code, number, data }
    }
}
