//! What lifecycle says that the node is a member of.

use calls::mesh::{Membership, Tenancy};
use policy::{Configuration, Endpoint, Seat};
use wire::{Hash, Key, binding::configuration_hash, order::Isolation, set::MAX_AUTHORITIES};
use wireguard::MAX_MTU;

use crate::outer::Own;

pub const NO_CONFIGURATION: Configuration = Configuration {
    addresses: heapless::Vec::new(),
    underlay: None,
    peers: heapless::Vec::new(),
    rules: heapless::Vec::new(),
};

/// What a [`Membership`] says besides the configuration.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Member {
    pub phase: u8,
    pub isolated: bool,
    pub isolation: Isolation,
    /// Which of the fleet's authority sets is in force.
    pub sequence: u64,
    pub epoch: u64,
    pub fiduciary: Key,
    pub own: Own,
    /// How many are in the mesh by the set, and those who have just left it.
    seats: usize,
    /// Hash of the configuration.
    pub configuration: Hash,
}

impl Member {
    /// `None` if there is no mesh, or none that makes sense. The configuration is the one that is in force, with the
    /// authorities of the committed set in their seats.
    pub fn read(membership: &Membership) -> Option<(Self, Configuration)> {
        let bytes = membership.configuration()?;
        let mut configuration = Configuration::parse(bytes).ok()?;
        configuration.seat(membership.seats().map(seat));
        let [authority, counter] = membership.isolation;
        let this = Self {
            phase: u8::try_from(membership.phase).ok()?,
            isolated: membership.isolated != 0,
            isolation: Isolation { authority: authority.into(), counter: counter.into() },
            sequence: membership.sequence,
            epoch: membership.epoch,
            fiduciary: membership.fiduciary,
            own: Own::new(membership.link, configuration.underlay)?,
            seats: membership.seats().count(),
            configuration: configuration_hash(bytes),
        };
        Some((this, configuration))
    }

    /// The same claim of the same node: what its authority has said so far stands.
    pub fn is_same_node(&self, other: &Self) -> bool {
        (self.fiduciary, self.epoch) == (other.fiduciary, other.epoch)
    }

    pub fn is_same_network(&self, other: &Self) -> bool {
        let key = |this: &Self| (this.configuration, this.sequence, this.seats);
        key(self) == key(other) && self.own == other.own
    }
}

fn seat(seat: &calls::mesh::Seat) -> Seat {
    let at = Endpoint { ip: seat.endpoint, port: u16::try_from(seat.port).unwrap_or_default() };
    Seat { key: seat.key, inner: seat.inner, endpoint: Some(at).filter(Endpoint::is_usable), parts: seat.parts() }
}

/// Of each peer that is an authority, its place in the set: they are the first peers.
pub fn places(membership: &Membership) -> heapless::Vec<u8, MAX_AUTHORITIES> {
    membership.seats().filter_map(|seat| u8::try_from(seat.place).ok()).take(MAX_AUTHORITIES).collect()
}

/// The workload's place.
pub fn tenancy(configuration: &Configuration, seed: u64) -> Tenancy {
    let first = |v4: bool| configuration.addresses.iter().find(|prefix| prefix.is_v4() == v4);
    let (v4, v6) = (first(true), first(false));
    let [.., a, b, c, d] = v4.map_or([0; 16], |prefix| prefix.ip);
    Tenancy {
        v4: [a, b, c, d],
        v4_length: v4.map_or(0, |prefix| prefix.length.saturating_sub(96)),
        v6_length: v6.map_or(0, |prefix| prefix.length),
        zero: [0; 2],
        v6: v6.map_or([0; 16], |prefix| prefix.ip),
        seed,
        mtu: MAX_MTU as u64,
    }
}
