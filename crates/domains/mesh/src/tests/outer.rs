//! The outer side: neighbours, stations, roaming, the gateway, and frames that are nobody's.

use std::vec::Vec;

use calls::{
    drops::{Drops, Reason},
    keystore::for_mesh::{MeshRandom, ReadMeshHandshake},
};
use policy::{Prefix, Underlay};
use shm::mailbox::Operation;
use smoltcp::wire::{NdiscNeighborFlags, NdiscRepr};
use wire::{Ip, MESH_PORT, telemetry::Telemetry};
use wireguard::Endpoint;

use super::{
    outsider::Outsider,
    packets::{self, Outer, Spot, V4},
    world::*,
};

/// What left the node since this was last asked.
fn left(world: &mut World) -> Vec<(Spot, Spot, Outer)> {
    core::mem::take(&mut world.node.left).iter().map(|frame| packets::read(frame)).collect()
}

fn solicited(world: &mut World) -> Vec<(Spot, Ip)> {
    let outer = left(world).into_iter();
    outer.filter_map(|(_, to, outer)| if let Outer::Solicitation(ip) = outer { Some((to, ip)) } else { None }).collect()
}

fn on_site(n: u8) -> Ip {
    [0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10, n]
}

const FAR: Ip = [0x20, 1, 0xd, 0xb8, 9, 9, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];

#[test]
fn the_first_datagram_waits_for_the_neighbour_and_is_not_lost() {
    let mut world = World::new();
    world.authority.mute = true;
    let configuration = world.configuration(NODE, &[]);
    world.node.join(&configuration);
    world.run_for(10);
    let (spot, key) = (world.authority.spot, world.node.key());
    assert_eq!(solicited(&mut world), [(spot.solicited_node(), spot.ip)]);
    world.authority.mute = false;
    world.run_for(1000);
    let all = left(&mut world);
    assert_eq!(all[0].1, spot.solicited_node());
    assert!(matches!(&all[1], (_, to, Outer::Datagram((MESH_PORT, MESH_PORT), _)) if *to == spot));
    let view = world.authority.engine.peer(world.authority.peer(&key)).unwrap();
    assert!(view.last_handshake.is_some(), "by the initiation that waited");
}

#[test]
fn a_neighbour_that_does_not_answer_is_asked_three_times_and_given_up() {
    let mut world = World::new();
    world.authority.cut = true;
    let configuration = world.configuration(NODE, &[]);
    world.node.join(&configuration);
    world.run_for(4000);
    assert_eq!(solicited(&mut world).len(), 3);
    // And again for each datagram of a new try.
    world.run_for(60_000);
    let asked = solicited(&mut world).len();
    assert!((10..=40).contains(&asked), "{asked}");
}

#[test]
fn a_neighbour_in_use_is_confirmed_by_solicitations_to_itself() {
    let mut world = World::joined(&[]);
    left(&mut world);
    world.run_for(300_000);
    let spot = world.authority.spot;
    let asked = solicited(&mut world);
    assert!((4..=10).contains(&asked.len()), "{asked:?}");
    assert!(asked.iter().all(|(to, ip)| *to == spot && *ip == spot.ip));
    // It does not answer any more: three probes, and then the group again.
    world.authority.mute = true;
    world.run_for(60_000);
    let asked = solicited(&mut world);
    assert_eq!(asked.iter().filter(|(to, _)| *to == spot).count(), 3, "{asked:?}");
    assert!(asked.iter().any(|(to, _)| *to == spot.solicited_node()));
}

#[test]
fn an_idle_neighbour_is_left_alone() {
    let mut world = World::joined(&[]);
    world.other_sends(&packets::udp(V4(OTHER), V4(NODE), (1, 1), b"x"));
    world.acquaint();
    world.run_for(60_000);
    left(&mut world);
    world.run_for(120_000);
    let laptop = world.laptop.spot;
    assert!(solicited(&mut world).iter().all(|(_, ip)| *ip != laptop.ip));
}

#[test]
fn stations_are_answered_and_nobody_else() {
    let mut world = World::joined(&[]);
    let (node, station, stranger) = (world.node.spot, world.authority.spot, Spot::link_local(77));
    let ask = |from: Spot, to: Spot| packets::solicitation(from, to, node.ip, Some(from.mac));
    left(&mut world);
    let mut answers = |frame: Vec<u8>| {
        world.node.inject(frame);
        world.pump();
        let all = left(&mut world);
        assert!(all.iter().all(|(_, to, outer)| *to == station && *outer == Outer::Advertisement(node.ip)), "{all:?}");
        all.len()
    };
    assert_eq!(answers(ask(station, node)), 1);
    assert_eq!(answers(ask(station, node.solicited_node())), 1);
    assert_eq!(answers(packets::solicitation(station, node, node.ip, None)), 1);
    let wrong = [
        ask(stranger, node),
        ask(stranger, node.solicited_node()),
        // With a station's address, but another's MAC in the option.
        packets::solicitation(station, node, node.ip, Some(stranger.mac)),
        // A solicitation of another's address.
        packets::solicitation(station, node, stranger.ip, Some(station.mac)),
        packets::solicitation(station, node, station.ip, Some(station.mac)),
        // To a group that is not its own.
        ask(station, stranger.solicited_node()),
        ask(station, Spot { ip: node.ip, mac: [0x33, 0x33, 0, 0, 0, 1] }),
        ask(station, Spot { ip: wire::ALL_NODES, mac: node.mac }),
        // Duplicate address detection.
        packets::solicitation(Spot { ip: [0; 16], ..station }, node.solicited_node(), node.ip, None),
        // From itself.
        ask(node, node),
        // A router has forwarded it.
        packets::ndisc(station, node, 254, NdiscRepr::NeighborSolicit { target_addr: node.ip.into(), lladdr: None }),
    ];
    for (at, frame) in wrong.into_iter().enumerate() {
        assert_eq!(answers(frame), 0, "{at}");
    }
}

#[test]
fn an_advertisement_moves_only_the_neighbour_that_it_is_about() {
    let mut world = World::joined(&[]);
    let (node, station) = (world.node.spot, world.authority.spot);
    let (stranger, moved) = (Spot::link_local(77), Spot { mac: [2, 0, 0, 0, 0, 78], ..station });
    let flags = NdiscNeighborFlags::SOLICITED;
    let wrong = [
        // About a station, from no station.
        packets::advertisement(stranger, node, station.ip, stranger.mac),
        // About nobody that is asked for.
        packets::advertisement(station, node, stranger.ip, station.mac),
        // The option is not the sender's.
        packets::advertisement(station, node, station.ip, stranger.mac),
        // It does not override.
        packets::ndisc(
            moved,
            node,
            255,
            NdiscRepr::NeighborAdvert {
                flags,
                target_addr: station.ip.into(),
                lladdr: Some(smoltcp::wire::EthernetAddress(moved.mac).into()),
            },
        ),
        // Solicited, and to everybody.
        packets::advertisement(
            moved,
            Spot { ip: wire::ALL_NODES, mac: [0x33, 0x33, 0, 0, 0, 1] },
            station.ip,
            moved.mac,
        ),
    ];
    for frame in wrong {
        world.node.inject(frame);
    }
    world.pump();
    left(&mut world);
    world.run_for(12_000);
    let all = left(&mut world);
    assert!(all.iter().all(|(_, to, _)| to.mac == station.mac), "{all:?}");
    world.node.inject(packets::advertisement(moved, node, station.ip, moved.mac));
    world.pump();
    world.run_for(12_000);
    assert!(left(&mut world).iter().any(|(_, to, outer)| *to == moved && matches!(outer, Outer::Datagram(..))));
    // It was nobody: the first use is followed by a confirmation that does not come, and by the station's own answer.
    world.run_for(20_000);
    left(&mut world);
    world.run_for(12_000);
    assert!(left(&mut world).iter().all(|(_, to, _)| to.mac == station.mac));
}

#[test]
fn a_roaming_peer_is_followed_and_its_old_place_is_forgotten() {
    let mut world = World::joined(&[]);
    let before = world.authority.spot;
    let is_station = |world: &World, ip: Ip| world.node.stations.iter().any(|station| *station == ip);
    assert!(is_station(&world, before.ip));
    world.authority.spot = Spot::link_local(55);
    world.authority.port = 1234;
    let after = world.authority.spot;
    world.authority.take();
    left(&mut world);
    world.authority_sends(&packets::udp(V4(AUTHORITY), V4(NODE), (1, 1), b"x"));
    assert!(is_station(&world, after.ip) && !is_station(&world, before.ip));
    world.run_for(12_000);
    let all = left(&mut world);
    assert!(all.iter().all(|(_, to, _)| *to == after || *to == after.solicited_node()), "{all:?}");
    assert!(all.iter().any(|(.., outer)| matches!(outer, Outer::Datagram((MESH_PORT, 1234), _))));
    assert!(!world.telemetry().is_empty());
    // What anybody else says from elsewhere moves nobody.
    let forged = packets::datagram(before, world.node.spot, (51820, 51820), &noise(148));
    world.node.inject(forged);
    world.run_for(100);
    assert!(!is_station(&world, before.ip));
}

#[test]
fn a_routed_peer_is_reached_by_the_gateway_from_the_static_address() {
    for gateway in [Spot::link_local(100), Spot::link_local(100).of_ip(on_site(100))] {
        let mut world = World::new();
        let mut configuration = world.configuration(NODE, &[]);
        let address = Prefix { ip: on_site(NODE), length: 64 };
        configuration.underlay = Some(Underlay { address, gateway: Some(gateway.ip) });
        configuration.peers[0].endpoint.as_mut().unwrap().ip = FAR;
        world.node.join(&configuration);
        world.run_for(10);
        let source = world.node.spot.of_ip(if gateway.ip[0] == 0xfe { world.node.spot.ip } else { on_site(NODE) });
        let all = left(&mut world);
        assert_eq!(all, [(source, gateway.solicited_node(), Outer::Solicitation(gateway.ip))]);
        world.node.inject(packets::advertisement(gateway, source, gateway.ip, gateway.mac));
        world.pump();
        let (from, to, outer) = left(&mut world).pop().unwrap();
        assert_eq!((from.ip, to), (on_site(NODE), Spot { ip: FAR, mac: gateway.mac }));
        assert!(matches!(outer, Outer::Datagram((MESH_PORT, MESH_PORT), _)));
        // The gateway may ask for the static address; the peer behind it is no neighbour.
        let far = Spot { ip: FAR, mac: gateway.mac };
        let node = world.node.spot.of_ip(on_site(NODE));
        world.node.inject(packets::solicitation(far, node, node.ip, Some(far.mac)));
        world.pump();
        assert!(left(&mut world).is_empty());
        world.node.inject(packets::solicitation(gateway, node.solicited_node(), node.ip, Some(gateway.mac)));
        world.pump();
        assert_eq!(left(&mut world).len(), 1);
    }
}

#[test]
fn a_peer_that_cannot_be_reached_is_no_station() {
    let reaches = |underlay: Option<Underlay>, ip: Ip| {
        let mut world = World::new();
        let mut configuration = world.configuration(NODE, &[]);
        configuration.underlay = underlay;
        configuration.peers[0].endpoint.as_mut().unwrap().ip = ip;
        world.node.join(&configuration);
        world.run_for(10_000);
        let all = left(&mut world);
        assert_eq!(all.is_empty(), world.node.stations.iter().all(|station| *station != ip));
        !all.is_empty()
    };
    let address = Prefix { ip: on_site(NODE), length: 64 };
    assert!(!reaches(None, FAR));
    assert!(!reaches(None, on_site(AUTHORITY)));
    assert!(!reaches(Some(Underlay { address, gateway: None }), FAR));
    assert!(!reaches(Some(Underlay { address, gateway: None }), on_site(NODE)), "itself");
    assert!(!reaches(None, Spot::link_local(NODE).ip), "itself");
    assert!(reaches(Some(Underlay { address, gateway: None }), on_site(AUTHORITY)));
    assert!(reaches(Some(Underlay { address, gateway: None }), Spot::link_local(AUTHORITY).ip));
}

/// An initiation by somebody who knows the node's key and is none of its peers: it costs a question to the keystore.
fn initiation(world: &World) -> Vec<u8> {
    let mut stranger = Outsider::new(77);
    let at = Endpoint { ip: world.node.spot.ip, port: MESH_PORT };
    stranger.know(world.now, &[(world.node.key(), Some(at))]);
    stranger.neighbours.insert(at.ip, world.node.spot);
    stranger.send(world.now, &world.node.key(), &packets::udp(V4(77), V4(NODE), (1, 1), b"x"));
    match packets::read(&stranger.out[0]) {
        (.., Outer::Datagram(_, initiation)) => initiation,
        other => panic!("{other:?}"),
    }
}

#[test]
fn datagrams_that_are_not_for_the_node_or_not_whole_are_no_datagrams() {
    let mut world = World::joined(&[]);
    let (node, station) = (world.node.spot, world.authority.spot);
    let initiation = initiation(&world);
    let good = packets::datagram(station, node, (MESH_PORT, MESH_PORT), &initiation);
    let before = world.now_telemetry().dropped(Reason::Outer);
    let mut spoilt = Vec::new();
    for (at, bits) in
        [(0, 0xff), (6, 1), (12, 1), (14, 0x30), (20, 1), (25, 1), (45, 1), (57, 1), (60, 1), (61, 1), (62, 1)]
    {
        let mut frame = good.clone();
        frame[at] ^= bits;
        spoilt.push(frame);
    }
    let mut unchecked = good.clone();
    unchecked[60..62].fill(0);
    spoilt.push(unchecked);
    spoilt.push([&good[..], &[0]].concat());
    spoilt.push(good[..good.len() - 1].to_vec());
    spoilt.push(packets::datagram(station, node, (MESH_PORT, 8090), &initiation));
    spoilt.push(packets::datagram(Spot { ip: wire::ALL_NODES, ..station }, node, (MESH_PORT, MESH_PORT), &initiation));
    let count = spoilt.len() as u64;
    left(&mut world);
    let asked = world.node.keystore.log.len();
    for frame in spoilt {
        world.node.inject(frame);
    }
    world.pump();
    assert!(left(&mut world).is_empty());
    assert_eq!(world.node.keystore.log.len(), asked);
    // The good one is of no peer, but that only the keystore can tell.
    world.node.inject(good);
    world.pump();
    assert!(left(&mut world).is_empty());
    assert_eq!(world.node.keystore.log[asked..], [MeshRandom::OP, ReadMeshHandshake::OP]);
    assert_eq!(world.now_telemetry().dropped(Reason::Outer) - before, count + 1);
}

#[test]
fn under_load_a_station_gets_a_cookie_and_a_stranger_nothing() {
    let mut world = World::joined(&[]);
    let initiation = initiation(&world);
    left(&mut world);
    let from = |spot, world: &World| packets::datagram(spot, world.node.spot, (MESH_PORT, MESH_PORT), &initiation);
    for n in 0..200 {
        let frame = from(Spot::link_local(n | 0x20), &world);
        world.node.inject(frame);
    }
    world.pump();
    assert!(left(&mut world).is_empty());
    let station = world.authority.spot;
    for _ in 0..4 {
        let frame = from(station, &world);
        world.node.inject(frame);
    }
    world.pump();
    let all = left(&mut world);
    assert!(!all.is_empty());
    for (_, to, outer) in all {
        assert!(to == station && matches!(&outer, Outer::Datagram(_, bytes) if bytes.len() == 64), "{outer:?}");
    }
}

#[test]
fn a_full_ring_loses_frames_and_nothing_else() {
    let mut world = World::joined(&[rule(policy::Direction::Out, policy::Role::Authority, policy::Protocol::Udp, 9)]);
    world.authority.take();
    // The ring to the perimeter holds 31 frames, and nobody takes one.
    for at in 0..41_u8 {
        world.node.emit(&packets::udp(V4(NODE), V4(AUTHORITY), (1000, 9), &[at; 1000]));
        world.node.mesh.step(world.now, &mut world.node.ports);
    }
    world.pump();
    assert_eq!(world.authority.take().len(), 31);
    assert_eq!(world.now_telemetry().dropped(Reason::Lost), 10);
}

#[test]
fn what_others_dropped_is_in_the_next_record_whatever_they_say() {
    let reasons = || {
        Reason::ALL
            .iter()
            .copied()
            .filter(|reason| !matches!(reason, Reason::Outer | Reason::Policy | Reason::Command | Reason::Lost))
    };
    let counts = |record: &Telemetry| reasons().map(|reason| record.dropped(reason)).collect::<Vec<_>>();
    let mut world = World::joined(&[]);
    assert!(counts(&world.now_telemetry()).iter().all(|count| *count == 0));
    for said in [1, u64::MAX, 0] {
        let before = world.now_telemetry();
        let mut drops = Drops::NONE;
        drops.by_reason.iter_mut().zip(0..).for_each(|(count, at)| *count = u64::saturating_mul(said, at));
        world.node.drops.publish(&drops);
        let after = world.now_telemetry();
        assert!(counts(&after).into_iter().eq(reasons().map(|reason| drops.of(reason))));
        // Its own counts are its own.
        for own in [Reason::Outer, Reason::Policy, Reason::Command, Reason::Lost] {
            assert_eq!(after.dropped(own), before.dropped(own));
        }
    }
}
