//! Claims as they should go, and as they may go without anyone's fault.

use std::vec;

use calls::{keystore::for_claim as keystore, params::Params};
use shm::mailbox::Operation;
use smoltcp::socket::tcp::State;

use super::{
    admin::{Admin, MESSAGES, Message, claim},
    world::{Left, MS, Told, World},
};

#[test]
fn a_claim_goes_through_and_nothing_else_leaves() {
    let mut world = World::open();
    let mut admin = Admin::connect(&mut world);
    admin.configuration = vec![7; wire::claim::MAX_CONFIGURATION];
    MESSAGES.into_iter().for_each(|message| admin.say(&mut world, message));
    assert_eq!(
        world.told(),
        [Told::Started, Told::Staged(admin.configuration.clone()), Told::Committed, Told::Acknowledged]
    );
    assert!(world.keystore.owned);
    assert_eq!(admin.pairing.unwrap().rivals.get(), 3);
    let left = world.take_left();
    assert_eq!(left[..2], [Left::Advertisement, Left::SynAck]);
    // The upgrade, message 2 and the identity, the pairing record; the last word is the bare acknowledgement.
    let data = left.iter().filter(|left| matches!(left, Left::Data(_))).count();
    assert!(data <= 4, "{left:?}");
    assert_eq!(left.last(), Some(&Left::Ack));
    world.assert_silent();
    assert_eq!(world.armed(), None);
}

#[test]
fn the_last_acknowledgement_leaves_before_lifecycle_closes_the_gate() {
    // The watch on frames asserts an open gate for each; here it is the order that counts.
    let mut world = World::open();
    let mut admin = Admin::connect(&mut world);
    admin.say_until(&mut world, Message::Acknowledgement);
    world.left.clear();
    world.keystore.trouble = Some((keystore::Acknowledge::OP, super::keystore::Trouble::Silent(1)));
    admin.say(&mut world, Message::Acknowledgement);
    assert_eq!(world.take_left(), [Left::Ack]);
    assert_eq!(world.told().last(), Some(&Told::Committed));
    world.run_for(5000);
    assert_eq!(world.told(), [Told::Acknowledged]);
}

#[test]
fn the_last_acknowledgement_is_through_the_perimeter_before_the_claim_is_final() {
    // The keystore's word is enough for lifecycle to close the gate, whatever claim has still to say.
    let mut world = World::open();
    let mut admin = Admin::connect(&mut world);
    admin.say_until(&mut world, Message::Acknowledgement);
    world.late = 5;
    admin.say(&mut world, Message::Acknowledgement);
    assert_eq!(world.late, 0);
    assert!(world.keystore.owned);
}

#[test]
fn a_peer_that_closes_right_after_the_acknowledgement_has_claimed() {
    let mut world = World::open();
    let mut admin = Admin::connect(&mut world);
    admin.say_until(&mut world, Message::Acknowledgement);
    let payload = admin.payload(&world, Message::Acknowledgement);
    world.peer.send(admin.handle, &super::admin::frame(&payload));
    world.peer.finish(admin.handle);
    world.pump();
    assert_eq!(world.told().last(), Some(&Told::Acknowledged));
    world.assert_silent();
}

#[test]
fn a_cut_claim_is_resumed_with_the_same_binding_and_no_other() {
    let mut world = World::open();
    let mut first = Admin::connect(&mut world);
    first.say_until(&mut world, Message::Acknowledgement);
    world.peer.vanish_all();
    world.reopen();
    // Another binding is refused.
    let mut other = Admin::connect(&mut world);
    other.say_until(&mut world, Message::Grant);
    let identity = other.identity.unwrap();
    assert_eq!((identity.committed, identity.nonce), (1, first.title.unwrap().binding.nonce));
    let mut title = first.title.unwrap();
    title.warrant.fleet = [8; 32];
    other.title = Some(title);
    let payload = other.payload(&world, Message::Grant);
    other.send(&mut world, Message::Grant, &payload);
    assert_eq!(world.ended(), Some(calls::lifecycle::Closed::Rejected));
    world.assert_silent();
    // The same brings the same record.
    world.peer.vanish_all();
    world.reopen();
    let mut again = Admin::connect(&mut world);
    again.title = first.title;
    MESSAGES.into_iter().for_each(|message| again.say(&mut world, message));
    assert!(again.pairing.unwrap().record == first.pairing.unwrap().record);
    assert!(world.keystore.owned);
}

#[test]
fn frames_that_come_before_the_keystore_has_answered_are_not_lost() {
    let mut world = World::new();
    world.keystore.trouble = Some((keystore::ClaimRandom::OP, super::keystore::Trouble::Silent(1)));
    world.reopen();
    let mut admin = Admin::connect(&mut world);
    assert_eq!(world.take_left(), []);
    world.run_for(2000);
    assert_eq!(world.peer.state(admin.handle), State::Established);
    MESSAGES.into_iter().for_each(|message| admin.say(&mut world, message));
    assert!(world.keystore.owned);
}

#[test]
fn a_lossy_wire_only_delays() {
    for every in [2, 3, 5] {
        let mut world = World::with(Params { claim_ms: 200_000.into(), ..Params::DEFAULT });
        world.reopen();
        let mut admin = Admin::connect(&mut world);
        for message in MESSAGES {
            let payload = admin.payload(&world, message);
            world.cut = true;
            admin.send(&mut world, message, &payload);
            world.run_for(every);
            world.cut = false;
            for _ in 0..20_000 {
                world.run_for(1);
                if admin.take_answer(&mut world, message) {
                    break;
                }
            }
        }
        assert!(world.keystore.owned);
    }
}

#[test]
fn claims_may_begin_at_any_time_and_again_and_again() {
    let mut world = World::new();
    world.now = u64::MAX / 4;
    for _ in 0..20 {
        world.reopen();
        let mut admin = Admin::connect(&mut world);
        admin.say_until(&mut world, Message::Grant);
        world.peer.vanish_all();
    }
    world.reopen();
    claim(&mut world);
    assert!(world.keystore.owned);
}

#[test]
fn a_node_without_a_gate_does_and_arms_nothing() {
    let mut world = World::new();
    world.run_for(10);
    world.peer.connect();
    world.run_for(5000);
    assert_eq!(world.take_left(), []);
    assert_eq!(world.armed(), None);
    assert_eq!(world.keystore.log, []);
    world.reopen();
    let until = world.lifecycle.gate.rules.until;
    assert!(world.armed().is_some_and(|at| at <= until));
    // A gate that lifecycle lets expire without closing it.
    world.now = until - MS;
    world.run_for(1);
    world.left.clear();
    world.run_for(3000);
    assert_eq!(world.take_left(), []);
    assert_eq!(world.armed(), None);
    world.close();
    world.run_for(1);
    assert_eq!(world.armed(), None);
    assert_eq!(world.told(), []);
}

#[test]
fn a_domain_that_dies_at_any_message_leaves_a_node_that_can_be_claimed() {
    for message in MESSAGES {
        for reopened in [false, true] {
            let mut world = World::open();
            let mut first = Admin::connect(&mut world);
            first.say_until(&mut world, message);
            let payload = first.payload(&world, message);
            world.peer.send(first.handle, &super::admin::frame(&payload));
            world.restart();
            world.pump();
            assert_eq!(world.ended(), None);
            world.peer.vanish_all();
            if reopened {
                world.reopen();
            }
            // The token of the open gate is as good as before.
            let mut again = Admin::connect(&mut world);
            again.title = first.title.filter(|_| world.keystore.bound.is_some());
            MESSAGES.into_iter().for_each(|message| again.say(&mut world, message));
            assert!(world.keystore.owned);
        }
    }
}

#[test]
fn it_stays_small() {
    assert!(size_of::<crate::Claim<'_>>() <= 4096, "{}", size_of::<crate::Claim<'_>>());
    assert!(size_of::<crate::Memory<'_>>() <= 32768, "{}", size_of::<crate::Memory<'_>>());
}
