//! The mesh's WireGuard against any datagrams, and two of them against any network. The static steps are the keystore's.

use crypto::{
    Secret, dh_public,
    noise::{hash, mac},
};
use wire::handshake::{self, Started, Timestamps};
use wireguard::{
    Endpoint, Engine, MAX_DATAGRAM, MAX_MTU, PeerConfig, Received, Refused, Sent, StaticReply, StaticRequest,
};

const SECOND: u64 = 1_000_000;

struct Node {
    engine: Engine,
    secret: Secret,
    key: [u8; 32],
    at: Endpoint,
    timestamps: Timestamps,
}

impl Node {
    fn new(n: u8) -> Box<Self> {
        let secret = Secret::new([n; 32]);
        let key = dh_public(&secret);
        let engine = Engine::new(key, Secret::new([n + 100; 32]), MAX_MTU);
        Box::new(Self { engine, secret, key, at: at(n), timestamps: Timestamps::of(1) })
    }

    fn knows(&mut self, other: &Self) {
        let peer = PeerConfig { key: other.key, preshared: &[3; 32], endpoint: Some(other.at), keepalive_s: 25 };
        self.engine.set_peers(SECOND, [peer]);
    }

    fn ask(&mut self, now: u64) -> bool {
        let Some(request) = self.engine.poll_static(now) else { return false };
        assert!(self.engine.poll_static(now).is_none());
        let reply = match request {
            StaticRequest::Start(request) => {
                let timestamp = self.timestamps.next().expect("a timestamp");
                Started::new(&self.secret, &request).map(|started| StaticReply::Start(started.seal(timestamp)))
            }
            StaticRequest::Finish(request) => handshake::finish(&self.secret, &request).map(StaticReply::Finish),
            StaticRequest::Read(request) => handshake::read(&self.secret, &request).map(StaticReply::Read),
        };
        self.engine.static_reply(now, reply.ok_or(Refused));
        true
    }

    fn said(&mut self, now: u64) -> Vec<Vec<u8>> {
        let mut out = [0; MAX_DATAGRAM];
        let mut said = Vec::new();
        loop {
            let asked = self.ask(now);
            let before = said.len();
            while let Some((_, length)) = self.engine.poll_transmit(now, &mut out) {
                said.push(out[..length].to_vec());
            }
            if !asked && said.len() == before {
                return said;
            }
        }
    }
}

fn at(n: u8) -> Endpoint {
    Endpoint { ip: [n; 16], port: 51820 }
}

/// Each is a byte of what is to be put right in it, a length, and the bytes.
fn datagrams(data: &[u8]) -> impl Iterator<Item = (u8, Vec<u8>)> + '_ {
    let mut rest = data;
    std::iter::from_fn(move || {
        let ([right, length, high], bytes) = rest.split_first_chunk()?;
        let length = usize::from(u16::from_le_bytes([*length, *high]) % 1600).min(bytes.len());
        let (datagram, after) = bytes.split_at(length);
        rest = after;
        Some((*right, datagram.to_vec()))
    })
}

/// Who knows the node's key and sees its traffic, but has no private key of a peer, gets no answer but a cookie, moves
/// no peer and brings no packet in.
pub fn receive(data: &[u8]) {
    let (mut node, mut peer) = (Node::new(1), Node::new(2));
    node.knows(&peer);
    peer.knows(&node);
    let mut now = SECOND;
    // One session stands and one handshake is under way.
    node.engine.tick(now);
    for _ in 0..4 {
        for mut datagram in node.said(now) {
            peer.engine.receive(now, node.at, &mut datagram);
        }
        for mut datagram in peer.said(now) {
            node.engine.receive(now, peer.at, &mut datagram);
        }
    }
    let view = node.engine.peers().next().expect("the peer");
    assert!(view.last_handshake.is_some());
    let mut out = [0; MAX_DATAGRAM];
    assert!(matches!(node.engine.send(now, view.id, &[1; 40], &mut out), Sent::Datagram { .. }));
    now += 130 * SECOND;
    assert!(matches!(node.engine.send(now, view.id, &[1; 40], &mut out), Sent::Datagram { .. }));
    let initiation = node.said(now).pop().expect("an initiation");
    let mac1_key = hash(&[b"mac1----", &node.key]);
    for (right, mut datagram) in datagrams(data) {
        let kind = [0, 1, 2, 3, 4, 4, 1, 2][usize::from(right & 7)];
        if kind > 0 {
            datagram.resize([0, 148, 92, 64, datagram.len().max(32)][kind], 0);
            datagram[..4].copy_from_slice(&[kind as u8, 0, 0, 0]);
            if right & 8 > 0 && kind > 1 {
                let index = if kind == 2 { 8..12 } else { 4..8 };
                datagram[index].copy_from_slice(&initiation[4..8]);
            }
            if right & 16 > 0 && kind < 3 {
                let (covered, macs) = datagram.split_at_mut([0, 116, 60][kind]);
                macs[..16].copy_from_slice(&mac(&mac1_key, &[covered]));
            }
        }
        now += u64::from(right >> 5) * SECOND / 8;
        let length = datagram.len();
        match node.engine.receive(now, at(7), &mut datagram) {
            Received::Reply(reply) => assert!(reply.len() == 64 && length > 64 && reply[0] == 3),
            Received::Waits | Received::Dropped(_) => {}
            other => panic!("{other:?}"),
        }
        node.ask(now);
    }
    assert_eq!(node.engine.peers().next().and_then(|peer| peer.endpoint), Some(peer.at));
    assert!(node.said(now).is_empty());
}

/// A network that does what the bytes say: nothing false comes through, and when it is good again, all does.
pub fn pair(data: &[u8]) {
    let mut nodes = [Node::new(1), Node::new(2)];
    let [a, b] = &mut nodes;
    a.knows(b);
    b.knows(a);
    let mut now = SECOND;
    let mut way: Vec<(usize, Endpoint, Vec<u8>, bool)> = Vec::new();
    let (mut number, mut came) = (0u32, [const { Vec::<u32>::new() }; 2]);
    let mut out = [0; MAX_DATAGRAM];
    let good = (0..400u32).map(|n| [0, 3, 1, 2][n as usize % 4]);
    let acts = data.chunks(2).take(400).map(|act| (act[0], act.last().copied().unwrap_or_default()));
    for (act, with) in acts.chain([(13, 0)]).chain(good.map(|act| (act, 0))) {
        let side = usize::from(act >> 7);
        match act & 15 {
            // To each side, a numbered packet.
            0..=2 => {
                for (side, node) in nodes.iter_mut().enumerate() {
                    number += 1;
                    let packet = [number.to_le_bytes(); 4].concat();
                    let peer = node.engine.peers().next().expect("the peer").id;
                    if let Sent::Datagram { len, .. } = node.engine.send(now, peer, &packet, &mut out) {
                        way.push((1 - side, node.at, out[..len].to_vec(), false));
                    }
                }
            }
            3..=8 if !way.is_empty() => {
                let count = if with == 0 { way.len() } else { 1 };
                for _ in 0..count {
                    let which = usize::from(with) % way.len();
                    let repeat = act & 15 == 8;
                    let (to, from, mut datagram, changed) = if repeat { way[which].clone() } else { way.remove(which) };
                    match nodes[to].engine.receive(now, from, &mut datagram) {
                        Received::Packet { packet, .. } => {
                            assert!(!changed && packet.len() == 16);
                            let [a, b, c, d, ..] = *packet else { panic!("a short packet") };
                            let number = u32::from_le_bytes([a, b, c, d]);
                            assert!(!came[to].contains(&number), "it came twice");
                            came[to].push(number);
                        }
                        Received::Keepalive { .. } => assert!(!changed),
                        Received::Reply(reply) => way.push((1 - to, nodes[to].at, reply.to_vec(), false)),
                        Received::Waits | Received::Nothing | Received::Dropped(_) => {}
                    }
                }
            }
            9 if !way.is_empty() => drop(way.remove(usize::from(with) % way.len())),
            10 if !way.is_empty() => {
                let which = usize::from(with) % way.len();
                let entry = &mut way[which];
                // Not twice: that might make it right again.
                if !std::mem::replace(&mut entry.3, true) {
                    let at = usize::from(with) * 7 % entry.2.len();
                    entry.2[at] ^= 1 << (with % 8);
                }
            }
            11 => nodes[side].engine.rotate(now),
            12 => {
                nodes[side].engine.poll_static(now);
                nodes[side].engine.static_reply(now, Err(Refused));
            }
            13 => way.clear(),
            14 => now += u64::from(with) * SECOND,
            _ => {}
        }
        now += SECOND / 20;
        for (side, node) in nodes.iter_mut().enumerate() {
            node.engine.tick(now);
            let from = node.at;
            way.extend(node.said(now).into_iter().map(|datagram| (1 - side, from, datagram, false)));
        }
        way.truncate(100);
    }
    // The last of the numbers are from when all was well.
    let recent = |came: &Vec<u32>| came.last().is_some_and(|last| last + 20 > number);
    assert!(came.iter().all(recent), "{:?} of {number}", came.map(|came| came.last().copied()));
}
