//! Frames: what comes in is read with checked constructors, what goes out is built from representations.

use calls::{lifecycle::Peer, rules::Link};
use smoltcp::{
    phy::ChecksumCapabilities,
    wire::{
        EthernetAddress, EthernetFrame, EthernetProtocol, EthernetRepr, Icmpv6Packet, Icmpv6Repr, IpProtocol,
        Ipv6Address, Ipv6Packet, Ipv6Repr, NdiscRepr, UdpPacket, UdpRepr,
    },
};
use wire::{
    BEACON_PORT,
    link::{Datagram, Find, Open},
};

/// Of everything that is sent: it proves that no router forwarded it, and neighbour discovery demands it.
const HOP_LIMIT: u8 = 255;
const EVERYONE: Peer = Peer { ip: wire::ALL_NODES, mac: [0x33, 0x33, 0, 0, 0, 1], zero: [0; 2] };
const HEADERS: usize = 14 + 40;
const UDP_HEADER: usize = 8;
/// For any datagram of the protocol; an open is the longest.
const ROOM: usize = HEADERS + UDP_HEADER + Open::SIZE;

/// What came in, with addresses that are the frame's.
pub enum Heard {
    Find(Find),
    Open(Open),
}

/// A find or an open to everyone, whose sender is who it says. Checksums have been verified by the perimeter;
/// here they would protect nothing, since what counts is signed.
pub fn read(frame: &[u8]) -> Option<Heard> {
    let ethernet = EthernetFrame::new_checked(frame).ok()?;
    let ip = Ipv6Packet::new_checked(ethernet.payload()).ok()?;
    let is_udp = ethernet.ethertype() == EthernetProtocol::Ipv6
        && ip.version() == 6
        && ip.next_header() == IpProtocol::Udp
        && ip.dst_addr().octets() == EVERYONE.ip;
    let udp = UdpPacket::new_checked(ip.payload()).ok().filter(|_| is_udp)?;
    if (udp.src_port(), udp.dst_port()) != (BEACON_PORT, BEACON_PORT) {
        return None;
    }
    let from = (ip.src_addr().octets(), ethernet.src_addr().0);
    if let Some(find) = Find::parse(udp.payload()) {
        return (from == (find.sender_ip, find.sender_mac)).then_some(Heard::Find(*find));
    }
    let open = Open::parse(udp.payload())?;
    (from == (open.sender_ip, open.sender_mac)).then_some(Heard::Open(*open))
}

pub struct Frame {
    bytes: [u8; ROOM],
    len: usize,
}

impl Frame {
    pub fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }
}

/// A datagram to everyone on the link.
pub fn to_everyone<T: Datagram>(link: &Link, datagram: &T) -> Frame {
    to_peer(link, &EVERYONE, datagram)
}

/// A datagram to one station.
pub fn to_peer<T: Datagram>(link: &Link, peer: &Peer, datagram: &T) -> Frame {
    const { assert!(T::SIZE <= Open::SIZE) };
    let ports = UdpRepr { src_port: BEACON_PORT, dst_port: BEACON_PORT };
    build(link, peer, IpProtocol::Udp, UDP_HEADER + T::SIZE, |source, destination, payload| {
        let (source, destination) = ((*source).into(), (*destination).into());
        let fill = |to: &mut [u8]| to.copy_from_slice(datagram.as_bytes());
        let mut udp = UdpPacket::new_unchecked(payload);
        ports.emit(&mut udp, &source, &destination, T::SIZE, fill, &ChecksumCapabilities::default());
    })
}

/// A neighbour solicitation to the peer and for the peer: it leaves the node's addresses in the peer's
/// neighbour cache.
pub fn solicitation(link: &Link, peer: &Peer) -> Frame {
    let lladdr = Some(EthernetAddress(link.mac).into());
    let message = Icmpv6Repr::Ndisc(NdiscRepr::NeighborSolicit { target_addr: peer.ip.into(), lladdr });
    build(link, peer, IpProtocol::Icmpv6, message.buffer_len(), |source, destination, payload| {
        let mut packet = Icmpv6Packet::new_unchecked(payload);
        message.emit(source, destination, &mut packet, &ChecksumCapabilities::default());
    })
}

fn build(
    link: &Link,
    to: &Peer,
    next_header: IpProtocol,
    payload_len: usize,
    fill: impl FnOnce(&Ipv6Address, &Ipv6Address, &mut [u8]),
) -> Frame {
    let len = HEADERS + payload_len;
    let mut bytes = [0; ROOM];
    let mut ethernet = EthernetFrame::new_unchecked(&mut bytes[..len]);
    let (src_addr, dst_addr) = (EthernetAddress(link.mac), EthernetAddress(to.mac));
    EthernetRepr { src_addr, dst_addr, ethertype: EthernetProtocol::Ipv6 }.emit(&mut ethernet);
    let (src_addr, dst_addr) = (link.ip.into(), to.ip.into());
    let mut ip = Ipv6Packet::new_unchecked(ethernet.payload_mut());
    Ipv6Repr { src_addr, dst_addr, next_header, payload_len, hop_limit: HOP_LIMIT }.emit(&mut ip);
    fill(&src_addr, &dst_addr, ip.payload_mut());
    Frame { bytes, len }
}
