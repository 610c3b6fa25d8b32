//! Addresses: which a host can have, and both of one host together.

use wire::{Ip, Mac};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// The IPv6 address and the MAC of one host on the link, or of a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Station {
    pub ip: Ip,
    pub mac: Mac,
    /// Fills the last word: a station stands among words in shared memory.
    zero: [u8; 2],
}

impl Station {
    pub const NONE: Self = Self::new([0; 16], [0; 6]);
    /// Every node on the link.
    pub const ALL_NODES: Self = Self::new(wire::ALL_NODES, [0x33, 0x33, 0, 0, 0, 1]);

    pub const fn new(ip: Ip, mac: Mac) -> Self {
        Self { ip, mac, zero: [0; 2] }
    }

    /// The group that is solicited when the MAC of `ip` is not known (RFC 4291, 2.7.1; its MAC by RFC 2464, 7).
    pub const fn solicited_node(ip: &Ip) -> Self {
        let [.., a, b, c] = *ip;
        Self::new([0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, a, b, c], [0x33, 0x33, 0xff, a, b, c])
    }
}

/// Whether a host can have this MAC: a group cannot, and all zero is "none".
pub const fn is_unicast(mac: &Mac) -> bool {
    mac[0] & 1 == 0 && !matches!(mac, [0, 0, 0, 0, 0, 0])
}

/// Whether the address is in fe80::/64, where all link-local ones are (RFC 4291, 2.5.6).
pub const fn is_link_local(ip: &Ip) -> bool {
    matches!(ip, [0xfe, 0x80, 0, 0, 0, 0, 0, 0, ..])
}

/// Whether a host can have this address: not a group (ff00::/8), and nothing of ::/8.
///
/// That block is reserved (RFC 4291, 2.4 and the registry that follows it). In it are "none" and loopback, which are
/// never on a link (2.5.2, 2.5.3), and IPv4 addresses in disguise, deprecated or never on a link either (2.5.5): ::2 is
/// one of them, so no host's. The one part that is in use, 64:ff9b::/96 for translators to IPv4 (RFC 6052), is left out
/// with the rest: the mesh's outer side is IPv6.
pub const fn is_host(ip: &Ip) -> bool {
    !matches!(ip[0], 0 | 0xff)
}
