//! What `mesh` is told and what it tells, besides its calls: cells, latest wins.

use link::Station;
use wire::{
    Ip, Key, Phase,
    claim::MAX_CONFIGURATION,
    set::MAX_AUTHORITIES,
    telemetry::{AUTHORITIES, DOMAINS},
};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Those of a set, and those who have just left it.
pub const MAX_SEATS: usize = 2 * MAX_AUTHORITIES;

/// An authority in the mesh, as the committed set has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Seat {
    /// Its WireGuard key; all zero for no seat.
    pub key: Key,
    pub inner: Ip,
    /// Where it is outside; all zero, with the port, if nobody knows.
    pub endpoint: Ip,
    pub port: u32,
    /// Its place in the set, or [`Self::PARTS`].
    pub place: u32,
}

impl Seat {
    /// It has left the set, and stays for its receipt only.
    pub const PARTS: u32 = u32::MAX;

    pub fn is_taken(&self) -> bool {
        self.key != [0; 32]
    }

    pub fn parts(&self) -> bool {
        self.place == Self::PARTS
    }
}

/// `lifecycle` to `mesh`: the fleet that the node is a member of.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Membership {
    /// [`Phase`] as a number. Only committed and claimed nodes have a mesh.
    pub phase: u64,
    /// 1: no flow but those with the authority.
    pub isolated: u64,
    /// By which command: whose, by the place in the set, and its counter.
    pub isolation: [u32; 2],
    /// Which of the fleet's authority sets is in force.
    pub sequence: u64,
    pub epoch: u64,
    pub fiduciary: Key,
    /// The node itself on its link.
    pub link: Station,
    /// Those who are in the set in its order, and then those who have left.
    pub seats: [Seat; MAX_SEATS],
    /// Length of the configuration; 0 if there is none.
    pub length: u64,
    /// A `policy::Configuration`, its hash verified.
    pub configuration: [u8; MAX_CONFIGURATION],
}

impl Membership {
    pub fn phase(&self) -> Phase {
        Phase::or_blind(self.phase)
    }

    pub fn seats(&self) -> impl Iterator<Item = &Seat> + Clone {
        self.seats.iter().filter(|seat| seat.is_taken())
    }

    /// The bytes of the configuration, if the phase has a mesh and there are any.
    pub fn configuration(&self) -> Option<&[u8]> {
        let length = usize::try_from(self.length).ok().filter(|_| self.phase().has_mesh())?;
        self.configuration.get(..length).filter(|bytes| !bytes.is_empty())
    }
}

/// `lifecycle` to `mesh`: what the node has been through, for telemetry. It wakes nobody: who makes a record looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Account {
    /// Power-ups of this identity; 0: not known.
    pub boots: u64,
    /// How often each domain was started again since power-up, by [`Domain`](crate::Domain) as a number.
    pub restarts: [u32; DOMAINS],
    /// The last of these: the domain's number, its [`Cause`](wire::telemetry::Cause) as a number, how often this domain.
    pub fault_domain: u32,
    pub fault_cause: u32,
    pub fault_count: u32,
    /// The keystore's state, as a number.
    pub keystore: u32,
    /// Since power-up.
    pub fault_at_ms: u64,
    /// What the store wrote, erased and could not do since power-up.
    pub store_writes: u64,
    pub store_erases: u64,
    pub store_errors: u64,
    /// Of each authority, the counter that its next command must be above: as stored when the node was switched on, or the set
    /// came into force.
    pub command_floors: [u32; AUTHORITIES],
    pub zero: u32,
}

/// A node has at most 16 peers, and one gateway.
pub const MAX_STATIONS: usize = 17;

/// `mesh` to `perimeter`: the addresses on the link where its peers are, and the gateway. Neighbour discovery passes for
/// these, and datagrams go to nobody else.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Stations {
    pub count: u64,
    pub ips: [Ip; MAX_STATIONS],
}

impl Stations {
    pub const NONE: Self = Self { count: 0, ips: [[0; 16]; MAX_STATIONS] };

    pub fn iter(&self) -> impl Iterator<Item = &Ip> {
        self.ips.iter().take(usize::try_from(self.count).unwrap_or(usize::MAX))
    }
}

/// `mesh` to `workload`: its place in the mesh.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Tenancy {
    /// All zero if it has none.
    pub v4: [u8; 4],
    pub v4_length: u8,
    pub v6_length: u8,
    pub zero: [u8; 2],
    pub v6: Ip,
    /// Random bits, for TCP's sequence numbers and ports.
    pub seed: u64,
    /// The length of the longest inner packet, in bytes.
    pub mtu: u64,
}

/// `workload` to `console` and to `mesh`: that it goes on. The numbers are its word: `mesh` counts only that they change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Heartbeat {
    /// Rises while it runs, once it has had a place in a mesh.
    pub beats: u64,
    /// Pages served.
    pub served: u64,
}
