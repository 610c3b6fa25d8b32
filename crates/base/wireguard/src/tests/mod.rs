//! Whole engines, each with the static steps beside it.

mod boringtun;
mod cookies;
mod hostile;
mod pair;
mod peers;
mod snow;
mod timers;

use std::vec::Vec;

use crypto::{Secret, dh_public};
use wire::handshake::{self, Started, Timestamps};

use crate::*;

pub use crate::time::SECOND;

pub const NO_KEY: [u8; 32] = [0; 32];

pub struct Node {
    pub engine: Engine,
    pub secret: Secret,
    pub key: Key,
    pub at: Endpoint,
    stamps: Timestamps,
    /// Answers of the keystore so far.
    pub answers: usize,
    /// Whom [`Engine::static_reply`] named.
    pub proven: Vec<PeerId>,
}

pub type Datagrams = Vec<(Endpoint, Vec<u8>)>;

pub fn endpoint(n: u8) -> Endpoint {
    Endpoint { ip: [n; 16], port: 51820 }
}

impl Node {
    pub fn new(n: u8) -> Self {
        let secret = Secret::new([n; 32]);
        let key = dh_public(&secret);
        Self {
            engine: Engine::new(key, Secret::new([n ^ 0x80; 32]), MAX_MTU),
            secret,
            key,
            at: endpoint(n),
            stamps: Timestamps::of(1),
            answers: 0,
            proven: Vec::new(),
        }
    }

    pub fn answer(&mut self, request: StaticRequest) -> Result<StaticReply, Refused> {
        self.answers += 1;
        match request {
            StaticRequest::Start(request) => {
                let timestamp = self.stamps.next().ok_or(Refused)?;
                Started::new(&self.secret, &request).map(|started| StaticReply::Start(started.seal(timestamp)))
            }
            StaticRequest::Finish(request) => handshake::finish(&self.secret, &request).map(StaticReply::Finish),
            StaticRequest::Read(request) => handshake::read(&self.secret, &request).map(StaticReply::Read),
        }
        .ok_or(Refused)
    }

    /// One question to the keystore. False: there is none.
    pub fn ask(&mut self, now: Micros) -> bool {
        let Some(request) = self.engine.poll_static(now) else { return false };
        let reply = self.answer(request);
        self.proven.extend(self.engine.static_reply(now, reply));
        true
    }

    /// All that is to be asked and sent now.
    pub fn settle(&mut self, now: Micros) -> Datagrams {
        let mut said = Vec::new();
        loop {
            let asked = self.ask(now);
            let more = self.drain(now);
            let question = self.engine.has_question(now);
            if !asked && more.is_empty() && !question {
                return said;
            }
            said.extend(more);
        }
    }

    pub fn drain(&mut self, now: Micros) -> Datagrams {
        let mut out = [0; MAX_DATAGRAM];
        core::iter::from_fn(|| {
            let (to, len) = self.engine.poll_transmit(now, &mut out)?;
            Some((to, out[..len].to_vec()))
        })
        .collect()
    }

    pub fn tick(&mut self, now: Micros) -> Datagrams {
        self.engine.tick(now);
        self.settle(now)
    }

    /// What it received, without the borrow.
    pub fn receive(&mut self, now: Micros, from: Endpoint, datagram: &[u8]) -> Got {
        let mut datagram = datagram.to_vec();
        match self.engine.receive(now, from, &mut datagram) {
            Received::Packet { packet, first, .. } => Got::Packet(packet.to_vec(), first),
            Received::Keepalive { first, .. } => Got::Keepalive(first),
            Received::Waits => Got::Waits,
            Received::Reply(reply) => Got::Reply(reply.to_vec()),
            Received::Nothing => Got::Nothing,
            Received::Dropped(reason) => Got::Dropped(reason),
        }
    }

    pub fn send(&mut self, now: Micros, peer: PeerId, packet: &[u8]) -> Result<(Endpoint, Vec<u8>), Sent> {
        let mut out = [0xaa; MAX_DATAGRAM];
        match self.engine.send(now, peer, packet, &mut out) {
            Sent::Datagram { to, len } => Ok((to, out[..len].to_vec())),
            other => Err(other),
        }
    }

    /// Its only peer.
    pub fn peer(&self) -> PeerId {
        self.engine.peers().next().unwrap().id
    }

    pub fn view(&self) -> PeerView {
        self.engine.peers().next().unwrap()
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Got {
    Packet(Vec<u8>, bool),
    Keepalive(bool),
    Waits,
    Reply(Vec<u8>),
    Nothing,
    Dropped(Reason),
}

pub fn config<'a>(key: Key, preshared: &'a [u8; 32], endpoint: Option<Endpoint>) -> PeerConfig<'a> {
    PeerConfig { key, preshared, endpoint, keepalive_s: 0 }
}

/// Two nodes that know each other.
pub fn two(preshared: &[u8; 32]) -> [Node; 2] {
    let (mut a, mut b) = (Node::new(1), Node::new(2));
    a.engine.set_peers(0, [config(b.key, preshared, Some(b.at))]);
    b.engine.set_peers(0, [config(a.key, preshared, Some(a.at))]);
    [a, b]
}

/// Delivers what both have to say until they are silent. The packets that came at each.
pub fn exchange(now: Micros, a: &mut Node, b: &mut Node) -> [Vec<Vec<u8>>; 2] {
    let mut packets = [Vec::new(), Vec::new()];
    loop {
        let (from_a, from_b) = (a.settle(now), b.settle(now));
        if from_a.is_empty() && from_b.is_empty() {
            return packets;
        }
        let (at_a, at_b) = (a.at, b.at);
        for (side, to, from, sent) in [(1, &mut *b, at_a, from_a), (0, &mut *a, at_b, from_b)] {
            for (_, datagram) in sent {
                if let Got::Packet(packet, _) = to.receive(now, from, &datagram) {
                    packets[side].push(packet);
                }
            }
        }
    }
}

/// Two nodes with a session that `a` began.
pub fn joined(now: Micros) -> [Node; 2] {
    let [mut a, mut b] = two(&NO_KEY);
    assert_eq!(a.send(now, a.peer(), b"hello"), Err(Sent::Queued));
    let packets = exchange(now, &mut a, &mut b);
    assert_eq!(packets[1], [padded(b"hello")]);
    [a, b]
}

pub fn padded(packet: &[u8]) -> Vec<u8> {
    let mut padded = packet.to_vec();
    padded.resize(packet.len().next_multiple_of(16), 0);
    padded
}

/// A handshake as far as it goes, and its messages: initiation, response, first data.
pub fn messages(now: Micros, a: &mut Node, b: &mut Node) -> [Vec<u8>; 3] {
    let _ = a.send(now, a.peer(), b"first");
    let [(_, initiation)] = a.settle(now).try_into().unwrap();
    assert_eq!(b.receive(now, a.at, &initiation), Got::Waits);
    let [(_, response)] = b.settle(now).try_into().unwrap();
    assert_eq!(a.receive(now, b.at, &response), Got::Waits);
    let [(_, data)] = a.settle(now).try_into().unwrap();
    [initiation, response, data]
}
