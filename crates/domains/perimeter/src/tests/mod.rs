//! Frames built by hand, so that the parser under test has no part in making them.

mod cases;
mod member;
mod oracle;
mod random;
mod step;
mod twice;

use std::vec::Vec;

use calls::{
    mesh::{MAX_STATIONS, Stations},
    rules::{MeshLink, Rules},
};
use crypto::{AnchorSecret, Secret};
use wire::{
    Ip, Mac, Phase,
    link::{Answer, Find, Hello, HelloBody, Open, OpenFor},
};
use zerocopy::{FromZeros, IntoBytes};

use crate::{Side, packet::Station};

pub const UDP: u8 = 17;
pub const TCP: u8 = 6;
pub const ICMP: u8 = 58;
pub const UNTIL: u64 = 1000;

pub const US: Station = Station { mac: [2, 0, 0, 0, 0, 1], ip: ip(1) };
pub const ADMIN: Station = Station { mac: [2, 0, 0, 0, 0, 2], ip: ip(2) };
pub const STRANGER: Station = Station { mac: [2, 0, 0, 0, 0, 3], ip: ip(3) };
/// Peers of the mesh: one on the link, and one beyond it, which has the gateway's MAC.
pub const NEAR: Station = Station { mac: [2, 0, 0, 0, 0, 4], ip: ip(4) };
pub const GATEWAY: Station = Station { mac: [2, 0, 0, 0, 0, 5], ip: ip(5) };
pub const FAR: Station = Station { mac: GATEWAY.mac, ip: [0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9] };
/// The node under its static address.
pub const STATIC: Station =
    Station { mac: US.mac, ip: [0x20, 1, 0xd, 0xb8, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0x12, 0x34, 0x56] };
pub const STATIC_GROUP: Station = Station {
    mac: [0x33, 0x33, 0xff, 0x12, 0x34, 0x56],
    ip: [0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, 0x12, 0x34, 0x56],
};
pub const NEAR_GROUP: Station = group(4);
pub const EVERYONE: Station =
    Station { mac: [0x33, 0x33, 0, 0, 0, 1], ip: [0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1] };
pub const OUR_GROUP: Station = group(1);
pub const ADMIN_GROUP: Station = group(2);

const fn ip(n: u8) -> Ip {
    [0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xab, 0xcd, n]
}

const fn group(n: u8) -> Station {
    Station { mac: [0x33, 0x33, 0xff, 0xab, 0xcd, n], ip: [0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, 0xab, 0xcd, n] }
}

pub fn rules(phase: Phase, open: bool) -> Rules {
    Rules {
        phase: phase as u64,
        link: link::Station::new(US.ip, US.mac),
        gate: u64::from(open),
        peer: link::Station::new(ADMIN.ip, ADMIN.mac),
        until: UNTIL,
        mesh: MeshLink::NONE,
    }
}

/// A member's, with a static address.
pub fn member(phase: Phase, open: bool) -> Rules {
    let mesh = MeshLink { member: 1, address: STATIC.ip, length: 64, gateway: GATEWAY.ip };
    Rules { mesh, ..rules(phase, open) }
}

pub fn stations() -> Stations {
    let mut stations = Stations { count: 3, ..Stations::NONE };
    stations.ips[..3].copy_from_slice(&[NEAR.ip, FAR.ip, GATEWAY.ip]);
    // Behind the count: not named.
    stations.ips[MAX_STATIONS - 1] = STRANGER.ip;
    stations
}

/// A frame around a payload of the transport layer, whose checksum is then put right.
pub fn frame(from: Station, to: Station, next: u8, hops: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    bytes.extend(to.mac);
    bytes.extend(from.mac);
    bytes.extend([0x86, 0xdd, 0x60, 0, 0, 0]);
    bytes.extend((payload.len() as u16).to_be_bytes());
    bytes.extend([next, hops]);
    bytes.extend(from.ip);
    bytes.extend(to.ip);
    bytes.extend(payload);
    fix(&mut bytes);
    bytes
}

/// Puts the checksum of the transport layer right, if there is one.
pub fn fix(frame: &mut [u8]) {
    let Some(at) = frame.get(20).and_then(|next| checksum_at(*next)) else { return };
    if frame.len() >= at + 2 {
        frame[at..at + 2].fill(0);
        let sum = !sum(frame);
        // UDP writes a zero sum as all ones, and ones read the same for the others.
        let sum = if sum == 0 { 0xffff } else { sum };
        frame[at..at + 2].copy_from_slice(&sum.to_be_bytes());
    }
}

pub fn checksum_at(next: u8) -> Option<usize> {
    match next {
        UDP => Some(54 + 6),
        TCP => Some(54 + 16),
        ICMP => Some(54 + 2),
        _ => None,
    }
}

/// RFC 1071 over pseudo-header and payload, everything behind the IPv6 header being payload.
pub fn sum(frame: &[u8]) -> u16 {
    let mut total = frame.len() as u64 - 54 + u64::from(frame[20]);
    for pair in frame[22..].chunks(2) {
        total += u64::from(pair[0]) << 8 | u64::from(*pair.get(1).unwrap_or(&0));
    }
    while total > 0xffff {
        total = (total & 0xffff) + (total >> 16);
    }
    total as u16
}

pub fn udp(from: u16, to: u16, datagram: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    bytes.extend(from.to_be_bytes());
    bytes.extend(to.to_be_bytes());
    bytes.extend((8 + datagram.len() as u16).to_be_bytes());
    bytes.extend([0, 0]);
    bytes.extend(datagram);
    bytes
}

pub fn beacon(from: Station, to: Station, datagram: &[u8]) -> Vec<u8> {
    frame(from, to, UDP, 255, &udp(8090, 8090, datagram))
}

pub fn tcp(from: u16, to: u16, flags: u16, text: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    bytes.extend(from.to_be_bytes());
    bytes.extend(to.to_be_bytes());
    bytes.extend([1, 2, 3, 4, 5, 6, 7, 8]);
    bytes.extend((5 << 12 | flags).to_be_bytes());
    bytes.extend([0x10, 0, 0, 0, 0, 0]);
    bytes.extend(text);
    bytes
}

pub const SOLICITATION: u8 = 135;
pub const ADVERTISEMENT: u8 = 136;

/// Solicitation or advertisement, with its link-layer option if one is given.
pub fn neighbour(kind: u8, flags: u8, target: Ip, option: Option<Mac>) -> Vec<u8> {
    let mut bytes = Vec::from([kind, 0, 0, 0, flags, 0, 0, 0]);
    bytes.extend(target);
    if let Some(mac) = option {
        bytes.extend([if kind == SOLICITATION { 1 } else { 2 }, 1]);
        bytes.extend(mac);
    }
    bytes
}

fn anchor() -> AnchorSecret {
    AnchorSecret::from_seed(&[1; 32])
}

pub fn hello() -> Hello {
    Hello::seal(&anchor().public(), &Secret::new([9; 32]), &HelloBody::new_zeroed()).unwrap()
}

pub fn find() -> Find {
    Find::sign(&anchor(), 5, ADMIN.ip, ADMIN.mac)
}

pub fn open() -> Open {
    let mut body = HelloBody::new_zeroed();
    body.claim_key = crypto::dh_public(&Secret::new([5; 32]));
    let about = OpenFor { hello: &body, sender_ip: ADMIN.ip, sender_mac: ADMIN.mac };
    Open::sign(&anchor(), &Secret::new([6; 32]), &about).unwrap()
}

pub fn answer() -> Answer {
    Answer::seal(&Secret::new([5; 32]), &Secret::new([7; 32]), &open(), &[8; 16]).unwrap()
}

/// One of everything that may pass while the gate is open, with whether it needs the gate.
pub fn all_that_may_pass() -> Vec<(Side, bool, Vec<u8>)> {
    let nd = |from, to, payload: Vec<u8>| frame(from, to, ICMP, 255, &payload);
    let segment = |flags, text: &[u8]| frame(ADMIN, US, TCP, 64, &tcp(40000, 9443, flags, text));
    let reply = |flags, text: &[u8]| frame(US, ADMIN, TCP, 64, &tcp(9443, 40000, flags, text));
    let asks_for_us = neighbour(SOLICITATION, 0, US.ip, Some(ADMIN.mac));
    let asks_for_admin = neighbour(SOLICITATION, 0, ADMIN.ip, Some(US.mac));
    let (hello, find, open, answer) = (hello(), find(), open(), answer());
    std::vec![
        (Side::Net, false, beacon(ADMIN, EVERYONE, find.as_bytes())),
        (Side::Net, false, beacon(ADMIN, EVERYONE, open.as_bytes())),
        (Side::Net, false, beacon(STRANGER, EVERYONE, find.as_bytes())),
        (Side::Net, true, segment(0x02, b"")),
        (Side::Net, true, segment(0x18, b"text of odd length.")),
        (Side::Net, true, segment(0x11, b"")),
        (Side::Net, true, segment(0x04, b"")),
        (Side::Net, true, nd(ADMIN, OUR_GROUP, asks_for_us.clone())),
        (Side::Net, true, nd(ADMIN, US, asks_for_us)),
        (Side::Net, true, nd(ADMIN, US, neighbour(ADVERTISEMENT, 0x60, ADMIN.ip, Some(ADMIN.mac)))),
        (Side::Net, true, nd(ADMIN, US, neighbour(ADVERTISEMENT, 0x40, ADMIN.ip, None))),
        (Side::Beacon, false, beacon(US, EVERYONE, hello.as_bytes())),
        (Side::Beacon, true, beacon(US, ADMIN, answer.as_bytes())),
        (Side::Beacon, true, nd(US, ADMIN, asks_for_admin.clone())),
        (Side::Claim, true, reply(0x12, b"")),
        (Side::Claim, true, reply(0x18, b"text")),
        (Side::Claim, true, nd(US, ADMIN, asks_for_admin.clone())),
        (Side::Claim, true, nd(US, ADMIN_GROUP, asks_for_admin)),
        (Side::Claim, true, nd(US, ADMIN, neighbour(ADVERTISEMENT, 0x40, US.ip, Some(US.mac)))),
    ]
}

/// A datagram of WireGuard, or of its port.
pub fn tunnel(from: Station, to: Station, ports: (u16, u16)) -> Vec<u8> {
    frame(from, to, UDP, 64, &udp(ports.0, ports.1, b"\x04\0\0\0 as WireGuard pleases"))
}

/// One of everything that may pass between a member and its mesh.
pub fn all_that_a_member_may_pass() -> Vec<(Side, Vec<u8>)> {
    let nd = |from, to, payload: Vec<u8>| frame(from, to, ICMP, 255, &payload);
    let asks = |target: Station, by: Station| neighbour(SOLICITATION, 0, target.ip, Some(by.mac));
    let tells = |flags, by: Station| neighbour(ADVERTISEMENT, flags, by.ip, Some(by.mac));
    std::vec![
        (Side::Net, tunnel(STRANGER, US, (1, 51820))),
        (Side::Net, tunnel(NEAR, STATIC, (51820, 51820))),
        (Side::Net, tunnel(FAR, STATIC, (65535, 51820))),
        (Side::Net, nd(NEAR, OUR_GROUP, asks(US, NEAR))),
        (Side::Net, nd(NEAR, US, asks(US, NEAR))),
        (Side::Net, nd(GATEWAY, STATIC_GROUP, asks(STATIC, GATEWAY))),
        (Side::Net, nd(GATEWAY, US, asks(STATIC, GATEWAY))),
        (Side::Net, nd(NEAR, US, tells(0x60, NEAR))),
        (Side::Net, nd(GATEWAY, STATIC, tells(0xe0, GATEWAY))),
        (Side::Net, nd(NEAR, US, neighbour(ADVERTISEMENT, 0x40, NEAR.ip, None))),
        (Side::Mesh, tunnel(US, NEAR, (51820, 51820))),
        (Side::Mesh, tunnel(STATIC, FAR, (51820, 1))),
        (Side::Mesh, nd(US, NEAR_GROUP, asks(NEAR, US))),
        (Side::Mesh, nd(STATIC, GATEWAY, asks(GATEWAY, US))),
        (Side::Mesh, nd(US, NEAR, tells(0x60, US))),
        (Side::Mesh, nd(STATIC, GATEWAY, tells(0x40, STATIC))),
    ]
}
