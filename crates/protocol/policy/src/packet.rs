//! What an inner packet is: the one place that takes its bytes apart. Everything returned has been checked, lengths and
//! checksums too, so that flows and rules only compare.
//!
//! No fragments, no options of IPv4, no extension headers of IPv6, no ICMP but echo: nothing here needs them, and each
//! is a way to say two things with one packet.

use smoltcp::wire::{
    Icmpv4Message, Icmpv4Packet, Icmpv6Message, Icmpv6Packet, IpAddress, IpProtocol, Ipv4Packet, Ipv6Packet, TcpPacket,
    UdpPacket,
};
use wire::Ip;

use crate::{Prefix, Protocol, configuration::is_mapped};

const V4_HEADER: usize = 20;
const V6_HEADER: usize = 40;
const ECHO_HEADER: usize = 8;

/// One whole packet, without what may have stood behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Packet<'a> {
    /// The packet exactly: WireGuard pads, and the padding is cut off.
    pub bytes: &'a [u8],
    /// What follows the header of TCP, UDP or echo.
    pub payload: &'a [u8],
    pub summary: Summary,
}

/// All that decides about a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Summary {
    /// IPv4 as ::ffff:a.b.c.d.
    pub source: Ip,
    pub destination: Ip,
    pub transport: Transport,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    Tcp { source: u16, destination: u16, flags: Flags },
    Udp { source: u16, destination: u16 },
    Echo { kind: EchoKind, id: u16, sequence: u16 },
}

/// The flags of a TCP segment that open, answer and end a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Flags {
    pub syn: bool,
    pub ack: bool,
    pub fin: bool,
    pub rst: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EchoKind {
    Request,
    Reply,
}

/// Why bytes are no packet that could pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Malformed {
    /// Neither IPv4 nor IPv6.
    Version,
    /// Too short, or lengths that disagree.
    Length,
    /// IPv4 options or a fragment.
    Header,
    /// A checksum that does not fit, or none where one is needed.
    Checksum,
    /// Neither TCP nor UDP nor echo.
    Protocol,
    /// A port that is zero, or flags that no TCP segment has.
    Transport,
}

impl Summary {
    pub fn protocol(&self) -> Protocol {
        match self.transport {
            Transport::Tcp { .. } => Protocol::Tcp,
            Transport::Udp { .. } => Protocol::Udp,
            Transport::Echo { .. } => Protocol::Icmp,
        }
    }
}

impl<'a> Packet<'a> {
    /// The packet at the front of `bytes`.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Malformed> {
        match bytes.first().map(|first| first >> 4) {
            Some(4) => v4(bytes),
            Some(6) => v6(bytes),
            _ => Err(Malformed::Version),
        }
    }
}

fn v4(bytes: &[u8]) -> Result<Packet<'_>, Malformed> {
    let ip = Ipv4Packet::new_checked(bytes).map_err(|_| Malformed::Length)?;
    let bytes = bytes.get(..usize::from(ip.total_len())).ok_or(Malformed::Length)?;
    if usize::from(ip.header_len()) != V4_HEADER || ip.more_frags() || ip.frag_offset() != 0 {
        return Err(Malformed::Header);
    }
    if !ip.verify_checksum() {
        return Err(Malformed::Checksum);
    }
    let inside = bytes.get(V4_HEADER..).ok_or(Malformed::Length)?;
    let (source, destination) = (IpAddress::Ipv4(ip.src_addr()), IpAddress::Ipv4(ip.dst_addr()));
    let (transport, payload) = match ip.next_header() {
        IpProtocol::Tcp => tcp(inside, &source, &destination)?,
        IpProtocol::Udp => udp(inside, &source, &destination)?,
        IpProtocol::Icmp => echo_v4(inside)?,
        _ => return Err(Malformed::Protocol),
    };
    let mapped = |address: [u8; 4]| Prefix::v4(address, 32).ip;
    let (source, destination) = (mapped(ip.src_addr().octets()), mapped(ip.dst_addr().octets()));
    Ok(Packet { bytes, payload, summary: Summary { source, destination, transport } })
}

fn v6(bytes: &[u8]) -> Result<Packet<'_>, Malformed> {
    let ip = Ipv6Packet::new_checked(bytes).map_err(|_| Malformed::Length)?;
    let bytes = bytes.get(..V6_HEADER + usize::from(ip.payload_len())).ok_or(Malformed::Length)?;
    let inside = bytes.get(V6_HEADER..).ok_or(Malformed::Length)?;
    let (source, destination) = (IpAddress::Ipv6(ip.src_addr()), IpAddress::Ipv6(ip.dst_addr()));
    let (transport, payload) = match ip.next_header() {
        IpProtocol::Tcp => tcp(inside, &source, &destination)?,
        IpProtocol::Udp => udp(inside, &source, &destination)?,
        IpProtocol::Icmpv6 => echo_v6(&ip, inside)?,
        // Extension headers and fragments among them.
        _ => return Err(Malformed::Protocol),
    };
    let (source, destination) = (ip.src_addr().octets(), ip.dst_addr().octets());
    // An address of the other family would be two addresses to those who compare.
    if is_mapped(&source) || is_mapped(&destination) {
        return Err(Malformed::Header);
    }
    Ok(Packet { bytes, payload, summary: Summary { source, destination, transport } })
}

type Inside<'a> = Result<(Transport, &'a [u8]), Malformed>;

fn tcp<'a>(bytes: &'a [u8], source: &IpAddress, destination: &IpAddress) -> Inside<'a> {
    let tcp = TcpPacket::new_checked(bytes).map_err(|_| Malformed::Length)?;
    if !tcp.verify_checksum(source, destination) {
        return Err(Malformed::Checksum);
    }
    let flags = Flags { syn: tcp.syn(), ack: tcp.ack(), fin: tcp.fin(), rst: tcp.rst() };
    let (source, destination) = (tcp.src_port(), tcp.dst_port());
    // What opens, what answers, what goes on, what ends.
    let sane = flags.ack || (flags.syn != flags.rst && !flags.fin);
    let clash = flags.syn && (flags.fin || flags.rst) || flags.fin && flags.rst;
    if source == 0 || destination == 0 || !sane || clash {
        return Err(Malformed::Transport);
    }
    Ok((Transport::Tcp { source, destination, flags }, tcp.payload()))
}

fn udp<'a>(bytes: &'a [u8], source: &IpAddress, destination: &IpAddress) -> Inside<'a> {
    let udp = UdpPacket::new_checked(bytes).map_err(|_| Malformed::Length)?;
    if usize::from(udp.len()) != bytes.len() {
        return Err(Malformed::Length);
    }
    // IPv6 has no "without checksum", and of IPv4's own kind none is needed here.
    if udp.checksum() == 0 || !udp.verify_checksum(source, destination) {
        return Err(Malformed::Checksum);
    }
    let (source, destination) = (udp.src_port(), udp.dst_port());
    if source == 0 || destination == 0 {
        return Err(Malformed::Transport);
    }
    Ok((Transport::Udp { source, destination }, udp.payload()))
}

fn echo_v4(bytes: &[u8]) -> Inside<'_> {
    let icmp = Icmpv4Packet::new_checked(bytes).map_err(|_| Malformed::Length)?;
    if !icmp.verify_checksum() {
        return Err(Malformed::Checksum);
    }
    let kind = match (icmp.msg_type(), icmp.msg_code()) {
        (Icmpv4Message::EchoRequest, 0) => EchoKind::Request,
        (Icmpv4Message::EchoReply, 0) => EchoKind::Reply,
        _ => return Err(Malformed::Protocol),
    };
    let payload = bytes.get(ECHO_HEADER..).ok_or(Malformed::Length)?;
    Ok((Transport::Echo { kind, id: icmp.echo_ident(), sequence: icmp.echo_seq_no() }, payload))
}

fn echo_v6<'a>(ip: &Ipv6Packet<&[u8]>, bytes: &'a [u8]) -> Inside<'a> {
    // Its own length check does not know every type.
    let icmp = Icmpv6Packet::new_checked(bytes).map_err(|_| Malformed::Protocol)?;
    if !icmp.verify_checksum(&ip.src_addr(), &ip.dst_addr()) {
        return Err(Malformed::Checksum);
    }
    let kind = match (icmp.msg_type(), icmp.msg_code()) {
        (Icmpv6Message::EchoRequest, 0) => EchoKind::Request,
        (Icmpv6Message::EchoReply, 0) => EchoKind::Reply,
        _ => return Err(Malformed::Protocol),
    };
    let payload = bytes.get(ECHO_HEADER..).ok_or(Malformed::Length)?;
    Ok((Transport::Echo { kind, id: icmp.echo_ident(), sequence: icmp.echo_seq_no() }, payload))
}
