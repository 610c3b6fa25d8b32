//! The set of peers as it changes, where they are, and what is told of them.

use std::vec::Vec;

use super::*;
use crate::messages::{Kind, kind};

#[test]
fn who_stays_keeps_its_session_and_who_goes_is_unheard() {
    let [mut a, mut b] = joined(0);
    let mut c = Node::new(3);
    let now = 10 * SECOND;
    b.engine.set_peers(now, [config(c.key, &NO_KEY, None), config(a.key, &NO_KEY, Some(a.at))]);
    let (_, packet) = a.send(now, a.peer(), b"kept").unwrap();
    assert_eq!(b.receive(now, a.at, &packet), Got::Packet(padded(b"kept"), false));
    let (_, packet) = a.send(now, a.peer(), b"late").unwrap();
    b.engine.set_peers(now, [config(c.key, &NO_KEY, None)]);
    assert_eq!(b.engine.find(&a.key), None);
    assert_eq!(b.receive(now, a.at, &packet), Got::Dropped(Reason::UnknownIndex));
    assert_eq!((b.engine.indices(), b.engine.peers().count()), (0, 1));
    // A new handshake of its is read and then dropped.
    a.engine.rotate(now);
    exchange(now, &mut a, &mut b);
    assert_eq!(b.engine.dropped(Reason::UnknownPeer), 1);
    // The other has no place to be sent to until it has come.
    let id = b.engine.find(&c.key).unwrap();
    assert_eq!(b.send(now, id, b"x"), Err(Sent::Dropped(Reason::NoEndpoint)));
    c.engine.set_peers(now, [config(b.key, &NO_KEY, Some(b.at))]);
    let _ = c.send(now, c.peer(), b"here");
    exchange(now, &mut c, &mut b);
    assert_eq!(b.engine.peer(id).unwrap().endpoint, Some(c.at));
    assert!(b.send(now, id, b"x").is_ok());
}

#[test]
fn a_place_is_freed_for_another_and_nothing_of_the_old_is_left() {
    let [mut a, mut b] = two(&NO_KEY);
    let _ = a.send(0, a.peer(), b"secret of the first peer");
    let request = a.engine.poll_static(0).unwrap();
    let id = a.peer();
    let c = Node::new(3);
    a.engine.set_peers(0, [config(c.key, &NO_KEY, Some(c.at))]);
    assert_eq!(a.peer(), id);
    // The keystore's answer for the first one comes too late.
    let reply = a.answer(request);
    assert_eq!(a.engine.static_reply(0, reply), None);
    assert!(a.settle(0).is_empty());
    let _ = a.send(0, id, b"x");
    let said = a.settle(0);
    assert!(said.iter().all(|(to, _)| *to == c.at) && said.len() == 1);
    assert_eq!(b.receive(0, a.at, &said[0].1), Got::Dropped(Reason::Mac));
}

#[test]
fn another_preshared_key_voids_the_session_and_another_place_does_not() {
    let [mut a, mut b] = joined(0);
    let now = 10 * SECOND;
    let moved = endpoint(50);
    a.engine.set_peers(now, [config(b.key, &NO_KEY, Some(moved))]);
    let (to, packet) = a.send(now, a.peer(), b"x").unwrap();
    assert_eq!(to, moved);
    assert!(matches!(b.receive(now, a.at, &packet), Got::Packet(..)));
    // Configured as before, it keeps the place that was learned.
    let (_, packet) = b.send(now, b.peer(), b"x").unwrap();
    assert!(matches!(a.receive(now, b.at, &packet), Got::Packet(..)));
    a.engine.set_peers(now, [config(b.key, &NO_KEY, Some(moved))]);
    assert_eq!(a.view().endpoint, Some(b.at));
    a.engine.set_peers(now, [config(b.key, &NO_KEY, None)]);
    assert_eq!(a.view().endpoint, Some(b.at));
    a.engine.set_peers(now, [config(b.key, &[9; 32], Some(b.at))]);
    assert_eq!((a.engine.indices(), a.send(now, a.peer(), b"x")), (0, Err(Sent::Queued)));
    assert_eq!(exchange(now, &mut a, &mut b)[1], Vec::<Vec<u8>>::new());
    b.engine.set_peers(now, [config(a.key, &[9; 32], Some(a.at))]);
    let later = now + 20 * SECOND;
    a.engine.tick(later);
    assert_eq!(exchange(later, &mut a, &mut b)[1], [padded(b"x")]);
}

#[test]
fn own_key_doubles_and_too_many_are_passed_over() {
    let mut a = Node::new(1);
    let others: Vec<Key> = (10..40).map(|n| Node::new(n).key).collect();
    let own = config(a.key, &NO_KEY, None);
    let doubled = config(others[0], &NO_KEY, Some(endpoint(99)));
    let all = others.iter().map(|key| config(*key, &NO_KEY, Some(endpoint(5))));
    let first = all.clone().take(1);
    a.engine.set_peers(0, [own].into_iter().chain(first).chain([doubled]).chain(all.skip(1)));
    assert_eq!(a.engine.peers().count(), MAX_PEERS);
    assert!(a.engine.find(&a.key).is_none());
    let first = a.engine.find(&others[0]).unwrap();
    assert_eq!(a.engine.peer(first).unwrap().endpoint, Some(endpoint(5)));
    a.engine.set_peers(0, others[20..].iter().map(|key| config(*key, &NO_KEY, None)));
    assert!(others[20..].iter().all(|key| a.engine.find(key).is_some()));
    a.engine.set_peers(0, []);
    assert_eq!((a.engine.peers().count(), a.engine.deadline()), (0, None));
}

#[test]
fn a_peer_is_followed_to_where_it_speaks_from_and_only_then() {
    let [mut a, mut b] = joined(0);
    let (_, packet) = a.send(SECOND, a.peer(), b"x").unwrap();
    let mut bad = packet.clone();
    bad[40] ^= 1;
    assert_eq!(b.receive(SECOND, endpoint(60), &bad), Got::Dropped(Reason::Forged));
    assert_eq!(b.view().endpoint, Some(a.at));
    assert!(matches!(b.receive(SECOND, endpoint(61), &packet), Got::Packet(..)));
    assert_eq!(b.view().endpoint, Some(endpoint(61)));
    assert_eq!(b.receive(SECOND, endpoint(62), &packet), Got::Dropped(Reason::Replay));
    assert_eq!(b.send(SECOND, b.peer(), b"y").unwrap().0, endpoint(61));
    // A handshake moves it, too, and the response goes there.
    a.engine.rotate(10 * SECOND);
    let [(_, initiation)] = a.settle(10 * SECOND).try_into().unwrap();
    assert_eq!(b.receive(10 * SECOND, endpoint(63), &initiation), Got::Waits);
    assert_eq!(b.settle(10 * SECOND)[0].0, endpoint(63));
}

#[test]
fn rotating_makes_new_keys_with_all_at_once() {
    let [mut a, mut b] = joined(0);
    let (_, old) = b.send(SECOND, b.peer(), b"old").unwrap();
    a.engine.rotate(SECOND);
    assert_eq!(a.receive(SECOND, b.at, &old), Got::Dropped(Reason::UnknownIndex));
    exchange(SECOND, &mut a, &mut b);
    assert_eq!(a.view().last_handshake, Some(SECOND));
    let (_, new) = b.send(SECOND, b.peer(), b"new").unwrap();
    assert!(matches!(a.receive(SECOND, b.at, &new), Got::Packet(..)));
}

#[test]
fn packets_are_padded_and_bounded_by_the_mtu() {
    let [mut a, mut b] = joined(0);
    for (length, wire) in [(1, 16), (15, 16), (16, 16), (17, 32), (1408, 1408), (1409, 1420), (1420, 1420)] {
        let (_, datagram) = a.send(0, a.peer(), &std::vec![7; length]).unwrap();
        assert_eq!(datagram.len(), wire + OVERHEAD);
        let Got::Packet(packet, _) = b.receive(0, a.at, &datagram) else { panic!("not received") };
        assert!(packet[..length].iter().all(|byte| *byte == 7) && packet[length..].iter().all(|byte| *byte == 0));
    }
    assert_eq!(a.send(0, a.peer(), &[0; 1421]), Err(Sent::Dropped(Reason::Length)));
    assert_eq!(a.send(0, a.peer(), &[]), Err(Sent::Dropped(Reason::Length)));
    assert_eq!(a.send(0, PeerId(9), b"x"), Err(Sent::Dropped(Reason::NoPeer)));
    assert_eq!(a.send(0, PeerId(99), b"x"), Err(Sent::Dropped(Reason::NoPeer)));
    let short = a.engine.send(0, a.peer(), b"x", &mut [0; 47]);
    assert_eq!(short, Sent::Dropped(Reason::Length));
    assert_eq!(a.engine.dropped(Reason::Length), 3);
    // A number that was given to nothing is not lost to the window.
    let (_, datagram) = a.send(0, a.peer(), b"x").unwrap();
    assert!(matches!(b.receive(0, a.at, &datagram), Got::Packet(..)));
}

#[test]
fn bytes_are_counted_as_on_the_wire() {
    let [mut a, b] = joined(0);
    let (sent, received) = (a.view().sent, b.view().received);
    // The packet that waited.
    assert_eq!((sent, received), (48, 48));
    let (_, datagram) = a.send(0, a.peer(), &[1; 100]).unwrap();
    assert_eq!(a.view().sent, sent + datagram.len() as u64);
}

#[test]
fn a_keystore_that_refuses_or_answers_amiss_stops_nothing() {
    let [mut a, mut b] = two(&NO_KEY);
    let _ = a.send(0, a.peer(), b"x");
    assert!(a.engine.static_reply(0, Err(Refused)).is_none());
    let mut now = 0;
    for amiss in [false, true] {
        let request = a.engine.poll_static(now).unwrap();
        assert!(matches!(request, StaticRequest::Start(_)));
        // One at a time.
        assert!(a.engine.poll_static(now).is_none());
        let reply = if amiss { Ok(StaticReply::Finish([0; 32])) } else { Err(Refused) };
        assert!(a.engine.static_reply(now, reply).is_none());
        assert!(a.settle(now).is_empty());
        now = a.engine.deadline().unwrap();
        a.engine.tick(now);
    }
    assert_eq!(a.engine.dropped(Reason::Refused), 2);
    assert_eq!(exchange(now, &mut a, &mut b)[1], [padded(b"x")]);
}

#[test]
fn an_answer_to_what_is_no_longer_wanted_is_dropped() {
    // A response's: the handshake was begun anew meanwhile.
    let [mut a, mut b] = two(&NO_KEY);
    let _ = a.send(0, a.peer(), b"x");
    let [(_, initiation)] = a.settle(0).try_into().unwrap();
    assert_eq!(b.receive(0, a.at, &initiation), Got::Waits);
    let [(_, response)] = b.settle(0).try_into().unwrap();
    assert_eq!(a.receive(0, b.at, &response), Got::Waits);
    let request = a.engine.poll_static(0).unwrap();
    assert!(matches!(request, StaticRequest::Finish(_)));
    a.engine.rotate(SECOND);
    // There is another question, but one at a time.
    assert!(a.engine.poll_static(SECOND).is_none());
    let reply = a.answer(request);
    assert_eq!(a.engine.static_reply(SECOND, reply), None);
    assert_eq!((a.view().last_handshake, a.engine.indices()), (None, 0));
    assert_eq!(exchange(SECOND, &mut a, &mut b)[1], [padded(b"x")]);
}

#[test]
fn handshakes_of_both_at_once_end_in_a_session() {
    let [mut a, mut b] = two(&[4; 32]);
    assert_eq!(a.send(0, a.peer(), b"from a"), Err(Sent::Queued));
    assert_eq!(b.send(0, b.peer(), b"from b"), Err(Sent::Queued));
    assert_eq!(exchange(0, &mut a, &mut b), [[padded(b"from b")], [padded(b"from a")]]);
    // Each may have keys of its own in use: both are taken.
    for _ in 0..3 {
        let (_, x) = a.send(0, a.peer(), b"x").unwrap();
        let (_, y) = b.send(0, b.peer(), b"y").unwrap();
        assert!(matches!(b.receive(0, a.at, &x), Got::Packet(..)));
        assert!(matches!(a.receive(0, b.at, &y), Got::Packet(..)));
    }
}

#[test]
fn none_of_many_peers_waits_for_the_others() {
    let mut hub = Node::new(1);
    let mut others: Vec<Node> = (2..18).map(Node::new).collect();
    hub.engine.set_peers(0, others.iter().map(|node| config(node.key, &NO_KEY, Some(node.at))));
    for other in &mut others {
        other.engine.set_peers(0, [config(hub.key, &NO_KEY, Some(hub.at))]);
    }
    hub.engine.rotate(0);
    let said = hub.settle(0);
    let mut places: Vec<_> = said.iter().map(|(to, _)| to.port as usize + usize::from(to.ip[0])).collect();
    places.sort_unstable();
    places.dedup();
    assert_eq!((said.len(), places.len()), (16, 16));
    assert!(said.iter().all(|(_, datagram)| kind(datagram) == Some(Kind::Initiation)));
    for (other, (_, datagram)) in others.iter_mut().zip(&said) {
        let to = said.iter().find(|(to, _)| *to == other.at).map_or(datagram, |(_, datagram)| datagram);
        assert_eq!(other.receive(0, hub.at, to), Got::Waits);
        for (_, response) in other.settle(0) {
            assert_eq!(hub.receive(0, other.at, &response), Got::Waits);
        }
    }
    assert_eq!(hub.settle(0).len(), 16);
    assert_eq!(hub.proven.len(), 16);
}
