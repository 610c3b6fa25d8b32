//! Frames: what comes in is read with checked constructors, what goes out is built by `link`.

use core::ops::Range;

use link::{DATAGRAM, HEADERS, HOP_LIMIT, MAX_FRAME, ON_LINK, Station, UdpPorts, is_host, is_unicast};
use smoltcp::{
    phy::ChecksumCapabilities,
    wire::{
        EthernetFrame, EthernetProtocol, Icmpv6Packet, Icmpv6Repr, IpProtocol, Ipv6Packet, NdiscNeighborFlags,
        NdiscRepr, RawHardwareAddress, UdpPacket,
    },
};
use wire::{Ip, MESH_PORT, Mac};
use wireguard::{Endpoint, MAX_DATAGRAM};

use super::own::Own;

const _: () = assert!(DATAGRAM + MAX_DATAGRAM <= MAX_FRAME);

pub enum Heard {
    /// A datagram to the port of WireGuard, from whomever. Its payload lies there in the frame.
    Datagram { from: Endpoint, at: Range<usize> },
    /// A message of neighbour discovery, and the station that sent it.
    Neighbour(Neighbour, Station),
}

pub enum Neighbour {
    /// Somebody asks for one of the node's addresses.
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
    let sender = Station::new(ip.src_addr().octets(), ethernet.src_addr().0);
    let whole = ethernet.ethertype() == EthernetProtocol::Ipv6
        && ip.version() == 6
        && frame.len() == HEADERS + usize::from(ip.payload_len())
        && is_unicast(&sender.mac)
        && is_host(&sender.ip)
        && !own.is(&sender.ip);
    if !whole {
        return None;
    }
    let to = Station::new(ip.dst_addr().octets(), ethernet.dst_addr().0);
    let to_self = to.mac == own.station.mac && own.is(&to.ip);
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
            let asked = *to == Station::new(target, own.station.mac) || *to == Station::solicited_node(&target);
            let has_option = lladdr.is_some();
            (asked && own.is(&target)).then_some(Neighbour::Solicitation { target, has_option })
        }
        NdiscRepr::NeighborAdvert { flags, target_addr, lladdr } if honest(lladdr) => {
            let solicited = flags.contains(NdiscNeighborFlags::SOLICITED);
            let overrides = flags.contains(NdiscNeighborFlags::OVERRIDE);
            let to_all = !solicited && *to == Station::ALL_NODES;
            let to_self = to.mac == own.station.mac && own.is(&to.ip);
            let target = target_addr.octets();
            (to_self || to_all).then_some(Neighbour::Advertisement { target, solicited, overrides })
        }
        _ => None,
    }
}

/// Room for one frame. The datagram is written first, then the headers before it.
pub struct Frame {
    bytes: [u8; MAX_FRAME],
    len: usize,
}

impl Frame {
    pub const fn new() -> Self {
        Self { bytes: [0; MAX_FRAME], len: 0 }
    }

    /// A copy.
    pub fn of(frame: &[u8]) -> Option<Self> {
        let mut this = Self { bytes: [0; MAX_FRAME], len: frame.len() };
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
        let (from, open) = (Station::new(source, own.station.mac), Station::new(to.ip, [0; 6]));
        let ports = UdpPorts { source: MESH_PORT, destination: to.port };
        link::datagram(self.bytes.get_mut(..whole)?, &from, &open, ports, HOP_LIMIT)?;
        self.len = whole;
        Some(())
    }

    pub fn set_destination(&mut self, mac: &Mac) {
        self.bytes[..mac.len()].copy_from_slice(mac);
    }

    pub fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }
}
