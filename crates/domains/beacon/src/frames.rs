//! Frames: what comes in is read with checked constructors, what goes out is built by `link`.

use link::{DATAGRAM, ON_LINK, Station, UdpPorts};
use smoltcp::wire::{EthernetFrame, EthernetProtocol, IpProtocol, Ipv6Packet, UdpPacket};
use wire::{
    BEACON_PORT,
    link::{Datagram, Find, Open},
};

/// Bytes of the longest frame: an open is the longest datagram of the protocol.
const ROOM: usize = DATAGRAM + Open::SIZE;

/// What came in. The addresses in it are those of the frame.
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
        && ip.dst_addr().octets() == wire::ALL_NODES;
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
pub fn to_everyone<T: Datagram>(us: &Station, datagram: &T) -> Frame {
    to_peer(us, &Station::ALL_NODES, datagram)
}

/// A datagram to one station.
pub fn to_peer<T: Datagram>(us: &Station, peer: &Station, datagram: &T) -> Frame {
    const { assert!(T::SIZE <= Open::SIZE) };
    let mut frame = Frame { bytes: [0; ROOM], len: DATAGRAM + T::SIZE };
    let bytes = &mut frame.bytes[..DATAGRAM + T::SIZE];
    bytes[DATAGRAM..].copy_from_slice(datagram.as_bytes());
    let ports = UdpPorts { source: BEACON_PORT, destination: BEACON_PORT };
    // There is room.
    let _ = link::datagram(bytes, us, peer, ports, ON_LINK);
    frame
}
