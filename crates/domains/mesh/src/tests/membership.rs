//! What comes with a membership, and goes with it.

use std::vec::Vec;

use calls::{
    keystore::for_mesh::{FinishMeshHandshake, MeshKey, MeshRandom, ReadMeshHandshake, StartMeshHandshake},
    lifecycle::for_mesh::Joined,
    mesh::{Seat, Stations, Tenancy},
};
use policy::{Direction, Protocol, Role};
use shm::mailbox::Operation;
use wire::{Phase, command::Operation as Ordered};
use zerocopy::FromZeros;

use wire::telemetry::Reason;

use super::{
    domains::Trouble,
    packets::{self, V4, V6},
    world::*,
};

#[test]
fn without_a_membership_there_is_no_frame_no_call_and_no_alarm() {
    let mut world = World::new();
    let spot = world.authority.spot;
    let mut frames: Vec<Vec<u8>> = (0..200).map(noise).collect();
    frames.push(packets::solicitation(spot, world.node.spot, world.node.spot.ip, Some(spot.mac)));
    frames.push(packets::datagram(spot, world.node.spot, (51820, 51820), &noise(148)));
    for frame in frames {
        world.node.inject(frame);
    }
    world.node.emit(&packets::udp(V4(NODE), V4(AUTHORITY), (80, 81), b"x"));
    world.authority_sends(&packets::echo(V4(AUTHORITY), V4(NODE), false, b"x"));
    world.run_for(10_000);
    assert!(world.node.left.is_empty() && world.node.keystore.log.is_empty());
    assert_eq!(world.node.armed(world.now), None);
    assert_eq!((world.node.stations, world.node.tenancy), (Stations::NONE, Tenancy::new_zeroed()));
}

#[test]
fn a_membership_is_none_if_the_phase_has_no_mesh_or_the_configuration_makes_no_sense() {
    for phase in [Phase::Blind, Phase::Scan, Phase::Fork, Phase::Hold, Phase::Sealed] {
        let mut world = World::new();
        let configuration = world.configuration(NODE, &[]);
        world.node.join(&configuration);
        world.node.lifecycle.membership.phase = phase as u64;
        world.node.lifecycle.publish();
        world.run_for(1000);
        assert!(world.node.left.is_empty(), "{phase:?}");
    }
    type Spoil = fn(&mut calls::mesh::Membership);
    let spoil: [Spoil; 5] = [
        |membership| membership.length = u64::MAX,
        |membership| membership.length -= 1,
        |membership| membership.configuration[0] = 0xff,
        |membership| membership.link.mac = [0; 6],
        |membership| membership.link.ip = [0; 16],
    ];
    for spoil in spoil {
        let mut world = World::new();
        let configuration = world.configuration(NODE, &[]);
        world.node.join(&configuration);
        spoil(&mut world.node.lifecycle.membership);
        world.node.lifecycle.publish();
        world.run_for(1000);
        assert!(world.node.left.is_empty());
    }
}

#[test]
fn the_node_joins_by_itself_and_tells_lifecycle_once() {
    let mut world = World::joined(&[]);
    assert_eq!(world.node.lifecycle.joined(), 1);
    let record = world.telemetry().pop().unwrap();
    assert_eq!((record.phase, record.isolated, record.result), (Phase::Claimed as u8, 0, 0));
    // It was made before the handshake that carried it.
    assert_eq!((record.epoch.get(), record.handshakes.get()), (1, 0));
    let tenancy = world.node.tenancy;
    assert_eq!((tenancy.v4, tenancy.v4_length), ([10, 8, 0, NODE], 24));
    assert_eq!((tenancy.v6, tenancy.v6_length, tenancy.mtu), (V6(NODE).ip(), 64, 1420));
    assert_ne!(tenancy.seed, world.other.tenancy.seed);
    world.run_for(300_000);
    assert_eq!(world.node.lifecycle.joined(), 1);
    let records = world.telemetry();
    // Rekeyed every two minutes.
    assert!((2..=4).contains(&records.last().unwrap().handshakes.get()));
    assert!(records.len() >= 30, "{}", records.len());
    assert!(records.windows(2).all(|pair| pair[0].sequence.get() < pair[1].sequence.get()));
}

#[test]
fn a_session_that_the_authority_began_counts_when_it_is_used() {
    let mut world = World::new();
    // The node does not know where the authority is.
    let mut configuration = world.configuration(NODE, &[]);
    configuration.peers[0].endpoint = None;
    world.node.join(&configuration);
    world.run_for(1000);
    assert!(world.node.left.is_empty());
    assert_eq!(world.node.lifecycle.joined(), 0);
    // A session with somebody else says nothing.
    world.laptop_sends(&packets::echo(V4(LAPTOP), V4(NODE), false, b"x"));
    world.run_for(1000);
    assert_eq!(world.node.lifecycle.joined(), 0);
    world.authority_sends(&packets::echo(V4(AUTHORITY), V4(NODE), false, b"x"));
    world.run_for(20);
    assert_eq!(world.node.lifecycle.joined(), 1);
    world.run_for(11_000);
    let record = *world.telemetry().last().unwrap();
    assert_eq!((record.handshakes.get(), record.dropped(Reason::Outer)), (2, 0));
}

#[test]
fn a_replayed_initiation_is_no_authority() {
    let mut world = World::new();
    let mut configuration = world.configuration(NODE, &[]);
    configuration.peers[0].endpoint = None;
    world.node.join(&configuration);
    world.authority_sends(&packets::echo(V4(AUTHORITY), V4(NODE), false, b"x"));
    world.run_for(20);
    assert_eq!(world.node.lifecycle.joined(), 1);
    let spot = world.node.spot;
    let initiation = world.seen.iter().find(|frame| frame[..6] == spot.mac && frame.len() == 62 + 148).unwrap().clone();
    // A node that has restarted has forgotten when it heard it. It answers, but it has nobody to tell of.
    world.authority.cut = true;
    world.node.restart();
    world.run_for(20);
    world.node.inject(initiation);
    world.run_for(1000);
    assert_eq!(world.node.keystore.asked(ReadMeshHandshake::OP), 2);
    assert_eq!(world.node.lifecycle.joined(), 1);
}

#[test]
fn a_new_configuration_is_reported_at_once() {
    let mut world = World::joined(&[]);
    world.telemetry();
    let mut configuration = world.configuration(NODE, &[]);
    configuration.peers[0].keepalive_s = 25;
    world.node.join(&configuration);
    world.run_for(10);
    let mut bytes = [0; 4096];
    let hash = wire::binding::configuration_hash(configuration.write(&mut bytes).unwrap());
    let records = world.telemetry();
    assert_eq!(records.iter().map(|record| &record.configuration[..]).collect::<Vec<_>>(), [&hash[..8]]);
}

#[test]
fn joined_is_told_until_lifecycle_has_heard_it() {
    let mut world = World::new();
    world.node.lifecycle.trouble = Some((Joined::OP, Trouble::Silent(3)));
    world.configure(&[]);
    world.run_for(12_000);
    assert_eq!(world.node.lifecycle.joined(), 0);
    world.run_for(7_000);
    assert_eq!(world.node.lifecycle.joined(), 1);
    world.node.lifecycle.trouble = Some((Joined::OP, Trouble::Silent(1)));
    world.node.restart();
    world.run_for(3000);
    assert_eq!(world.node.lifecycle.joined(), 1, "asked, and not answered");
    world.node.restart_lifecycle();
    world.run_for(3000);
    assert_eq!(world.node.lifecycle.joined(), 2);
}

#[test]
fn when_the_membership_goes_everything_goes() {
    let mut world = World::joined(&[]);
    world.acquaint();
    assert_ne!(world.node.stations, Stations::NONE);
    assert!(world.node.armed(world.now).is_some());
    world.node.leave();
    world.pump();
    assert_eq!(world.node.armed(world.now), None);
    assert_eq!((world.node.stations, world.node.tenancy), (Stations::NONE, Tenancy::new_zeroed()));
    world.node.left.clear();
    for _ in 0..20 {
        world.authority_sends(&packets::echo(V4(AUTHORITY), V4(NODE), false, b"x"));
        world.node.emit(&packets::udp(V4(NODE), V4(AUTHORITY), (80, 81), b"x"));
        world.run_for(1000);
    }
    assert!(world.node.left.is_empty());
    assert_eq!(world.node.armed(world.now), None);
    // The keys of before are gone: a new membership begins with a handshake.
    let handshakes =
        world.node.keystore.asked(StartMeshHandshake::OP) + world.node.keystore.asked(ReadMeshHandshake::OP);
    world.configure(&[]);
    world.run_for(12_000);
    let after = world.node.keystore.asked(StartMeshHandshake::OP) + world.node.keystore.asked(ReadMeshHandshake::OP);
    assert!(after > handshakes);
    assert_eq!(world.node.lifecycle.joined(), 2);
    assert!(!world.telemetry().is_empty());
}

#[test]
fn another_epoch_is_another_membership() {
    let mut world = World::joined(&[]);
    world.command(wire::command::Operation::Status, 0, 7);
    world.run_for(100);
    assert_eq!(world.telemetry().last().unwrap().counter.get(), 7);
    world.node.lifecycle.membership.epoch = 2;
    world.node.lifecycle.publish();
    world.node.notified = true;
    world.run_for(11_000);
    let record = *world.telemetry().last().unwrap();
    assert_eq!((record.counter.get(), record.epoch.get()), (0, 2));
    assert_eq!(world.node.lifecycle.joined(), 2);
}

#[test]
fn a_restarted_domain_finds_its_way_back() {
    let mut world = World::joined(&[]);
    world.acquaint();
    world.node.restart();
    world.run_for(1000);
    assert_eq!(world.node.lifecycle.joined(), 2);
    assert!(!world.telemetry().is_empty());
    // One that restarts without a membership takes back what its predecessor had published.
    world.node.leave();
    world.node.restart();
    world.run_for(10);
    assert_eq!((world.node.stations, world.node.tenancy), (Stations::NONE, Tenancy::new_zeroed()));
}

#[test]
fn the_keystore_may_be_slow_refuse_or_restart() {
    for op in [MeshKey::OP, MeshRandom::OP] {
        for trouble in [Trouble::Refuse, Trouble::Silent(3)] {
            let mut world = World::new();
            world.node.keystore.trouble = Some((op, trouble));
            world.configure(&[]);
            world.run_for(5000);
            assert!(world.node.left.is_empty());
            let asked = world.node.keystore.asked(op);
            assert!((2..=6).contains(&asked), "{asked}");
            world.node.keystore.trouble = None;
            world.run_for(10_000);
            assert_eq!(world.node.lifecycle.joined(), 1);
        }
    }
    // A step of a handshake that is lost with the keystore is asked again at once.
    let mut world = World::new();
    world.node.keystore.trouble = Some((StartMeshHandshake::OP, Trouble::Silent(1)));
    world.configure(&[]);
    world.run_for(100);
    assert_eq!(world.node.lifecycle.joined(), 0);
    world.node.restart_keystore();
    world.run_for(100);
    assert_eq!(world.node.lifecycle.joined(), 1);
    // One that it refuses is no end of the node.
    let mut world = World::new();
    world.node.keystore.trouble = Some((StartMeshHandshake::OP, Trouble::Refuse));
    world.configure(&[]);
    world.run_for(3000);
    world.node.keystore.trouble = None;
    world.run_for(20_000);
    assert_eq!(world.node.lifecycle.joined(), 1);
}

#[test]
fn each_step_of_a_handshake_has_randomness_that_is_younger() {
    let mut world = World::new();
    world.configure(&[]);
    // Handshakes of either side, over several lives of a session.
    for _ in 0..40 {
        world.run_for(20_000);
        world.now += 20 * SECOND;
    }
    let log = &world.node.keystore.log;
    let steps = [StartMeshHandshake::OP, FinishMeshHandshake::OP, ReadMeshHandshake::OP];
    let taken = log.iter().enumerate().filter(|(_, op)| steps.contains(op));
    let before: Vec<_> = taken.map(|(at, _)| log[at - 1]).collect();
    assert!(before.len() > 6 && before.iter().all(|op| *op == MeshRandom::OP), "{log:?}");
    // One for the tenant's seed and one to begin with; none that nobody needs.
    assert_eq!(world.node.keystore.asked(MeshRandom::OP), 2 + before.len());
}

#[test]
fn a_handshake_waits_for_randomness_that_does_not_come_and_asks_for_it_once_a_second() {
    let mut world = World::joined(&[]);
    world.node.keystore.trouble = Some((MeshRandom::OP, Trouble::Refuse));
    world.node.keystore.log.clear();
    world.command(wire::command::Operation::Rotate, 0, 1);
    world.run_for(4500);
    let handshakes = world.node.keystore.asked(StartMeshHandshake::OP);
    let asked = world.node.keystore.asked(MeshRandom::OP);
    assert_eq!((handshakes, asked), (0, 5), "{:?}", world.node.keystore.log);
    world.node.keystore.trouble = None;
    world.run_for(2000);
    assert!(world.node.keystore.asked(StartMeshHandshake::OP) > 0);
}

#[test]
fn who_has_left_the_set_hears_telemetry_is_heard_no_more_and_then_is_nobody() {
    let mut world = World::joined(&[rule(Direction::In, Role::Authority, Protocol::Icmp, 0)]);
    let seats = seats(&world.configuration(NODE, &[]));
    let laptop = Seat { key: world.laptop.key, inner: V6(LAPTOP).ip(), ..Seat::default() };
    world.laptop_sends(&packets::echo(V6(LAPTOP), V6(NODE), false, b"x"));
    world.run_for(50);
    world.telemetry();
    world.laptop.take();
    world.node.adopt(&[laptop], &seats[..1]);
    world.run_for(50);
    // He hears of the set that he is not in.
    assert_eq!(world.telemetry().last().map(|record| record.set.get()), Some(1));
    assert!(world.node.stations.iter().any(|ip| *ip == world.authority.spot.ip));
    let calls = world.node.keystore.log.len();
    world.command(Ordered::Rotate, 0, 5);
    world.authority_sends(&packets::echo(V4(AUTHORITY), V4(NODE), false, b"x"));
    world.run_for(50);
    assert!(world.authority.take().is_empty() && world.node.keystore.log.len() == calls);
    // Whoever is in it is an authority now, by the rules and by telemetry.
    world.laptop_sends(&packets::echo(V6(LAPTOP), V6(NODE), false, b"y"));
    assert!(world.laptop.take().contains(&packets::echo(V6(NODE), V6(LAPTOP), true, b"y")));
    world.node.adopt(&[laptop], &[]);
    world.run_for(50);
    assert!(world.node.stations.iter().all(|ip| *ip != world.authority.spot.ip));
    let left = world.node.left.len();
    // His handshake is nobody's.
    world.run_for(200_000);
    world.authority_sends(&packets::echo(V4(AUTHORITY), V4(NODE), false, b"x"));
    world.run_for(1000);
    let mac = world.authority.spot.mac;
    assert!(world.node.left[left..].iter().all(|frame| frame[..6] != mac));
}
