//! What `lifecycle` publishes to the domains on the network path, and what comes back: latest wins.

use shm::Micros;
use wire::{Ip, Key, Mac};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::lifecycle::Peer;

/// The phase of the node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u64)]
pub enum Phase {
    /// Closed both ways.
    Blind = 0,
    /// First boot: hellos go out, an open is answered.
    Scan = 1,
    /// The node becomes a fleet of one: closed both ways while the record is made.
    Fork = 2,
    /// Silent; a find draws a hello, an open opens the gate.
    Hold = 3,
    /// A binding is committed but not acknowledged: as hold, for the owner.
    Committed = 4,
    /// The claim endpoint is closed for good.
    Claimed = 5,
    /// Something failed for good: closed both ways until the next power-up.
    Sealed = 6,
}

impl Phase {
    /// An unknown number is the closed phase.
    pub const fn from_number(number: u64) -> Self {
        match number {
            1 => Self::Scan,
            2 => Self::Fork,
            3 => Self::Hold,
            4 => Self::Committed,
            5 => Self::Claimed,
            6 => Self::Sealed,
            _ => Self::Blind,
        }
    }

    pub const fn name(self) -> &'static str {
        match self {
            Self::Blind => "blind",
            Self::Scan => "scan",
            Self::Fork => "fork",
            Self::Hold => "hold",
            Self::Committed => "committed",
            Self::Claimed => "claimed",
            Self::Sealed => "sealed",
        }
    }

    /// Whether the node is a member of a fleet, with a mesh.
    pub const fn has_mesh(self) -> bool {
        matches!(self, Self::Committed | Self::Claimed)
    }

    /// Whether finds and opens are heard.
    pub const fn listens(self) -> bool {
        matches!(self, Self::Scan | Self::Hold | Self::Committed)
    }
}

/// Where the node is on its link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Link {
    pub ip: Ip,
    pub mac: Mac,
    pub zero: [u8; 2],
}

/// `lifecycle` to `perimeter`, `beacon` and `claim`: all that decides about frames. Only what `claim` needs
/// besides stands in [`Gate`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Rules {
    /// [`Phase`] as a number.
    pub phase: u64,
    pub link: Link,
    /// Number of the open gate; 0 if none is.
    pub gate: u64,
    /// Who the gate is open to.
    pub peer: Peer,
    /// The gate is closed from this time on, whatever else is said.
    pub until: Micros,
    /// The link as its mesh uses it.
    pub mesh: MeshLink,
}

/// What of a fleet's configuration concerns the link. All zero if the node has no mesh.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct MeshLink {
    /// 1: WireGuard passes.
    pub member: u64,
    /// Static address, or all zero.
    pub address: Ip,
    /// Length of the static address's prefix.
    pub length: u64,
    /// Or all zero.
    pub gateway: Ip,
}

impl MeshLink {
    pub const NONE: Self = Self { member: 0, address: [0; 16], length: 0, gateway: [0; 16] };
}

impl Rules {
    pub const CLOSED: Self = Self {
        phase: 0,
        link: Link { ip: [0; 16], mac: [0; 6], zero: [0; 2] },
        gate: 0,
        peer: Peer { ip: [0; 16], mac: [0; 6], zero: [0; 2] },
        until: 0,
        mesh: MeshLink::NONE,
    };

    pub fn phase(&self) -> Phase {
        Phase::from_number(self.phase)
    }

    /// The peer of the gate, if it is open at `now`.
    pub fn open_to(&self, now: Micros) -> Option<&Peer> {
        (self.gate != 0 && now < self.until && self.phase().listens()).then_some(&self.peer)
    }
}

/// `lifecycle` to `claim`: the rules, and what the claim behind this gate is about.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Gate {
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
