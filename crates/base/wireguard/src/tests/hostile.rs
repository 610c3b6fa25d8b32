//! Whatever a stranger sends: no panic, no answer, no more memory, and the honest peer is still heard.

use std::{boxed::Box, vec::Vec};

use proptest::prelude::*;

use super::*;
use crate::messages::{self, Kind};

/// Nothing is said or asked, and the peer is where it was.
fn silent(node: &mut Node, now: Micros) {
    assert!(node.engine.poll_static(now).is_none());
    assert!(node.drain(now).is_empty());
    assert_eq!(node.view().endpoint, Some(endpoint(2)));
}

#[test]
fn every_flipped_bit_of_a_handshake_is_refused_and_the_right_one_still_taken() {
    let [mut a, mut b] = two(&[3; 32]);
    let _ = a.send(0, a.peer(), b"first");
    let [(_, initiation)] = a.settle(0).try_into().unwrap();
    // Each at its own time, so that no budget is spent.
    let mut now = SECOND;
    for bit in 0..initiation.len() * 8 {
        let mut bad = initiation.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        now += SECOND;
        match b.receive(now, a.at, &bad) {
            // `mac2` means nothing without load; the message is the right one otherwise, and is read once.
            Got::Waits => {
                assert!(bit / 8 >= 132);
                break;
            }
            got => assert!(matches!(got, Got::Dropped(Reason::Mac | Reason::Malformed)), "{got:?}"),
        }
        assert!(b.settle(now).is_empty());
    }
    let [(_, response)] = b.settle(now).try_into().unwrap();
    for bit in 0..76 * 8 {
        let mut bad = response.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        assert!(matches!(a.receive(now, b.at, &bad), Got::Dropped(Reason::Mac | Reason::Malformed)), "{bit}");
    }
    assert!(a.settle(now).is_empty());
    assert_eq!(a.receive(now, b.at, &response), Got::Waits);
    let [(_, data)] = a.settle(now).try_into().unwrap();
    for bit in 0..data.len() * 8 {
        let mut bad = data.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        assert!(matches!(b.receive(now, a.at, &bad), Got::Dropped(_)), "{bit}");
    }
    assert_eq!(b.receive(now, a.at, &data), Got::Packet(padded(b"first"), true));
}

/// A message as someone makes it who knows the node's public key, and so can set `mac1`.
fn with_mac1(to: &Node, message: &mut [u8]) {
    crate::cookie::Sealer::new(&to.key).seal(0, message);
}

#[test]
fn a_flipped_bit_behind_a_right_mac1_ends_at_the_keystore_or_the_tag() {
    let [mut a, mut b] = two(&[3; 32]);
    let _ = a.send(0, a.peer(), b"first");
    let [(_, initiation)] = a.settle(0).try_into().unwrap();
    let mut now = SECOND;
    // No tag of the first message covers the sender's index, bytes 4 to 8: who changes it gets no session.
    for bit in 8 * 8..116 * 8 {
        let mut bad = initiation.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        with_mac1(&b, &mut bad);
        now += SECOND;
        // The highest bit of an ephemeral key means nothing to X25519, but something to the hash.
        assert_eq!(b.receive(now, a.at, &bad), Got::Waits);
        assert!(b.settle(now).is_empty(), "{bit}");
    }
    assert_eq!(b.engine.dropped(Reason::Refused), (116 - 8) * 8);
    assert_eq!(b.receive(now, a.at, &initiation), Got::Waits);
    let [(_, response)] = b.settle(now).try_into().unwrap();
    for (n, bit) in (12 * 8..60 * 8).enumerate() {
        let mut bad = response.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        with_mac1(&a, &mut bad);
        let got = a.receive(now, b.at, &bad);
        // After some tries a cookie is asked for, from whoever it is that knows the index.
        assert!(if n < 4 { got == Got::Waits } else { matches!(got, Got::Reply(_)) }, "{bit}");
        assert!(a.settle(now).is_empty(), "{bit}");
    }
    assert_eq!(a.engine.dropped(Reason::Forged), 4);
    // Even the right one now needs a cookie; the sender of it gets one, and the next handshake is done.
    let Got::Reply(reply) = a.receive(now, b.at, &response) else { panic!("no cookie") };
    assert_eq!(b.receive(now, a.at, &reply), Got::Nothing);
    let again = now + SECOND;
    assert_eq!(a.send(again, a.peer(), b"again"), Err(Sent::Queued));
    a.engine.tick(again);
    assert_eq!(exchange(again, &mut a, &mut b)[1], [padded(b"again")]);
}

#[test]
fn ephemeral_keys_of_small_order_agree_on_nothing() {
    let [mut a, mut b] = two(&NO_KEY);
    let _ = a.send(0, a.peer(), b"first");
    let [(_, mut initiation)] = a.settle(0).try_into().unwrap();
    let kept = initiation.clone();
    initiation[8..40].fill(0);
    with_mac1(&b, &mut initiation);
    assert_eq!(b.receive(0, a.at, &initiation), Got::Waits);
    assert!(b.settle(0).is_empty());
    assert_eq!(b.receive(SECOND, a.at, &kept), Got::Waits);
    let [(_, mut response)] = b.settle(SECOND).try_into().unwrap();
    response[12..44].fill(0);
    with_mac1(&a, &mut response);
    assert_eq!(a.receive(SECOND, b.at, &response), Got::Waits);
    assert!(a.settle(SECOND).is_empty());
    assert_eq!(a.engine.dropped(Reason::Forged), 1);
}

#[test]
fn a_stranger_with_keys_of_its_own_gets_nothing() {
    let [_, mut b] = two(&NO_KEY);
    let mut stranger = Node::new(9);
    stranger.engine.set_peers(0, [config(b.key, &NO_KEY, Some(b.at))]);
    let _ = stranger.send(0, stranger.peer(), b"first");
    let [(_, initiation)] = stranger.settle(0).try_into().unwrap();
    assert_eq!(b.receive(0, stranger.at, &initiation), Got::Waits);
    assert!(b.settle(0).is_empty());
    assert_eq!((b.answers, b.engine.dropped(Reason::UnknownPeer)), (1, 1));
    assert_eq!(b.view().endpoint, Some(endpoint(1)));
}

#[test]
fn messages_that_came_before_are_refused() {
    let [mut a, mut b] = two(&NO_KEY);
    let [initiation, response, data] = messages(0, &mut a, &mut b);
    assert_eq!(b.receive(0, a.at, &data), Got::Packet(padded(b"first"), true));
    assert_eq!(b.receive(0, a.at, &data), Got::Dropped(Reason::Replay));
    assert_eq!(a.receive(0, b.at, &response), Got::Dropped(Reason::UnknownIndex));
    assert_eq!(b.receive(SECOND, a.at, &initiation), Got::Waits);
    assert!(b.settle(SECOND).is_empty());
    assert_eq!(b.engine.dropped(Reason::Replay), 2);
    // From elsewhere, too: the peer is not moved.
    assert_eq!(b.receive(2 * SECOND, endpoint(7), &initiation), Got::Waits);
    assert!(b.settle(2 * SECOND).is_empty());
    assert_eq!(b.view().endpoint, Some(a.at));
}

#[test]
fn an_endless_flood_does_not_keep_the_honest_peer_out() {
    // From where the peer is known to be, and from where it is not; the strangers know the node's key, and each has an
    // address of its own.
    for moved in [false, true] {
        let [mut a, mut b] = two(&NO_KEY);
        if moved {
            a.at = endpoint(77);
        }
        let mut now = 100 * SECOND;
        let mut flood = [7; 148];
        flood[..4].copy_from_slice(&[1, 0, 0, 0]);
        let mut cookies = 0;
        let mut number = 0u32;
        let _ = a.send(now, a.peer(), b"hello");
        let mut arrived = Vec::new();
        for _ in 0..400 {
            // 50 each 10 ms: far more than the node's keystore is asked.
            for _ in 0..50 {
                number += 1;
                flood[8..12].copy_from_slice(&number.to_le_bytes());
                with_mac1(&b, &mut flood);
                let mut from = endpoint(200);
                from.ip[..4].copy_from_slice(&number.to_le_bytes());
                cookies += usize::from(matches!(b.receive(now, from, &flood), Got::Reply(_)));
            }
            // The honest peer goes on as it does, and the keystore answers once.
            for (_, datagram) in a.tick(now) {
                match b.receive(now, a.at, &datagram) {
                    Got::Reply(reply) => assert_eq!(a.receive(now, b.at, &reply), Got::Nothing),
                    Got::Packet(packet, _) => arrived.push(packet),
                    _ => {}
                }
            }
            b.ask(now);
            for (_, datagram) in b.drain(now) {
                assert_eq!(a.receive(now, b.at, &datagram), Got::Waits);
            }
            now += SECOND / 100;
            if !arrived.is_empty() {
                break;
            }
            // Quicker to the next try than in life.
            now = a.engine.deadline().filter(|_| number.is_multiple_of(5000)).map_or(now, |at| now.max(at));
        }
        assert_eq!(arrived, [padded(b"hello")], "moved: {moved}");
        assert!(cookies > 0);
    }
}

#[test]
fn strangers_with_cookies_keep_no_known_peer_out_and_the_keystore_free() {
    let [mut a, mut b] = two(&NO_KEY);
    let now = 100 * SECOND;
    let mut strangers: Vec<_> = (0..40).map(|n| (endpoint(100 + n), crate::cookie::Sealer::new(&b.key))).collect();
    let mut flood = [7; 148];
    flood[..4].copy_from_slice(&[1, 0, 0, 0]);
    let mut waits = 0;
    for round in 0..10 {
        for (from, sealer) in &mut strangers {
            sealer.seal(now, &mut flood);
            match b.receive(now, *from, &flood) {
                Got::Reply(reply) => {
                    let reply = zerocopy::FromBytes::ref_from_bytes(&reply).unwrap();
                    assert_eq!(sealer.take(now, reply), Ok(()));
                }
                got => {
                    assert_eq!(got, Got::Waits);
                    waits += usize::from(round > 0);
                }
            }
        }
    }
    assert!(waits > 300, "they have shown their addresses");
    let _ = a.send(now, a.peer(), b"hello");
    let [(_, initiation)] = a.settle(now).try_into().unwrap();
    let Got::Reply(reply) = b.receive(now, a.at, &initiation) else { panic!("no load") };
    assert_eq!(a.receive(now, b.at, &reply), Got::Nothing);
    let again = now + 6 * SECOND;
    let [(_, initiation)] = a.tick(again).try_into().unwrap();
    for (from, sealer) in &mut strangers {
        sealer.seal(again, &mut flood);
        assert_eq!(b.receive(again, *from, &flood), Got::Waits);
    }
    assert_eq!(b.receive(again, a.at, &initiation), Got::Waits);
    for (from, sealer) in &mut strangers {
        sealer.seal(again, &mut flood);
        assert_eq!(b.receive(again, *from, &flood), Got::Waits);
    }
    // It is among the first two.
    assert!(b.ask(again) && b.ask(again));
    assert_eq!(b.drain(again).len(), 1);
    // And of the strangers no more are read than the budget has.
    let before = b.answers;
    for _ in 0..100 {
        for (from, sealer) in &mut strangers {
            sealer.seal(again, &mut flood);
            let _ = b.receive(again, *from, &flood);
        }
        b.ask(again);
    }
    assert!(b.answers - before <= 21, "{}", b.answers - before);
    let later = b.engine.deadline().unwrap();
    assert!(later > again && later <= again + SECOND && b.ask(later));
}

#[test]
fn a_peer_that_cannot_stop_initiating_is_read_at_its_rate() {
    let [mut a, mut b] = two(&NO_KEY);
    let mut responses = 0;
    for n in 0..100 {
        // Each a fresh initiation with a higher timestamp, a millisecond after the last.
        let now = 100 * SECOND + n * 1000;
        a.engine.rotate(now);
        for (_, datagram) in a.settle(now) {
            if let Got::Reply(reply) = b.receive(now, a.at, &datagram) {
                assert_eq!(a.receive(now, b.at, &reply), Got::Nothing);
            }
        }
        responses += b.settle(now).len();
    }
    assert!((2..=6).contains(&responses), "{responses}");
    assert!(b.engine.dropped(Reason::TooSoon) > 0);
}

#[test]
fn the_engines_size_is_fixed_and_fits_a_domain() {
    assert!(size_of::<Engine>() < 60 * 1024, "{}", size_of::<Engine>());
}

fn kinds() -> impl Strategy<Value = Vec<u8>> {
    let kinds = std::vec![(1u8, 148usize), (2, 92), (3, 64), (4, 32), (4, 80), (4, 1452), (5, 40)];
    prop::sample::select(kinds).prop_flat_map(|(kind, length)| {
        prop::collection::vec(any::<u8>(), length).prop_map(move |mut bytes| {
            bytes[..4].copy_from_slice(&[kind, 0, 0, 0]);
            bytes
        })
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_bytes_bring_an_answer_or_a_panic(
        datagrams in prop::collection::vec(prop_oneof![kinds(), prop::collection::vec(any::<u8>(), 0..200)], 1..20),
        mac1: bool,
        index: bool,
    ) {
        let [mut a, mut b] = joined(0).map(Box::new);
        // One handshake is under way, one session stands: their indices can be met.
        b.engine.rotate(10 * SECOND);
        let [(_, initiation)] = b.settle(10 * SECOND).try_into().unwrap();
        let mut now = 20 * SECOND;
        for mut datagram in datagrams {
            let kind = messages::kind(&datagram);
            if index && matches!(kind, Some(Kind::Cookie | Kind::Data)) {
                datagram[4..8].copy_from_slice(&initiation[4..8]);
            }
            if index && kind == Some(Kind::Response) {
                datagram[8..12].copy_from_slice(&initiation[4..8]);
            }
            if mac1 && matches!(kind, Some(Kind::Initiation | Kind::Response)) {
                with_mac1(&b, &mut datagram);
            }
            now += SECOND;
            let got = b.receive(now, endpoint(66), &datagram);
            // Who knows the index is asked for a cookie in the end.
            let reply = index && mac1 && kind == Some(Kind::Response);
            prop_assert!(matches!(got, Got::Waits | Got::Dropped(_)) || (reply && matches!(got, Got::Reply(_))));
            prop_assert!(mac1 || matches!(got, Got::Dropped(_)));
            prop_assert!(b.settle(now).is_empty());
            prop_assert_eq!(b.view().endpoint, Some(a.at));
        }
        silent(&mut a, now);
    }
}
