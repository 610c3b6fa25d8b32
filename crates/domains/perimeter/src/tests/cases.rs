//! One case per rule, each with the reason that it must be dropped for.

use std::{vec, vec::Vec};

use wire::Phase;
use zerocopy::IntoBytes;

use super::*;
use crate::{Reason, decide};

const LISTENING: [Phase; 3] = [Phase::Scan, Phase::Hold, Phase::Committed];
const CLOSED: [Phase; 4] = [Phase::Blind, Phase::Fork, Phase::Claimed, Phase::Sealed];

fn open_gate(source: Side, frame: &[u8]) -> Result<Side, Reason> {
    decide(&rules(Phase::Hold, true), &stations(), 0, source, frame)
}

#[track_caller]
fn dropped(source: Side, frame: &[u8], reason: Reason) {
    assert_eq!(open_gate(source, frame), Err(reason));
}

#[test]
fn what_may_pass_passes_in_its_phases_and_gate_only() {
    for (source, needs_gate, frame) in all_that_may_pass() {
        for phase in LISTENING {
            let verdict = decide(&rules(phase, true), &stations(), UNTIL - 1, source, &frame);
            assert!(verdict.is_ok(), "{source:?} {verdict:?} {frame:02x?}");
            for (open, now) in [(false, 0), (true, UNTIL), (true, u64::MAX)] {
                let shut = decide(&rules(phase, open), &stations(), now, source, &frame);
                assert_eq!(shut, if needs_gate { Err(Reason::Gate) } else { verdict });
            }
        }
        for phase in CLOSED {
            for open in [false, true] {
                assert_eq!(decide(&rules(phase, open), &stations(), 0, source, &frame), Err(Reason::Closed));
            }
        }
    }
}

#[test]
fn without_a_link_nothing_passes() {
    for (source, _, frame) in all_that_may_pass() {
        for mac in [[0; 6], EVERYONE.mac] {
            let mut rules = rules(Phase::Hold, true);
            rules.link.mac = mac;
            assert_eq!(decide(&rules, &stations(), 0, source, &frame), Err(Reason::Closed));
        }
    }
}

#[test]
fn a_gate_to_a_group_is_none() {
    let mut rules = rules(Phase::Hold, true);
    (rules.peer.mac, rules.peer.ip) = (EVERYONE.mac, EVERYONE.ip);
    let frame = frame(US, EVERYONE, TCP, 64, &tcp(9443, 40000, 0x10, b""));
    assert_eq!(decide(&rules, &stations(), 0, Side::Claim, &frame), Err(Reason::Gate));
}

#[test]
fn what_is_no_ipv6_over_ethernet_two_is_dropped() {
    let find = beacon(ADMIN, EVERYONE, find().as_bytes());
    let with = |at: usize, bytes: &[u8]| {
        let mut frame = find.clone();
        frame[at..at + bytes.len()].copy_from_slice(bytes);
        frame
    };
    let tag = |frame: &[u8], tag: [u8; 4]| [&frame[..12], &tag, &frame[12..]].concat();
    dropped(Side::Net, &[], Reason::Length);
    dropped(Side::Net, &find[..13], Reason::Length);
    dropped(Side::Net, &tag(&find, [0x81, 0, 0, 5]), Reason::NotIpv6);
    dropped(Side::Net, &tag(&find, [0x88, 0xa8, 0, 5]), Reason::NotIpv6);
    for kind in [[8, 0], [8, 6], [0, 152], [5, 0xdc], [0x88, 0xcc]] {
        dropped(Side::Net, &with(12, &kind), Reason::NotIpv6);
    }
    dropped(Side::Net, &with(14, &[0x45]), Reason::NotIpv6);
    // Extension headers: hop-by-hop, routing, fragment, authentication, none, destination; and others.
    for next in [0, 43, 44, 51, 59, 60, 1, 2, 4, 41, 50, 132, 135, 253, 255] {
        dropped(Side::Net, &with(20, &[next]), Reason::Protocol);
    }
    // Lengths that disagree with the frame's.
    dropped(Side::Net, &with(18, &[0, 111]), Reason::Length);
    dropped(Side::Net, &with(18, &[0, 113]), Reason::Length);
    dropped(Side::Net, &with(18, &[255, 255]), Reason::Length);
    dropped(Side::Net, &with(58, &[0, 111]), Reason::Length);
    dropped(Side::Net, &[&find[..], &[0; 4]].concat(), Reason::Length);
    // Longer than a frame can be, though all lengths agree.
    let long = frame(ADMIN, US, TCP, 64, &tcp(40000, 9443, 0x10, &vec![0; 1441]));
    dropped(Side::Net, &long, Reason::Length);
    let longest = frame(ADMIN, US, TCP, 64, &tcp(40000, 9443, 0x10, &vec![0; 1440]));
    assert_eq!((longest.len(), open_gate(Side::Net, &longest)), (1514, Ok(Side::Claim)));
}

#[test]
fn a_wrong_or_missing_checksum_is_dropped() {
    for (source, _, mut frame) in all_that_may_pass() {
        let at = checksum_at(frame[20]).unwrap();
        frame[at] ^= 1;
        dropped(source, &frame, Reason::Checksum);
        frame[at..at + 2].fill(0);
        dropped(source, &frame, Reason::Checksum);
    }
}

#[test]
fn finds_and_opens_come_to_everyone_from_a_link_local_station() {
    let find = find();
    let at = |from, to| beacon(from, to, find.as_bytes());
    for to in [US, OUR_GROUP, ADMIN, Station { mac: [255; 6], ..EVERYONE }, Station { mac: US.mac, ..EVERYONE }] {
        dropped(Side::Net, &at(ADMIN, to), Reason::Receiver);
    }
    dropped(Side::Net, &at(ADMIN, Station { mac: EVERYONE.mac, ip: US.ip }), Reason::Receiver);
    for ip in [[0; 16], EVERYONE.ip, [0x20; 16], US.ip] {
        dropped(Side::Net, &at(Station { mac: ADMIN.mac, ip }, EVERYONE), Reason::Sender);
    }
    let mut outside = ADMIN.ip;
    outside[7] = 1;
    dropped(Side::Net, &at(Station { mac: ADMIN.mac, ip: outside }, EVERYONE), Reason::Sender);
    for mac in [[0; 6], [255; 6], EVERYONE.mac, US.mac] {
        dropped(Side::Net, &at(Station { mac, ip: ADMIN.ip }, EVERYONE), Reason::Sender);
    }
    for ports in [(8090, 8091), (8091, 8090), (8090, 0), (53, 53), (5353, 5353), (546, 547)] {
        let payload = udp(ports.0, ports.1, find.as_bytes());
        dropped(Side::Net, &frame(ADMIN, EVERYONE, UDP, 255, &payload), Reason::Port);
    }
}

#[test]
fn only_the_datagrams_of_a_direction_pass() {
    let (hello, find, open, answer) = (hello(), find(), open(), answer());
    let longer = [find.as_bytes(), &[0]].concat();
    for datagram in [hello.as_bytes(), answer.as_bytes(), &longer, &find.as_bytes()[1..], b"", b"GNSS"] {
        dropped(Side::Net, &beacon(ADMIN, EVERYONE, datagram), Reason::Datagram);
    }
    for datagram in [find.as_bytes(), open.as_bytes(), answer.as_bytes(), b""] {
        dropped(Side::Beacon, &beacon(US, EVERYONE, datagram), Reason::Datagram);
    }
    for datagram in [find.as_bytes(), open.as_bytes(), hello.as_bytes(), b""] {
        dropped(Side::Beacon, &beacon(US, ADMIN, datagram), Reason::Datagram);
    }
    let mut other = find;
    other.header.version = 2;
    dropped(Side::Net, &beacon(ADMIN, EVERYONE, other.as_bytes()), Reason::Datagram);
    // Claim has no business there, and beacon none on TCP.
    dropped(Side::Claim, &beacon(US, EVERYONE, hello.as_bytes()), Reason::Protocol);
    dropped(Side::Claim, &beacon(US, ADMIN, answer.as_bytes()), Reason::Protocol);
    dropped(Side::Beacon, &frame(US, ADMIN, TCP, 255, &tcp(9443, 40000, 0x10, b"")), Reason::Protocol);
}

#[test]
fn what_the_node_sends_bears_its_own_addresses_and_a_plain_header() {
    for (source, _, frame) in all_that_may_pass() {
        if source == Side::Net {
            continue;
        }
        for (at, reason) in [(6, Reason::Sender), (22, Reason::Sender), (14, Reason::Header), (17, Reason::Header)] {
            let mut copy = frame.clone();
            copy[at] ^= 2;
            fix(&mut copy);
            dropped(source, &copy, reason);
        }
        if frame[20] != TCP {
            let mut copy = frame.clone();
            copy[21] = 254;
            dropped(source, &copy, Reason::Header);
        }
    }
}

#[test]
fn through_the_gate_goes_the_peer_and_nobody_else() {
    let half = [Station { mac: STRANGER.mac, ..ADMIN }, Station { ip: STRANGER.ip, ..ADMIN }];
    for (source, needs_gate, frame) in all_that_may_pass() {
        if !needs_gate {
            continue;
        }
        for other in [STRANGER, half[0], half[1], OUR_GROUP] {
            let mut copy = frame.clone();
            let (mac, ip) = if source == Side::Net { (6, 22) } else { (0, 38) };
            copy[mac..mac + 6].copy_from_slice(&other.mac);
            copy[ip..ip + 16].copy_from_slice(&other.ip);
            fix(&mut copy);
            dropped(source, &copy, if source == Side::Net { Reason::Sender } else { Reason::Receiver });
        }
    }
}

#[test]
fn tcp_comes_to_the_claim_port_with_flags_that_make_sense() {
    let segment = |to, from, port, flags| frame(from, to, TCP, 64, &tcp(40000, port, flags, b""));
    for port in [0, 22, 80, 443, 8090, 9442, 9444, 65535] {
        dropped(Side::Net, &segment(US, ADMIN, port, 0x02), Reason::Port);
    }
    dropped(Side::Net, &frame(ADMIN, US, TCP, 64, &tcp(0, 9443, 0x02, b"")), Reason::Port);
    for to in [OUR_GROUP, EVERYONE, Station { mac: [255; 6], ..US }] {
        dropped(Side::Net, &segment(to, ADMIN, 9443, 0x02), Reason::Receiver);
    }
    // Null, FIN, PSH, SYN+FIN, SYN+RST, SYN+ACK, FIN+RST, Xmas, all, SYN+URG, ACK+URG, RST+FIN+ACK.
    for flags in [0, 0x01, 0x08, 0x03, 0x06, 0x12, 0x05, 0x29, 0x3f, 0x22, 0x30, 0x15] {
        dropped(Side::Net, &segment(US, ADMIN, 9443, flags), Reason::Flags);
    }
    // SYN with either kind of ECN, a reset, a FIN.
    for flags in [0x02, 0xc2, 0x1c2, 0x10, 0x18, 0x11, 0x04, 0x14] {
        assert_eq!(open_gate(Side::Net, &segment(US, ADMIN, 9443, flags)), Ok(Side::Claim));
    }
    // A header length past the segment's end, or below a header's.
    for offset in [0x40, 0x60, 0xf0] {
        let mut copy = segment(US, ADMIN, 9443, 0x02);
        copy[54 + 12] = offset;
        fix(&mut copy);
        dropped(Side::Net, &copy, Reason::Length);
    }
}

#[test]
fn tcp_goes_out_from_the_claim_port_and_never_ends_or_opens_a_connection() {
    let segment = |from, to, flags| frame(US, ADMIN, TCP, 64, &tcp(from, to, flags, b""));
    for flags in [0x04, 0x14, 0x01, 0x11, 0x19, 0x15, 0x02, 0x00, 0x08, 0x30, 0x50, 0x90, 0x110] {
        dropped(Side::Claim, &segment(9443, 40000, flags), Reason::Flags);
    }
    dropped(Side::Claim, &segment(9444, 40000, 0x10), Reason::Port);
    dropped(Side::Claim, &segment(9443, 0, 0x10), Reason::Port);
}

#[test]
fn neighbour_discovery_is_about_the_two_ends_only() {
    let nd = |from, to, payload: &[u8]| frame(from, to, ICMP, 255, payload);
    let solicit = |target, option| neighbour(SOLICITATION, 0, target, option);
    let advertise = |flags, target, option| neighbour(ADVERTISEMENT, flags, target, option);
    let wrong = |source, from, to, payload: Vec<u8>| dropped(source, &nd(from, to, &payload), Reason::Neighbour);
    // In: asks for another, names another, names none, asks as duplicate address detection does.
    wrong(Side::Net, ADMIN, US, solicit(ADMIN.ip, Some(ADMIN.mac)));
    wrong(Side::Net, ADMIN, OUR_GROUP, solicit(STRANGER.ip, Some(ADMIN.mac)));
    wrong(Side::Net, ADMIN, US, solicit(US.ip, Some(STRANGER.mac)));
    wrong(Side::Net, ADMIN, US, solicit(US.ip, None));
    let nobody = Station { ip: [0; 16], ..ADMIN };
    dropped(Side::Net, &nd(nobody, OUR_GROUP, &solicit(US.ip, None)), Reason::Sender);
    wrong(Side::Net, ADMIN, US, advertise(0x60, US.ip, Some(ADMIN.mac)));
    wrong(Side::Net, ADMIN, US, advertise(0x60, STRANGER.ip, Some(ADMIN.mac)));
    wrong(Side::Net, ADMIN, US, advertise(0x60, ADMIN.ip, Some(STRANGER.mac)));
    let unasked = nd(ADMIN, EVERYONE, &advertise(0x20, ADMIN.ip, Some(ADMIN.mac)));
    dropped(Side::Net, &unasked, Reason::Receiver);
    dropped(Side::Net, &nd(ADMIN, EVERYONE, &solicit(US.ip, Some(ADMIN.mac))), Reason::Receiver);
    dropped(Side::Net, &nd(ADMIN, ADMIN_GROUP, &solicit(US.ip, Some(ADMIN.mac))), Reason::Receiver);
    let group_by_unicast_mac = Station { mac: US.mac, ..OUR_GROUP };
    dropped(Side::Net, &nd(ADMIN, group_by_unicast_mac, &solicit(US.ip, Some(ADMIN.mac))), Reason::Receiver);
    // Out: for another, with another's address, as a router, to a group.
    wrong(Side::Beacon, US, ADMIN, solicit(STRANGER.ip, Some(US.mac)));
    wrong(Side::Beacon, US, ADMIN, solicit(ADMIN.ip, None));
    wrong(Side::Beacon, US, ADMIN, solicit(ADMIN.ip, Some(ADMIN.mac)));
    wrong(Side::Beacon, US, ADMIN, advertise(0x60, US.ip, Some(US.mac)));
    dropped(Side::Beacon, &nd(US, ADMIN_GROUP, &solicit(ADMIN.ip, Some(US.mac))), Reason::Receiver);
    wrong(Side::Claim, US, ADMIN, solicit(US.ip, Some(US.mac)));
    wrong(Side::Claim, US, ADMIN_GROUP, solicit(ADMIN.ip, None));
    wrong(Side::Claim, US, ADMIN, advertise(0xe0, US.ip, Some(US.mac)));
    wrong(Side::Claim, US, ADMIN, advertise(0x60, US.ip, None));
    wrong(Side::Claim, US, ADMIN, advertise(0x60, US.ip, Some(STRANGER.mac)));
    dropped(Side::Claim, &nd(US, EVERYONE, &advertise(0x20, US.ip, Some(US.mac))), Reason::Receiver);
    dropped(Side::Claim, &nd(US, OUR_GROUP, &solicit(ADMIN.ip, Some(US.mac))), Reason::Receiver);
}

#[test]
fn neighbour_messages_have_one_form() {
    let good = neighbour(SOLICITATION, 0, US.ip, Some(ADMIN.mac));
    let check = |payload: &[u8], hops, reason| dropped(Side::Net, &frame(ADMIN, US, ICMP, hops, payload), reason);
    for hops in [0, 1, 64, 254] {
        check(&good, hops, Reason::Header);
    }
    let with = |at: usize, byte: u8| {
        let mut payload = good.clone();
        payload[at] = byte;
        payload
    };
    // Code, reserved bits, another option, an option of length 0 and 2.
    for (at, byte) in [(1, 1), (4, 1), (7, 1), (24, 2), (24, 5), (25, 0), (25, 2)] {
        check(&with(at, byte), 255, Reason::Neighbour);
    }
    // A second option, half an option.
    check(&[&good[..], &good[24..]].concat(), 255, Reason::Neighbour);
    check(&[&good[..], &[14, 1, 0, 0, 0, 0, 0, 0]].concat(), 255, Reason::Neighbour);
    check(&good[..28], 255, Reason::Neighbour);
    check(&good[..20], 255, Reason::Neighbour);
    // Echo, router discovery, redirect, MLD, errors, unknown types.
    for kind in [128, 129, 130, 131, 132, 133, 134, 137, 143, 1, 2, 3, 4, 0, 100, 255] {
        check(&with(0, kind), 255, Reason::Neighbour);
    }
}
