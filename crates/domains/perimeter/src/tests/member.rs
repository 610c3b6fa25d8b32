//! A member of a mesh: one case per rule, each with the reason that it must be dropped for.

use calls::{mesh::Stations, rules::MeshLink};
use wire::Phase;
use zerocopy::IntoBytes;

use super::*;
use crate::{Reason, decide};

fn claimed(source: Side, frame: &[u8]) -> Result<Side, Reason> {
    decide(&member(Phase::Claimed, false), &stations(), 0, source, frame)
}

#[track_caller]
fn dropped(source: Side, frame: &[u8], reason: Reason) {
    assert_eq!(claimed(source, frame), Err(reason));
}

fn nd(from: Station, to: Station, payload: &[u8]) -> Vec<u8> {
    frame(from, to, ICMP, 255, payload)
}

fn asks(target: Station, by: Station) -> Vec<u8> {
    neighbour(SOLICITATION, 0, target.ip, Some(by.mac))
}

fn tells(flags: u8, by: Station) -> Vec<u8> {
    neighbour(ADVERTISEMENT, flags, by.ip, Some(by.mac))
}

#[test]
fn what_a_member_may_pass_passes_in_its_phases_only() {
    for (source, frame) in all_that_a_member_may_pass() {
        let to = if source == Side::Mesh { Ok(Side::Net) } else { Ok(Side::Mesh) };
        for phase in [Phase::Committed, Phase::Claimed] {
            for open in [false, true] {
                assert_eq!(decide(&member(phase, open), &stations(), 0, source, &frame), to, "{source:?} {frame:02x?}");
            }
        }
        for phase in [Phase::Blind, Phase::Scan, Phase::Fork, Phase::Hold, Phase::Sealed] {
            let verdict = decide(&member(phase, true), &stations(), 0, source, &frame);
            assert!(verdict.is_err(), "{phase:?} {verdict:?}");
        }
        // Claimed without a mesh: dead silent, as every closed phase.
        for mesh in [MeshLink::NONE, MeshLink { member: 2, ..member(Phase::Claimed, false).mesh }] {
            let rules = Rules { mesh, ..rules(Phase::Claimed, false) };
            assert_eq!(decide(&rules, &stations(), 0, source, &frame), Err(Reason::Closed));
        }
    }
}

#[test]
fn once_claimed_all_that_led_to_the_claim_is_dead() {
    for (source, _, frame) in all_that_may_pass() {
        for open in [false, true] {
            let verdict = decide(&member(Phase::Claimed, open), &stations(), 0, source, &frame);
            // Whoever is no station is a stranger to neighbour discovery.
            let reason = if source == Side::Net && frame[20] == ICMP { Reason::Sender } else { Reason::Closed };
            assert_eq!(verdict, Err(reason), "{source:?}");
        }
    }
    let find = find();
    for to in [EVERYONE, US, STATIC] {
        for from in [STRANGER, NEAR] {
            dropped(Side::Net, &beacon(from, to, find.as_bytes()), Reason::Closed);
        }
    }
    dropped(Side::Mesh, &beacon(US, EVERYONE, hello().as_bytes()), Reason::Protocol);
    dropped(Side::Mesh, &frame(US, NEAR, TCP, 64, &tcp(9443, 40000, 0x12, b"")), Reason::Protocol);
}

#[test]
fn a_committed_node_still_talks_to_the_gates_peer() {
    for (source, _, frame) in all_that_may_pass() {
        let alone = decide(&rules(Phase::Committed, true), &stations(), 0, source, &frame);
        assert_eq!(decide(&member(Phase::Committed, true), &stations(), 0, source, &frame), alone);
    }
    // Neighbour discovery with that peer is claim's alone, until the gate closes: then it is the mesh's if it has a name.
    let mut named = stations();
    named.ips[0] = ADMIN.ip;
    let solicitation = nd(ADMIN, US, &asks(US, ADMIN));
    let verdict = |open, now| decide(&member(Phase::Committed, open), &named, now, Side::Net, &solicitation);
    assert_eq!(verdict(true, UNTIL - 1), Ok(Side::Claim));
    assert_eq!(verdict(true, UNTIL), Ok(Side::Mesh));
    assert_eq!(verdict(false, 0), Ok(Side::Mesh));
    // Another with its address is neither.
    let posing = Station { mac: STRANGER.mac, ip: ADMIN.ip };
    let solicitation = nd(posing, US, &asks(US, posing));
    let verdict = decide(&member(Phase::Committed, true), &named, 0, Side::Net, &solicitation);
    assert_eq!(verdict, Err(Reason::Sender));
}

#[test]
fn wireguard_comes_to_its_port_from_anyone_who_is_one() {
    let comes = |from: Station, to: Station| tunnel(from, to, (40000, 51820));
    let anywhere = [0x20; 16];
    for ip in [STRANGER.ip, anywhere, FAR.ip] {
        assert_eq!(claimed(Side::Net, &comes(Station { ip, ..STRANGER }, US)), Ok(Side::Mesh));
    }
    let mapped = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 10, 8, 0, 1];
    let loopback = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
    for ip in [[0; 16], loopback, mapped, EVERYONE.ip, US.ip, STATIC.ip] {
        dropped(Side::Net, &comes(Station { ip, ..STRANGER }, US), Reason::Sender);
    }
    for mac in [[0; 6], [255; 6], EVERYONE.mac, US.mac] {
        dropped(Side::Net, &comes(Station { mac, ..STRANGER }, US), Reason::Sender);
    }
    let to_none = Station { ip: [0; 16], ..US };
    for to in [OUR_GROUP, EVERYONE, NEAR, Station { mac: [255; 6], ..US }, Station { ip: NEAR.ip, ..US }, to_none] {
        dropped(Side::Net, &comes(STRANGER, to), Reason::Receiver);
    }
    for ports in [(51820, 8090), (51820, 51821), (0, 51820), (51820, 0)] {
        dropped(Side::Net, &tunnel(STRANGER, US, ports), Reason::Port);
    }
    for ports in [(8090, 8091), (53, 53), (500, 4500)] {
        dropped(Side::Net, &tunnel(STRANGER, US, ports), Reason::Port);
    }
    // A node that has no static address has none, and not "none".
    let mut rules = member(Phase::Claimed, false);
    rules.mesh.address = [0; 16];
    for to in [STATIC, to_none] {
        let verdict = decide(&rules, &stations(), 0, Side::Net, &comes(STRANGER, to));
        assert_eq!(verdict, Err(Reason::Receiver));
    }
}

#[test]
fn a_member_that_is_none_yet_hears_no_wireguard() {
    let frame = tunnel(STRANGER, US, (51820, 51820));
    for phase in [Phase::Scan, Phase::Hold, Phase::Committed] {
        let verdict = decide(&rules(phase, true), &stations(), 0, Side::Net, &frame);
        assert_eq!(verdict, Err(Reason::Port));
        let verdict = decide(&rules(phase, true), &stations(), 0, Side::Mesh, &frame);
        assert_eq!(verdict, Err(Reason::Closed));
    }
}

#[test]
fn datagrams_leave_for_stations_only() {
    let goes = |from: Station, to: Station| tunnel(from, to, (51820, 40000));
    for to in [STRANGER, ADMIN, EVERYONE, NEAR_GROUP, US, STATIC, Station { mac: EVERYONE.mac, ..NEAR }] {
        dropped(Side::Mesh, &goes(US, to), Reason::Receiver);
    }
    dropped(Side::Mesh, &goes(US, Station { mac: US.mac, ..NEAR }), Reason::Receiver);
    for from in [STRANGER, NEAR, Station { mac: NEAR.mac, ..US }, Station { ip: NEAR.ip, ..US }] {
        dropped(Side::Mesh, &goes(from, NEAR), Reason::Sender);
    }
    for ports in [(40000, 51820), (8090, 51820), (51820, 0)] {
        dropped(Side::Mesh, &tunnel(US, NEAR, ports), Reason::Port);
    }
    // A group, the node itself or nobody does not become a station by being named one.
    let mut named = stations();
    named.ips[..3].copy_from_slice(&[EVERYONE.ip, US.ip, [0; 16]]);
    for to in [Station { mac: NEAR.mac, ..EVERYONE }, EVERYONE, Station { mac: NEAR.mac, ..US }] {
        let verdict = decide(&member(Phase::Claimed, false), &named, 0, Side::Mesh, &goes(US, to));
        assert_eq!(verdict, Err(Reason::Receiver));
    }
    for at in [14, 17] {
        let mut marked = goes(US, NEAR);
        marked[at] ^= 2;
        dropped(Side::Mesh, &marked, Reason::Header);
    }
    // More stations than there can be are as many as there can be.
    let all = Stations { count: u64::MAX, ..stations() };
    let verdict = decide(&member(Phase::Claimed, false), &all, 0, Side::Mesh, &goes(US, STRANGER));
    assert_eq!(verdict, Ok(Side::Net));
}

#[test]
fn neighbour_discovery_is_with_stations_about_both_ends_only() {
    let wrong = |source, from, to, payload: &[u8]| dropped(source, &nd(from, to, payload), Reason::Neighbour);
    // In: from a stranger, for another, with another's MAC, as duplicate address detection does.
    dropped(Side::Net, &nd(STRANGER, US, &asks(US, STRANGER)), Reason::Sender);
    dropped(Side::Net, &nd(Station { ip: [0; 16], ..NEAR }, OUR_GROUP, &asks(US, NEAR)), Reason::Sender);
    wrong(Side::Net, NEAR, US, &asks(STRANGER, NEAR));
    wrong(Side::Net, NEAR, US, &asks(US, STRANGER));
    wrong(Side::Net, NEAR, US, &neighbour(SOLICITATION, 0, US.ip, None));
    wrong(Side::Net, NEAR, US, &asks(Station { ip: [0; 16], ..US }, NEAR));
    dropped(Side::Net, &nd(NEAR, EVERYONE, &asks(US, NEAR)), Reason::Receiver);
    dropped(Side::Net, &nd(NEAR, STATIC_GROUP, &asks(US, NEAR)), Reason::Receiver);
    wrong(Side::Net, NEAR, US, &tells(0x60, US));
    wrong(Side::Net, NEAR, US, &tells(0x60, STRANGER));
    wrong(Side::Net, NEAR, US, &neighbour(ADVERTISEMENT, 0x60, NEAR.ip, Some(STRANGER.mac)));
    dropped(Side::Net, &nd(NEAR, EVERYONE, &tells(0x20, NEAR)), Reason::Receiver);
    dropped(Side::Net, &nd(NEAR, OUR_GROUP, &tells(0x20, NEAR)), Reason::Receiver);
    // Out: to or about a stranger, with another's MAC, as a router, to everyone.
    wrong(Side::Mesh, US, NEAR_GROUP, &neighbour(SOLICITATION, 0, NEAR.ip, None));
    wrong(Side::Mesh, US, NEAR_GROUP, &asks(NEAR, NEAR));
    wrong(Side::Mesh, US, ADMIN_GROUP, &asks(ADMIN, US));
    dropped(Side::Mesh, &nd(US, NEAR, &asks(GATEWAY, US)), Reason::Receiver);
    dropped(Side::Mesh, &nd(US, STRANGER, &asks(STRANGER, US)), Reason::Receiver);
    dropped(Side::Mesh, &nd(US, STRANGER, &tells(0x60, US)), Reason::Receiver);
    dropped(Side::Mesh, &nd(US, EVERYONE, &tells(0x20, US)), Reason::Receiver);
    wrong(Side::Mesh, US, NEAR, &tells(0xe0, US));
    wrong(Side::Mesh, US, NEAR, &tells(0x60, NEAR));
    wrong(Side::Mesh, US, NEAR, &neighbour(ADVERTISEMENT, 0x60, US.ip, None));
    for (source, good) in all_that_a_member_may_pass() {
        if good[20] == ICMP {
            for hops in [0, 64, 254] {
                let mut far = good.clone();
                far[21] = hops;
                dropped(source, &far, Reason::Header);
            }
        }
    }
}

#[test]
fn a_wrong_or_missing_checksum_is_dropped() {
    for (source, mut frame) in all_that_a_member_may_pass() {
        let at = checksum_at(frame[20]).unwrap();
        frame[at] ^= 1;
        dropped(source, &frame, Reason::Checksum);
        frame[at..at + 2].fill(0);
        dropped(source, &frame, Reason::Checksum);
        for length in 0..frame.len() {
            assert!(claimed(source, &frame[..length]).is_err());
        }
    }
}
