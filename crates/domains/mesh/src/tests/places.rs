//! What one authority can use up or block is its own; what comes of anyone else is an authority record, or nothing.

use std::{vec, vec::Vec};

use calls::keystore::for_mesh::CheckCommand;
use crypto::Secret;
use policy::Role;
use proptest::prelude::*;
use shm::mailbox::Operation as _;
use wire::{
    COMMAND_PORT, Key,
    command::{Command, Operation},
    order::Order,
    record::AuthorityRecord,
    set::MAX_AUTHORITIES,
    staged::{self, CHUNK, ChunkHead},
    telemetry::{CommandResult, Reason},
};
use zerocopy::{FromZeros, IntoBytes};

use super::{
    domains::{Trouble, update},
    packets::{self, V4},
    world::*,
};
use crate::command::{BURST, Commands};

/// The one who is up to no good: the laptop's key is the second authority's.
fn malicious() -> Secret {
    Secret::new([0xd; 32])
}

/// Two authorities, of whom the second is the laptop.
fn two() -> World {
    let mut world = World::joined(&[]);
    world.node.keystore.second = Some((malicious(), 0));
    let mut configuration = world.configuration(NODE, &[]);
    configuration.peers.iter_mut().find(|peer| peer.key == world.laptop.key).unwrap().role = Role::Authority;
    world.node.join(&configuration);
    laptop_says(&mut world, &[]);
    world.run_for(100);
    world.telemetry();
    world
}

fn laptop_says(world: &mut World, payload: &[u8]) {
    world.laptop_sends(&packets::udp(V4(LAPTOP), V4(NODE), (40000, COMMAND_PORT), payload));
}

fn laptop_commands(world: &mut World, operation: Operation, argument: u32, counter: u32) {
    let command = Command::new(&malicious(), &world.node.keystore.fiduciary, operation, argument, counter);
    laptop_says(world, command.as_bytes());
}

/// Keys in the mesh, from the first place of the set on.
fn seats(keys: &[u8]) -> [Option<Key>; MAX_AUTHORITIES] {
    core::array::from_fn(|place| keys.get(place).map(|key| [*key; 32]))
}

fn short(staged: &[u8]) -> u32 {
    staged::parse(staged).unwrap().short()
}

/// Chunks that begin something else, or the same with other bytes.
fn junk(staged: &[u8]) -> Vec<Vec<u8>> {
    let same = chunks(staged).into_iter().map(|mut chunk| {
        chunk[24..].fill(0x5a);
        chunk
    });
    let other = chunks(staged).into_iter().map(|mut chunk| {
        chunk[0] ^= 1;
        chunk
    });
    same.chain(other).collect()
}

fn record() -> Vec<u8> {
    AuthorityRecord::new(&[1; 32], 7, &[2; 32], &FromZeros::new_zeroed()).as_bytes().to_vec()
}

/// What the authority's last command came to.
fn last(world: &mut World) -> (u32, Option<CommandResult>) {
    world.run_for(50);
    let record = *world.telemetry().last().unwrap();
    (record.counter.get(), record.result())
}

#[test]
fn junk_of_one_authority_does_not_spoil_what_another_has_staged() {
    for staged in [update(&noise(2500)), record()] {
        let mut world = two();
        world.node.lifecycle.result = CommandResult::Refused;
        for good in chunks(&staged) {
            world.say(&good);
            for bad in junk(&staged) {
                laptop_says(&mut world, &bad);
            }
        }
        // Neither by applying what is not there.
        laptop_commands(&mut world, Operation::Apply, short(&staged), 6);
        assert_eq!(last(&mut world), (6, Some(CommandResult::NotStaged)));
        world.command(Operation::Apply, short(&staged), 1);
        assert_eq!(last(&mut world), (1, Some(CommandResult::Refused)));
        assert_eq!(world.node.lifecycle.applied(), [staged]);
        // With one counter they have two results.
        for (second, whose) in [(true, 1), (false, 0)] {
            match second {
                true => laptop_commands(&mut world, Operation::Status, 0, 7),
                false => world.command(Operation::Status, 0, 7),
            }
            world.run_for(50);
            let record = *world.telemetry().last().unwrap();
            assert_eq!((record.counter.get(), record.authority), (7, whose));
        }
    }
}

#[test]
fn what_one_authority_has_staged_is_not_anothers_to_apply() {
    let mut world = two();
    let staged = update(&noise(2500));
    for chunk in chunks(&staged) {
        laptop_says(&mut world, &chunk);
    }
    world.command(Operation::Apply, short(&staged), 1);
    assert_eq!(last(&mut world), (1, Some(CommandResult::NotStaged)));
    world.node.lifecycle.result = CommandResult::Refused;
    laptop_commands(&mut world, Operation::Apply, short(&staged), 1);
    assert_eq!(last(&mut world), (1, Some(CommandResult::Refused)));
}

#[test]
fn an_apply_that_is_slow_holds_nobody_else_s_chunks_up() {
    let mut world = two();
    let staged = update(&noise(2500));
    for chunk in chunks(&staged) {
        laptop_says(&mut world, &chunk);
    }
    world.node.lifecycle.result = CommandResult::Refused;
    world.node.lifecycle.trouble = Some((calls::lifecycle::for_mesh::Apply::OP, Trouble::Silent(1)));
    laptop_commands(&mut world, Operation::Apply, short(&staged), 1);
    world.update(&staged);
    world.command(Operation::Apply, short(&staged), 1);
    for chunk in junk(&staged) {
        laptop_says(&mut world, &chunk);
    }
    world.run_for(6000);
    // Its own stayed as it was while it was being applied, and so did the other's.
    assert_eq!(world.node.lifecycle.applied(), [staged.clone(), staged]);
}

#[test]
fn commands_of_one_authority_do_not_take_anothers_place_or_turn() {
    let mut world = two();
    world.node.keystore.trouble = Some((CheckCommand::OP, Trouble::Silent(1)));
    for counter in 1..40 {
        laptop_commands(&mut world, Operation::Status, 0, counter);
    }
    world.command(Operation::Isolate, 0, 5);
    world.node.keystore.log.clear();
    world.run_for(2100);
    let asked = world.node.keystore.asked(CheckCommand::OP);
    assert!(world.node.keystore.isolated && asked >= 2, "{asked}");
    assert_eq!(world.node.keystore.counter, 5);
    // It was the first after the one that the keystore did not answer.
    let first = world.telemetry().into_iter().find(|record| record.counter.get() != 0).unwrap();
    assert_eq!(first.operation(), Some(Operation::Isolate));
}

#[test]
fn a_flood_costs_the_keystore_a_question_a_second_and_what_is_right_of_it_is_obeyed_in_time() {
    let mut world = two();
    world.node.keystore.log.clear();
    for counter in 1..=60 {
        laptop_commands(&mut world, Operation::Status, 0, counter);
        world.run_for(100);
    }
    let asked = world.node.keystore.asked(CheckCommand::OP) as u64;
    assert!((BURST + 4..=BURST + 7).contains(&asked), "{asked}");
    let before = world.node.keystore.log.len();
    // Forged ones cost no more.
    for counter in 0..60 {
        laptop_says(&mut world, Command::new(&Secret::new([9; 32]), &[1; 32], 1, 0, counter).as_bytes());
        world.run_for(100);
    }
    let forged = world.node.keystore.log[before..].iter().filter(|op| **op == CheckCommand::OP).count();
    assert!((4..=8).contains(&forged), "{forged}");
    world.telemetry();
    // Meanwhile nobody else has spent anything.
    for counter in 1..=BURST as u32 {
        world.command(Operation::Status, 0, counter);
        assert_eq!(last(&mut world), (counter, Some(CommandResult::Done)));
    }
    // Who has spent it waits, and is heard.
    world.command(Operation::Status, 0, 100);
    world.run_for(50);
    assert!(world.telemetry().is_empty());
    world.run_for(1000);
    assert_eq!(last(&mut world).0, 100);
}

#[test]
fn chunks_of_a_record_are_taken_from_any_peer_and_nothing_else_is() {
    let mut world = World::joined(&[]);
    world.acquaint();
    world.telemetry();
    let record = record();
    let order = update(&noise(size_of::<AuthorityRecord>() - size_of::<Order>()));
    assert_eq!(order.len(), record.len());
    for staged in [&order, &update(&noise(700)), &record] {
        for chunk in chunks(staged) {
            laptop_says(&mut world, &chunk);
        }
    }
    let dropped = world.now_telemetry().dropped(Reason::Command);
    assert_eq!(dropped, 3, "an order's first chunk, and all of another length");
    world.command(Operation::Apply, short(&order), 1);
    assert_eq!(last(&mut world), (1, Some(CommandResult::NotStaged)));
    world.command(Operation::Apply, short(&record), 2);
    assert_eq!(last(&mut world), (2, Some(CommandResult::Done)));
    assert_eq!(world.node.lifecycle.applied(), std::slice::from_ref(&record));
    // Whoever shares that place may spoil it, but not what an authority has brought itself.
    world.update(&record);
    for bad in junk(&record) {
        laptop_says(&mut world, &bad);
    }
    world.command(Operation::Apply, short(&record), 3);
    assert_eq!(last(&mut world), (3, Some(CommandResult::Done)));
    // Commands are no record.
    let asked = world.node.keystore.asked(CheckCommand::OP);
    let command = world.make(Operation::Isolate, 0, 9);
    laptop_says(&mut world, command.as_bytes());
    world.run_for(100);
    assert_eq!(world.node.keystore.asked(CheckCommand::OP), asked);
    // While the node is isolated it has to do with its authorities alone.
    world.command(Operation::Isolate, 0, 10);
    world.run_for(50);
    for chunk in chunks(&record) {
        laptop_says(&mut world, &chunk);
    }
    world.command(Operation::Apply, short(&record), 11);
    assert_eq!(last(&mut world), (11, Some(CommandResult::NotStaged)));
}

#[test]
fn another_authority_at_a_place_finds_nothing_of_the_one_before() {
    let mut commands = Commands::new();
    let keys = |second: u8| seats(&[1, second]);
    commands.set_authorities(keys(2));
    let staged = update(&noise(100));
    let stage = |commands: &mut Commands, place| chunks(&staged).iter().for_each(|chunk| commands.take(place, chunk));
    let command = Command::new(&malicious(), &[1; 32], 1, 0, 1);
    let waits = Command::new(&malicious(), &[1; 32], 1, 0, 2);
    for place in [0, 1] {
        stage(&mut commands, Some(place));
        commands.take(Some(place), waits.as_bytes());
    }
    // The same again changes nothing.
    commands.set_authorities(keys(2));
    commands.set_authorities(keys(3));
    assert_eq!(commands.next(0), Some(waits));
    assert_eq!((commands.accept(), commands.next(0)), (Some(0), None));
    assert!(!commands.staging.lock(1, short(&staged)) && commands.staging.lock(0, short(&staged)));
    // What is being applied stays until that is over, and an answer about one who is gone is nobody's.
    commands.take(Some(0), command.as_bytes());
    assert_eq!(commands.next(0), Some(command));
    commands.set_authorities(seats(&[5]));
    assert_eq!(commands.accept(), None);
    assert_eq!(commands.staging.locked(), Some(&staged[..]));
    commands.staging.unlock(true);
    assert!(!commands.staging.lock(0, short(&staged)));
}

#[test]
fn what_one_authority_has_used_up_is_not_anothers() {
    let make = |key, counter| Command::new(&Secret::new([key; 32]), &[1; 32], 1, 0, counter);
    let mut commands = Commands::new();
    for (authority, counter) in [(0, u32::MAX), (1, 5), (0, 3), (1, 6)] {
        let command = make(authority as u8, counter);
        commands.take(Some(authority), command.as_bytes());
        assert_eq!(commands.next(0), Some(command), "{authority}, {counter}");
        // The same again goes no further, before it is answered and after.
        commands.take(Some(authority), command.as_bytes());
        assert_eq!(commands.accept(), Some(authority));
        commands.take(Some(authority), command.as_bytes());
        assert_eq!(commands.next(0), None);
    }
    assert_eq!(commands.dropped, 8);
}

#[derive(Debug, Clone)]
enum Malice {
    /// A chunk of another, so many places after the honest one, or of nobody: with the right short hash or another, of this number, of the right length or another.
    Chunk(Option<usize>, bool, u8, bool),
    /// A chunk of what the other stages, as it is.
    Same(Option<usize>, usize),
    Command(usize, u32),
    Check,
    Apply(usize),
}

fn malice() -> impl Strategy<Value = Malice> {
    let whose = || prop_oneof![4 => (1..MAX_AUTHORITIES).prop_map(Some), 1 => Just(None)];
    prop_oneof![
        4 => (whose(), any::<bool>(), 0..4_u8, any::<bool>()).prop_map(|(a, b, c, d)| Malice::Chunk(a, b, c, d)),
        2 => (whose(), 0..4_usize).prop_map(|(whose, part)| Malice::Same(whose, part)),
        3 => (1..MAX_AUTHORITIES, any::<u32>()).prop_map(|(whose, counter)| Malice::Command(whose, counter)),
        1 => Just(Malice::Check),
        1 => (1..MAX_AUTHORITIES).prop_map(Malice::Apply),
    ]
}

proptest! {
    /// However the junk of six authorities and of others is mixed into what the seventh says, it is heard in its turn and its
    /// order is whole.
    #[test]
    fn however_junk_is_mixed_into_it_an_order_is_whole_and_heard(
        between in prop::collection::vec(prop::collection::vec(malice(), 0..30), 5),
        body in prop::collection::vec(any::<u8>(), 2200..2400),
        is_record: bool,
        honest in 0..MAX_AUTHORITIES,
        now in any::<u32>(),
    ) {
        let now = u64::from(now);
        let other = |after: usize| (honest + after) % MAX_AUTHORITIES;
        let staged = if is_record { record() } else { update(&body) };
        let parts = chunks(&staged);
        let mut commands = Commands::new();
        commands.set_authorities(seats(&[1, 2, 3, 4, 5, 6, 7]));
        let apply = Command::new(&malicious(), &[1; 32], Operation::Apply, short(&staged), 7);
        let mut asked = 0;
        for (at, steps) in between.into_iter().enumerate() {
            match at {
                0..4 => parts.get(at).into_iter().for_each(|part| commands.take(Some(honest), part)),
                _ => commands.take(Some(honest), apply.as_bytes()),
            }
            for step in steps {
                match step {
                    Malice::Chunk(whose, same_short, number, same_length) => {
                        let length = staged.len() + usize::from(!same_length);
                        let head = ChunkHead {
                            short: (short(&staged) ^ u32::from(!same_short)).into(),
                            length: (length as u16).into(),
                            number,
                            zero: [0; 17],
                        };
                        let part = CHUNK.min(length.saturating_sub(usize::from(number) * CHUNK));
                        commands.take(whose.map(other), &[head.as_bytes(), &vec![0x5a; part]].concat());
                    }
                    Malice::Same(whose, part) => parts.get(part).into_iter().for_each(|part| commands.take(whose.map(other), part)),
                    Malice::Command(whose, counter) => {
                        let command = Command::new(&malicious(), &[1; 32], Operation::Apply, counter, counter);
                        prop_assume!(command != apply);
                        commands.take(Some(other(whose)), command.as_bytes());
                    }
                    // The keystore answers at some time or other, if it is not the one that is waited for.
                    Malice::Check if at < 4 => {
                        asked += usize::from(commands.next(now).is_some());
                        commands.accept();
                    }
                    Malice::Check => {}
                    Malice::Apply(whose) => {
                        commands.staging.lock(other(whose), short(&staged));
                        commands.staging.unlock(false);
                    }
                }
            }
        }
        // One of each of the others may come before it.
        let turn = (0..MAX_AUTHORITIES).position(|_| commands.next(now) == Some(apply));
        prop_assert!(turn.is_some());
        prop_assert_eq!(commands.accept(), Some(honest));
        prop_assert!(commands.staging.lock(honest, short(&staged)));
        prop_assert_eq!(commands.staging.locked(), Some(&staged[..]));
        prop_assert!(asked as u64 <= BURST * 6);
    }
}
