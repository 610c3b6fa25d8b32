//! Which inner packets pass: what a rule names, and nothing else.

use std::vec::Vec;

use policy::{Direction, Protocol, Role, Rule};
use proptest::prelude::*;
use smoltcp::wire::TcpControl;
use wire::{COMMAND_PORT, TELEMETRY_PORT};

use wire::telemetry::Reason;

use super::{
    packets::{self, At, V4, V6},
    world::*,
};

const ROLES: [(Role, u8); 3] = [(Role::Authority, AUTHORITY), (Role::Node, OTHER), (Role::Peer, LAPTOP)];
const PROTOCOLS: [Protocol; 3] = [Protocol::Icmp, Protocol::Tcp, Protocol::Udp];

fn rules() -> Vec<Rule> {
    let mut rules = Vec::new();
    for direction in [Direction::In, Direction::Out] {
        for (role, _) in ROLES {
            for protocol in PROTOCOLS {
                let port = if protocol == Protocol::Icmp { 0 } else { 80 };
                rules.push(rule(direction, role, protocol, port));
            }
        }
    }
    rules
}

fn opener(from: At, to: At, flow: &Rule, port: u16) -> Vec<u8> {
    match flow.protocol {
        Protocol::Icmp => packets::echo(from, to, false, b"ping"),
        Protocol::Tcp => packets::syn(from, to, (port, flow.port)),
        Protocol::Udp => packets::udp(from, to, (port, flow.port), b"hello"),
    }
}

fn member_of(role: Role) -> u8 {
    ROLES.iter().find(|(other, _)| *other == role).unwrap().1
}

fn send_in(world: &mut World, n: u8, packet: &[u8]) {
    match n {
        AUTHORITY => world.authority_sends(packet),
        OTHER => world.other_sends(packet),
        _ => world.laptop_sends(packet),
    }
}

/// What the member of this number got from the node, but telemetry.
fn got(world: &mut World, n: u8) -> Vec<Vec<u8>> {
    let all = match n {
        AUTHORITY => world.authority.take(),
        OTHER => world.other.heard(),
        _ => world.laptop.take(),
    };
    all.into_iter().filter(|packet| world.read_telemetry(packet).is_none()).collect()
}

/// Whether a flow opens: its first packet gets to where it should.
fn opens(world: &mut World, flow: &Rule, family: fn(u8) -> At, port: u16) -> bool {
    let n = member_of(flow.role);
    match flow.direction {
        Direction::In => {
            let packet = opener(family(n), family(NODE), flow, port);
            send_in(world, n, &packet);
            let heard = world.node.heard();
            if flow.protocol == Protocol::Icmp {
                assert!(heard.is_empty(), "echo is mesh's own");
                let answers = got(world, n);
                let reply = packets::echo(family(NODE), family(n), true, b"ping");
                assert!(answers.iter().all(|answer| *answer == reply));
                return !answers.is_empty();
            }
            assert!(got(world, n).is_empty());
            assert!(heard.iter().all(|other| *other == packet));
            !heard.is_empty()
        }
        Direction::Out => {
            let packet = opener(family(NODE), family(n), flow, port);
            world.workload_sends(&packet);
            let arrived = got(world, n);
            assert!(arrived.iter().all(|other| *other == packet));
            !arrived.is_empty()
        }
    }
}

/// The other node lets everything through that the tests send it or have it send.
fn open_other(world: &mut World) {
    let mut rules: Vec<Rule> = Vec::new();
    for port in [80, 81] {
        for protocol in [Protocol::Tcp, Protocol::Udp] {
            rules.extend([
                rule(Direction::In, Role::Node, protocol, port),
                rule(Direction::Out, Role::Node, protocol, port),
            ]);
        }
    }
    rules.push(rule(Direction::Out, Role::Node, Protocol::Icmp, 0));
    let configuration = world.configuration(OTHER, &rules);
    world.other.join(&configuration);
}

fn set_rules(world: &mut World, rules: &[Rule]) {
    let configuration = world.configuration(NODE, rules);
    world.node.join(&configuration);
    world.pump();
}

fn acquainted() -> World {
    let mut world = World::joined(&[]);
    open_other(&mut world);
    world.pump();
    world.acquaint();
    world.other.emit(&packets::syn(V4(OTHER), V4(NODE), (1, 80)));
    world.run_for(50);
    world
}

#[test]
fn a_rule_opens_what_it_names_and_nothing_else() {
    let mut port = 2000;
    for family in [V4 as fn(u8) -> At, V6] {
        let mut world = acquainted();
        for named in [None].into_iter().chain(rules().into_iter().map(Some)) {
            for mut flow in rules() {
                for other_port in [false, true] {
                    if other_port && flow.protocol != Protocol::Icmp {
                        flow.port = 81;
                    }
                    // The other node answers no echo and hears none: its own rules are not the matter here.
                    if flow == rule(Direction::Out, Role::Node, Protocol::Icmp, 0) {
                        continue;
                    }
                    // Flows of before are gone with their rule.
                    set_rules(&mut world, &[]);
                    set_rules(&mut world, named.as_slice());
                    port += 1;
                    assert_eq!(opens(&mut world, &flow, family, port), named == Some(flow), "{flow:?} with {named:?}");
                }
            }
        }
    }
}

#[test]
fn a_ping_is_answered_to_the_byte_and_only_where_a_rule_says_so() {
    for (family, longest) in [(V4 as fn(u8) -> At, 1420 - 28), (V6, 1420 - 48)] {
        for len in [0, 1, 7, 56, longest] {
            let mut world = World::joined(&[]);
            let data = noise(len);
            let ping = packets::echo(family(AUTHORITY), family(NODE), false, &data);
            world.authority.take();
            world.authority_sends(&ping);
            assert!(world.telemetry().is_empty());
            set_rules(&mut world, &[rule(Direction::In, Role::Authority, Protocol::Icmp, 0)]);
            world.authority.take();
            world.authority_sends(&ping);
            assert_eq!(got(&mut world, AUTHORITY), [packets::echo(family(NODE), family(AUTHORITY), true, &data)]);
            // Replies to nothing are nothing.
            world.authority_sends(&packets::echo(family(AUTHORITY), family(NODE), true, &data));
            assert!(got(&mut world, AUTHORITY).is_empty() && world.node.heard().is_empty());
        }
    }
}

#[test]
fn what_belongs_to_a_flow_passes_both_ways_and_ends_with_its_rule() {
    let page = rule(Direction::In, Role::Peer, Protocol::Tcp, 80);
    let mut world = acquainted();
    set_rules(&mut world, &[page]);
    let answer = packets::tcp(V4(NODE), V4(LAPTOP), (80, 3000), TcpControl::Syn, true);
    let data = packets::tcp(V4(LAPTOP), V4(NODE), (3000, 80), TcpControl::Psh, true);
    world.workload_sends(&answer);
    assert!(got(&mut world, LAPTOP).is_empty(), "nobody opened it");
    world.laptop_sends(&packets::syn(V4(LAPTOP), V4(NODE), (3000, 80)));
    world.workload_sends(&answer);
    world.laptop_sends(&data);
    assert_eq!(got(&mut world, LAPTOP), core::slice::from_ref(&answer));
    assert_eq!(world.node.heard().len(), 2);
    set_rules(&mut world, &[]);
    world.workload_sends(&answer);
    world.laptop_sends(&data);
    assert!(got(&mut world, LAPTOP).is_empty() && world.node.heard().is_empty());
}

#[test]
fn a_source_or_a_destination_that_is_not_its_own_is_refused() {
    let all: Vec<Rule> = rules();
    for family in [V4 as fn(u8) -> At, V6] {
        let mut world = acquainted();
        set_rules(&mut world, &all);
        let before = world.now_telemetry().dropped(Reason::Policy);
        let mut count = 0;
        // The laptop with the authority's, the other node's, the node's own and nobody's address; to whom it is not.
        for (from, to) in [
            (AUTHORITY, NODE),
            (OTHER, NODE),
            (NODE, NODE),
            (200, NODE),
            (LAPTOP, AUTHORITY),
            (LAPTOP, OTHER),
            (LAPTOP, LAPTOP),
            (LAPTOP, 200),
            (AUTHORITY, OTHER),
        ] {
            for protocol in PROTOCOLS {
                let flow = rule(Direction::In, Role::Peer, protocol, 80);
                world.laptop_sends(&opener(family(from), family(to), &flow, 4000));
                count += 1;
            }
        }
        // The workload with another's address, or to nobody, or to itself.
        for (from, to) in [(LAPTOP, AUTHORITY), (AUTHORITY, LAPTOP), (NODE, NODE), (NODE, 200), (200, AUTHORITY)] {
            for protocol in PROTOCOLS {
                let flow = rule(Direction::In, Role::Peer, protocol, 80);
                world.workload_sends(&opener(family(from), family(to), &flow, 4000));
            }
        }
        for n in [AUTHORITY, OTHER, LAPTOP] {
            assert!(got(&mut world, n).is_empty());
        }
        assert!(world.node.heard().is_empty());
        // All of the workload's are one.
        assert_eq!(world.now_telemetry().dropped(Reason::Policy) - before, count + 1);
    }
}

#[test]
fn an_isolated_node_knows_its_authority_only() {
    let mut world = acquainted();
    set_rules(&mut world, &rules());
    let ping = |n| rule(Direction::In, ROLES.iter().find(|(_, of)| *of == n).unwrap().0, Protocol::Icmp, 0);
    for n in [AUTHORITY, LAPTOP] {
        assert!(opens(&mut world, &ping(n), V4, 1));
    }
    // An open flow with the laptop.
    world.laptop_sends(&packets::udp(V4(LAPTOP), V4(NODE), (5000, 80), b"x"));
    let answer = packets::udp(V4(NODE), V4(LAPTOP), (80, 5000), b"y");
    world.workload_sends(&answer);
    assert_eq!(got(&mut world, LAPTOP), core::slice::from_ref(&answer));
    world.node.heard();
    world.command(wire::command::Operation::Isolate, 0, 1);
    world.run_for(50);
    let records: Vec<_> = world.authority.take().iter().filter_map(|packet| world.read_telemetry(packet)).collect();
    assert_eq!(records.last().map(|record| (record.counter.get(), record.isolated)), Some((1, 1)));
    world.workload_sends(&answer);
    assert!(got(&mut world, LAPTOP).is_empty());
    for flow in rules().into_iter().filter(|flow| *flow != rule(Direction::Out, Role::Node, Protocol::Icmp, 0)) {
        assert_eq!(opens(&mut world, &flow, V6, 6000), flow.role == Role::Authority, "{flow:?}");
    }
    // By an order that lifecycle and keystore have taken.
    world.node.keystore.isolated = false;
    world.run_for(50);
    world.authority.take();
    assert!(opens(&mut world, &ping(LAPTOP), V4, 1));
}

#[test]
fn a_peer_that_is_removed_is_severed_at_once() {
    let mut world = acquainted();
    set_rules(&mut world, &rules());
    assert!(opens(&mut world, &rule(Direction::In, Role::Peer, Protocol::Icmp, 0), V4, 1));
    world.laptop_sends(&packets::udp(V4(LAPTOP), V4(NODE), (5000, 80), b"x"));
    world.node.heard();
    let spot = world.laptop.spot;
    assert!(world.node.stations.iter().any(|station| *station == spot.ip));
    let mut configuration = world.configuration(NODE, &rules());
    configuration.peers.retain(|peer| peer.role != Role::Peer);
    world.node.join(&configuration);
    world.pump();
    assert!(world.node.stations.iter().all(|station| *station != spot.ip));
    world.node.left.clear();
    for _ in 0..30 {
        world.laptop_sends(&packets::echo(V4(LAPTOP), V4(NODE), false, b"x"));
        world.workload_sends(&packets::udp(V4(NODE), V4(LAPTOP), (80, 5000), b"y"));
        world.run_for(1000);
    }
    assert!(world.laptop.take().is_empty() && world.node.heard().is_empty());
    assert!(world.node.left.iter().all(|frame| frame[..6] != spot.mac), "not a frame");
    // The others go on without a new handshake.
    assert!(opens(&mut world, &rule(Direction::In, Role::Authority, Protocol::Icmp, 0), V4, 1));
}

#[test]
fn a_full_workload_loses_packets_and_nothing_else() {
    let mut world = acquainted();
    set_rules(&mut world, &[rule(Direction::In, Role::Peer, Protocol::Udp, 80)]);
    for _ in 0..100 {
        world.laptop_sends(&packets::udp(V4(LAPTOP), V4(NODE), (5000, 80), b"x"));
    }
    assert_eq!(world.node.heard().len(), 31);
    world.laptop_sends(&packets::udp(V4(LAPTOP), V4(NODE), (5000, 80), b"x"));
    assert_eq!(world.node.heard().len(), 1);
}

/// Packets that are nearly right, and bytes that are nothing.
fn packets_of_a_workload() -> impl Strategy<Value = Vec<u8>> {
    let address = prop::sample::select(std::vec![NODE, AUTHORITY, OTHER, LAPTOP, 77]);
    let port = prop_oneof![
        Just(COMMAND_PORT),
        Just(TELEMETRY_PORT),
        Just(80),
        Just(51820),
        any::<u16>().prop_filter("a port", |port| *port != 0)
    ];
    let payload = prop_oneof![Just(noise(120)), Just(noise(16)), prop::collection::vec(any::<u8>(), 0..200)];
    let near = (address.clone(), address, port.clone(), port, payload, any::<bool>(), 0..5_u8).prop_map(
        |(from, to, source, destination, payload, v6, kind)| {
            let family = if v6 { V6 } else { V4 };
            let (from, to, ports) = (family(from), family(to), (source, destination));
            match kind {
                0 => packets::syn(from, to, ports),
                1 => packets::tcp(from, to, ports, TcpControl::Psh, true),
                2 => packets::echo(from, to, payload.len() % 2 == 0, &payload),
                _ => packets::udp(from, to, ports, &payload),
            }
        },
    );
    let changed = (near.clone(), any::<prop::sample::Index>(), any::<u8>()).prop_map(|(mut packet, at, byte)| {
        *at.get_mut(&mut packet) = byte;
        packet
    });
    prop_oneof![4 => near, 2 => changed, 1 => prop::collection::vec(any::<u8>(), 0..1600)]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn the_workload_sends_the_authority_nothing(packets in prop::collection::vec(packets_of_a_workload(), 1..40)) {
        // Rules for everybody but the authority.
        let rules: Vec<Rule> = rules().into_iter().filter(|rule| rule.role != Role::Authority).collect();
        let mut world = World::joined(&rules);
        world.authority.take();
        for packet in packets {
            world.workload_sends(&packet);
        }
        world.command(wire::command::Operation::Status, 0, 1);
        world.run_for(100);
        // It panics at anything else, and these the node made itself.
        let records = world.telemetry();
        prop_assert_eq!(records.len(), 1);
        prop_assert_eq!(records[0].counter.get(), 1);
    }
}
