//! The rules against the oracle: every changed byte of what may pass, and frames put together at random.

use std::{vec, vec::Vec};

use calls::{
    mesh::Stations,
    rules::{MeshLink, Rules},
};
use proptest::{prelude::*, sample::select};
use wire::Phase;
use zerocopy::IntoBytes;

use super::{oracle::may_pass, *};
use crate::{Reason, decide};

const SIDES: [Side; 4] = [Side::Net, Side::Beacon, Side::Claim, Side::Mesh];

fn passes_to(rules: &Rules, now: u64, source: Side, frame: &[u8]) -> Option<Side> {
    decide(rules, &stations(), now, source, frame).ok()
}

#[test]
fn each_changed_byte_is_judged_as_the_oracle_does() {
    let rules = rules(Phase::Hold, true);
    let (mut passed, mut dropped) = (0, 0);
    for (source, _, frame) in all_that_may_pass() {
        for at in 0..frame.len() {
            for change in 1..=255u8 {
                for fixed in [false, true] {
                    let mut copy = frame.clone();
                    copy[at] ^= change;
                    if fixed {
                        fix(&mut copy);
                    }
                    let got = passes_to(&rules, 0, source, &copy);
                    assert_eq!(
                        got,
                        may_pass(&rules, &stations(), 0, source, &copy),
                        "{source:?} byte {at} xor {change:#x} {fixed}"
                    );
                    // Changed addresses of the frame never pass, but for a find's sender, which its signature names.
                    let is_find = source == Side::Net && frame[20] == UDP;
                    assert!(got.is_none() || at >= 14 || (is_find && (6..12).contains(&at)));
                    if got.is_some() { passed += 1 } else { dropped += 1 }
                }
            }
        }
    }
    assert!(passed > 0 && dropped > passed);
}

#[test]
fn each_changed_byte_of_a_members_frame_is_judged_as_the_oracle_does() {
    let rules = member(Phase::Committed, true);
    let (mut passed, mut dropped) = (0, 0);
    for (source, frame) in all_that_a_member_may_pass() {
        for at in 0..frame.len() {
            for change in 1..=255u8 {
                let mut copy = frame.clone();
                copy[at] ^= change;
                fix(&mut copy);
                let got = passes_to(&rules, 0, source, &copy);
                assert_eq!(
                    got,
                    may_pass(&rules, &stations(), 0, source, &copy),
                    "{source:?} byte {at} xor {change:#x}"
                );
                if got.is_some() { passed += 1 } else { dropped += 1 }
            }
        }
    }
    assert!(passed > 0 && dropped > passed);
}

#[test]
fn each_cut_and_each_longer_frame_is_dropped() {
    let rules = rules(Phase::Hold, true);
    for (source, _, frame) in all_that_may_pass() {
        for len in 0..frame.len() {
            assert_eq!(passes_to(&rules, 0, source, &frame[..len]), None);
        }
        for more in [1, 4, 100, 2000] {
            let mut longer = frame.clone();
            longer.resize(frame.len() + more, 0);
            assert_eq!(passes_to(&rules, 0, source, &longer), None);
        }
    }
}

fn any_source() -> impl Strategy<Value = Side> {
    select(&SIDES[..])
}

fn any_ip() -> impl Strategy<Value = Ip> {
    let known = [
        [US, ADMIN, STRANGER, EVERYONE, OUR_GROUP, ADMIN_GROUP].map(|one| one.ip),
        [NEAR, FAR, GATEWAY, STATIC, STATIC_GROUP, NEAR_GROUP].map(|one| one.ip),
    ]
    .concat();
    let known = [known, vec![[0; 16], [0x20; 16]]].concat();
    prop_oneof![9 => select(known), 1 => any::<Ip>()]
}

fn any_mac() -> impl Strategy<Value = Mac> {
    let known = [US, ADMIN, STRANGER, EVERYONE, OUR_GROUP, ADMIN_GROUP, NEAR, GATEWAY].map(|one| one.mac);
    let known = [&known[..], &[[0; 6], [255; 6]]].concat();
    prop_oneof![9 => select(known), 1 => any::<Mac>()]
}

/// Mostly both addresses of one station.
fn any_station() -> impl Strategy<Value = Station> {
    let known = [
        [US, ADMIN, STRANGER, EVERYONE, OUR_GROUP, ADMIN_GROUP],
        [NEAR, FAR, GATEWAY, STATIC, STATIC_GROUP, NEAR_GROUP],
    ]
    .concat();
    let mixed = (any_mac(), any_ip()).prop_map(|(mac, ip)| Station { mac, ip });
    prop_oneof![4 => select(known), 1 => mixed]
}

fn any_mesh() -> impl Strategy<Value = MeshLink> {
    let usual = member(Phase::Claimed, false).mesh;
    let other =
        (0u64..3, any_ip()).prop_map(|(member, address)| MeshLink { member, address, length: 64, gateway: [0; 16] });
    prop_oneof![4 => Just(usual), 1 => Just(MeshLink::NONE), 1 => other]
}

prop_compose! {
    fn any_rules()(phase in select(vec![0u64, 1, 2, 3, 3, 4, 4, 5, 5, 6, 7]), link in any_station(), peer in any_station(), gate in 0u64..2, until in select(vec![0, 5, 6, u64::MAX]), mesh in any_mesh(), usual in prop::bool::weighted(0.7)) -> Rules {
        let (link, peer) = if usual { (US, ADMIN) } else { (link, peer) };
        Rules {
            phase,
            link: link::Station::new(link.ip, link.mac),
            gate,
            peer: link::Station::new(peer.ip, peer.mac),
            until,
            mesh,
        }
    }
}

fn any_datagram() -> impl Strategy<Value = Vec<u8>> {
    let (hello, find, open, answer) = (hello(), find(), open(), answer());
    let known = [hello.as_bytes(), find.as_bytes(), open.as_bytes(), answer.as_bytes()].map(<[u8]>::to_vec);
    prop_oneof![4 => select(Vec::from(known)), 1 => prop::collection::vec(any::<u8>(), 0..200)]
}

fn any_payload() -> impl Strategy<Value = (u8, Vec<u8>)> {
    let port = || select(vec![0u16, 8090, 9443, 40000, 51820]);
    prop_oneof![
        (port(), port(), any_datagram()).prop_map(|(from, to, datagram)| (UDP, udp(from, to, &datagram))),
        any_datagram().prop_map(|datagram| (UDP, udp(8090, 8090, &datagram))),
        (port(), any_datagram()).prop_map(|(to, datagram)| (UDP, udp(51820, to, &datagram))),
        (port(), any_datagram()).prop_map(|(from, datagram)| (UDP, udp(from, 51820, &datagram))),
        (port(), port(), 0u16..0x1000, any_datagram())
            .prop_map(|(from, to, flags, text)| (TCP, tcp(from, to, flags, &text))),
        (0u16..0x200, any::<bool>()).prop_map(|(flags, out)| {
            (TCP, if out { tcp(9443, 40000, flags, b"") } else { tcp(40000, 9443, flags, b"") })
        }),
        (130u8..140, any::<u8>(), any_ip(), prop::option::of(any_mac()))
            .prop_map(|(kind, flags, target, option)| (ICMP, neighbour(kind, flags, target, option))),
        (135u8..137, 0u8..8, any_ip(), prop::option::of(any_mac()))
            .prop_map(|(kind, flags, target, option)| (ICMP, neighbour(kind, flags << 5, target, option))),
        (any::<u8>(), prop::collection::vec(any::<u8>(), 0..80)),
    ]
}

prop_compose! {
    fn any_frame()(from in any_station(), to in any_station(), hops in select(vec![0u8, 1, 64, 254, 255, 255, 255]), (next, payload) in any_payload()) -> Vec<u8> {
        frame(from, to, next, hops, &payload)
    }
}

prop_compose! {
    /// One that may pass, with a few bytes changed.
    fn nearly()(which in 0usize..35, changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4), fixed in any::<bool>()) -> (Side, Vec<u8>) {
        let known = all_that_may_pass().into_iter().map(|(source, _, frame)| (source, frame));
        let (source, mut frame) = known.chain(all_that_a_member_may_pass()).nth(which).unwrap();
        for (at, byte) in changes {
            let at = at.index(frame.len());
            frame[at] = byte;
        }
        if fixed {
            fix(&mut frame);
        }
        (source, frame)
    }
}

fn phase_is_closed(rules: &Rules) -> bool {
    match rules.phase() {
        Phase::Scan | Phase::Hold | Phase::Committed => false,
        Phase::Claimed => rules.mesh.member != 1,
        Phase::Blind | Phase::Fork | Phase::Sealed => true,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn any_bytes_are_dropped_without_panic(rules in any_rules(), source in any_source(), bytes in prop::collection::vec(any::<u8>(), 0..1600)) {
        prop_assert_eq!(passes_to(&rules, 5, source, &bytes), None);
    }

    #[test]
    fn put_together_at_random_is_judged_as_the_oracle_does(rules in any_rules(), source in any_source(), frame in any_frame()) {
        let got = passes_to(&rules, 5, source, &frame);
        prop_assert_eq!(got, may_pass(&rules, &stations(), 5, source, &frame));
        prop_assert!(got.is_none() || !phase_is_closed(&rules));
    }

    #[test]
    fn changed_a_little_is_judged_as_the_oracle_does(rules in any_rules(), (source, frame) in nearly()) {
        let got = passes_to(&rules, 5, source, &frame);
        prop_assert_eq!(got, may_pass(&rules, &stations(), 5, source, &frame));
        prop_assert!(got.is_none() || !phase_is_closed(&rules));
    }

    /// A member sends to nobody whom its mesh does not name, and claim and beacon never speak for it.
    #[test]
    fn what_leaves_a_claimed_node_goes_to_its_stations(rules in any_rules(), source in any_source(), frame in any_frame()) {
        let rules = Rules { phase: Phase::Claimed as u64, ..rules };
        if decide(&rules, &stations(), 5, source, &frame) == Ok(Side::Net) {
            prop_assert_eq!(source, Side::Mesh);
            prop_assert_eq!(decide(&rules, &Stations::NONE, 5, source, &frame), Err(Reason::Receiver));
        }
    }

    /// Whoever sends it and whatever it is: through a closed gate goes only what goes to everyone.
    #[test]
    fn past_its_end_the_gate_is_closed(mut rules in any_rules(), (source, frame) in nearly()) {
        rules.mesh = MeshLink::NONE;
        let got = passes_to(&rules, rules.until, source, &frame);
        prop_assert!(got.is_none() || frame[..6] == EVERYONE.mac);
    }
}
