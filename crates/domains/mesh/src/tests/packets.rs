//! Inner packets and outer frames, built from representations.

use std::{vec, vec::Vec};

use smoltcp::{
    phy::ChecksumCapabilities,
    wire::{
        EthernetAddress, EthernetFrame, EthernetProtocol, EthernetRepr, Icmpv4Packet, Icmpv4Repr, Icmpv6Packet,
        Icmpv6Repr, IpAddress, IpProtocol, Ipv4Address, Ipv4Packet, Ipv4Repr, Ipv6Packet, Ipv6Repr, NdiscNeighborFlags,
        NdiscRepr, TcpControl, TcpPacket, TcpRepr, TcpSeqNumber, UdpPacket, UdpRepr,
    },
};
use wire::{Ip, Mac};

/// The inner addresses of member `n`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum At {
    V4(u8),
    V6(u8),
}

pub use At::{V4, V6};

impl At {
    pub fn ip(self) -> Ip {
        match self {
            V4(n) => policy::Prefix::v4([10, 8, 0, n], 32).ip,
            V6(n) => [0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, n],
        }
    }

    fn address(self) -> IpAddress {
        match self {
            V4(n) => IpAddress::Ipv4(Ipv4Address::new(10, 8, 0, n)),
            V6(_) => IpAddress::Ipv6(self.ip().into()),
        }
    }
}

fn ip(from: At, to: At, next_header: IpProtocol, payload: &[u8]) -> Vec<u8> {
    let payload_len = payload.len();
    match (from.address(), to.address()) {
        (IpAddress::Ipv4(src_addr), IpAddress::Ipv4(dst_addr)) => {
            let mut bytes = vec![0; 20 + payload_len];
            let mut packet = Ipv4Packet::new_unchecked(&mut bytes[..]);
            Ipv4Repr { src_addr, dst_addr, next_header, payload_len, hop_limit: 64 }
                .emit(&mut packet, &ChecksumCapabilities::default());
            packet.payload_mut().copy_from_slice(payload);
            bytes
        }
        (IpAddress::Ipv6(src_addr), IpAddress::Ipv6(dst_addr)) => {
            let mut bytes = vec![0; 40 + payload_len];
            let mut packet = Ipv6Packet::new_unchecked(&mut bytes[..]);
            Ipv6Repr { src_addr, dst_addr, next_header, payload_len, hop_limit: 64 }.emit(&mut packet);
            packet.payload_mut().copy_from_slice(payload);
            bytes
        }
        _ => panic!("two families"),
    }
}

pub fn udp(from: At, to: At, ports: (u16, u16), payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0; 8 + payload.len()];
    UdpRepr { src_port: ports.0, dst_port: ports.1 }.emit(
        &mut UdpPacket::new_unchecked(&mut bytes[..]),
        &from.address(),
        &to.address(),
        payload.len(),
        |to| to.copy_from_slice(payload),
        &ChecksumCapabilities::default(),
    );
    ip(from, to, IpProtocol::Udp, &bytes)
}

pub fn tcp(from: At, to: At, ports: (u16, u16), control: TcpControl, ack: bool) -> Vec<u8> {
    let repr = TcpRepr {
        src_port: ports.0,
        dst_port: ports.1,
        control,
        seq_number: TcpSeqNumber(1),
        ack_number: ack.then_some(TcpSeqNumber(1)),
        window_len: 1000,
        window_scale: None,
        max_seg_size: None,
        sack_permitted: false,
        sack_ranges: [None; 3],
        timestamp: None,
        payload: &[],
    };
    let mut bytes = vec![0; repr.buffer_len()];
    repr.emit(
        &mut TcpPacket::new_unchecked(&mut bytes[..]),
        &from.address(),
        &to.address(),
        &ChecksumCapabilities::default(),
    );
    ip(from, to, IpProtocol::Tcp, &bytes)
}

pub fn syn(from: At, to: At, ports: (u16, u16)) -> Vec<u8> {
    tcp(from, to, ports, TcpControl::Syn, false)
}

pub fn echo(from: At, to: At, reply: bool, data: &[u8]) -> Vec<u8> {
    let checks = ChecksumCapabilities::default();
    let (ident, seq_no) = (7, 9);
    match (from.address(), to.address()) {
        (IpAddress::Ipv6(src), IpAddress::Ipv6(dst)) => {
            let repr = if reply {
                Icmpv6Repr::EchoReply { ident, seq_no, data }
            } else {
                Icmpv6Repr::EchoRequest { ident, seq_no, data }
            };
            let mut bytes = vec![0; repr.buffer_len()];
            repr.emit(&src, &dst, &mut Icmpv6Packet::new_unchecked(&mut bytes[..]), &checks);
            ip(from, to, IpProtocol::Icmpv6, &bytes)
        }
        _ => {
            let repr = if reply {
                Icmpv4Repr::EchoReply { ident, seq_no, data }
            } else {
                Icmpv4Repr::EchoRequest { ident, seq_no, data }
            };
            let mut bytes = vec![0; repr.buffer_len()];
            repr.emit(&mut Icmpv4Packet::new_unchecked(&mut bytes[..]), &checks);
            ip(from, to, IpProtocol::Icmp, &bytes)
        }
    }
}

/// The payload of an inner UDP packet, perhaps padded, and its ports.
pub fn read_udp(bytes: &[u8]) -> Option<((u16, u16), Vec<u8>)> {
    let packet = policy::Packet::parse(bytes).ok()?;
    match packet.summary.transport {
        policy::Transport::Udp { source, destination } => Some(((source, destination), packet.payload.to_vec())),
        _ => None,
    }
}

// --- the outer side

/// Who is on the link at this address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spot {
    pub ip: Ip,
    pub mac: Mac,
}

impl Spot {
    pub fn link_local(n: u8) -> Self {
        Self { ip: [0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10, n], mac: [2, 0, 0, 0, 0, n] }
    }

    pub fn of_ip(self, ip: Ip) -> Self {
        Self { ip, ..self }
    }

    pub fn solicited_node(self) -> Self {
        let [.., a, b, c] = self.ip;
        Self { ip: [0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, a, b, c], mac: [0x33, 0x33, 0xff, a, b, c] }
    }
}

fn frame(from: Spot, to: Spot, next_header: IpProtocol, hop_limit: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0; 54 + payload.len()];
    let mut ethernet = EthernetFrame::new_unchecked(&mut bytes[..]);
    let (src_addr, dst_addr) = (EthernetAddress(from.mac), EthernetAddress(to.mac));
    EthernetRepr { src_addr, dst_addr, ethertype: EthernetProtocol::Ipv6 }.emit(&mut ethernet);
    let (src_addr, dst_addr, payload_len) = (from.ip.into(), to.ip.into(), payload.len());
    let mut ip = Ipv6Packet::new_unchecked(ethernet.payload_mut());
    Ipv6Repr { src_addr, dst_addr, next_header, payload_len, hop_limit }.emit(&mut ip);
    ip.payload_mut().copy_from_slice(payload);
    bytes
}

pub fn datagram(from: Spot, to: Spot, ports: (u16, u16), payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0; 8 + payload.len()];
    UdpRepr { src_port: ports.0, dst_port: ports.1 }.emit(
        &mut UdpPacket::new_unchecked(&mut bytes[..]),
        &IpAddress::Ipv6(from.ip.into()),
        &IpAddress::Ipv6(to.ip.into()),
        payload.len(),
        |to| to.copy_from_slice(payload),
        &ChecksumCapabilities::default(),
    );
    frame(from, to, IpProtocol::Udp, 64, &bytes)
}

pub fn ndisc(from: Spot, to: Spot, hop_limit: u8, message: NdiscRepr<'_>) -> Vec<u8> {
    let message = Icmpv6Repr::Ndisc(message);
    let mut bytes = vec![0; message.buffer_len()];
    message.emit(
        &from.ip.into(),
        &to.ip.into(),
        &mut Icmpv6Packet::new_unchecked(&mut bytes[..]),
        &ChecksumCapabilities::default(),
    );
    frame(from, to, IpProtocol::Icmpv6, hop_limit, &bytes)
}

pub fn solicitation(from: Spot, to: Spot, target: Ip, option: Option<Mac>) -> Vec<u8> {
    let lladdr = option.map(|mac| EthernetAddress(mac).into());
    ndisc(from, to, 255, NdiscRepr::NeighborSolicit { target_addr: target.into(), lladdr })
}

pub fn advertisement(from: Spot, to: Spot, target: Ip, option: Mac) -> Vec<u8> {
    let flags = NdiscNeighborFlags::SOLICITED | NdiscNeighborFlags::OVERRIDE;
    let lladdr = Some(EthernetAddress(option).into());
    ndisc(from, to, 255, NdiscRepr::NeighborAdvert { flags, target_addr: target.into(), lladdr })
}

/// What an outer frame is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outer {
    Datagram((u16, u16), Vec<u8>),
    Solicitation(Ip),
    Advertisement(Ip),
}

/// Takes a frame apart, and asserts that everything about it is right.
pub fn read(bytes: &[u8]) -> (Spot, Spot, Outer) {
    let ethernet = EthernetFrame::new_checked(bytes).unwrap();
    assert_eq!(ethernet.ethertype(), EthernetProtocol::Ipv6);
    let ip = Ipv6Packet::new_checked(ethernet.payload()).unwrap();
    assert_eq!(bytes.len(), 54 + usize::from(ip.payload_len()));
    let (src, dst) = (ip.src_addr(), ip.dst_addr());
    let from = Spot { ip: src.octets(), mac: ethernet.src_addr().0 };
    let to = Spot { ip: dst.octets(), mac: ethernet.dst_addr().0 };
    let outer = match ip.next_header() {
        IpProtocol::Udp => {
            let udp = UdpPacket::new_checked(ip.payload()).unwrap();
            assert!(udp.checksum() != 0 && udp.verify_checksum(&src.into(), &dst.into()));
            assert_eq!(ip.hop_limit(), 64);
            Outer::Datagram((udp.src_port(), udp.dst_port()), udp.payload().to_vec())
        }
        IpProtocol::Icmpv6 => {
            assert_eq!(ip.hop_limit(), 255);
            let icmp = Icmpv6Packet::new_checked(ip.payload()).unwrap();
            match Icmpv6Repr::parse(&src, &dst, &icmp, &ChecksumCapabilities::default()).unwrap() {
                Icmpv6Repr::Ndisc(NdiscRepr::NeighborSolicit { target_addr, lladdr }) => {
                    assert_eq!(lladdr.unwrap().as_bytes(), from.mac);
                    Outer::Solicitation(target_addr.octets())
                }
                Icmpv6Repr::Ndisc(NdiscRepr::NeighborAdvert { target_addr, lladdr, flags }) => {
                    assert_eq!(lladdr.unwrap().as_bytes(), from.mac);
                    assert_eq!(flags, NdiscNeighborFlags::SOLICITED | NdiscNeighborFlags::OVERRIDE);
                    Outer::Advertisement(target_addr.octets())
                }
                other => panic!("{other:?}"),
            }
        }
        other => panic!("{other}"),
    };
    (from, to, outer)
}
