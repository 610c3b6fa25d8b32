//! The configuration of a grant or an update: addresses, peers and rules. postcard on the wire.

use heapless::Vec;
use serde::{Deserialize, Serialize};
use wire::{Ip, Key};
use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::{
    Role,
    decide::{Protocol, RESERVED, Rule},
};

pub const MAX_ADDRESSES: usize = 2;
pub const MAX_PEERS: usize = 16;
pub const MAX_ALLOWED: usize = 4;
pub const MAX_RULES: usize = 64;

/// IPv6, or IPv4 as ::ffff:a.b.c.d with 96 added to its length.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Prefix {
    pub ip: Ip,
    pub length: u8,
}

impl Prefix {
    pub const fn v4(address: [u8; 4], length: u8) -> Self {
        let [a, b, c, d] = address;
        Self { ip: [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, a, b, c, d], length: length.saturating_add(96) }
    }

    /// One IPv6 address.
    pub const fn host(ip: Ip) -> Self {
        Self { ip, length: 128 }
    }

    pub fn is_v4(&self) -> bool {
        is_mapped(&self.ip) && self.length >= 96
    }

    /// Addresses of the other family are in no prefix, not even in that of all addresses.
    pub fn contains(&self, ip: &Ip) -> bool {
        is_mapped(ip) == self.is_v4() && mask(ip, self.length) == mask(&self.ip, self.length)
    }

    /// An address whose subnet is longer than its family has bits, or shorter than where the family begins, is none.
    fn is_sound(&self) -> bool {
        self.length <= 128 && is_unicast(&self.ip) && self.is_v4() == is_mapped(&self.ip)
    }

    /// No bit is set past the length.
    pub fn is_network(&self) -> bool {
        self.length <= 128 && mask(&self.ip, self.length) == u128::from_be_bytes(self.ip)
    }
}

/// ::ffff:a.b.c.d, which stands for an IPv4 address.
pub fn is_mapped(ip: &Ip) -> bool {
    ip.starts_with(&[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff])
}

fn mask(ip: &Ip, length: u8) -> u128 {
    let bits = u32::from(length.min(128));
    u128::from_be_bytes(*ip) & u128::MAX.checked_shl(128 - bits).unwrap_or(0)
}

/// Where a peer is on the link, outside the tunnel. IPv6, as the underlay is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint {
    pub ip: Ip,
    pub port: u16,
}

impl Endpoint {
    /// Whether a datagram can be sent there.
    pub fn is_usable(&self) -> bool {
        is_host_v6(&self.ip) && self.port != 0
    }
}

/// The static address of a routed link, beside the link-local one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Underlay {
    pub address: Prefix,
    pub gateway: Option<Ip>,
}

impl Underlay {
    /// Whether a host can have this address, and another be the gateway.
    pub fn is_usable(&self) -> bool {
        self.address.length <= 128
            && is_host_v6(&self.address.ip)
            && self.gateway.is_none_or(|gateway| is_host_v6(&gateway) && gateway != self.address.ip)
    }
}

/// A WireGuard preshared key. Not for printing.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Zeroize, ZeroizeOnDrop)]
pub struct Preshared(pub [u8; 32]);

#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Peer {
    pub key: Key,
    pub role: crate::Role,
    pub preshared: Option<Preshared>,
    pub endpoint: Option<Endpoint>,
    /// Its inner addresses. The first of each family of the authority is where telemetry goes.
    pub allowed: Vec<Prefix, MAX_ALLOWED>,
    /// Seconds between persistent keepalives; 0 for none.
    pub keepalive_s: u16,
}

impl Seat {
    /// Whoever sits there as a peer; `named` is what the configuration says of it.
    fn peer(&self, named: Option<Peer>) -> Peer {
        let Self { key, inner, endpoint, .. } = *self;
        let mut peer = Peer {
            key,
            role: Role::Authority,
            preshared: None,
            endpoint,
            allowed: [Prefix::host(inner)].into_iter().collect(),
            keepalive_s: KEEPALIVE_S,
        };
        if let Some(named) = named {
            peer.allowed.extend(named.allowed.iter().copied().take(MAX_ALLOWED - 1));
            peer.endpoint = endpoint.or(named.endpoint);
            (peer.keepalive_s, peer.preshared) = (named.keepalive_s, named.preshared.clone());
        }
        peer
    }
}

#[derive(Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Configuration {
    /// The node's own inner addresses, each with the length of its subnet.
    pub addresses: Vec<Prefix, MAX_ADDRESSES>,
    pub underlay: Option<Underlay>,
    pub peers: Vec<Peer, MAX_PEERS>,
    pub rules: Vec<Rule, MAX_RULES>,
}

/// Where an authority of the committed set is in the mesh.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seat {
    /// Its WireGuard key.
    pub key: Key,
    /// Its inner address.
    pub inner: Ip,
    /// `None`: nobody knows, and it speaks first.
    pub endpoint: Option<Endpoint>,
    /// It has left the set, and stays for its receipt.
    pub parts: bool,
}

/// Seconds between the keepalives to an authority for which the configuration has none.
pub const KEEPALIVE_S: u16 = 25;

/// What is wrong with a configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Invalid {
    /// Not the encoding, or bytes are left.
    Encoding,
    /// An address that is no unicast address, a length that its family does not have, two alike, or an underlay that is no
    /// host's IPv6 address or is its own gateway.
    Address,
    /// Two peers have one key or one prefix, a key is good for nothing, a prefix has bits past its length, or an endpoint is
    /// none.
    Peer,
    /// A rule for ICMP names a port, another names none, or one of the node's own.
    Rule,
}

impl Configuration {
    /// The configuration, if all of `bytes` are it and it makes sense. No bytes: no mesh.
    pub fn parse(bytes: &[u8]) -> Result<Self, Invalid> {
        if bytes.is_empty() {
            return Ok(Self::default());
        }
        let (this, rest) = postcard::take_from_bytes::<Self>(bytes).map_err(|_| Invalid::Encoding)?;
        if !rest.is_empty() {
            return Err(Invalid::Encoding);
        }
        this.check()?;
        Ok(this)
    }

    /// Its bytes, at the front of `to`. `None` if they do not fit.
    pub fn write<'a>(&self, to: &'a mut [u8]) -> Option<&'a [u8]> {
        postcard::to_slice(self, to).ok().map(|bytes| &*bytes)
    }

    pub fn check(&self) -> Result<(), Invalid> {
        let own = self.addresses.iter().chain(self.underlay.iter().map(|underlay| &underlay.address));
        if !own.clone().all(Prefix::is_sound)
            || has_twins(own.map(|prefix| prefix.ip))
            || !self.underlay.iter().all(Underlay::is_usable)
        {
            return Err(Invalid::Address);
        }
        let allowed = self.peers.iter().flat_map(|peer| peer.allowed.iter());
        if has_twins(self.peers.iter().map(|peer| peer.key))
            || !self.peers.iter().all(|peer| crypto::dh_usable(&peer.key))
            || !allowed.clone().all(Prefix::is_network)
            || has_twins(allowed.map(|prefix| (prefix.ip, prefix.length)))
            || !self.peers.iter().filter_map(|peer| peer.endpoint).all(|at| at.is_usable())
        {
            return Err(Invalid::Peer);
        }
        let sensible = |rule: &Rule| match rule.protocol {
            Protocol::Icmp => rule.port == 0,
            Protocol::Tcp => rule.port != 0,
            Protocol::Udp => rule.port != 0 && !RESERVED.contains(&rule.port),
        };
        if self.rules.iter().all(sensible) { Ok(()) } else { Err(Invalid::Rule) }
    }

    /// Seats the authorities: those of the committed set come first, in its order, then the other peers, then who has left the
    /// set and stays for his receipt. Of what the configuration says of one of them its preshared key, its keepalive and
    /// further addresses count, and where it is if the set does not know. No other has the role of an authority, whatever the
    /// configuration says. Others beyond what fits are left out, the last first.
    pub fn seat(&mut self, seats: impl Iterator<Item = Seat> + Clone) {
        let sits = |key: &Key| seats.clone().any(|seat| seat.key == *key);
        self.peers.retain(|peer| peer.role != Role::Authority || sits(&peer.key));
        for peer in &mut self.peers {
            peer.allowed.retain(|prefix| seats.clone().all(|seat| *prefix != Prefix::host(seat.inner)));
        }
        let staying = seats.clone().filter(|seat| !seat.parts);
        let placed = staying.clone().count();
        while self.peers.iter().filter(|peer| !sits(&peer.key)).count() > MAX_PEERS.saturating_sub(placed)
            && let Some(last) = self.peers.iter().rposition(|peer| !sits(&peer.key))
        {
            self.peers.remove(last);
        }
        // Whoever parts makes room for who stays.
        for seat in seats.clone().filter(|seat| seat.parts) {
            let peer = seat.peer(self.take(&seat.key));
            let is_taken = |stays: &Seat| stays.inner == seat.inner || stays.key == seat.key;
            let missing = staying.clone().filter(|stays| self.peers.iter().all(|peer| peer.key != stays.key)).count();
            if self.peers.len() + missing < MAX_PEERS && !staying.clone().any(|stays| is_taken(&stays)) {
                let _ = self.peers.push(peer);
            }
        }
        for (to, seat) in staying.clone().enumerate() {
            let peer = seat.peer(self.take(&seat.key));
            let _ = self.peers.insert(to.min(self.peers.len()), peer);
        }
    }

    fn take(&mut self, key: &Key) -> Option<Peer> {
        self.peers.iter().position(|peer| peer.key == *key).map(|at| self.peers.remove(at))
    }

    /// The peer to whom packets for `ip` go, and from whom alone packets from `ip` are taken: the longest prefix.
    pub fn route(&self, ip: &Ip) -> Option<usize> {
        let routes = self.peers.iter().enumerate().flat_map(|(at, peer)| peer.allowed.iter().map(move |to| (at, to)));
        routes.filter(|(_, to)| to.contains(ip)).max_by_key(|(_, to)| to.length).map(|(at, _)| at)
    }
}

fn is_unicast(ip: &Ip) -> bool {
    let multicast = ip[0] == 0xff || (is_mapped(ip) && (ip[12] >= 0xe0 || ip[12] == 0));
    !multicast && *ip != [0; 16]
}

/// A host's address on a link: as the node's filter has it, nothing in ::/8 is one.
fn is_host_v6(ip: &Ip) -> bool {
    !matches!(ip[0], 0 | 0xff)
}

fn has_twins<T: PartialEq>(items: impl Iterator<Item = T> + Clone) -> bool {
    items.clone().enumerate().any(|(at, item)| items.clone().skip(at + 1).any(|other| other == item))
}
