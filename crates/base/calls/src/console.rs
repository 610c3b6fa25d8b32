//! `lifecycle` to `console`: events, each a slot of a ring. `console` words them.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Slot of the ring.
pub const SLOT: usize = 128;

/// One event: a code, a number and bytes, as the code says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Event {
    /// [`Code`] as a number.
    pub code: u32,
    pub number: u32,
    pub data: [u8; 64],
}

wire::numbers! {
    /// What an event is about.
    Code {
        /// The phase: `number`.
        Phase = 1, "phase";
        /// F: `data[..32]`; how it is anchored: `number` (a [`crate::keystore::AnchorKind`]).
        Identity = 2, "identity";
        /// The link: `data[..16]` address, `data[16..22]` MAC.
        Link = 3, "link";
        /// No key, for the reason in `number` (a [`crate::keystore::State`]); the test that failed: `data[0]` (a
        /// [`crate::keystore::HealthTest`]).
        Fault = 4, "fault";
        /// The gate is open to `data[..16]` address, `data[16..22]` MAC.
        GateOpen = 5, "gate open";
        /// The gate has closed: `number`, a [`crate::lifecycle::Closed`].
        GateClosed = 6, "gate closed";
        /// A binding is committed: fleet `data[..16]`, epoch `data[16..24]` big-endian; rivals: `number`.
        Committed = 7, "committed";
        /// The claim is final.
        Claimed = 8, "claimed";
        /// A valid open was turned away because the gate is another's; how many so far: `number`.
        Rival = 9, "rival";
        /// The keystore does not answer.
        KeystoreSilent = 10, "keystore silent";
        /// A domain broke the rules of a shared structure: `number` the [`crate::Domain`] at its other end.
        Misbehaved = 11, "misbehaved";
        /// The ring was full: `number` events were lost.
        Lost = 12, "lost";
        /// A domain has died or hangs: `number` a [`crate::Domain`], `data[0]` a [`wire::telemetry::Cause`], `data[1]` 1 if it stays down but for
        /// a try an hour, else `data[8..16]` after how many seconds it is started anew; `data[16..24]` how often it has, and
        /// `data[24..32]` how many seconds after power-up. All big-endian.
        Died = 13, "died";
        /// The authority has made its first handshake in the mesh.
        Joined = 14, "joined";
        /// A configuration is in force: its hash `data[..32]`, epoch `data[32..40]` big-endian; how many peers: `number`.
        Configured = 15, "configured";
        /// An update was refused: `number`, a [`wire::telemetry::CommandResult`].
        UpdateRefused = 16, "update refused";
        /// An authority has isolated the node: 1, or an order has ended that: 0.
        Isolated = 17, "isolated";
        /// The network card has an address that no station may have: its MAC `data[16..22]`.
        BadLink = 18, "bad link";
        /// The node is blind for longer than it should be: `number`, an [`Awaited`].
        Waits = 19, "waits";
        /// The identity is new, 1, or that of before, 0; how often the node was switched on: `data[..8]` big-endian.
        Origin = 20, "origin";
        /// What the keystore makes of its store now: `number`, a [`crate::keystore::Store`].
        Store = 21, "store";
        /// The configuration at rest: `number`, a [`Rest`].
        Rest = 22, "rest";
        /// The owners have let the node go.
        Released = 23, "released";
    }
}

wire::numbers! {
    /// What a node waits for that is blind.
    Awaited {
        /// A key, and so for samples to make it of.
        Samples = 1, "samples: the source of randomness is silent or slow";
        Ticket = 2, "the ticket to be shown";
        Link = 3, "the network card";
    }
}

wire::numbers! {
    /// What is wrong with the configuration at rest.
    Rest {
        /// The store does not have what is committed.
        Lost = 1, "the configuration is not in the store; the node has no rules, and no peers but its authorities";
        /// The store or the keystore could not tell.
        Unreadable = 2, "the configuration cannot be read from the store; the node tries again";
        /// A configuration that a claim or an update brought could not be written.
        NotKept = 3, "a configuration could not be written to the store; it is not used";
    }
}

impl Event {
    pub fn new(code: Code, number: u32, parts: &[&[u8]]) -> Self {
        let mut data = [0; 64];
        for (to, from) in data.iter_mut().zip(parts.iter().copied().flatten()) {
            *to = *from;
        }
        Self { code: code as u32, number, data }
    }

    pub fn code(&self) -> Option<Code> {
        Code::from_number(self.code.into())
    }
}
