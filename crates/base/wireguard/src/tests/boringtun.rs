//! Against another implementation of the protocol, in one process.

use std::vec::Vec;

use ::boringtun::{
    noise::{Tunn, TunnResult, errors::WireGuardError, rate_limiter::RateLimiter},
    x25519::{PublicKey, StaticSecret},
};
use std::sync::Arc;

use super::*;

struct Other {
    tunnel: Tunn,
    key: Key,
}

/// What it makes of a datagram: what it sends, and what comes out of the tunnel.
#[derive(Debug, Default, PartialEq, Eq)]
struct Made {
    sent: Vec<Vec<u8>>,
    packets: Vec<Vec<u8>>,
    failed: bool,
}

impl Other {
    fn new(peer: &Key, preshared: &[u8; 32], limit: Option<u64>) -> Self {
        let secret = StaticSecret::from([99; 32]);
        let public = PublicKey::from(&secret);
        let limiter = limit.map(|limit| Arc::new(RateLimiter::new(&public, limit)));
        let preshared = (*preshared != NO_KEY).then_some(*preshared);
        let tunnel = Tunn::new(secret, PublicKey::from(*peer), preshared, None, 7, limiter);
        Self { tunnel, key: public.to_bytes() }
    }

    fn feed(&mut self, datagram: &[u8]) -> Made {
        let mut made = Made::default();
        let mut out = [0; 2048];
        let mut input = datagram;
        loop {
            let from = core::net::IpAddr::from([1; 16]);
            match self.tunnel.decapsulate(Some(from), input, &mut out) {
                TunnResult::Done => return made,
                TunnResult::Err(_) => {
                    made.failed = true;
                    return made;
                }
                TunnResult::WriteToNetwork(bytes) => made.sent.push(bytes.to_vec()),
                TunnResult::WriteToTunnelV4(bytes, _) | TunnResult::WriteToTunnelV6(bytes, _) => {
                    made.packets.push(bytes.to_vec());
                }
            }
            input = &[];
        }
    }

    fn send(&mut self, packet: &[u8]) -> Option<Vec<u8>> {
        let mut out = [0; 2048];
        match self.tunnel.encapsulate(packet, &mut out) {
            TunnResult::WriteToNetwork(bytes) => Some(bytes.to_vec()),
            _ => None,
        }
    }

    fn initiate(&mut self) -> Vec<u8> {
        let mut out = [0; 2048];
        match self.tunnel.format_handshake_initiation(&mut out, true) {
            TunnResult::WriteToNetwork(bytes) => bytes.to_vec(),
            other => panic!("{other:?}"),
        }
    }
}

/// An IPv6 packet of this length, which boringtun looks at, with a number in it.
fn packet(length: usize, number: u8) -> Vec<u8> {
    let mut packet = std::vec![number; length];
    packet[0] = 0x60;
    packet[4..6].copy_from_slice(&(length as u16 - 40).to_be_bytes());
    packet
}

const PRESHARED: [[u8; 32]; 2] = [NO_KEY, [42; 32]];

fn sides(preshared: &[u8; 32], limit: Option<u64>) -> (Node, Other) {
    let mut node = Node::new(1);
    let other = Other::new(&node.key, preshared, limit);
    node.engine.set_peers(0, [config(other.key, preshared, Some(endpoint(9)))]);
    (node, other)
}

/// Delivers what the node says, and what the other says to that.
fn deliver(now: Micros, node: &mut Node, other: &mut Other) -> (Vec<Got>, Vec<Vec<u8>>) {
    let (mut got, mut packets) = (Vec::new(), Vec::new());
    loop {
        let said = node.settle(now);
        if said.is_empty() {
            return (got, packets);
        }
        for (_, datagram) in said {
            let made = other.feed(&datagram);
            assert!(!made.failed);
            packets.extend(made.packets);
            got.extend(made.sent.iter().map(|datagram| node.receive(now, endpoint(9), datagram)));
        }
    }
}

/// Packets of many lengths each way.
fn talk(now: Micros, node: &mut Node, other: &mut Other) {
    for length in (40..200).chain([512, 1280, 1419, 1420]) {
        let packet = packet(length, length as u8);
        let (_, datagram) = node.send(now, node.peer(), &packet).unwrap();
        assert_eq!(other.feed(&datagram).packets, core::slice::from_ref(&packet));
        let datagram = other.send(&packet).unwrap();
        assert!(matches!(node.receive(now, endpoint(9), &datagram), Got::Packet(came, _) if came == packet));
    }
}

#[test]
fn as_initiator() {
    for preshared in &PRESHARED {
        let (mut node, mut other) = sides(preshared, None);
        assert_eq!(node.send(5, node.peer(), &packet(80, 1)), Err(Sent::Queued));
        let (got, packets) = deliver(5, &mut node, &mut other);
        assert_eq!((got, packets), (std::vec![Got::Waits], std::vec![packet(80, 1)]));
        assert_eq!(node.proven, [node.peer()]);
        talk(6, &mut node, &mut other);
    }
}

#[test]
fn as_responder() {
    for preshared in &PRESHARED {
        let (mut node, mut other) = sides(preshared, None);
        // Its first packet waits there until the response has come.
        let initiation = other.send(&packet(80, 1)).unwrap();
        assert_eq!(node.receive(5, endpoint(9), &initiation), Got::Waits);
        let (got, _) = deliver(5, &mut node, &mut other);
        assert_eq!(got, [Got::Keepalive(true), Got::Packet(packet(80, 1), false)]);
        assert_eq!(node.proven, []);
        talk(6, &mut node, &mut other);
    }
}

#[test]
fn another_preshared_key_makes_no_session() {
    let (mut node, mut other) = sides(&NO_KEY, None);
    node.engine.set_peers(0, [config(other.key, &[1; 32], Some(endpoint(9)))]);
    let _ = node.send(5, node.peer(), b"x");
    let (got, packets) = deliver(5, &mut node, &mut other);
    assert_eq!((got, packets.len()), (std::vec![Got::Waits], 0));
    assert_eq!((node.proven.len(), node.engine.dropped(Reason::Forged)), (0, 1));
}

#[test]
fn many_handshakes_one_after_the_other() {
    let (mut node, mut other) = sides(&PRESHARED[1], Some(1000));
    for round in 0..20u64 {
        let now = (1 + round * 10) * SECOND;
        if round % 3 == 0 {
            let initiation = other.initiate();
            assert_eq!(node.receive(now, endpoint(9), &initiation), Got::Waits);
        } else {
            node.engine.rotate(now);
        }
        deliver(now, &mut node, &mut other);
        talk(now, &mut node, &mut other);
    }
}

#[test]
fn under_its_load_the_node_shows_the_cookie() {
    // It is under load from the first message on.
    let (mut node, mut other) = sides(&NO_KEY, Some(0));
    let _ = node.send(5, node.peer(), &packet(60, 1));
    let (got, packets) = deliver(5, &mut node, &mut other);
    assert_eq!((got, packets.len()), (std::vec![Got::Nothing], 0));
    // The next initiation has the cookie; it asks for one with our keepalive's session no more.
    let now = node.engine.deadline().unwrap();
    assert!((5 * SECOND..6 * SECOND).contains(&now));
    node.engine.tick(now);
    let (got, packets) = deliver(now, &mut node, &mut other);
    assert_eq!((got, packets), (std::vec![Got::Waits], std::vec![packet(60, 1)]));
    talk(now, &mut node, &mut other);
}

#[test]
fn under_the_nodes_load_the_other_shows_the_cookie() {
    let (mut node, mut other) = sides(&NO_KEY, None);
    let now = 100 * SECOND;
    let mut replies = 0;
    for _ in 0..100 {
        match node.receive(now, endpoint(9), &other.initiate()) {
            Got::Reply(reply) => {
                replies += 1;
                assert!(!other.feed(&reply).failed);
            }
            got => assert_eq!(got, Got::Waits),
        }
    }
    // Only the first was without a cookie when there was load.
    assert_eq!(replies, 1);
    deliver(now, &mut node, &mut other);
    talk(now, &mut node, &mut other);
}

#[test]
fn what_one_refuses_of_the_others_messages() {
    let (mut node, mut other) = sides(&NO_KEY, Some(1000));
    let initiation = other.initiate();
    let mut bad = initiation.clone();
    bad[120] ^= 1;
    assert_eq!(node.receive(0, endpoint(9), &bad), Got::Dropped(Reason::Mac));
    assert_eq!(node.receive(0, endpoint(9), &initiation), Got::Waits);
    let [(_, response)] = node.settle(0).try_into().unwrap();
    let mut bad = response.clone();
    bad[20] ^= 1;
    let mut out = [0; 2048];
    let refused = other.tunnel.decapsulate(None, &bad, &mut out);
    assert!(matches!(refused, TunnResult::Err(WireGuardError::InvalidMac)));
    assert_eq!(other.feed(&response).sent.len(), 1);
}
