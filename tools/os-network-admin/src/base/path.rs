//! How long a packet may be inside, by what fits the way outside.

use std::{
    collections::BTreeMap,
    io,
    net::{Ipv6Addr, SocketAddrV6, UdpSocket},
};

use rustix::net::sockopt;

/// Of inner packets, where the way takes outer ones of 1500 bytes. Nodes have no other.
pub const FULL: u32 = 1420;
/// What IPv6, UDP and WireGuard put around an inner packet.
pub const AROUND: u32 = 80;
/// IPv6 inside needs as much (RFC 8200).
const LEAST: u32 = 1280;
/// A node pads what is shorter than its own longest packet to a multiple of this.
const PADDED: u32 = 16;

/// The longest inner packet for a way that takes `outer` bytes; `Err`: the longest there may be, which does not fit.
pub fn inner_mtu(outer: u32) -> Result<u32, u32> {
    let room = outer.saturating_sub(AROUND);
    if room >= FULL {
        return Ok(FULL);
    }
    let inner = room / PADDED * PADDED;
    if inner < LEAST { Err(LEAST) } else { Ok(inner) }
}

/// What the way to somewhere takes, by the routes and interfaces of this host. Nothing is sent. `None`: there is no way, or
/// none that the kernel tells.
pub fn outer_mtu(to: SocketAddrV6) -> Option<u32> {
    let ask = || -> io::Result<u32> {
        let socket = UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0))?;
        socket.connect(to)?;
        Ok(sockopt::ipv6_mtu(&socket)?)
    };
    ask().ok()
}

/// The longest inner packet that fits the ways to all of these; `Err`: the longest there may be, which does not fit one.
pub fn inner_mtu_to(places: impl Iterator<Item = SocketAddrV6>) -> Result<u32, u32> {
    // What is on one link has one way.
    let ways: BTreeMap<_, _> =
        places.map(|at| ((at.scope_id(), (at.scope_id() == 0).then_some(*at.ip())), at)).collect();
    ways.into_values().filter_map(outer_mtu).min().map_or(Ok(FULL), inner_mtu)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_inside_fits_the_link_with_a_nodes_padding() {
        for (outer, inner) in [
            (9000, Ok(FULL)),
            (1500, Ok(FULL)),
            (1499, Ok(1408)),
            (1492, Ok(1408)),
            (1400, Ok(1312)),
            (1360, Ok(1280)),
            (1359, Err(LEAST)),
            (0, Err(LEAST)),
        ] {
            assert_eq!(inner_mtu(outer), inner, "{outer}");
            assert!(inner.is_err() || inner == Ok(FULL) || inner.unwrap() % PADDED == 0);
        }
        // There is always a way to oneself, if there is IPv6 at all.
        let own = SocketAddrV6::new(Ipv6Addr::LOCALHOST, 9, 0, 0);
        assert!(outer_mtu(own).is_none_or(|mtu| mtu >= LEAST));
        assert_eq!(inner_mtu_to(std::iter::empty()), Ok(FULL));
    }
}
