//! A small mesh, and inner packets built by hand, so that the parser under test has no part in making them.

mod configurations;
mod decisions;
mod model;
mod packets;
mod seats;
mod table;
mod texts;

use std::vec::Vec;

use heapless::Vec as Few;
use wire::Ip;

use crate::*;

pub const US: [u8; 4] = [10, 8, 0, 2];
pub const AUTHORITY: usize = 0;
pub const NODE: usize = 1;
pub const PEER: usize = 2;

pub fn v4(last: u8) -> Ip {
    Prefix::v4([10, 8, 0, last], 32).ip
}

pub fn v6(last: u8) -> Ip {
    [0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, last]
}

pub fn peer(role: Role, number: u8) -> Peer {
    let allowed = [Prefix::v4([10, 8, 0, number], 32), Prefix { ip: v6(number), length: 128 }];
    let allowed = Few::from_slice(&allowed).unwrap();
    let endpoint = Some(Endpoint { ip: [0xfe; 16], port: 51820 });
    Peer { key: [number; 32], role, preshared: Some(Preshared([number; 32])), endpoint, allowed, keepalive_s: 25 }
}

/// The node is .2, its authority .1, another node .3, a laptop .4.
pub fn mesh(rules: &[&str]) -> Configuration {
    let mut mesh = Configuration::default();
    mesh.addresses.push(Prefix::v4(US, 24)).unwrap();
    mesh.addresses.push(Prefix { ip: v6(2), length: 64 }).unwrap();
    for (role, number) in [(Role::Authority, 1), (Role::Node, 3), (Role::Peer, 4)] {
        assert!(mesh.peers.push(peer(role, number)).is_ok());
    }
    mesh.rules = rules.iter().map(|rule| rule.parse().unwrap()).collect();
    assert_eq!(mesh.check(), Ok(()));
    mesh
}

pub const TCP: u8 = 6;
pub const UDP: u8 = 17;
pub const ICMP4: u8 = 1;
pub const ICMP6: u8 = 58;

/// An inner packet of either family around a transport payload, whose checksum is then put right.
pub fn packet(from: Ip, to: Ip, next: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    if from[..12] == to[..12] && from[10..12] == [255, 255] {
        bytes.extend([0x45, 0]);
        bytes.extend((20 + payload.len() as u16).to_be_bytes());
        bytes.extend([0, 1, 0x40, 0, 64, next, 0, 0]);
        bytes.extend(&from[12..]);
        bytes.extend(&to[12..]);
    } else {
        bytes.extend([0x60, 0, 0, 0]);
        bytes.extend((payload.len() as u16).to_be_bytes());
        bytes.extend([next, 64]);
        bytes.extend(from);
        bytes.extend(to);
    }
    bytes.extend(payload);
    fix(&mut bytes);
    bytes
}

/// Where the transport begins, what it is, and where its checksum is.
pub fn parts(packet: &[u8]) -> (usize, u8, usize) {
    let (at, next) = if packet[0] >> 4 == 4 { (20, packet[9]) } else { (40, packet[6]) };
    let sum = match next {
        TCP => at + 16,
        UDP => at + 6,
        _ => at + 2,
    };
    (at, next, sum)
}

/// Puts all checksums right.
pub fn fix(packet: &mut [u8]) {
    let (at, next, sum_at) = parts(packet);
    if packet[0] >> 4 == 4 {
        packet[10..12].fill(0);
        let sum = !sum(0, &[&packet[..20]]);
        packet[10..12].copy_from_slice(&sum.to_be_bytes());
    }
    if packet.len() >= sum_at + 2 {
        packet[sum_at..sum_at + 2].fill(0);
        let addresses = if packet[0] >> 4 == 4 { &packet[12..20] } else { &packet[8..40] };
        let pseudo: &[u8] = if next == ICMP4 { &[] } else { addresses };
        let start = if next == ICMP4 { 0 } else { u64::from(next) + (packet.len() - at) as u64 };
        let sum = match !sum(start, &[pseudo, &packet[at..]]) {
            0 => 0xffff,
            sum => sum,
        };
        packet[sum_at..sum_at + 2].copy_from_slice(&sum.to_be_bytes());
    }
}

/// RFC 1071.
fn sum(start: u64, parts: &[&[u8]]) -> u16 {
    let mut total = start;
    for pair in parts.iter().flat_map(|part| part.chunks(2)) {
        total += u64::from(pair[0]) << 8 | u64::from(*pair.get(1).unwrap_or(&0));
    }
    while total > 0xffff {
        total = (total & 0xffff) + (total >> 16);
    }
    total as u16
}

pub fn udp(from: u16, to: u16, text: &[u8]) -> Vec<u8> {
    [&from.to_be_bytes()[..], &to.to_be_bytes(), &(8 + text.len() as u16).to_be_bytes(), &[0, 0], text].concat()
}

pub fn tcp(from: u16, to: u16, flags: u8, text: &[u8]) -> Vec<u8> {
    let head = [&from.to_be_bytes()[..], &to.to_be_bytes(), &[1, 2, 3, 4, 5, 6, 7, 8, 0x50, flags, 1, 0, 0, 0, 0, 0]];
    [&head.concat(), text].concat()
}

pub fn echo(kind: u8, id: u16, text: &[u8]) -> Vec<u8> {
    [&[kind, 0, 0, 0][..], &id.to_be_bytes(), &[0, 1], text].concat()
}
