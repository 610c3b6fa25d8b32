//! What `lifecycle` publishes to the domains on the network path, and what comes back: latest wins.

use link::Station;
use shm::Micros;
use wire::{Ip, Key, Mac, Phase};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// `lifecycle` to `perimeter`, `beacon` and `claim`: all that decides about frames. Only what `claim` needs
/// besides stands in [`ClaimGate`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Rules {
    /// [`Phase`] as a number.
    pub phase: u64,
    /// The node itself on its link.
    pub link: Station,
    /// The number of the open gate; 0 if none is open.
    pub gate: u64,
    /// Who the gate is open to.
    pub peer: Station,
    /// The gate is closed from this time on, whatever else is said.
    pub until: Micros,
    /// The link as its mesh uses it.
    pub mesh: MeshLink,
}

/// What of a fleet's configuration concerns the link. All zero if the node has no mesh.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct MeshLink {
    /// 1 if WireGuard passes.
    pub member: u64,
    /// The node's static address on the link; all zero if it has none.
    pub address: Ip,
    /// The length of its prefix, in bits.
    pub length: u64,
    /// The gateway's address on the link; all zero if there is none.
    pub gateway: Ip,
}

impl MeshLink {
    pub const NONE: Self = Self { member: 0, address: [0; 16], length: 0, gateway: [0; 16] };
}

impl Rules {
    pub const CLOSED: Self =
        Self { phase: 0, link: Station::NONE, gate: 0, peer: Station::NONE, until: 0, mesh: MeshLink::NONE };

    pub fn phase(&self) -> Phase {
        Phase::or_blind(self.phase)
    }

    /// The peer of the gate, if it is open at `now`.
    pub fn open_to(&self, now: Micros) -> Option<&Station> {
        (self.gate != 0 && now < self.until && self.phase().listens()).then_some(&self.peer)
    }
}

/// `lifecycle` to `claim`: the rules, and what the claim behind this gate is about.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct ClaimGate {
    pub rules: Rules,
    pub token: [u8; 16],
    /// The hello's nonce.
    pub nonce: [u8; 16],
    pub fiduciary: Key,
}

/// `net` to `perimeter`: the device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Nic {
    pub mac: Mac,
    pub up: u8,
    pub zero: u8,
}

/// `perimeter` to `lifecycle`: the device as `net` told it.
pub type Report = Nic;
