//! Ethernet frames with an IPv6 packet in them. What goes behind the headers stands there already when they are written,
//! or is of fixed length: nothing here can fail but for a buffer that has no room for the headers.

use wire::{Ip, Mac, U16, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::Station;

pub(crate) const ETHERNET_HEADER: usize = 14;
/// Bytes before the payload of an IPv6 packet.
pub const HEADERS: usize = size_of::<Headers>();
/// Bytes before the payload of a UDP datagram.
pub const DATAGRAM: usize = HEADERS + size_of::<Udp>();
/// Bytes of a solicitation or an advertisement.
pub const NEIGHBOUR: usize = HEADERS + size_of::<Neighbour>();

/// Hop limit of what may be forwarded: the value that hosts use (RFC 8200 leaves it open).
pub const HOP_LIMIT: u8 = 64;
/// Hop limit of what must not have been: neighbour discovery demands it (RFC 4861, 7.1), since it proves that the sender
/// is on the link.
pub const ON_LINK: u8 = 255;

const IPV6: u16 = 0x86dd;
const VERSION: u32 = 6 << 28;

/// What an IPv6 packet carries, by its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum NextHeader {
    Tcp = 6,
    Udp = 17,
    Icmpv6 = 58,
}

/// The ports of a UDP datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UdpPorts {
    pub source: u16,
    pub destination: u16,
}

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Headers {
    destination_mac: Mac,
    source_mac: Mac,
    ethertype: U16,
    /// Version, traffic class, flow label: the last two are zero.
    version: U32,
    payload_length: U16,
    next_header: u8,
    hop_limit: u8,
    source: Ip,
    destination: Ip,
}

const _: () = assert!(HEADERS == ETHERNET_HEADER + 40);

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Udp {
    source: U16,
    destination: U16,
    length: U16,
    checksum: U16,
}

/// A neighbour solicitation or advertisement with its one option (RFC 4861, 4.3, 4.4 and 4.6.1).
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Neighbour {
    kind: u8,
    code: u8,
    checksum: U16,
    flags: u8,
    reserved: [u8; 3],
    target: Ip,
    option: u8,
    /// Length of the option in units of eight bytes.
    units: u8,
    mac: Mac,
}

const SOLICITATION: u8 = 135;
const SOURCE_MAC: u8 = 1;
const ADVERTISEMENT: u8 = 136;
const TARGET_MAC: u8 = 2;
const SOLICITED: u8 = 0x40;
const OVERRIDE: u8 = 0x20;

/// Puts both headers before the payload, which begins at [`HEADERS`] and fills the frame. `None` if there is no room for
/// them, or more payload than a packet has.
pub fn ipv6(frame: &mut [u8], from: &Station, to: &Station, next_header: NextHeader, hop_limit: u8) -> Option<()> {
    let (headers, payload) = Headers::mut_from_prefix(frame).ok()?;
    *headers = Headers {
        destination_mac: to.mac,
        source_mac: from.mac,
        ethertype: U16::new(IPV6),
        version: U32::new(VERSION),
        payload_length: U16::new(u16::try_from(payload.len()).ok()?),
        next_header: next_header as u8,
        hop_limit,
        source: from.ip,
        destination: to.ip,
    };
    Some(())
}

/// Puts the headers before a datagram's payload, which begins at [`DATAGRAM`] and fills the frame. `None` if there is no
/// room for them, or more payload than a datagram has.
pub fn datagram(frame: &mut [u8], from: &Station, to: &Station, ports: UdpPorts, hop_limit: u8) -> Option<()> {
    ipv6(frame, from, to, NextHeader::Udp, hop_limit)?;
    let message = frame.get_mut(HEADERS..)?;
    let length = U16::new(u16::try_from(message.len()).ok()?);
    let (udp, _) = Udp::mut_from_prefix(message).ok()?;
    let (source, destination) = (U16::new(ports.source), U16::new(ports.destination));
    *udp = Udp { source, destination, length, checksum: U16::ZERO };
    let checksum = match checksum(from, to, NextHeader::Udp, message) {
        // Zero would say that there is none (RFC 8200, 8.1).
        0 => 0xffff,
        checksum => checksum,
    };
    let (udp, _) = Udp::mut_from_prefix(message).ok()?;
    udp.checksum = U16::new(checksum);
    Some(())
}

/// Asks who has `target`: its group, or the station that had it.
pub fn solicitation(from: &Station, to: &Station, target: &Ip) -> [u8; NEIGHBOUR] {
    neighbour(from, to, target, SOLICITATION, 0, SOURCE_MAC)
}

/// Says that `from` has its address, to whoever asked.
pub fn advertisement(from: &Station, to: &Station) -> [u8; NEIGHBOUR] {
    neighbour(from, to, &from.ip, ADVERTISEMENT, SOLICITED | OVERRIDE, TARGET_MAC)
}

fn neighbour(from: &Station, to: &Station, target: &Ip, kind: u8, flags: u8, option: u8) -> [u8; NEIGHBOUR] {
    let checksum = U16::ZERO;
    let (target, mac) = (*target, from.mac);
    let mut message = Neighbour { kind, code: 0, checksum, flags, reserved: [0; 3], target, option, units: 1, mac };
    message.checksum = U16::new(self::checksum(from, to, NextHeader::Icmpv6, message.as_bytes()));
    let mut frame = [0; NEIGHBOUR];
    frame[HEADERS..].copy_from_slice(message.as_bytes());
    // There is room.
    let _ = ipv6(&mut frame, from, to, NextHeader::Icmpv6, ON_LINK);
    frame
}

/// The Internet checksum (RFC 1071) of a message whose own is zero, with IPv6's pseudo-header (RFC 8200, 8.1).
fn checksum(from: &Station, to: &Station, next_header: NextHeader, message: &[u8]) -> u16 {
    let rest = message.len() as u64 + u64::from(next_header as u8);
    let mut total = sum(&from.ip) + sum(&to.ip) + sum(message) + rest;
    while total > 0xffff {
        total = (total & 0xffff) + (total >> 16);
    }
    !(total as u16)
}

/// The sum of the words, of 32 bits: of 16 it would have the same remainder. A frame is too short for it to overflow.
fn sum(bytes: &[u8]) -> u64 {
    let (words, rest) = bytes.as_chunks::<4>();
    let mut last = [0; 4];
    last.iter_mut().zip(rest).for_each(|(to, from)| *to = *from);
    words.iter().chain([&last]).map(|word| u64::from(u32::from_be_bytes(*word))).sum()
}
