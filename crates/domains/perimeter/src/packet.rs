//! What a frame is: the one place that takes bytes apart. Everything returned has been checked, length and
//! checksum too, so that the rules only compare.
//!
//! Sizes and predicates of addresses stand here a second time, beside `link`, with which the domains build their frames:
//! the filter and what it filters must not fail together. A test compares the two.

use smoltcp::wire::{
    EthernetFrame, EthernetProtocol, Icmpv6Message, Icmpv6Packet, IpAddress, IpProtocol, Ipv6Address, Ipv6Packet,
    TcpPacket, UdpPacket,
};
use wire::{BEACON_PORT, Ip, MESH_PORT, Mac, link::Datagram};

use crate::Reason;

/// Bytes of the longest frame: 14 of header and 1500 of payload.
pub const MAX_FRAME: usize = 1514;
pub const HEADERS: usize = 14 + 40;

/// An Ethernet II frame with one IPv6 packet that fills it exactly, without extension headers.
///
/// No packet that may pass is so short that Ethernet would pad it, so padding needs no exception.
pub struct Packet<'a> {
    pub source: Station,
    pub destination: Station,
    pub hop_limit: u8,
    /// Traffic class and flow label are zero.
    pub plain: bool,
    pub content: Content<'a>,
}

/// Both addresses of one end of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Station {
    pub mac: Mac,
    pub ip: Ip,
}

pub enum Content<'a> {
    /// A datagram from port 8090 to port 8090.
    Beacon(&'a [u8]),
    /// A datagram with port 51820 at one end. What is inside is the mesh's business.
    WireGuard {
        source: u16,
        destination: u16,
    },
    Tcp(Tcp),
    Neighbour(Neighbour),
}

pub struct Tcp {
    pub source: u16,
    pub destination: u16,
    pub flags: Flags,
}

#[derive(Clone, Copy)]
pub struct Flags {
    pub syn: bool,
    pub ack: bool,
    pub fin: bool,
    pub rst: bool,
    pub urg: bool,
    /// ECN in any of its forms.
    pub ecn: bool,
}

/// A neighbour solicitation or advertisement, code 0, reserved bits zero.
pub struct Neighbour {
    pub kind: NeighbourKind,
    pub target: Ip,
    /// The link-layer option that belongs to this kind; no other option is known.
    pub link_layer: Option<Mac>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum NeighbourKind {
    Solicitation,
    Advertisement { router: bool },
}

impl<'a> Packet<'a> {
    pub fn parse(frame: &'a [u8]) -> Result<Self, Reason> {
        if frame.len() > MAX_FRAME {
            return Err(Reason::Length);
        }
        let ethernet = EthernetFrame::new_checked(frame).map_err(|_| Reason::Length)?;
        // 802.1Q, 802.3 lengths and ARP are all no IPv6.
        if ethernet.ethertype() != EthernetProtocol::Ipv6 {
            return Err(Reason::NotIpv6);
        }
        let ip = Ipv6Packet::new_checked(ethernet.payload()).map_err(|_| Reason::Length)?;
        if ip.version() != 6 {
            return Err(Reason::NotIpv6);
        }
        if frame.len() != HEADERS + usize::from(ip.payload_len()) {
            return Err(Reason::Length);
        }
        let content = match ip.next_header() {
            IpProtocol::Udp => udp(&ip)?,
            IpProtocol::Tcp => tcp(&ip)?,
            IpProtocol::Icmpv6 => neighbour(&ip)?,
            // Extension headers and fragments among them.
            _ => return Err(Reason::Protocol),
        };
        Ok(Self {
            source: Station { mac: ethernet.src_addr().0, ip: ip.src_addr().octets() },
            destination: Station { mac: ethernet.dst_addr().0, ip: ip.dst_addr().octets() },
            hop_limit: ip.hop_limit(),
            plain: ip.traffic_class() == 0 && ip.flow_label() == 0,
            content,
        })
    }
}

fn addresses(ip: &Ipv6Packet<&[u8]>) -> (IpAddress, IpAddress) {
    (IpAddress::Ipv6(ip.src_addr()), IpAddress::Ipv6(ip.dst_addr()))
}

fn udp<'a>(ip: &Ipv6Packet<&'a [u8]>) -> Result<Content<'a>, Reason> {
    let udp = UdpPacket::new_checked(ip.payload()).map_err(|_| Reason::Length)?;
    if usize::from(udp.len()) != ip.payload().len() {
        return Err(Reason::Length);
    }
    let content = match (udp.src_port(), udp.dst_port()) {
        (BEACON_PORT, BEACON_PORT) => Content::Beacon(udp.payload()),
        (source, destination) if source == MESH_PORT || destination == MESH_PORT => {
            Content::WireGuard { source, destination }
        }
        _ => return Err(Reason::Port),
    };
    let (source, destination) = addresses(ip);
    // IPv6 has no "without checksum", which the parser would take.
    if udp.checksum() == 0 || !udp.verify_checksum(&source, &destination) {
        return Err(Reason::Checksum);
    }
    Ok(content)
}

fn tcp<'a>(ip: &Ipv6Packet<&'a [u8]>) -> Result<Content<'a>, Reason> {
    let tcp = TcpPacket::new_checked(ip.payload()).map_err(|_| Reason::Length)?;
    let (source, destination) = addresses(ip);
    if !tcp.verify_checksum(&source, &destination) {
        return Err(Reason::Checksum);
    }
    Ok(Content::Tcp(Tcp {
        source: tcp.src_port(),
        destination: tcp.dst_port(),
        flags: Flags {
            syn: tcp.syn(),
            ack: tcp.ack(),
            fin: tcp.fin(),
            rst: tcp.rst(),
            urg: tcp.urg(),
            ecn: tcp.ece() || tcp.cwr() || tcp.ns(),
        },
    }))
}

const SOURCE_OPTION: u8 = 1;
const TARGET_OPTION: u8 = 2;
const ROUTER: u8 = 0x80;
/// Router, solicited, override.
const FLAGS: u8 = 0xe0;

fn neighbour<'a>(ip: &Ipv6Packet<&'a [u8]>) -> Result<Content<'a>, Reason> {
    let icmp = Icmpv6Packet::new_checked(ip.payload()).map_err(|_| Reason::Neighbour)?;
    if !icmp.verify_checksum(&ip.src_addr(), &ip.dst_addr()) {
        return Err(Reason::Checksum);
    }
    let reserved = ip.payload().get(4..8).unwrap_or_default();
    let (kind, option) = match (icmp.msg_type(), icmp.msg_code(), reserved) {
        (Icmpv6Message::NeighborSolicit, 0, [0, 0, 0, 0]) => (NeighbourKind::Solicitation, SOURCE_OPTION),
        (Icmpv6Message::NeighborAdvert, 0, [flags, 0, 0, 0]) if flags & !FLAGS == 0 => {
            (NeighbourKind::Advertisement { router: flags & ROUTER != 0 }, TARGET_OPTION)
        }
        _ => return Err(Reason::Neighbour),
    };
    let link_layer = match icmp.payload() {
        [] => None,
        // Its length in units of eight bytes.
        [kind, 1, mac @ ..] if *kind == option => Some(Mac::try_from(mac).map_err(|_| Reason::Neighbour)?),
        _ => return Err(Reason::Neighbour),
    };
    Ok(Content::Neighbour(Neighbour { kind, target: icmp.target_addr().octets(), link_layer }))
}

/// The datagram, if it is one of kind `T` exactly.
pub fn is<T: Datagram>(bytes: &[u8]) -> bool {
    T::parse(bytes).is_some()
}

/// fe80::/64.
pub fn is_link_local(ip: &Ip) -> bool {
    ip.starts_with(&Ipv6Address::new(0xfe80, 0, 0, 0, 0, 0, 0, 0).octets()[..8])
}

/// A station's own address: not a group's, and not none.
pub fn is_unicast(mac: &Mac) -> bool {
    mac[0] & 1 == 0 && *mac != [0; 6]
}

/// One host's address: no group's, and none of ::/8, where "none", loopback and IPv4 in disguise are.
pub fn is_host(ip: &Ip) -> bool {
    !matches!(ip[0], 0 | 0xff)
}

impl Station {
    pub const ALL_NODES: Self = Self { mac: [0x33, 0x33, 0, 0, 0, 1], ip: wire::ALL_NODES };

    /// The group that is solicited when only this station's IPv6 address is known.
    pub fn solicited_node(&self) -> Self {
        let [.., a, b, c] = self.ip;
        Self { mac: [0x33, 0x33, 0xff, a, b, c], ip: [0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, a, b, c] }
    }

    /// Whether this is a station that may be talked to at all.
    pub fn is_one(&self) -> bool {
        is_unicast(&self.mac) && is_link_local(&self.ip)
    }
}
