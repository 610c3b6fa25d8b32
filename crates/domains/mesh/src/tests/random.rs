//! Random input from every side: nothing panics, nothing leaves that may not, and the node always comes to rest.

use std::{vec, vec::Vec};

use policy::{Direction, Protocol, Role, Rule};
use proptest::prelude::*;
use shm::Micros;
use wire::MESH_PORT;
use zerocopy::IntoBytes;

use super::{
    domains::Trouble,
    packets::{self, Spot, V4, V6},
    world::*,
};

/// A frame that begins well.
fn frames() -> impl Strategy<Value = Vec<u8>> {
    let (node, stations) = (Spot::link_local(NODE), [AUTHORITY, OTHER, LAPTOP, 77].map(Spot::link_local));
    let from = prop::sample::select(stations.to_vec());
    let kind = prop_oneof![Just(1_u8), Just(2), Just(3), Just(4), any::<u8>()];
    let datagram = (from.clone(), any::<u16>(), kind, prop::collection::vec(any::<u8>(), 0..200)).prop_map(
        move |(from, port, kind, mut bytes)| {
            let head = [kind, 0, 0, 0];
            bytes.splice(..4.min(bytes.len()), head);
            bytes.resize(
                match kind {
                    1 => 148,
                    2 => 92,
                    3 => 64,
                    _ => bytes.len(),
                },
                0x5a,
            );
            packets::datagram(from, node, (port, MESH_PORT), &bytes)
        },
    );
    let target = prop::sample::select([&stations[..], &[node]].concat());
    let neighbour = (from, target, any::<bool>(), any::<bool>()).prop_map(move |(from, target, ask, group)| {
        let to = if group { target.solicited_node() } else { node };
        if ask {
            packets::solicitation(from, to, target.ip, Some(from.mac))
        } else {
            packets::advertisement(from, node, target.ip, from.mac)
        }
    });
    let right = prop_oneof![datagram, neighbour];
    let changed = (right.clone(), prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4)).prop_map(
        |(mut frame, changes)| {
            for (at, byte) in changes {
                *at.get_mut(&mut frame) = byte;
            }
            frame
        },
    );
    prop_oneof![3 => right, 3 => changed, 1 => prop::collection::vec(any::<u8>(), 0..1600)]
}

#[derive(Debug, Clone)]
enum Action {
    Frame(Vec<u8>),
    Workload(Vec<u8>),
    Inside(bool, Vec<u8>),
    Command(u8, u32),
    Update(usize),
    Chunk(usize),
    Rules(u8),
    Leave,
    Isolate(bool),
    Epoch(u64),
    Roam(u8),
    Cut(bool),
    Restart,
    RestartKeystore,
    RestartLifecycle,
    Trouble(u32, bool),
    Wait(u64),
    /// A long while at once.
    Jump(Micros),
    Wake,
}

fn actions() -> impl Strategy<Value = Action> {
    let bytes = || prop::collection::vec(any::<u8>(), 0..300);
    let inner = || {
        let near = (1..5_u8, 1..5_u8, any::<bool>(), 0..3_u8, prop::sample::select(vec![80, 8090, 8091])).prop_map(
            |(from, to, v6, kind, port)| {
                let family = if v6 { V6 } else { V4 };
                let (from, to) = (family(from), family(to));
                match kind {
                    0 => packets::echo(from, to, false, b"x"),
                    1 => packets::syn(from, to, (1000, port)),
                    _ => packets::udp(from, to, (1000, port), b"0123456789abcdef"),
                }
            },
        );
        prop_oneof![3 => near, 1 => bytes()]
    };
    prop_oneof![
        6 => frames().prop_map(Action::Frame),
        3 => inner().prop_map(Action::Workload),
        4 => (any::<bool>(), inner()).prop_map(|(laptop, packet)| Action::Inside(laptop, packet)),
        4 => (0..7_u8, 0..20_u32).prop_map(|(operation, counter)| Action::Command(operation, counter)),
        1 => (0..3_usize).prop_map(Action::Update),
        1 => (0..5_usize).prop_map(Action::Chunk),
        2 => any::<u8>().prop_map(Action::Rules),
        1 => Just(Action::Leave),
        1 => any::<bool>().prop_map(Action::Isolate),
        1 => (0..3_u64).prop_map(Action::Epoch),
        1 => (10..14_u8).prop_map(Action::Roam),
        1 => any::<bool>().prop_map(Action::Cut),
        1 => Just(Action::Restart),
        1 => Just(Action::RestartKeystore),
        1 => Just(Action::RestartLifecycle),
        2 => (48..54_u32, any::<bool>()).prop_map(|(op, refuse)| Action::Trouble(op, refuse)),
        4 => (1..4000_u64).prop_map(Action::Wait),
        1 => (1..700_u64).prop_map(|seconds| Action::Jump(seconds * SECOND)),
        1 => Just(Action::Wake),
    ]
}

fn act(world: &mut World, action: Action) {
    match action {
        Action::Frame(frame) => world.node.inject(frame),
        Action::Workload(packet) => {
            // A full ring loses it.
            let _ = world.node.workload.send(&packet);
            world.node.notified = true;
        }
        Action::Inside(laptop, packet) if !packet.is_empty() => {
            if laptop {
                world.laptop_sends(&packet)
            } else {
                world.authority_sends(&packet)
            }
        }
        Action::Inside(..) => {}
        Action::Command(operation, counter) => world.command(operation, 0, counter),
        Action::Update(blocks) => world.update(&super::domains::update(&noise(blocks * 1000))),
        Action::Chunk(number) => {
            let chunks = chunks(&super::domains::update(&noise(3000)));
            world.say(&chunks[number % chunks.len()]);
        }
        Action::Rules(bits) => {
            let protocols = [(Protocol::Icmp, 0), (Protocol::Tcp, 80), (Protocol::Udp, 80)];
            let roles = [Role::Authority, Role::Peer];
            let all = protocols.iter().flat_map(|(protocol, port)| {
                roles.iter().map(move |role| rule(Direction::In, *role, *protocol, *port))
            });
            let rules: Vec<Rule> =
                all.enumerate().filter(|(at, _)| bits >> at & 1 == 1).map(|(_, rule)| rule).collect();
            world.configure(&rules);
        }
        Action::Leave => world.node.leave(),
        Action::Isolate(isolated) => world.node.keystore.isolated = isolated,
        Action::Epoch(epoch) => world.node.lifecycle.membership.epoch = epoch,
        Action::Roam(n) => {
            let all = Spot::link_local(n);
            world.authority.spot = all;
            let beat = calls::mesh::Heartbeat { beats: n.into(), served: 0 };
            world.node.heartbeat.publish(&beat);
        }
        Action::Cut(cut) => world.authority.cut = cut,
        Action::Restart => world.node.restart(),
        Action::RestartKeystore => world.node.restart_keystore(),
        Action::RestartLifecycle => world.node.restart_lifecycle(),
        Action::Trouble(op, refuse) => {
            world.node.keystore.trouble = Some((op, if refuse { Trouble::Refuse } else { Trouble::Silent(2) }));
        }
        Action::Wait(ms) => world.run_for(ms),
        Action::Jump(time) => world.now += time,
        Action::Wake => world.node.notified = true,
    }
    world.pump();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Every frame is judged as it leaves. In the end, whatever happened, the node is back in its mesh.
    #[test]
    fn the_node_survives_anything_and_comes_back(actions in prop::collection::vec(actions(), 1..120)) {
        let mut world = World::joined(&[]);
        for action in actions {
            act(&mut world, action);
        }
        world.authority.cut = false;
        world.node.keystore.trouble = None;
        world.node.keystore.isolated = false;
        world.configure(&[]);
        // An authority that moved while the node forgot it notices after 15 s without an answer.
        world.say(&[]);
        world.run_for(40_000);
        world.authority.take();
        let counter = world.node.keystore.counter + 1;
        let command = world.make(wire::command::Operation::Status, 0, counter);
        world.say(command.as_bytes());
        world.run_for(1000);
        let records = world.telemetry();
        prop_assert_eq!(records.last().map(|record| record.counter.get()), Some(counter));
    }

    /// Nobody who is no peer gets a frame, or costs the keystore anything that he could not cost any WireGuard.
    #[test]
    fn hostile_frames_get_no_reply(frames in prop::collection::vec(frames(), 1..60)) {
        let mut world = World::joined(&[]);
        let stranger = Spot::link_local(77);
        world.node.left.clear();
        let asked = world.node.keystore.log.len();
        for frame in frames {
            world.node.inject(frame);
            world.pump();
        }
        prop_assert!(world.node.left.iter().all(|frame| frame[..6] != stranger.mac));
        // To stations nothing but answers to their solicitations.
        for frame in &world.node.left {
            prop_assert!(!matches!(packets::read(frame).2, packets::Outer::Datagram(..)));
        }
        prop_assert_eq!(world.node.keystore.log.len(), asked);
    }
}

#[test]
fn the_memory_is_fixed() {
    // What the shell lends once, and what stands on its stack.
    assert!(size_of::<crate::Memory>() < 400 * 1024, "{}", size_of::<crate::Memory>());
    assert!(size_of::<crate::Mesh<'_>>() < 2048, "{}", size_of::<crate::Mesh<'_>>());
}
