//! Behind the token: every way to break an exchange ends it at once and in silence, and the next gate works.

use std::{vec, vec::Vec};

use calls::{
    keystore::{Refusal, for_claim as keystore},
    lifecycle::{Closed, for_claim as lifecycle},
};
use crypto::Secret;
use shm::mailbox::Operation;
use wire::{
    U16,
    claim::{Acknowledgement, GrantHead, MAX_CONFIGURATION, kind},
};
use zerocopy::{FromBytes, IntoBytes};

use super::{
    admin::{Admin, MESSAGES, Message, claim, frame, frame_with, initiator},
    keystore::Trouble,
    world::{Left, MS, Told, World},
};

/// Runs an exchange up to a message, then what a test does instead of it, and expects the end that it names, at
/// once, with silence after it. Then the same with the next, in the same world.
struct Breaks(World);

impl Breaks {
    fn new() -> Self {
        Self(World::new())
    }

    fn at(&mut self, message: Message, reason: Closed, act: impl FnOnce(&mut World, &mut Admin)) {
        let world = &mut self.0;
        world.keystore.bound = None;
        world.reopen();
        let mut admin = Admin::connect(world);
        admin.say_until(world, message);
        world.left.clear();
        act(world, &mut admin);
        world.pump();
        assert_eq!(world.ended(), Some(reason), "{message:?}");
        assert!(world.peer.receive(admin.handle).is_empty(), "{message:?}");
        assert!(world.keystore.bound.is_none(), "{message:?}");
        world.run_for(1);
        world.left.clear();
        world.run_for(300);
        assert_eq!(world.left, [], "{message:?}");
        assert_eq!(world.armed(), None);
        world.peer.vanish_all();
        world.peer.poll(world.now);
    }

    /// The same with raw bytes of the stream.
    fn with(&mut self, message: Message, reason: Closed, bytes: impl FnOnce(&mut World, &mut Admin) -> Vec<u8>) {
        self.at(message, reason, |world, admin| {
            let bytes = bytes(world, admin);
            world.peer.send(admin.handle, &bytes);
        });
    }

    /// After all of it, a claim.
    fn done(mut self) {
        self.0.reopen();
        claim(&mut self.0);
        assert!(self.0.keystore.owned);
    }
}

const FRAMED: [Message; 3] = [Message::Initiation, Message::Grant, Message::Acknowledgement];

#[test]
fn only_one_masked_final_binary_frame_of_the_right_length_is_a_message() {
    let mut breaks = Breaks::new();
    for message in [Message::Initiation, Message::Grant] {
        // Continuation, text, close, ping, pong, unknown, not final, reserved bits.
        for first in [0x80, 0x81, 0x88, 0x89, 0x8a, 0x83, 0x8f, 0x02, 0x01, 0x00, 0xc2, 0xa2, 0x92] {
            breaks.with(message, Closed::Rejected, |world, admin| {
                let payload = admin.payload(world, message);
                frame_with(first, 0x80, &payload)
            });
        }
        // Unmasked.
        breaks.with(message, Closed::Rejected, |world, admin| {
            let payload = admin.payload(world, message);
            frame_with(0x82, 0, &payload)
        });
        // Empty frames of every kind.
        for first in [0x80, 0x81, 0x82, 0x88, 0x89, 0x8a] {
            breaks.with(message, Closed::Rejected, |_, _| frame_with(first, 0x80, &[]));
        }
        // A length that is not the shortest encoding, and lengths past all bounds.
        for length in [
            &[0x80 | 126, 0, 96][..],
            &[0x80 | 127, 0, 0, 0, 0, 0, 0, 0, 96],
            &[0x80 | 127, 0, 0, 0, 0, 0, 0, 2, 0x30],
            &[0x80 | 126, 0xff, 0xff],
            &[0x80 | 127, 0, 0, 0, 1, 0, 0, 0, 0],
            &[0x80 | 127, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
            &[0x80 | 127, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
        ] {
            breaks.with(message, Closed::Rejected, |_, _| [&[0x82], length, &[1, 2, 3, 4], &[0; 96]].concat());
        }
        // HTTP once more.
        breaks.with(message, Closed::Rejected, |world, _| super::admin::head(&world.token()).into_bytes());
    }
    breaks.done();
}

#[test]
fn a_message_has_its_length() {
    let mut breaks = Breaks::new();
    let longest = MAX_CONFIGURATION + size_of::<GrantHead>() + 16;
    let lengths: [(Message, &[usize]); 2] = [
        (Message::Initiation, &[1, 80, 95, 97, 125, 126, 4096]),
        (Message::Grant, &[1, 16, size_of::<GrantHead>() + 15, longest + 1, 65_535]),
    ];
    for (message, lengths) in lengths {
        for length in lengths {
            // The header alone gives it away.
            breaks.with(message, Closed::Rejected, |_, _| frame(&vec![0; *length])[..8.min(length + 6)].to_vec());
        }
    }
    breaks.done();
}

#[test]
fn every_flipped_bit_counts() {
    let mut breaks = Breaks::new();
    for bit in 0..96 * 8 {
        breaks.with(Message::Initiation, Closed::Rejected, |world, admin| {
            let mut payload = admin.payload(world, Message::Initiation);
            payload[bit / 8] ^= 1 << (bit % 8);
            frame(&payload)
        });
    }
    let grant = size_of::<GrantHead>() + 14 + 16;
    for bit in (0..grant * 8).step_by(37) {
        breaks.with(Message::Grant, Closed::Rejected, |world, admin| {
            let mut payload = admin.payload(world, Message::Grant);
            assert_eq!(payload.len(), grant);
            payload[bit / 8] ^= 1 << (bit % 8);
            frame(&payload)
        });
    }
    breaks.done();
}

#[test]
fn an_acknowledgement_is_exact_or_it_is_none() {
    // The node has committed by then, and stays claimable by the same binding.
    let texts: [fn(&mut Acknowledgement); 4] =
        [|ack| ack.record[31] ^= 1, |ack| ack.kind = kind::GRANT, |ack| ack.zero[6] = 1, |ack| ack.record = [0; 32]];
    let mut world = World::open();
    let mut first = Admin::connect(&mut world);
    first.say_until(&mut world, Message::Acknowledgement);
    let right =
        Acknowledgement { kind: kind::ACKNOWLEDGEMENT, zero: [0; 7], record: first.pairing.unwrap().record.hash() };
    let breaks = texts.map(|text| {
        let mut wrong = right;
        text(&mut wrong);
        wrong.as_bytes().to_vec()
    });
    let whole = [&breaks[..], &[right.as_bytes()[..39].to_vec(), [right.as_bytes(), &[0]].concat()]].concat();
    for (i, text) in whole.iter().chain(&[right.as_bytes().to_vec()]).enumerate() {
        world.peer.vanish_all();
        world.reopen();
        let mut admin = Admin::connect(&mut world);
        admin.title = first.title;
        admin.say_until(&mut world, Message::Acknowledgement);
        let mut payload = admin.seal(text);
        // The right text, but a bit of its seal.
        if i == whole.len() {
            *payload.last_mut().unwrap() ^= 1;
        }
        admin.send(&mut world, Message::Acknowledgement, &payload);
        assert_eq!(world.ended(), Some(Closed::Rejected), "{i}");
        assert!(!world.keystore.owned);
        world.assert_silent();
    }
    world.peer.vanish_all();
    world.reopen();
    let mut again = Admin::connect(&mut world);
    again.title = first.title;
    MESSAGES.into_iter().for_each(|message| again.say(&mut world, message));
    assert_eq!(world.told().last(), Some(&Told::Acknowledged));
}

#[test]
fn who_has_not_the_right_keys_gets_no_message() {
    let mut breaks = Breaks::new();
    let node = crypto::dh_public(&Secret::new([0xa; 32]));
    let anchor = breaks.0.anchor.dh.clone();
    let other = Secret::new([5; 32]);
    for (secret, claim_key) in [(&other, node), (&anchor, crypto::dh_public(&other))] {
        breaks.with(Message::Initiation, Closed::Rejected, |world, admin| {
            admin.handshake = Some(initiator(world, secret, &claim_key));
            frame(&admin.payload(world, Message::Initiation))
        });
    }
    // With a payload, which IK allows and this protocol does not.
    breaks.with(Message::Initiation, Closed::Rejected, |_, admin| {
        let mut out = [0; 200];
        let len = admin.handshake.as_mut().unwrap().write_message(b"x", &mut out).unwrap();
        frame(&out[..len])
    });
    // An ephemeral key of small order.
    for point in [[0; 32], core::array::from_fn(|i| u8::from(i == 0))] {
        breaks.with(Message::Initiation, Closed::Rejected, |world, admin| {
            let mut payload = admin.payload(world, Message::Initiation);
            payload[..32].copy_from_slice(&point);
            frame(&payload)
        });
    }
    breaks.done();
}

#[test]
fn a_recorded_message_is_worth_nothing_behind_the_next_gate() {
    let mut breaks = Breaks::new();
    let mut recorded = Vec::new();
    breaks.at(Message::Grant, Closed::PeerLeft, |world, admin| {
        // As it was sent.
        recorded = frame(&admin.payload(world, Message::Grant));
        world.peer.finish(admin.handle);
    });
    breaks.with(Message::Grant, Closed::Rejected, |_, _| recorded.clone());
    let mut first = Vec::new();
    breaks.with(Message::Initiation, Closed::Rejected, |world, admin| {
        first = frame(&admin.payload(world, Message::Initiation));
        let mut broken = first.clone();
        *broken.last_mut().unwrap() ^= 1;
        broken
    });
    breaks.with(Message::Initiation, Closed::Rejected, |_, _| first.clone());
    // Message 1 twice.
    breaks.with(Message::Grant, Closed::Rejected, |_, _| first.clone());
    breaks.done();
}

#[test]
fn a_grant_is_for_this_node_now_with_this_configuration() {
    let mut breaks = Breaks::new();
    let texts: [fn(&mut Admin, &World) -> Vec<u8>; 10] = [
        // Another configuration than the hash says.
        |admin, world| {
            let mut text = admin.grant(world);
            *text.last_mut().unwrap() ^= 1;
            text
        },
        // A configuration shorter, or longer, than its length says.
        |admin, world| admin.grant(world).split_last().unwrap().1.to_vec(),
        |admin, world| [&admin.grant(world)[..], &[0]].concat(),
        |admin, world| {
            let mut text = admin.grant(world);
            GrantHead::mut_from_prefix(&mut text).unwrap().0.configuration = U16::new(0xffff);
            text
        },
        |admin, world| {
            let mut text = admin.grant(world);
            text[0] = kind::ACKNOWLEDGEMENT;
            text
        },
        |admin, world| {
            let mut text = admin.grant(world);
            text[1] = 1;
            text
        },
        // Refused by the keystore: a broken signature, another node, another nonce, another epoch.
        |admin, world| {
            let mut text = admin.grant(world);
            GrantHead::mut_from_prefix(&mut text).unwrap().0.title.binding.signature[0] ^= 1;
            text
        },
        |admin, world| {
            admin.identity.as_mut().unwrap().fiduciary = [3; 32];
            admin.grant(world)
        },
        |admin, world| {
            admin.identity.as_mut().unwrap().nonce = [3; 32];
            admin.grant(world)
        },
        |admin, world| {
            admin.identity.as_mut().unwrap().epoch = 7.into();
            admin.grant(world)
        },
    ];
    for text in texts {
        breaks.with(Message::Grant, Closed::Rejected, |world, admin| {
            let text = text(admin, world);
            frame(&admin.seal(&text))
        });
    }
    breaks.done();
}

#[test]
fn a_peer_that_closes_or_resets_ends_the_claim_and_one_that_vanishes_has_its_time() {
    for message in FRAMED {
        for how in 0..4 {
            let mut world = World::open();
            let mut admin = Admin::connect(&mut world);
            let began = world.now;
            admin.say_until(&mut world, message);
            if how == 3 {
                // In the middle of the message.
                let payload = admin.payload(&world, message);
                world.peer.send(admin.handle, &frame(&payload)[..20]);
                world.pump();
            }
            match how {
                0 => world.peer.finish(admin.handle),
                1 => world.peer.reset(admin.handle),
                _ => world.cut = true,
            }
            world.pump();
            if how >= 2 {
                assert_eq!(world.ended(), None);
                world.now = began + 20_000 * MS - 2 * MS;
                world.run_for(1);
                assert_eq!(world.ended(), None);
                world.run_for(1);
                assert_eq!(world.ended(), Some(Closed::Deadline), "{message:?}");
            } else {
                assert_eq!(world.ended(), Some(Closed::PeerLeft), "{message:?}");
            }
            world.cut = false;
            world.assert_silent();
            // The next gate works; of a committed node, for the same binding.
            world.peer.vanish_all();
            world.reopen();
            let mut again = Admin::connect(&mut world);
            again.title = admin.title.filter(|_| world.keystore.bound.is_some());
            MESSAGES.into_iter().for_each(|message| again.say(&mut world, message));
            assert!(world.keystore.owned);
        }
    }
}

#[test]
fn a_slow_peer_has_the_time_of_the_claim_and_no_more() {
    let mut world = World::open();
    let mut admin = Admin::connect(&mut world);
    admin.say_until(&mut world, Message::Grant);
    admin.configuration = vec![1; MAX_CONFIGURATION];
    let payload = admin.payload(&world, Message::Grant);
    let mut ended_after = 0;
    for byte in frame(&payload) {
        if world.ended().is_some() {
            break;
        }
        world.peer.send(admin.handle, &[byte]);
        world.run_for(100);
        ended_after += 100;
    }
    assert_eq!(world.ended(), Some(Closed::Deadline));
    assert!((19_900..=20_000).contains(&ended_after), "{ended_after}");
    world.assert_silent();
}

#[test]
fn a_gate_opened_anew_ends_everything_of_the_old_one() {
    for message in MESSAGES {
        let mut world = World::open();
        let mut old = Admin::connect(&mut world);
        old.say_until(&mut world, message);
        let bound = world.keystore.bound.is_some();
        world.reopen();
        assert_eq!(world.told(), [], "the new gate is blamed for the old claim");
        // The old one goes on, and is not heard.
        world.run_for(1);
        world.left.clear();
        let payload = old.payload(&world, message);
        old.send(&mut world, message, &payload);
        world.run_for(100);
        assert!(!old.take_answer(&mut world, message));
        assert_eq!(world.take_left(), []);
        assert_eq!(world.told(), []);
        world.peer.vanish(old.handle);
        let mut new = Admin::connect(&mut world);
        new.title = old.title.filter(|_| bound);
        MESSAGES.into_iter().for_each(|message| new.say(&mut world, message));
        assert!(world.keystore.owned);
    }
    // And a gate closed under it.
    for message in MESSAGES {
        let mut world = World::open();
        let mut old = Admin::connect(&mut world);
        old.say_until(&mut world, message);
        world.close();
        let payload = old.payload(&world, message);
        old.send(&mut world, message, &payload);
        assert_eq!(world.ended(), None);
        world.assert_silent();
        assert_eq!(world.armed(), None);
    }
}

#[test]
fn the_gate_and_the_claim_each_have_their_own_end() {
    for (until, ends) in [(100_000, 20_000), (7_000, 7_000)] {
        let mut world = World::open();
        let mut admin = Admin::connect(&mut world);
        let began = world.now;
        admin.say_until(&mut world, Message::Grant);
        let mut gate = world.lifecycle.gate;
        gate.rules.until = began + until * MS;
        world.publish(gate);
        world.run_for(ends - 1);
        assert_eq!(world.ended(), None);
        world.run_for(1);
        assert_eq!(world.ended(), Some(Closed::Deadline));
        world.assert_silent();
    }
}

#[test]
fn what_the_peer_has_not_acknowledged_is_not_repeated_after_the_end() {
    for message in &MESSAGES[..3] {
        for closed in [false, true] {
            let mut world = World::open();
            let mut admin = Admin::connect(&mut world);
            admin.say_until(&mut world, *message);
            let payload = admin.payload(&world, *message);
            let bytes = if *message == Message::Head { payload } else { frame(&payload) };
            world.peer.send(admin.handle, &bytes);
            world.peer.poll(world.now).into_iter().for_each(|frame| world.inject(frame));
            world.cut = true;
            world.run_for(1500);
            let data = world.take_left().iter().filter(|left| matches!(left, Left::Data(_))).count();
            assert!(data > 1, "nothing is repeated before the end either");
            if closed {
                world.close();
                world.run_for(1);
            } else {
                world.run_for(19_000);
                assert_eq!(world.ended(), Some(Closed::Deadline));
            }
            world.assert_silent();
        }
    }
}

/// The operations of a claim, and the message that leads to each.
const ASKED: [(u32, bool, Message); 10] = [
    (keystore::ClaimKey::OP, true, Message::Head),
    (lifecycle::Started::OP, false, Message::Head),
    (keystore::ReadInitiation::OP, true, Message::Initiation),
    (keystore::ClaimRandom::OP, true, Message::Initiation),
    (keystore::Identify::OP, true, Message::Initiation),
    (lifecycle::Stage::OP, false, Message::Grant),
    (keystore::Commit::OP, true, Message::Grant),
    (lifecycle::Committed::OP, false, Message::Grant),
    (keystore::Acknowledge::OP, true, Message::Acknowledgement),
    (lifecycle::Acknowledged::OP, false, Message::Acknowledgement),
];

fn with_trouble(op: u32, of_keystore: bool, message: Message, trouble: Trouble) -> World {
    let mut world = World::new();
    let set = |world: &mut World| {
        if of_keystore {
            world.keystore.trouble = Some((op, trouble));
        } else {
            world.lifecycle_trouble = Some((op, trouble));
        }
    };
    // The first is asked before anyone can connect.
    if op == keystore::ClaimKey::OP {
        set(&mut world);
    }
    world.reopen();
    if op == keystore::ClaimKey::OP {
        world.run_for(4001);
    }
    let mut admin = Admin::connect(&mut world);
    if world.ended().is_none() {
        admin.say_until(&mut world, message);
        set(&mut world);
        let payload = admin.payload(&world, message);
        admin.send(&mut world, message, &payload);
        let stores = [lifecycle::Stage::OP, keystore::Commit::OP, keystore::Acknowledge::OP].contains(&op);
        world.run_for(if stores { 10_001 } else { 4001 });
    }
    world.keystore.trouble = None;
    world.lifecycle_trouble = None;
    if world.ended().is_none() && admin.take_answer(&mut world, message) {
        for later in MESSAGES.into_iter().filter(|later| *later > message) {
            admin.say(&mut world, later);
        }
    }
    world.assert_silent();
    world
}

#[test]
fn a_call_without_an_answer_is_made_once_more_and_then_it_is_the_end() {
    for (op, of_keystore, message) in ASKED {
        let world = with_trouble(op, of_keystore, message, Trouble::Silent(1));
        assert_eq!(world.lifecycle.told.last(), Some(&Told::Acknowledged), "{op}");
        let world = with_trouble(op, of_keystore, message, Trouble::Silent(2));
        assert_eq!(world.ended(), Some(Closed::Internal), "{op}");
    }
}

#[test]
fn a_refusal_is_the_end_and_says_whose_fault_it_was() {
    for (op, of_keystore, message) in ASKED {
        for refusal in Refusal::ALL.iter().copied() {
            let own = !of_keystore || matches!(refusal, Refusal::NotReady | Refusal::Store);
            let expected = if own { Closed::Internal } else { Closed::Rejected };
            let world = with_trouble(op, of_keystore, message, Trouble::Refuse(refusal));
            assert_eq!(world.ended(), Some(expected), "{op} {refusal:?}");
        }
        if of_keystore {
            let world = with_trouble(op, of_keystore, message, Trouble::Lie);
            assert_eq!(world.ended(), Some(Closed::Internal), "{op}");
        }
    }
}

#[test]
fn an_end_that_lifecycle_does_not_hear_is_an_end_all_the_same() {
    let mut world = World::open();
    let mut admin = Admin::connect(&mut world);
    admin.say_until(&mut world, Message::Grant);
    world.lifecycle_trouble = Some((lifecycle::Ended::OP, Trouble::Silent(2)));
    world.peer.send(admin.handle, b"junk");
    world.run_for(4001);
    assert_eq!(world.ended(), None);
    assert_eq!(world.armed(), None);
    world.assert_silent();
    world.peer.vanish_all();
    world.reopen();
    claim(&mut world);
    assert!(world.keystore.owned);
}
