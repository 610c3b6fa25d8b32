//! What an authority may do alone with an owned node; and what ends the claim.

use calls::keystore::{AnchorKind, for_lifecycle::Settle, for_mesh::CheckCommand};
use wire::command;

use super::{disk::Fault, mesh::owned, *};

/// The key of an authority's commands, as the authority has it.
pub fn key_of(authority: &AnchorSecret, title: &Title, rig: &Rig) -> Secret {
    command::key(&authority.dh, &Keys::derive(&rig.root).public.claim, title).unwrap()
}

/// A node that is bound to three authorities of which so many sign.
pub fn of_three(needed: u8) -> (Rig, Title, [AnchorSecret; 3]) {
    let authorities = [1, 2, 3].map(|byte| AnchorSecret::from_seed(&[byte; 32]));
    let mut rig = Rig::new(Board::anchored());
    let mut title = unsigned(&rig.identify().unwrap(), 10);
    title.set = AuthoritySet::new(needed, &[0, 1, 2].map(|at| place_of(&authorities[at]))).unwrap();
    let title = title.sign(&admin());
    rig.commit(&title).unwrap();
    rig.guard_command_keys(&title);
    (rig, title, authorities)
}

#[test]
fn a_command_counts_once_and_is_committed_first() {
    let (mut rig, title) = owned(Board::anchored());
    let key = key_of(&authority(), &title, &rig);
    let make =
        |operation: u8, argument, counter| Command::new(&key, &title.warrant.fiduciary, operation, argument, counter);
    let mut counter = 0u32;
    for op in [command::Operation::Status as u8, 4, 5, 0, 77, 255] {
        // What is stored ahead of the last one is gone.
        counter = counter.next_multiple_of(64) + 3;
        let command = make(op, 0xdead_beef, counter);
        // Not stored, not answered; and not counted.
        for _ in 0..2 {
            rig.disk.fail(Fault::Refused);
            assert_eq!(rig.command(&command), Err(Refusal::Store));
        }
        let reply = CommandReply { operation: op.into(), argument: 0xdead_beef, counter, authority: 0 };
        assert_eq!(rig.command(&command), Ok(reply));
        assert_eq!(rig.command(&command), Err(Refusal::Stale));
        for old in [0, 1, counter - 1, counter] {
            assert_eq!(rig.command(&make(command::Operation::Isolate.into(), 0, old)), Err(Refusal::Stale));
        }
        rig.power_cycle();
        assert_eq!(rig.command(&command), Err(Refusal::Stale));
        assert_eq!(rig.status().isolated, 0);
    }
    assert!(rig.command(&make(command::Operation::Status.into(), 0, u32::MAX)).is_ok());
    assert_eq!(rig.command(&make(command::Operation::Status.into(), 0, u32::MAX)), Err(Refusal::Stale));
}

#[test]
fn isolation_is_committed_and_lifecycle_hears_of_it() {
    let (mut rig, title) = owned(Board::anchored());
    let key = key_of(&authority(), &title, &rig);
    let before = rig.status();
    let mut counter = 0;
    // Operation 3 is none: one authority alone ends no isolation. What isolated the node first is what is to be ended.
    for (operation, isolation, news) in [
        (3, None, false),
        (command::Operation::Isolate as u8, Some(130), true),
        (command::Operation::Isolate as u8, Some(130), false),
        (command::Operation::Status as u8, Some(130), false),
        (99, Some(130), false),
        (3, Some(130), false),
    ] {
        counter += 65;
        rig.lifecycle.nudged();
        rig.command(&Command::new(&key, &title.warrant.fiduciary, operation, 0, counter)).unwrap();
        assert_eq!(rig.lifecycle.nudged(), news);
        let (isolated, isolation) = (isolation.is_some().into(), [0, isolation.unwrap_or(0)]);
        assert_eq!(rig.status(), StatusReply { isolated, isolation, ..before });
        rig.power_cycle();
        assert_eq!(rig.status(), StatusReply { isolated, isolation, ..before });
    }
}

#[test]
fn a_command_of_anyone_else_or_with_any_bit_changed_is_refused() {
    let (mut rig, title) = owned(Board::anchored());
    let key = key_of(&authority(), &title, &rig);
    let mut other = title;
    other.binding.counter = U64::new(11);
    let claim_public = Keys::derive(&rig.root).public.claim;
    let writes = rig.disk.writes();
    let forgers = [
        key_of(&stranger(), &title, &rig),
        // The administrator of the claim is no authority by that.
        key_of(&admin(), &title, &rig),
        // Of another binding of this node.
        key_of(&authority(), &other, &rig),
        Secret::new([0; 32]),
        crypto::dh(&authority().dh, &claim_public).unwrap(),
    ];
    for key in forgers {
        let command = Command::new(&key, &title.warrant.fiduciary, command::Operation::Isolate, 0, 5);
        assert_eq!(rig.command(&command), Err(Refusal::Forged));
    }
    let good = Command::new(&key, &title.warrant.fiduciary, command::Operation::Isolate, 7, 5);
    for bit in 0..size_of::<Command>() * 8 {
        let mut changed = good;
        changed.as_mut_bytes()[bit / 8] ^= 1 << (bit % 8);
        let refusal = if bit / 8 == 1 { Refusal::NotMine } else { Refusal::Forged };
        assert_eq!(rig.command(&changed), Err(refusal), "bit {bit}");
    }
    // Properly made, for another node of the fleet.
    let mut strayed = Command { target: good.target ^ 1, ..good };
    let mac = crypto::mac16(&key, &[&strayed.as_bytes()[..10]]);
    strayed.mac.copy_from_slice(&mac[..6]);
    assert!(strayed.check(&key));
    assert_eq!(rig.command(&strayed), Err(Refusal::NotMine));
    assert_eq!((rig.disk.writes(), rig.status().isolated), (writes, 0));
    assert!(rig.command(&good).is_ok());
}

#[test]
fn each_authority_commands_by_a_counter_of_its_own() {
    let (mut rig, title, authorities) = of_three(2);
    let make = |rig: &Rig, place: usize, operation, counter| {
        Command::new(&key_of(&authorities[place], &title, rig), &title.warrant.fiduciary, operation, 0, counter)
    };
    // Whatever each has used up, even all there is, is its own. In any order, and over a power cut.
    for (place, counter) in [(1, 7), (0, 3), (1, 65), (2, u32::MAX), (0, 66), (1, u32::MAX), (0, 130)] {
        let command = make(&rig, place, command::Operation::Status, counter);
        let reply = rig.command(&command).unwrap();
        assert_eq!((reply.authority as usize, reply.counter), (place, counter));
        for old in [counter, counter - 1, 0] {
            let again = make(&rig, place, command::Operation::Isolate, old);
            assert_eq!(rig.command(&again), Err(Refusal::Stale), "{place}, {old} after {counter}");
        }
        rig.power_cycle();
        assert_eq!(rig.command(&command), Err(Refusal::Stale));
    }
}

#[test]
fn a_set_with_one_key_at_two_places_or_a_useless_one_is_not_committed() {
    let mut rig = Rig::new(Board::anchored());
    let (own, other) = (place_of(&authority()), place_of(&stranger()));
    for second in [
        own,
        Authority { sign: own.sign, ..other },
        Authority { dh: own.dh, ..other },
        Authority { sign: [0; 32], ..other },
        Authority { dh: [0; 32], ..other },
        Authority { mesh: own.dh, inner: [0xfd; 16], ..other },
        Authority { mesh: other.dh, inner: [0xfd; 16], ..other },
        Authority { inner: [0xfd; 16], ..other },
    ] {
        let mut title = unsigned(&rig.identify().unwrap(), 10);
        (title.set.needed, title.set.count, title.set.authorities[1]) = (2, 2, second);
        assert_eq!(rig.commit(&title.sign(&admin())).err(), Some(Refusal::Forged));
        assert_eq!(rig.status().ownership, Ownership::Unclaimed as u8);
    }
    let mut title = unsigned(&rig.identify().unwrap(), 10);
    (title.set.needed, title.set.count, title.set.authorities[1]) = (2, 2, other);
    assert!(rig.commit(&title.sign(&admin())).is_ok());
}

#[test]
fn the_keys_of_empty_places_command_nothing() {
    let mut rig = Rig::new(Board::anchored());
    let title = unsigned(&rig.identify().unwrap(), 10).sign(&admin());
    rig.commit(&title).unwrap();
    // The key that an all-zero result would give, and none at all.
    let zero = crypto::derive(&title.binding.hash(), &[0; 32], label::COMMAND_KEY, &[]);
    for key in [zero, Secret::new([0; 32])] {
        let command = Command::new(&key, &title.warrant.fiduciary, command::Operation::Isolate, 0, 5);
        assert_eq!(rig.command(&command), Err(Refusal::Forged));
    }
}

#[test]
fn the_first_handshake_of_the_authority_ends_the_claim_as_the_acknowledgement_does() {
    for (board, anchor) in
        [(Board::anchored(), admin()), (Board::ticket(), AnchorSecret::from_seed(&ticket_seed(&Board::ticket())))]
    {
        let mut rig = Rig::new(board);
        assert_eq!(rig.settle(), Err(Refusal::NotReady));
        let title = bind(&rig.identify().unwrap(), &anchor, 10);
        let record = rig.commit(&title).unwrap();
        let before = rig.status();
        for _ in 0..2 {
            rig.disk.fail(Fault::Refused);
            assert_eq!(rig.settle(), Err(Refusal::Store));
            assert_eq!(rig.status(), before);
        }
        rig.lifecycle.nudged();
        assert_eq!(rig.settle(), Ok(()));
        assert!(rig.lifecycle.nudged());
        assert!(rig.shown_ticket().is_none());
        for _ in 0..2 {
            let writes = rig.disk.writes();
            let status = rig.status();
            assert_eq!(
                (status.ownership, status.anchor, status.ticket_waiting),
                (Ownership::Claimed as u8, AnchorKind::None as u8, 0)
            );
            // Both once more, and nothing of the claim.
            assert_eq!(rig.settle(), Ok(()));
            assert_eq!(rig.acknowledge(&record.hash()), Ok(()));
            assert_eq!(rig.commit(&title).err(), Some(Refusal::Taken));
            assert_eq!(rig.find(99), Err(Refusal::Taken));
            assert_eq!(rig.disk.writes(), writes);
            rig.power_cycle();
            assert!(rig.shown_ticket().is_none());
        }
    }
}

/// What the node shows and keeps of an action before and after it.
type Case = (fn(&mut Rig, &Title), fn(&mut Rig) -> bool, fn(&mut Rig, &Title));

#[test]
fn the_power_may_go_in_the_middle_of_any_commit() {
    fn isolate(rig: &Rig, title: &Title) -> Command {
        Command::new(&key_of(&authority(), title, rig), &title.warrant.fiduciary, command::Operation::Isolate, 0, 5)
    }
    let cases: [Case; 2] = [
        (
            |rig, title| rig.mesh.call::<CheckCommand>(&isolate(rig, title), 0, Patience::ENDLESS),
            |rig| rig.status().isolated == 1,
            |rig, title| {
                // Counters are stored ahead.
                assert_eq!(rig.command(&isolate(rig, title)).map(|_| ()), Err(Refusal::Stale));
                let key = key_of(&authority(), title, rig);
                let isolate = Command::new(&key, &title.warrant.fiduciary, command::Operation::Isolate, 0, 65);
                assert_eq!(rig.command(&isolate).map(|_| ()), Ok(()));
            },
        ),
        (
            |rig, _| rig.lifecycle.call::<Settle>(&(), 0, Patience::ENDLESS),
            |rig| rig.status().ownership == Ownership::Claimed as u8,
            |rig, _| assert_eq!(rig.settle(), Ok(())),
        ),
    ];
    for (ask, done, again) in cases {
        for written in [false, true] {
            let (mut rig, title) = owned(Board::anchored());
            // Of an isolation the counter is committed first: that is an old state too.
            let key = key_of(&authority(), &title, &rig);
            rig.command(&Command::new(&key, &title.warrant.fiduciary, command::Operation::Status, 0, 4)).unwrap();
            assert!(!done(&mut rig));
            rig.disk.fail(if written { Fault::LateCut } else { Fault::Cut });
            ask(&mut rig, &title);
            rig.run();
            assert!(rig.outcome::<Settle>(Channel::Lifecycle).is_none());
            assert!(rig.outcome::<CheckCommand>(Channel::Mesh).is_none());
            rig.power_cycle();
            // All of it or nothing; and the one who asked can ask again.
            assert_eq!(done(&mut rig), written);
            assert_eq!(rig.status().epoch, 1);
            again(&mut rig, &title);
            assert!(done(&mut rig));
            rig.power_cycle();
            assert!(done(&mut rig));
        }
    }
}

#[test]
fn a_settled_ticket_is_erased_even_over_a_power_cut() {
    let secret = ticket_seed(&Board::ticket());
    for cut_after in 1..=3 {
        let mut rig = Rig::new(Board::ticket());
        let title = bind(&rig.identify().unwrap(), &AnchorSecret::from_seed(&secret), 1);
        rig.commit(&title).unwrap();
        let before = rig.disk.writes();
        rig.lifecycle.call::<Settle>(&(), 0, Patience::ENDLESS);
        rig.run_to_write(before + cut_after);
        rig.power_cycle();
        assert_eq!(rig.status().ownership, Ownership::Claimed as u8);
        boot::assert_no_ticket_is_left(&rig);
    }
}
