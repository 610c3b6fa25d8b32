//! Frames: what comes in is read with checked constructors, what goes out is built from representations.

use core::ops::Range;

use smoltcp::{
    phy::ChecksumCapabilities,
    wire::{
        EthernetAddress, EthernetFrame, EthernetProtocol, EthernetRepr, Icmpv6Packet, Icmpv6Repr, IpProtocol,
        Ipv6Address, Ipv6Packet, Ipv6Repr, NdiscNeighborFlags, NdiscRepr, RawHardwareAddress, UdpPacket, UdpRepr,
    },
};
use wire::{Ip, MESH_PORT, Mac};
use wireguard::{Endpoint, MAX_DATAGRAM};

use super::{Own, is_host, neighbours::Asked};

const HEADERS: usize = 14 + 40;
const UDP: usize = 8;
const DATAGRAM: usize = HEADERS + UDP;
/// The longest frame.
pub const FRAME: usize = DATAGRAM + MAX_DATAGRAM;
/// Room for a solicitation or an advertisement.
const SMALL: usize = 86;

/// Of datagrams.
const HOP_LIMIT: u8 = 64;
/// Of neighbour discovery: it proves that no router forwarded it.
const ON_LINK: u8 = 255;

/// Both addresses of a neighbour.
pub struct Station {
    pub ip: Ip,
    pub mac: Mac,
}

pub enum Heard {
    /// To the port of WireGuard, from whomever; the payload lies there in the frame.
    Datagram { from: Endpoint, at: Range<usize> },
    /// From this station.
    Neighbour(Neighbour, Station),
}

pub enum Neighbour {
    /// Of one of the node's addresses.
    Solicitation {
        target: Ip,
        has_option: bool,
    },
    Advertisement {
        target: Ip,
        solicited: bool,
        overrides: bool,
    },
}

/// What a frame is, if it is for the node.
pub fn read(frame: &[u8], own: &Own) -> Option<Heard> {
    let ethernet = EthernetFrame::new_checked(frame).ok()?;
    let ip = Ipv6Packet::new_checked(ethernet.payload()).ok()?;
    let sender = Station { ip: ip.src_addr().octets(), mac: ethernet.src_addr().0 };
    let whole = ethernet.ethertype() == EthernetProtocol::Ipv6
        && ip.version() == 6
        && frame.len() == HEADERS + usize::from(ip.payload_len())
        && is_station(&sender.mac)
        && is_host(&sender.ip)
        && !own.is(&sender.ip);
    if !whole {
        return None;
    }
    let to = Station { ip: ip.dst_addr().octets(), mac: ethernet.dst_addr().0 };
    let to_self = to.mac == own.link.mac && own.is(&to.ip);
    match ip.next_header() {
        IpProtocol::Udp if to_self => datagram(frame, &ip, sender.ip),
        IpProtocol::Icmpv6 if ip.hop_limit() == ON_LINK => {
            neighbour(&ip, own, &sender, &to).map(|heard| Heard::Neighbour(heard, sender))
        }
        _ => None,
    }
}

fn datagram(frame: &[u8], ip: &Ipv6Packet<&[u8]>, from: Ip) -> Option<Heard> {
    let udp = UdpPacket::new_checked(ip.payload()).ok()?;
    let whole = udp.dst_port() == MESH_PORT
        && udp.src_port() != 0
        && usize::from(udp.len()) == ip.payload().len()
        // IPv6 has no "without checksum", which the parser would take.
        && udp.checksum() != 0
        && udp.verify_checksum(&ip.src_addr().into(), &ip.dst_addr().into());
    let from = Endpoint { ip: from, port: udp.src_port() };
    whole.then_some(Heard::Datagram { from, at: DATAGRAM..frame.len() })
}

fn neighbour(ip: &Ipv6Packet<&[u8]>, own: &Own, from: &Station, to: &Station) -> Option<Neighbour> {
    let icmp = Icmpv6Packet::new_checked(ip.payload()).ok()?;
    let checks = ChecksumCapabilities::default();
    let Icmpv6Repr::Ndisc(message) = Icmpv6Repr::parse(&ip.src_addr(), &ip.dst_addr(), &icmp, &checks).ok()? else {
        return None;
    };
    let honest = |option: Option<RawHardwareAddress>| option.is_none_or(|mac| mac.as_bytes() == from.mac);
    match message {
        NdiscRepr::NeighborSolicit { target_addr, lladdr } if honest(lladdr) => {
            let target = target_addr.octets();
            let group = solicited_node(&target);
            let asked = (to.mac, to.ip) == (own.link.mac, target) || (to.mac, to.ip) == (group.mac, group.ip);
            let has_option = lladdr.is_some();
            (asked && own.is(&target)).then_some(Neighbour::Solicitation { target, has_option })
        }
        NdiscRepr::NeighborAdvert { flags, target_addr, lladdr } if honest(lladdr) => {
            let solicited = flags.contains(NdiscNeighborFlags::SOLICITED);
            let overrides = flags.contains(NdiscNeighborFlags::OVERRIDE);
            let to_all = !solicited && (to.mac, to.ip) == ([0x33, 0x33, 0, 0, 0, 1], wire::ALL_NODES);
            let to_self = to.mac == own.link.mac && own.is(&to.ip);
            let target = target_addr.octets();
            (to_self || to_all).then_some(Neighbour::Advertisement { target, solicited, overrides })
        }
        _ => None,
    }
}

/// A station's own address: not a group's, and not none.
pub fn is_station(mac: &Mac) -> bool {
    EthernetAddress(*mac).is_unicast() && *mac != [0; 6]
}

/// The group that is asked for an address.
fn solicited_node(ip: &Ip) -> Station {
    let [.., a, b, c] = *ip;
    Station { ip: [0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, a, b, c], mac: [0x33, 0x33, 0xff, a, b, c] }
}

/// Room for one frame, to be filled from the datagram outwards.
pub struct Frame {
    bytes: [u8; FRAME],
    len: usize,
}

impl Frame {
    pub const fn new() -> Self {
        Self { bytes: [0; FRAME], len: 0 }
    }

    /// A copy.
    pub fn of(frame: &[u8]) -> Option<Self> {
        let mut this = Self { bytes: [0; FRAME], len: frame.len() };
        this.bytes.get_mut(..frame.len())?.copy_from_slice(frame);
        Some(this)
    }

    /// Where the datagram goes.
    pub fn datagram_mut(&mut self) -> &mut [u8] {
        self.bytes.get_mut(DATAGRAM..).unwrap_or_default()
    }

    /// Puts the headers before a datagram of `len` bytes. The destination's MAC is open.
    pub fn address(&mut self, own: &Own, source: Ip, to: &Endpoint, len: usize) -> Option<()> {
        self.len = 0;
        let whole = DATAGRAM.checked_add(len)?;
        let nobody = Station { ip: to.ip, mac: [0; 6] };
        let bytes = self.bytes.get_mut(..whole)?;
        build(bytes, own, source, &nobody, IpProtocol::Udp, HOP_LIMIT, |source, destination, payload| {
            let (source, destination) = ((*source).into(), (*destination).into());
            let ports = UdpRepr { src_port: MESH_PORT, dst_port: to.port };
            let mut udp = UdpPacket::new_unchecked(payload);
            // The datagram stands there already.
            ports.emit(&mut udp, &source, &destination, len, |_| (), &ChecksumCapabilities::default());
        });
        self.len = whole;
        Some(())
    }

    pub fn set_destination(&mut self, mac: &Mac) {
        let [a, b, c, d, e, f, ..] = &mut self.bytes;
        for (to, from) in [a, b, c, d, e, f].into_iter().zip(mac) {
            *to = *from;
        }
    }

    pub fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }
}

pub struct Small {
    bytes: [u8; SMALL],
    len: usize,
}

impl Small {
    pub fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }
}

/// To the group of the address that is asked for, or to the neighbour itself.
pub fn solicitation(own: &Own, source: Ip, asked: &Asked) -> Small {
    let to = match asked.mac {
        Some(mac) => Station { ip: asked.ip, mac },
        None => solicited_node(&asked.ip),
    };
    let lladdr = Some(EthernetAddress(own.link.mac).into());
    message(own, source, &to, &NdiscRepr::NeighborSolicit { target_addr: asked.ip.into(), lladdr })
}

/// That `target` is the node's.
pub fn advertisement(own: &Own, target: Ip, to: &Station) -> Small {
    let flags = NdiscNeighborFlags::SOLICITED | NdiscNeighborFlags::OVERRIDE;
    let lladdr = Some(EthernetAddress(own.link.mac).into());
    message(own, target, to, &NdiscRepr::NeighborAdvert { flags, target_addr: target.into(), lladdr })
}

fn message(own: &Own, source: Ip, to: &Station, message: &NdiscRepr<'_>) -> Small {
    let message = Icmpv6Repr::Ndisc(*message);
    let mut small = Small { bytes: [0; SMALL], len: (HEADERS + message.buffer_len()).min(SMALL) };
    let Small { bytes, len } = &mut small;
    let bytes = bytes.get_mut(..*len).unwrap_or_default();
    build(bytes, own, source, to, IpProtocol::Icmpv6, ON_LINK, |source, destination, payload| {
        let mut packet = Icmpv6Packet::new_unchecked(payload);
        message.emit(source, destination, &mut packet, &ChecksumCapabilities::default());
    });
    small
}

/// `bytes` are at least as long as the headers.
fn build(
    bytes: &mut [u8],
    own: &Own,
    source: Ip,
    to: &Station,
    next_header: IpProtocol,
    hop_limit: u8,
    fill: impl FnOnce(&Ipv6Address, &Ipv6Address, &mut [u8]),
) {
    let payload_len = bytes.len().saturating_sub(HEADERS);
    let mut ethernet = EthernetFrame::new_unchecked(bytes);
    let (src_addr, dst_addr) = (EthernetAddress(own.link.mac), EthernetAddress(to.mac));
    EthernetRepr { src_addr, dst_addr, ethertype: EthernetProtocol::Ipv6 }.emit(&mut ethernet);
    let (src_addr, dst_addr) = (source.into(), to.ip.into());
    let mut ip = Ipv6Packet::new_unchecked(ethernet.payload_mut());
    Ipv6Repr { src_addr, dst_addr, next_header, payload_len, hop_limit }.emit(&mut ip);
    fill(&src_addr, &dst_addr, ip.payload_mut());
}
