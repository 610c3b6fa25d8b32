//! Raw frames, true and false.

use std::{vec, vec::Vec};

use smoltcp::{
    phy::ChecksumCapabilities,
    wire::{
        EthernetAddress, EthernetFrame, EthernetProtocol, EthernetRepr, Icmpv6Packet, Icmpv6Repr, IpProtocol,
        Ipv6Address, Ipv6Packet, Ipv6Repr, NdiscRepr, TcpControl, TcpPacket, TcpRepr, TcpSeqNumber,
    },
};
use wire::CLAIM_PORT;

use super::{
    keystore::LINK_IP,
    world::{NODE_MAC, PEER_IP, PEER_MAC},
};

/// Where a frame says it is from and goes to.
#[derive(Clone, Copy)]
pub struct Route {
    pub src_mac: [u8; 6],
    pub dst_mac: [u8; 6],
    pub src: [u8; 16],
    pub dst: [u8; 16],
}

pub const TO_NODE: Route = Route { src_mac: PEER_MAC, dst_mac: NODE_MAC, src: PEER_IP, dst: LINK_IP };

pub fn ip(route: Route, next_header: u8, hop_limit: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![0; 54 + payload.len()];
    EthernetRepr {
        src_addr: EthernetAddress(route.src_mac),
        dst_addr: EthernetAddress(route.dst_mac),
        ethertype: EthernetProtocol::Ipv6,
    }
    .emit(&mut EthernetFrame::new_unchecked(&mut frame[..]));
    Ipv6Repr {
        src_addr: Ipv6Address::from(route.src),
        dst_addr: Ipv6Address::from(route.dst),
        next_header: IpProtocol::from(next_header),
        payload_len: payload.len(),
        hop_limit,
    }
    .emit(&mut Ipv6Packet::new_unchecked(&mut frame[14..]));
    frame[54..].copy_from_slice(payload);
    frame
}

/// A TCP segment as the peer's stack would send it.
pub struct Segment<'a> {
    pub port: u16,
    pub control: TcpControl,
    pub seq: i32,
    pub ack: Option<i32>,
    pub payload: &'a [u8],
}

pub const SYN: Segment<'static> = Segment { port: 40_000, control: TcpControl::Syn, seq: 1, ack: None, payload: &[] };

pub fn tcp(route: Route, segment: &Segment<'_>) -> Vec<u8> {
    tcp_to(route, CLAIM_PORT, segment, |_| {})
}

/// A segment to any port, changed before its checksum is made.
pub fn tcp_to(route: Route, port: u16, segment: &Segment<'_>, change: impl FnOnce(&mut [u8])) -> Vec<u8> {
    let repr = TcpRepr {
        src_port: segment.port,
        dst_port: port,
        control: segment.control,
        seq_number: TcpSeqNumber(segment.seq),
        ack_number: segment.ack.map(TcpSeqNumber),
        window_len: 8000,
        window_scale: None,
        max_seg_size: (segment.control == TcpControl::Syn).then_some(1400),
        sack_permitted: segment.control == TcpControl::Syn,
        sack_ranges: [None; 3],
        timestamp: None,
        payload: segment.payload,
    };
    let (src, dst) = (Ipv6Address::from(route.src), Ipv6Address::from(route.dst));
    let mut bytes = vec![0; repr.buffer_len()];
    let mut packet = TcpPacket::new_unchecked(&mut bytes[..]);
    repr.emit(&mut packet, &src.into(), &dst.into(), &ChecksumCapabilities::default());
    change(packet.into_inner());
    TcpPacket::new_unchecked(&mut bytes[..]).fill_checksum(&src.into(), &dst.into());
    ip(route, 6, 64, &bytes)
}

pub fn icmp(route: Route, hop_limit: u8, repr: &Icmpv6Repr<'_>) -> Vec<u8> {
    let (src, dst) = (Ipv6Address::from(route.src), Ipv6Address::from(route.dst));
    let mut bytes = vec![0; repr.buffer_len()];
    repr.emit(&src, &dst, &mut Icmpv6Packet::new_unchecked(&mut bytes[..]), &ChecksumCapabilities::default());
    ip(route, 58, hop_limit, &bytes)
}

pub fn solicitation(route: Route, target: [u8; 16], hop_limit: u8) -> Vec<u8> {
    let repr = Icmpv6Repr::Ndisc(NdiscRepr::NeighborSolicit {
        target_addr: Ipv6Address::from(target),
        lladdr: Some(EthernetAddress(route.src_mac).into()),
    });
    icmp(route, hop_limit, &repr)
}

/// The first sequence number in a SYN-ACK, and the port it goes to.
pub fn syn_ack(frame: &[u8]) -> Option<(u16, i32)> {
    let eth = EthernetFrame::new_checked(frame).ok()?;
    let ip = Ipv6Packet::new_checked(eth.payload()).ok()?;
    let tcp = TcpPacket::new_checked(ip.payload()).ok().filter(|_| ip.next_header() == IpProtocol::Tcp)?;
    (tcp.syn() && tcp.ack()).then(|| (tcp.dst_port(), tcp.seq_number().0))
}
