//! The paper's section 6 and 6.1 to 6.5, by a clock that the test moves.

use std::vec::Vec;

use super::*;
use crate::{
    messages::{Kind, kind},
    time::{JITTER, KEEPALIVE_TIMEOUT, REJECT_AFTER_TIME, REKEY_AFTER_TIME, REKEY_ATTEMPT_TIME, REKEY_TIMEOUT},
};

fn kinds(datagrams: &[(Endpoint, Vec<u8>)]) -> Vec<Kind> {
    datagrams.iter().map(|(_, datagram)| kind(datagram).unwrap()).collect()
}

/// The first moment from `now` on at which the node says something by itself.
fn next_said(node: &mut Node, until: Micros) -> Option<(Micros, Vec<Kind>)> {
    loop {
        let at = node.engine.deadline().filter(|at| *at <= until)?;
        let said = node.tick(at);
        if !said.is_empty() {
            return Some((at, kinds(&said)));
        }
    }
}

fn keys(node: &mut Node) -> usize {
    node.engine.peers_mut().map(|peer| peer.keys()).sum()
}

const START: Micros = 1000 * SECOND;

#[test]
fn an_initiation_without_answer_is_repeated_for_its_time_and_no_longer() {
    let [mut a, mut b] = two(&NO_KEY);
    assert_eq!(a.send(START, a.peer(), b"x"), Err(Sent::Queued));
    assert_eq!(kinds(&a.settle(START)), [Kind::Initiation]);
    let (mut last, mut count, mut jitters) = (START, 1, Vec::new());
    while let Some((at, said)) = next_said(&mut a, Micros::MAX) {
        assert_eq!(said, [Kind::Initiation]);
        assert!((REKEY_TIMEOUT..=REKEY_TIMEOUT + Micros::from(JITTER)).contains(&(at - last)));
        jitters.push(at - last - REKEY_TIMEOUT);
        (last, count) = (at, count + 1);
    }
    assert!(last < START + REKEY_ATTEMPT_TIME && last > START + REKEY_ATTEMPT_TIME - 2 * REKEY_TIMEOUT);
    assert!((16..=18).contains(&count), "{count}");
    jitters.sort_unstable();
    jitters.dedup();
    assert!(jitters.len() > 10);
    // No timer runs, nothing is kept, nor sent to a peer that comes later; the next packet begins anew.
    assert_eq!((a.engine.deadline(), a.engine.indices()), (None, 0));
    let later = last + 10 * SECOND;
    assert_eq!(b.send(later, b.peer(), b"late"), Err(Sent::Queued));
    assert_eq!(exchange(later, &mut a, &mut b), [std::vec![padded(b"late")], Vec::new()]);
    a.engine.set_peers(later, []);
    a.engine.set_peers(later, [config(b.key, &NO_KEY, Some(b.at))]);
    assert_eq!(a.send(later, a.peer(), b"y"), Err(Sent::Queued));
    assert_eq!(kinds(&a.settle(later)), [Kind::Initiation]);
}

#[test]
fn each_packet_gives_the_attempt_its_time_anew() {
    let [mut a, mut b] = two(&NO_KEY);
    let _ = a.send(START, a.peer(), b"x");
    a.settle(START);
    let late = START + REKEY_ATTEMPT_TIME - SECOND;
    while next_said(&mut a, late).is_some() {}
    assert_eq!(a.send(late, a.peer(), b"y"), Err(Sent::Queued));
    assert_eq!(a.send(late, a.peer(), b"z"), Err(Sent::Queued));
    let (at, said) = next_said(&mut a, Micros::MAX).unwrap();
    assert_eq!(said, [Kind::Initiation]);
    let after = a.engine.deadline().unwrap();
    assert!(after > START + REKEY_ATTEMPT_TIME && after > at);
    a.engine.tick(after);
    // The newest packet has waited.
    assert_eq!(exchange(after, &mut a, &mut b)[1], [padded(b"z")]);
}

#[test]
fn the_responder_waits_for_the_first_packet() {
    let [mut a, mut b] = two(&NO_KEY);
    let [_, _, data] = messages(START, &mut a, &mut b);
    // It has the keys and may not use them; nor may it begin a handshake of its own so soon.
    assert_eq!(b.send(START, b.peer(), b"early"), Err(Sent::Queued));
    assert!(b.settle(START).is_empty());
    assert_eq!(b.view().last_handshake, None);
    assert_eq!(b.receive(START, a.at, &data), Got::Packet(padded(b"first"), true));
    assert_eq!(b.view().last_handshake, Some(START));
    let said = b.settle(START);
    assert_eq!(kinds(&said), [Kind::Data]);
    assert_eq!(a.receive(START, b.at, &said[0].1), Got::Packet(padded(b"early"), true));
    // The handshake that it wanted is needless now.
    assert!(next_said(&mut b, START + 9 * SECOND).is_none());
}

#[test]
fn the_initiator_renews_when_it_sends_and_the_responder_does_not() {
    let [mut a, mut b] = joined(START);
    assert!(b.send(START, b.peer(), b"x").is_ok());
    let before = START + REKEY_AFTER_TIME - 1;
    assert!(a.send(before, a.peer(), b"x").is_ok() && a.settle(before).is_empty());
    let now = START + REKEY_AFTER_TIME;
    assert!(b.send(now, b.peer(), b"x").is_ok() && b.settle(now).is_empty());
    assert!(a.send(now, a.peer(), b"x").is_ok());
    let packets = exchange(now, &mut a, &mut b);
    assert_eq!(packets, [Vec::<Vec<u8>>::new(), Vec::new()]);
    assert_eq!((a.view().last_handshake, b.view().last_handshake), (Some(now), Some(now)));
    assert_eq!((keys(&mut a), keys(&mut b)), (2, 2));
    // What is on its way by the old keys is still taken, and does not bring them back.
    let (_, by_new) = a.send(now, a.peer(), b"new").unwrap();
    assert_eq!(b.receive(now, a.at, &by_new), Got::Packet(padded(b"new"), false));
}

#[test]
fn packets_by_the_last_keys_are_taken_after_a_renewal() {
    let [mut a, mut b] = joined(START);
    let (_, late) = a.send(START + SECOND, a.peer(), b"late").unwrap();
    let (_, later) = b.send(START + SECOND, b.peer(), b"later").unwrap();
    let now = START + 20 * SECOND;
    // A second handshake beside the first, begun by the other side.
    b.engine.want(now, b.peer());
    exchange(now, &mut a, &mut b);
    assert_eq!(b.receive(now, a.at, &late), Got::Packet(padded(b"late"), false));
    assert_eq!(a.receive(now, b.at, &later), Got::Packet(padded(b"later"), true));
    // Both send by the new ones.
    let (_, sent) = a.send(now, a.peer(), b"new").unwrap();
    assert_eq!(b.receive(now, a.at, &sent), Got::Packet(padded(b"new"), true));
}

#[test]
fn the_initiator_renews_in_the_last_minute_of_what_it_receives() {
    let [mut a, mut b] = joined(START);
    let limit = START + REJECT_AFTER_TIME - KEEPALIVE_TIMEOUT - REKEY_TIMEOUT;
    for (now, expected) in [(limit - 1, 0), (limit, 1), (limit + REKEY_TIMEOUT, 1)] {
        let (_, packet) = b.send(now, b.peer(), b"x").unwrap();
        assert!(matches!(a.receive(now, b.at, &packet), Got::Packet(..)));
        // Once for a session; what follows are its repetitions.
        let initiations = kinds(&a.tick(now)).iter().filter(|kind| **kind == Kind::Initiation).count();
        assert!(initiations <= expected && (now > limit || initiations == expected), "{now}");
    }
}

#[test]
fn no_key_is_used_past_its_time_and_none_is_kept() {
    let [mut a, mut b] = joined(START);
    let end = START + REJECT_AFTER_TIME;
    let (_, last) = b.send(end - 1, b.peer(), b"last").unwrap();
    assert_eq!(a.receive(end, b.at, &last), Got::Dropped(Reason::Expired));
    assert_eq!(b.send(end, b.peer(), b"x"), Err(Sent::Queued));
    assert_eq!(kinds(&b.settle(end)), [Kind::Initiation]);
    a.engine.tick(end);
    assert_eq!(keys(&mut a), 0);
    assert_eq!(a.receive(end, b.at, &last), Got::Dropped(Reason::UnknownIndex));
}

#[test]
fn all_keys_are_wiped_in_the_end_whatever_was_under_way() {
    // Before the response, between response and first packet, and after it.
    for stage in 0..3 {
        let [mut a, mut b] = two(&NO_KEY);
        let _ = a.send(START, a.peer(), b"x");
        for _ in 0..stage {
            let said = a.settle(START);
            said.iter().for_each(|(_, datagram)| drop(b.receive(START, a.at, datagram)));
            let said = b.settle(START);
            said.iter().for_each(|(_, datagram)| drop(a.receive(START, b.at, datagram)));
        }
        for node in [&mut a, &mut b] {
            while let Some(at) = node.engine.deadline() {
                assert!(at <= START + 3 * REJECT_AFTER_TIME);
                node.tick(at);
            }
            assert_eq!((keys(node), node.engine.indices()), (0, 0), "{stage}");
            assert!(node.engine.peers_mut().all(|peer| peer.is_wiped()));
        }
    }
}

#[test]
fn a_packet_without_answer_brings_a_keepalive_or_a_handshake() {
    let [mut a, mut b] = joined(START);
    let (_, packet) = a.send(START + SECOND, a.peer(), b"x").unwrap();
    // `a` still owes `b` nothing; `b` has had two packets.
    assert!(matches!(b.receive(START + SECOND, a.at, &packet), Got::Packet(..)));
    let (at, said) = next_said(&mut b, START + 60 * SECOND).unwrap();
    assert_eq!((at, said), (START + KEEPALIVE_TIMEOUT, std::vec![Kind::Data]));
    // More had come before it went: one more, and then silence.
    let (at, said) = next_said(&mut b, START + 60 * SECOND).unwrap();
    assert_eq!((at, said), (START + 2 * KEEPALIVE_TIMEOUT, std::vec![Kind::Data]));
    assert!(next_said(&mut b, START + 100 * SECOND).is_none());
    // None of that arrived.
    let (at, said) = next_said(&mut a, START + 60 * SECOND).unwrap();
    assert_eq!(said, [Kind::Initiation]);
    let wait = KEEPALIVE_TIMEOUT + REKEY_TIMEOUT;
    assert!((START + wait..=START + wait + Micros::from(JITTER)).contains(&at));
}

#[test]
fn an_answer_makes_the_keepalive_needless() {
    let [mut a, mut b] = joined(START);
    let (_, answer) = b.send(START + SECOND, b.peer(), b"answer").unwrap();
    assert!(matches!(a.receive(START + SECOND, b.at, &answer), Got::Packet(..)));
    // Its own packet has no answer in time; that is another matter.
    assert_eq!(next_said(&mut b, START + 60 * SECOND).unwrap().1, [Kind::Initiation]);
    assert_eq!(
        next_said(&mut a, START + 60 * SECOND).unwrap(),
        (START + SECOND + KEEPALIVE_TIMEOUT, std::vec![Kind::Data])
    );
}

#[test]
fn keepalives_are_not_answered() {
    let [mut a, mut b] = joined(START);
    let at = b.engine.deadline().unwrap();
    let said = b.tick(at);
    assert_eq!(a.receive(at, b.at, &said[0].1), Got::Keepalive(true));
    assert!(next_said(&mut a, START + 100 * SECOND).is_none());
}

#[test]
fn a_persistent_keepalive_brings_the_session_up_and_keeps_it_up() {
    let [mut a, mut b] = two(&NO_KEY);
    let keepalive = |key, endpoint| PeerConfig { keepalive_s: 25, ..config(key, &NO_KEY, Some(endpoint)) };
    a.engine.set_peers(START, [keepalive(b.key, b.at)]);
    assert_eq!(a.engine.deadline(), Some(START));
    a.engine.tick(START);
    exchange(START, &mut a, &mut b);
    assert_eq!(b.view().last_handshake, Some(START));
    // For an hour: never later than its interval, and the session is renewed.
    let mut last = START;
    while last < START + 3600 * SECOND {
        let at = a.engine.deadline().unwrap().min(b.engine.deadline().unwrap_or(Micros::MAX));
        a.engine.tick(at);
        b.engine.tick(at);
        let sent = a.view().sent;
        exchange(at, &mut a, &mut b);
        if a.view().sent > sent {
            assert!(at - last <= 25 * SECOND, "{}", at - last);
            last = at;
        }
    }
    assert!(b.view().last_handshake.unwrap() > START + 3400 * SECOND);
    // And when the peer is gone for long it is tried again and again.
    let gone = last;
    let mut tries = 0;
    while let Some((at, said)) = next_said(&mut a, gone + 1000 * SECOND) {
        tries += said.iter().filter(|kind| **kind == Kind::Initiation).count();
        last = at;
    }
    assert!(tries > 100 && last > gone + 990 * SECOND, "{tries}");
    // Turned off, it ends.
    a.engine.set_peers(last, [config(b.key, &NO_KEY, Some(b.at))]);
    while let Some(at) = a.engine.deadline() {
        assert!(at < last + 2 * REKEY_ATTEMPT_TIME);
        a.tick(at);
    }
}

#[test]
fn keys_are_renewed_and_refused_by_the_number_of_their_packets() {
    let [mut a, mut b] = joined(START);
    let now = START + 20 * SECOND;
    let set = |node: &mut Node, counter| {
        let sessions = node.engine.peers_mut().next().unwrap().sessions();
        let slots = (0..3).filter(|slot| sessions.slot(*slot).map(|session| session.counter = counter).is_some());
        slots.count()
    };
    assert_eq!(set(&mut b, crate::time::REKEY_AFTER_MESSAGES), 1);
    let (_, packet) = b.send(now, b.peer(), b"x").unwrap();
    assert!(matches!(a.receive(now, b.at, &packet), Got::Packet(..)));
    // The responder of it: the number counts for both.
    assert_eq!(kinds(&b.settle(now)), [Kind::Initiation]);
    set(&mut b, crate::time::REJECT_AFTER_MESSAGES - 1);
    let (_, packet) = b.send(now, b.peer(), b"x").unwrap();
    assert!(matches!(a.receive(now, b.at, &packet), Got::Packet(..)));
    assert_eq!(b.send(now, b.peer(), b"x"), Err(Sent::Queued));
    // By such a counter nothing is taken, authentic or not.
    let mut bad = packet.clone();
    bad[8..16].copy_from_slice(&crate::time::REJECT_AFTER_MESSAGES.to_le_bytes());
    assert_eq!(a.receive(now, b.at, &bad), Got::Dropped(Reason::Expired));
}

#[test]
fn a_clock_that_stands_or_starts_at_zero_does_no_harm() {
    let [mut a, mut b] = joined(0);
    for _ in 0..10 {
        let (_, packet) = a.send(0, a.peer(), b"x").unwrap();
        assert!(matches!(b.receive(0, a.at, &packet), Got::Packet(..)));
        assert!(a.tick(0).is_empty() && b.tick(0).is_empty());
    }
    let mut end = Node::new(1);
    end.engine.set_peers(Micros::MAX, [config(b.key, &NO_KEY, Some(b.at))]);
    let _ = end.send(Micros::MAX - 1, end.peer(), b"x");
    end.tick(Micros::MAX - 1);
}
