//! Commands and updates: obeyed once, from the authority, and never answered.

use std::vec::Vec;

use calls::{
    keystore::for_mesh::{CheckCommand, MeshRandom, StartMeshHandshake},
    lifecycle::for_mesh::Apply,
};
use crypto::Secret;
use policy::{Direction, Protocol, Role};
use shm::mailbox::Operation as _;
use wire::{
    COMMAND_PORT, TELEMETRY_PORT,
    command::{Command, Operation},
    order::{Isolation, Kind, Release},
    receipt::{self, Receipt},
    record::AuthorityRecord,
    telemetry::{CommandResult, Reason},
};
use zerocopy::IntoBytes;

use super::{
    domains::{Trouble, order, update},
    packets::{self, V4, V6},
    world::*,
};

/// The counter, operation and result of each record that came.
fn results(world: &mut World) -> Vec<(u32, Option<Operation>, CommandResult)> {
    world.run_for(50);
    let records = world.telemetry().into_iter();
    records.map(|record| (record.counter.get(), record.operation(), record.result().unwrap())).collect()
}

fn quiet() -> World {
    let mut world = World::joined(&[]);
    world.telemetry();
    world
}

/// A configuration that is not the one in force.
fn another(world: &World, n: u16) -> Vec<u8> {
    let rules = (0..n).map(|port| rule(Direction::In, Role::Peer, Protocol::Tcp, 1000 + port)).collect::<Vec<_>>();
    let mut bytes = [0; 4096];
    world.configuration(NODE, &rules).write(&mut bytes).unwrap().to_vec()
}

#[test]
fn a_command_is_obeyed_and_shows_in_the_next_record() {
    let mut world = quiet();
    for (counter, operation) in [(5, Operation::Status), (6, Operation::Rotate), (9, Operation::Status)] {
        world.command(operation, 0, counter);
        assert_eq!(results(&mut world), [(counter, Some(operation), CommandResult::Done)]);
    }
    world.command(77u8, 0, 10);
    assert_eq!(results(&mut world), [(10, None, CommandResult::Unknown)]);
    world.command(Operation::Apply, 0, 11);
    assert_eq!(results(&mut world), [(11, Some(Operation::Apply), CommandResult::NotStaged)]);
}

#[test]
fn a_repeated_command_costs_the_keystore_nothing() {
    let mut world = quiet();
    let asked = |world: &World| world.node.keystore.asked(CheckCommand::OP);
    world.command(Operation::Status, 0, 5);
    world.run_for(50);
    assert_eq!(asked(&world), 1);
    for _ in 0..2 {
        world.command(Operation::Status, 0, 5);
    }
    assert_eq!(asked(&world), 1);
    assert_eq!(results(&mut world).len(), 1);
    // An older one may be another authority's: the keystore knows.
    for counter in [4, 0] {
        world.command(Operation::Status, 0, counter);
        world.run_for(50);
    }
    assert_eq!((asked(&world), results(&mut world).len()), (3, 0));
    assert_eq!(world.now_telemetry().dropped(Reason::Command), 4);
    // The same one many times before the keystore has answered.
    world.node.keystore.trouble = Some((CheckCommand::OP, Trouble::Silent(1)));
    for _ in 0..20 {
        world.command(Operation::Status, 0, 6);
    }
    // Neither they nor the one before take another's place.
    for counter in [5, 5, 5, 5, 7, 8, 9] {
        world.command(Operation::Status, 0, counter);
    }
    world.run_for(3000);
    assert_eq!(world.telemetry().last().unwrap().counter.get(), 9);
    assert!(asked(&world) <= 8);
}

#[test]
fn what_is_forged_foreign_or_malformed_is_met_with_silence_and_counted() {
    let mut world = quiet();
    let good = world.make(Operation::Isolate, 0, 5);
    let mut count = 0;
    let mut payloads: Vec<Vec<u8>> = Vec::new();
    for at in 0..16 {
        let mut forged = good;
        forged.as_mut_bytes()[at] ^= 1;
        payloads.push(forged.as_bytes().to_vec());
    }
    let other_key = Command::new(&Secret::new([9; 32]), &world.node.keystore.fiduciary, Operation::Isolate, 0, 6);
    let other_node = Command::new(&world.node.keystore.command_key, &[7; 32], Operation::Isolate, 0, 7);
    payloads.extend([other_key.as_bytes().to_vec(), other_node.as_bytes().to_vec()]);
    for len in [0, 1, 15, 17, 24, 25, 120, 1000] {
        payloads.push(noise(len));
    }
    let update = update(&another(&world, 3));
    for mut chunk in chunks(&update) {
        chunk[7] = 1;
        payloads.push(chunk);
    }
    let asked = world.node.keystore.asked(CheckCommand::OP);
    for payload in payloads {
        world.say(&payload);
        // The keystore is asked about each command.
        world.run_for(1000);
        count += 1;
    }
    assert_eq!(world.node.keystore.asked(CheckCommand::OP) - asked, 18);
    assert!(results(&mut world).iter().all(|(counter, ..)| *counter == 0));
    assert!(!world.node.keystore.isolated);
    let record = world.now_telemetry();
    assert_eq!(
        (record.dropped(Reason::Command), record.counter.get(), record.result()),
        (count, 0, Some(CommandResult::None))
    );
}

#[test]
fn only_the_authority_is_heard_on_the_port_of_commands() {
    let mut world = World::joined(&[]);
    world.acquaint();
    let asked = world.node.keystore.asked(CheckCommand::OP);
    let command = world.make(Operation::Isolate, 0, 5);
    for (from, to) in [(V4(LAPTOP), V4(NODE)), (V6(LAPTOP), V6(NODE)), (V4(AUTHORITY), V4(NODE))] {
        world.laptop_sends(&packets::udp(from, to, (40000, COMMAND_PORT), command.as_bytes()));
    }
    // The other node's workload cannot even say it.
    world.other_sends(&packets::udp(V4(OTHER), V4(NODE), (40000, COMMAND_PORT), command.as_bytes()));
    // Neither by another port, nor by TCP, nor outside the tunnel.
    world.authority_sends(&packets::udp(V4(AUTHORITY), V4(NODE), (COMMAND_PORT, 8091), command.as_bytes()));
    world.authority_sends(&packets::syn(V4(AUTHORITY), V4(NODE), (40000, COMMAND_PORT)));
    let outside = packets::datagram(world.authority.spot, world.node.spot, (8090, 8090), command.as_bytes());
    world.node.inject(outside);
    world.run_for(100);
    assert_eq!(world.node.keystore.asked(CheckCommand::OP), asked);
    assert!(world.node.heard().is_empty());
    // By either family it is.
    world.authority_sends(&packets::udp(V6(AUTHORITY), V6(NODE), (40000, COMMAND_PORT), command.as_bytes()));
    world.run_for(50);
    assert!(world.node.keystore.isolated);
}

#[test]
fn nothing_answers_a_command() {
    let mut world = quiet();
    for (counter, operation) in (1..).zip([1u8, 2, 3, 5, 200]) {
        world.command(operation, 0, counter);
    }
    world.run_for(100);
    for packet in world.authority.take() {
        let (ports, _) = packets::read_udp(&packet).unwrap();
        assert_eq!(ports, (8091, 8091));
    }
}

#[test]
fn rotating_makes_new_sessions() {
    let mut world = quiet();
    let before = world.node.keystore.asked(StartMeshHandshake::OP);
    world.command(Operation::Rotate, 0, 1);
    assert_eq!(results(&mut world), [(1, Some(Operation::Rotate), CommandResult::Done)]);
    assert!(world.node.keystore.asked(StartMeshHandshake::OP) > before);
    // With the authority once more, and with the other node, whose place is known.
    assert_eq!(world.now_telemetry().handshakes.get(), 3);
}

#[test]
fn a_handshake_and_a_command_take_turns_at_the_keystore() {
    let mut world = quiet();
    world.node.keystore.log.clear();
    // Both come in one step; the first makes handshakes with the authority and the other node wanted.
    for (counter, operation) in [(1, Operation::Rotate), (2, Operation::Status)] {
        let command = world.make(operation, 0, counter);
        let packet = packets::udp(V4(AUTHORITY), V4(NODE), (40000, COMMAND_PORT), command.as_bytes());
        world.authority.send(world.now, &world.node.key(), &packet);
    }
    world.pump();
    // Each handshake with randomness of its own.
    let (check, random, start) = (CheckCommand::OP, MeshRandom::OP, StartMeshHandshake::OP);
    assert_eq!(world.node.keystore.log[..6], [check, random, start, check, random, start]);
}

#[test]
fn chunks_come_in_any_order_and_more_than_once() {
    for order in [[0, 1, 2, 3], [3, 2, 1, 0], [2, 0, 3, 1]] {
        let mut world = quiet();
        let mut update = update(&another(&world, 60));
        update.resize(4096, 7);
        let head: &mut wire::order::Order = zerocopy::FromBytes::mut_from_prefix(&mut update).unwrap().0;
        head.length.set((4096 - size_of::<wire::order::Order>()) as u32);
        world.node.lifecycle.result = CommandResult::Refused;
        let short = wire::staged::parse(&update).unwrap().short();
        let parts = chunks(&update);
        assert_eq!(parts.len(), 4);
        for (at, number) in order.into_iter().enumerate() {
            world.command(Operation::Apply, short, 1 + at as u32);
            assert_eq!(results(&mut world).last().unwrap().2, CommandResult::NotStaged);
            for _ in 0..2 {
                world.say(&parts[number]);
            }
        }
        world.command(Operation::Apply, short ^ 1, 10);
        assert_eq!(results(&mut world).last().unwrap().2, CommandResult::NotStaged, "another");
        world.command(Operation::Apply, short, 11);
        assert_eq!(results(&mut world), [(11, Some(Operation::Apply), CommandResult::Refused)]);
        assert_eq!(world.node.lifecycle.applied(), [update.clone()]);
        // It stays staged, and may be named again.
        world.command(Operation::Apply, short, 12);
        assert_eq!(results(&mut world).len(), 1);
        assert_eq!(world.node.lifecycle.applied().len(), 2);
    }
}

#[test]
fn two_updates_are_never_put_together() {
    let mut world = quiet();
    world.node.lifecycle.result = CommandResult::Refused;
    let updates = [update(&noise(2000)), update(&noise(2001)[1..])];
    let shorts = updates.clone().map(|update| wire::staged::parse(&update).unwrap().short());
    let [one, two] = updates.clone().map(|update| chunks(&update));
    assert!(one.len() > 1 && one.len() == two.len());
    for (a, b) in one.iter().zip(&two) {
        world.say(a);
        world.say(b);
    }
    for (counter, short) in (1..).zip(shorts) {
        world.command(Operation::Apply, short, counter);
        assert_eq!(results(&mut world), [(counter, Some(Operation::Apply), CommandResult::NotStaged)]);
    }
    // A chunk that lies about its update spoils it, and no more.
    world.update(&updates[0]);
    let mut liar = two[0].clone();
    liar[..4].copy_from_slice(&shorts[0].to_be_bytes());
    world.say(&liar);
    world.command(Operation::Apply, shorts[0], 3);
    assert_eq!(results(&mut world), [(3, Some(Operation::Apply), CommandResult::NotStaged)]);
    world.update(&updates[0]);
    world.command(Operation::Apply, shorts[0], 4);
    assert_eq!(results(&mut world), [(4, Some(Operation::Apply), CommandResult::Refused)]);
    assert_eq!(world.node.lifecycle.applied(), [updates[0].clone()]);
}

#[test]
fn an_applied_update_is_in_force_when_the_record_says_so() {
    let mut world = quiet();
    let configuration = another(&world, 2);
    let update = update(&configuration);
    let short = wire::staged::parse(&update).unwrap().short();
    world.update(&update);
    world.command(Operation::Apply, short, 1);
    world.run_for(50);
    let record = world.telemetry().pop().unwrap();
    let hash = wire::binding::configuration_hash(&configuration);
    assert_eq!((record.result(), &record.configuration[..]), (Some(CommandResult::Done), &hash[..8]));
    // What was staged is gone.
    world.command(Operation::Apply, short, 2);
    assert_eq!(results(&mut world).last(), Some(&(2, Some(Operation::Apply), CommandResult::NotStaged)));
}

#[test]
fn a_record_is_staged_as_an_order_is_and_telemetry_shows_its_set() {
    let mut world = quiet();
    let record = AuthorityRecord::new(&[1; 32], 7, &[2; 32], &zerocopy::FromZeros::new_zeroed());
    let bytes = record.as_bytes().to_vec();
    let short = wire::staged::parse(&bytes).unwrap().short();
    world.update(&bytes);
    world.node.lifecycle.membership.isolation = [3, 99];
    world.command(Operation::Apply, short, 1);
    world.run_for(50);
    let shown = world.telemetry().pop().unwrap();
    assert_eq!((shown.result(), shown.set.get()), (Some(CommandResult::Done), 7));
    assert_eq!((shown.isolation.authority.get(), shown.isolation.counter.get()), (3, 99));
    assert_eq!(world.node.lifecycle.applied(), [bytes]);
}

#[test]
fn a_receipt_is_sent_three_times_after_its_act_and_once_when_it_is_asked_for() {
    let mut world = quiet();
    let receipt = Receipt::sign(&Secret::new([4; 32]), &[5; 32], receipt::Kind::Record, &[1; 32], 7, &[2; 32]);
    let sent = |world: &mut World, ms| {
        world.run_for(ms);
        let got = world.authority.take();
        let is_it = |packet: &&Vec<u8>| {
            packets::read_udp(packet).is_some_and(|(ports, payload)| {
                ports == (TELEMETRY_PORT, TELEMETRY_PORT) && payload == receipt.as_bytes()
            })
        };
        got.iter().filter(is_it).count()
    };
    world.command(Operation::Status, 1, 1);
    assert_eq!(sent(&mut world, 5000), 0, "there is none");
    world.node.keystore.receipt = Some(receipt);
    world.command(Operation::Status, 0, 2);
    assert_eq!(sent(&mut world, 5000), 0, "nobody asks");
    world.command(Operation::Status, 1, 3);
    assert_eq!(sent(&mut world, 5000), 1);
    let record = AuthorityRecord::new(&[1; 32], 7, &[2; 32], &zerocopy::FromZeros::new_zeroed());
    let staged = [
        (record.as_bytes().to_vec(), 3),
        (order(Kind::Release, Release::to_ticket().as_bytes()), 3),
        (update(&another(&world, 2)), 0),
        (order(Kind::Rejoin, Isolation::default().as_bytes()), 0),
    ];
    for (counter, (bytes, times)) in (4..).zip(staged) {
        let short = wire::staged::parse(&bytes).unwrap().short();
        world.update(&bytes);
        world.command(Operation::Apply, short, counter);
        assert_eq!(sent(&mut world, 500), times.min(1));
        assert_eq!(sent(&mut world, 1000), times.min(1));
        assert_eq!(sent(&mut world, 5000), times.min(1));
        // Not what is refused.
        world.node.lifecycle.result = CommandResult::Refused;
        world.update(&bytes);
        world.command(Operation::Apply, short, counter + 10);
        assert_eq!(sent(&mut world, 5000), 0);
        world.node.lifecycle.result = CommandResult::Done;
        world.node.keystore.counter = counter;
    }
}

#[test]
fn lifecycle_may_be_slow_refuse_or_restart() {
    let staged = || {
        let mut world = quiet();
        let update = update(&another(&world, 2));
        let short = wire::staged::parse(&update).unwrap().short();
        world.update(&update);
        world.telemetry();
        (world, short)
    };
    let (mut world, short) = staged();
    world.node.lifecycle.trouble = Some((Apply::OP, Trouble::Refuse));
    world.command(Operation::Apply, short, 1);
    assert_eq!(results(&mut world), [(1, Some(Operation::Apply), CommandResult::Refused)]);

    let (mut world, short) = staged();
    world.node.lifecycle.trouble = Some((Apply::OP, Trouble::Silent(1)));
    world.command(Operation::Apply, short, 1);
    // Meanwhile commands wait, and chunks change nothing.
    world.command(Operation::Status, 0, 2);
    let other = update(&another(&world, 4));
    world.update(&other);
    world.run_for(4000);
    assert!(world.telemetry().iter().all(|record| record.counter.get() == 0));
    world.node.restart_lifecycle();
    let all = results(&mut world);
    assert_eq!(all.first(), Some(&(1, Some(Operation::Apply), CommandResult::Done)));
    assert_eq!(all.last(), Some(&(2, Some(Operation::Status), CommandResult::Done)));

    let (mut world, short) = staged();
    world.node.lifecycle.trouble = Some((Apply::OP, Trouble::Silent(2)));
    world.command(Operation::Apply, short, 1);
    world.run_for(10_100);
    assert_eq!(world.telemetry().last().unwrap().result(), Some(CommandResult::Store));
    // It may be tried again.
    world.command(Operation::Apply, short, 2);
    assert_eq!(results(&mut world).last(), Some(&(2, Some(Operation::Apply), CommandResult::Done)));
}

#[test]
fn a_command_that_the_keystore_did_not_answer_is_not_asked_again() {
    let mut world = quiet();
    world.node.keystore.trouble = Some((CheckCommand::OP, Trouble::Silent(1)));
    world.command(Operation::Status, 0, 1);
    world.run_for(3000);
    assert_eq!(world.node.keystore.asked(CheckCommand::OP), 1);
    assert!(world.telemetry().is_empty());
    world.command(Operation::Status, 0, 1);
    assert_eq!(results(&mut world), [(1, Some(Operation::Status), CommandResult::Done)]);
}

#[test]
fn more_commands_than_fit_are_dropped() {
    let mut world = quiet();
    world.node.keystore.trouble = Some((CheckCommand::OP, Trouble::Silent(1)));
    for counter in 1..20 {
        world.command(Operation::Status, 0, counter);
    }
    world.run_for(3000);
    let record = world.now_telemetry();
    assert_eq!(record.counter.get(), 5);
    assert_eq!(record.dropped(Reason::Command), 15);
}
