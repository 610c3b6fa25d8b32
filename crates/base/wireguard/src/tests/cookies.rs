//! Cookies between two engines (the paper, section 5.3).

use std::vec::Vec;

use super::*;
use crate::time::COOKIE_TIME;

/// Brings the node under load.
fn load(node: &mut Node, now: Micros) {
    let mut stranger = Node::new(8);
    stranger.engine.set_peers(0, [config(node.key, &NO_KEY, Some(node.at))]);
    let _ = stranger.send(now, stranger.peer(), b"x");
    let [(_, initiation)] = stranger.settle(now).try_into().unwrap();
    let replies = (0..60).filter(|n| {
        let got = node.receive(now, endpoint(100 + n), &initiation);
        matches!(got, Got::Reply(_))
    });
    assert!(replies.count() > 30);
}

fn initiation(node: &mut Node, now: Micros) -> Vec<u8> {
    node.engine.rotate(now);
    let [(_, initiation)] = node.settle(now).try_into().unwrap();
    initiation
}

const NOW: Micros = 1000 * SECOND;

#[test]
fn under_load_a_cookie_is_asked_for_and_shown() {
    let [mut a, mut b] = two(&NO_KEY);
    load(&mut b, NOW);
    let first = initiation(&mut a, NOW);
    assert_eq!(first[132..], [0; 16]);
    let Got::Reply(reply) = b.receive(NOW, a.at, &first) else { panic!("no reply") };
    assert_eq!((reply.len(), &reply[..4], &reply[4..8]), (64, &[3, 0, 0, 0][..], &first[4..8]));
    assert_eq!(a.receive(NOW, b.at, &reply), Got::Nothing);
    // Once, and not for a message that was not the last.
    assert!(matches!(a.receive(NOW, b.at, &reply), Got::Dropped(_)));
    let second = initiation(&mut a, NOW);
    assert_ne!(second[132..], [0; 16]);
    // The cookie is of the place it was given to.
    assert!(matches!(b.receive(NOW, endpoint(70), &second), Got::Reply(_)));
    assert_eq!(b.receive(NOW, a.at, &second), Got::Waits);
}

#[test]
fn a_cookie_reply_that_is_not_the_peers_changes_nothing() {
    let [mut a, mut b] = two(&NO_KEY);
    load(&mut b, NOW);
    let first = initiation(&mut a, NOW);
    let Got::Reply(reply) = b.receive(NOW, a.at, &first) else { panic!("no reply") };
    for bit in 8 * 8..64 * 8 {
        let mut bad = reply.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(a.receive(NOW, b.at, &bad), Got::Dropped(Reason::Forged), "{bit}");
    }
    for byte in 4..8 {
        let mut bad = reply.clone();
        bad[byte] ^= 1;
        assert_eq!(a.receive(NOW, b.at, &bad), Got::Dropped(Reason::UnknownIndex));
    }
    assert!(a.settle(NOW).is_empty());
    // And the right one is still taken, from wherever it comes; the peer is not moved by it.
    assert_eq!(a.receive(NOW, endpoint(71), &reply), Got::Nothing);
    assert_eq!(a.view().endpoint, Some(b.at));
}

#[test]
fn a_wrong_mac1_is_not_answered_however_high_the_load() {
    let [mut a, mut b] = two(&NO_KEY);
    load(&mut b, NOW);
    let mut first = initiation(&mut a, NOW);
    first[116] ^= 1;
    assert_eq!(b.receive(NOW, a.at, &first), Got::Dropped(Reason::Mac));
}

#[test]
fn load_and_cookies_pass() {
    let [mut a, mut b] = two(&NO_KEY);
    load(&mut b, NOW);
    let first = initiation(&mut a, NOW);
    let Got::Reply(reply) = b.receive(NOW, a.at, &first) else { panic!("no reply") };
    assert_eq!(a.receive(NOW, b.at, &reply), Got::Nothing);
    let later = NOW + COOKIE_TIME;
    // The strangers no longer wait.
    while b.ask(later) {}
    assert_eq!(initiation(&mut a, later)[132..], [0; 16]);
    let plain = initiation(&mut a, later);
    assert_eq!(b.receive(later, a.at, &plain), Got::Waits);
}

#[test]
fn data_is_taken_whatever_the_load() {
    let [mut a, mut b] = joined(NOW);
    load(&mut b, NOW);
    let (_, packet) = a.send(NOW, a.peer(), b"x").unwrap();
    assert!(matches!(b.receive(NOW, a.at, &packet), Got::Packet(..)));
}
