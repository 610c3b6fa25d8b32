//! The same rules once more, over bytes at fixed places and as lists of what is allowed, to compare with.

use std::{vec, vec::Vec};

use calls::{mesh::Stations, rules::Rules};

use super::{ICMP, TCP, UDP, checksum_at, neighbour, sum};
use crate::Side;

/// Where the frame goes; `None` if it is dropped.
pub fn may_pass(rules: &Rules, stations: &Stations, now: u64, source: Side, frame: &[u8]) -> Option<Side> {
    let (us, us_ip) = (rules.link.mac, rules.link.ip);
    let ours =
        |mac: &[u8; 6], ip: &[u8; 16]| mac[0] & 1 == 0 && *mac != [0; 6] && ip[..8] == [254, 128, 0, 0, 0, 0, 0, 0];
    if !ours(&us, &us_ip) {
        return None;
    }
    let listens = [1, 3, 4].contains(&rules.phase);
    let open = listens && rules.gate > 0 && rules.until > now && ours(&rules.peer.mac, &rules.peer.ip);
    let (peer, peer_ip) = (rules.peer.mac, rules.peer.ip);

    // One IPv6 packet that fills the frame.
    if !(54..=1514).contains(&frame.len()) || frame[12..15] != [0x86, 0xdd, frame[14]] || frame[14] & 0xf0 != 0x60 {
        return None;
    }
    let (to, from): ([u8; 6], [u8; 6]) = (frame[..6].try_into().ok()?, frame[6..12].try_into().ok()?);
    let (from_ip, to_ip): ([u8; 16], [u8; 16]) = (frame[22..38].try_into().ok()?, frame[38..54].try_into().ok()?);
    let (next, hops, payload) = (frame[20], frame[21], &frame[54..]);
    if payload.len() != usize::from(frame[18]) * 256 + usize::from(frame[19]) {
        return None;
    }
    let at = checksum_at(next)?;
    if frame.len() < at + 2 || sum(frame) != 0xffff {
        return None;
    }

    // The mesh of a member: WireGuard's port and all neighbour discovery but that of the gate's peer.
    let of_wireguard = next == UDP && (payload[..2] == [0xca, 0x6c] || payload[2..4] == [0xca, 0x6c]);
    let member = rules.mesh.member == 1 && [4, 5].contains(&rules.phase);
    let others_neighbour = next == ICMP && !(open && from_ip == peer_ip);
    match source {
        Side::Mesh => return mesh(rules, stations, true, frame).filter(|_| member),
        Side::Net if of_wireguard || (others_neighbour && member) => {
            return mesh(rules, stations, false, frame).filter(|_| member);
        }
        _ if !listens => return None,
        _ => {}
    }

    let group = |ip: &[u8; 16]| {
        let mut group_ip = [0; 16];
        group_ip[..2].copy_from_slice(&[255, 2]);
        group_ip[11..13].copy_from_slice(&[1, 255]);
        group_ip[13..].copy_from_slice(&ip[13..]);
        ([51, 51, 255, ip[13], ip[14], ip[15]], group_ip)
    };
    let everyone = (to, to_ip) == ([51, 51, 0, 0, 0, 1], wire::ALL_NODES);
    let to_us = (to, to_ip) == (us, us_ip);
    let to_peer = open && (to, to_ip) == (peer, peer_ip);
    let from_peer = open && (from, from_ip) == (peer, peer_ip);
    let datagram = |kind: u8, size: usize| {
        payload.len() == 8 + size
            && payload[..6] == [0x1f, 0x9a, 0x1f, 0x9a, 0, 8 + size as u8]
            && payload[6..8] != [0, 0]
            && payload[8..16] == [b'G', b'N', b'S', b'S', 1, kind, 0, 0]
    };
    // As it would be written out, but for the checksum.
    let one_of = |messages: &[Vec<u8>]| {
        let mut message = payload.to_vec();
        message[2..4].fill(0);
        hops == 255 && messages.contains(&message)
    };
    let advertisements = |flags: &[u8], ip, mac| flags.iter().map(|f| neighbour(136, *f, ip, mac)).collect::<Vec<_>>();
    let segment = |port_at: usize, flags: &[u16]| {
        let offset = usize::from(*payload.get(12)? >> 4) * 4;
        let fits = payload.len() >= 20 && (20..=payload.len()).contains(&offset);
        let ports = payload[port_at..port_at + 2] == [0x24, 0xe3] && payload[2 - port_at..4 - port_at] != [0, 0];
        (fits && ports && flags.contains(&(u16::from(payload[12] & 1) << 8 | u16::from(payload[13])))).then_some(())
    };

    match source {
        Side::Net => {
            if !ours(&from, &from_ip) || from == us || from_ip == us_ip {
                return None;
            }
            if next == UDP {
                return (everyone && (datagram(2, 104) || datagram(3, 192))).then_some(Side::Beacon);
            }
            if !from_peer {
                return None;
            }
            if next == TCP && to_us {
                let plain = [0x02, 0x0a, 0x04, 0x0c, 0x14, 0x1c, 0x10, 0x18, 0x11, 0x19];
                let ecn: Vec<u16> = (0..8).map(|bits| bits << 6).collect();
                let all: Vec<u16> = ecn.iter().flat_map(|ecn| plain.map(|flags| ecn | flags)).collect();
                return segment(2, &all).map(|()| Side::Claim);
            }
            let to_our_group = (to, to_ip) == group(&us_ip);
            let solicits = one_of(&[neighbour(135, 0, us_ip, Some(peer))]);
            let flags: Vec<u8> = (0..8).map(|bits| bits << 5).collect();
            let mut answers = advertisements(&flags, peer_ip, Some(peer));
            answers.extend(advertisements(&flags, peer_ip, None));
            let passes = next == ICMP && (solicits && (to_us || to_our_group) || one_of(&answers) && to_us);
            passes.then_some(Side::Claim)
        }
        Side::Beacon | Side::Claim | Side::Mesh => {
            if (from, from_ip) != (us, us_ip) || frame[14..18] != [0x60, 0, 0, 0] {
                return None;
            }
            let solicits = next == ICMP && one_of(&[neighbour(135, 0, peer_ip, Some(us))]);
            let passes = if source == Side::Beacon {
                let says_hello = everyone && datagram(1, 160);
                let answers = to_peer && datagram(4, 72);
                (next == UDP && hops == 255 && (says_hello || answers)) || (to_peer && solicits)
            } else {
                let to_their_group = open && (to, to_ip) == group(&peer_ip);
                let advertises = next == ICMP && one_of(&advertisements(&[0, 0x20, 0x40, 0x60], us_ip, Some(us)));
                let talks = next == TCP && segment(0, &[0x10, 0x18, 0x12, 0x1a]).is_some();
                to_peer && (talks || advertises || solicits) || to_their_group && solicits
            };
            passes.then_some(Side::Net)
        }
    }
}

/// What passes between a member and its mesh, of frames with right lengths and checksum.
fn mesh(rules: &Rules, stations: &Stations, out: bool, frame: &[u8]) -> Option<Side> {
    let us = rules.link.mac;
    let host = |ip: &[u8]| ip[0] != 0 && ip[0] != 255;
    let unicast = |mac: &[u8]| mac[0] & 1 == 0 && mac != [0; 6];
    let ours: Vec<[u8; 16]> = [rules.link.ip, rules.mesh.address].into_iter().filter(|ip| host(ip)).collect();
    let named = stations.ips.iter().take(stations.count as usize);
    let named: Vec<[u8; 16]> = named.copied().filter(|ip| host(ip) && !ours.contains(ip)).collect();
    let (to, from, from_ip, to_ip) = (&frame[..6], &frame[6..12], &frame[22..38], &frame[38..54]);
    let (next, hops, payload) = (frame[20], frame[21], &frame[54..]);
    let contains = |list: &[[u8; 16]], ip: &[u8]| list.iter().any(|one| one == ip);
    let (near, far, near_ip, far_ip) = if out { (from, to, from_ip, to_ip) } else { (to, from, to_ip, from_ip) };
    // The other end is someone else.
    let other = unicast(far) && far != us;
    let to_group = |ip: &[u8]| {
        let tail = &ip[13..];
        to[..3] == [51, 51, 255]
            && to[3..] == *tail
            && to_ip[..13] == [255, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 255]
            && to_ip[13..] == *tail
    };
    if out && frame[14..18] != [0x60, 0, 0, 0] {
        return None;
    }
    let verdict = if out { Side::Net } else { Side::Mesh };
    let ends = near == us && contains(&ours, near_ip);
    if next == UDP {
        let port = |at: usize| [payload[at], payload[at + 1]];
        let (near_port, far_port) = if out { (port(0), port(2)) } else { (port(2), port(0)) };
        let fits = usize::from(payload[4]) * 256 + usize::from(payload[5]) == payload.len() && payload[6..8] != [0, 0];
        let who = other && if out { contains(&named, far_ip) } else { host(far_ip) && !contains(&ours, far_ip) };
        return (ends && who && fits && near_port == [0xca, 0x6c] && far_port != [0, 0]).then_some(verdict);
    }
    if next != ICMP || hops != 255 || payload.len() < 24 {
        return None;
    }
    let mut message = payload.to_vec();
    message[2..4].fill(0);
    let target: [u8; 16] = message[8..24].try_into().ok()?;
    let sender: [u8; 6] = from.try_into().ok()?;
    let solicits = message == neighbour(135, 0, target, Some(sender));
    let flags: &[u8] = if out { &[0, 0x20, 0x40, 0x60] } else { &[0, 0x20, 0x40, 0x60, 0x80, 0xa0, 0xc0, 0xe0] };
    let tells = flags.iter().any(|flags| {
        message == neighbour(136, *flags, target, Some(sender))
            || !out && message == neighbour(136, *flags, target, None)
    });
    let sender_holds = if out { ends } else { other && contains(&named, far_ip) };
    let to_one = if out { other && contains(&named, far_ip) } else { ends };
    let passes = match (solicits, tells, out) {
        (true, _, true) => contains(&named, &target) && (to_one && to_ip == target || to_group(&target)),
        (true, _, false) => contains(&ours, &target) && (to_one || to_group(&target)),
        (_, true, true) => contains(&ours, &target) && to_one,
        (_, true, false) => contains(&named, &target) && to_one,
        _ => false,
    };
    (sender_holds && passes).then_some(verdict)
}

#[test]
fn the_oracle_knows_both_answers() {
    let (rules, stations) = (super::rules(wire::Phase::Hold, true), super::stations());
    for (source, _, frame) in super::all_that_may_pass() {
        assert!(may_pass(&rules, &stations, 0, source, &frame).is_some());
        assert!(may_pass(&rules, &stations, 0, source, &vec![0; frame.len()]).is_none());
    }
    let rules = super::member(wire::Phase::Claimed, false);
    for (source, frame) in super::all_that_a_member_may_pass() {
        assert!(may_pass(&rules, &stations, 0, source, &frame).is_some(), "{source:?} {frame:02x?}");
        assert!(may_pass(&rules, &Stations::NONE, 0, Side::Mesh, &frame).is_none());
    }
}
