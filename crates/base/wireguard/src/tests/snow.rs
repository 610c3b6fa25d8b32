//! The handshake's Noise by another implementation of Noise: what WireGuard puts around it is set by hand.

use ::snow::{Builder, HandshakeState};
use std::vec::Vec;

use super::*;

const PARAMS: &str = "Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s";
const PRESHARED: [u8; 32] = [6; 32];
const OTHER: [u8; 32] = [44; 32];

fn builder() -> Builder<'static> {
    let builder = Builder::new(PARAMS.parse().unwrap());
    let builder = builder.local_private_key(&OTHER).unwrap();
    builder.prologue(b"WireGuard v1 zx2c4 Jason@zx2c4.com").unwrap().psk(2, &PRESHARED).unwrap()
}

fn node() -> Node {
    let mut node = Node::new(1);
    let key = dh_public(&Secret::new(OTHER));
    node.engine.set_peers(0, [config(key, &PRESHARED, Some(endpoint(9)))]);
    node
}

fn with_macs(to: &Key, parts: &[&[u8]]) -> Vec<u8> {
    let mut message = [parts.concat(), std::vec![0; 32]].concat();
    crate::cookie::Sealer::new(to).seal(0, &mut message);
    message
}

/// Both ends have the same keys: a packet each way.
fn talk(node: &mut Node, handshake: HandshakeState, theirs: u32, ours: &[u8]) {
    let transport = handshake.into_stateless_transport_mode().unwrap();
    let mut sealed = [0; 32];
    assert_eq!(transport.write_message(0, &[5; 16], &mut sealed).unwrap(), 32);
    let datagram = [&[4, 0, 0, 0][..], ours, &[0; 8], &sealed].concat();
    assert_eq!(node.receive(0, endpoint(9), &datagram), Got::Packet(std::vec![5; 16], true));
    // The first of the initiator's has been a keepalive.
    node.drain(0);
    let (_, datagram) = node.send(0, node.peer(), &[6; 16]).unwrap();
    assert_eq!(datagram[4..8], theirs.to_le_bytes());
    let counter = u64::from_le_bytes(datagram[8..16].try_into().unwrap());
    let mut opened = [0; 16];
    assert_eq!(transport.read_message(counter, &datagram[16..], &mut opened).unwrap(), 16);
    assert_eq!(opened, [6; 16]);
}

#[test]
fn as_responder() {
    let mut node = node();
    let mut snow = builder().remote_public_key(&node.key).unwrap().build_initiator().unwrap();
    let mut noise = [0; 108];
    assert_eq!(snow.write_message(&[1; 12], &mut noise).unwrap(), noise.len());
    let initiation = with_macs(&node.key, &[&[1, 0, 0, 0], &77u32.to_le_bytes(), &noise]);
    assert_eq!(node.receive(0, endpoint(9), &initiation), Got::Waits);
    let [(_, response)] = node.settle(0).try_into().unwrap();
    assert_eq!((response.len(), &response[..4], &response[8..12]), (92, &[2, 0, 0, 0][..], &77u32.to_le_bytes()[..]));
    assert_eq!(snow.read_message(&response[12..60], &mut []).unwrap(), 0);
    talk(&mut node, snow, 77, &response[4..8]);
}

#[test]
fn as_initiator() {
    let mut node = node();
    let mut snow = builder().build_responder().unwrap();
    let _ = node.send(0, node.peer(), b"x");
    let [(_, initiation)] = node.settle(0).try_into().unwrap();
    let mut timestamp = [0; 12];
    assert_eq!(snow.read_message(&initiation[8..116], &mut timestamp).unwrap(), 12);
    assert_eq!(snow.get_remote_static(), Some(&node.key[..]));
    // TAI64N: seconds from 2^62 on.
    assert_eq!(timestamp[0], 0x40);
    let mut noise = [0; 48];
    assert_eq!(snow.write_message(&[], &mut noise).unwrap(), noise.len());
    let response = with_macs(&node.key, &[&[2, 0, 0, 0], &78u32.to_le_bytes(), &initiation[4..8], &noise]);
    assert_eq!(node.receive(0, endpoint(9), &response), Got::Waits);
    while node.ask(0) {}
    talk(&mut node, snow, 78, &initiation[4..8]);
}
