//! A member of the fleet that is no node of ours: the administrator's end, a laptop. An engine with its key, and as much
//! of a link as it needs.

use std::{collections::BTreeMap, vec::Vec};

use crypto::Secret;
use shm::Micros;
use wire::{
    Ip, Key, MESH_PORT,
    handshake::{self, Started, Timestamps},
};
use wireguard::{
    Endpoint, Engine, MAX_DATAGRAM, MAX_MTU, PeerConfig, PeerId, Received, Sent, StaticReply, StaticRequest,
};

use super::packets::{self, Outer, Spot};

const NO_PRESHARED: [u8; 32] = [0; 32];

pub struct Outsider {
    pub n: u8,
    pub spot: Spot,
    pub port: u16,
    pub key: Key,
    secret: Secret,
    pub engine: Engine,
    stamps: Timestamps,
    /// Where the others are on the link: it does not solicit.
    pub neighbours: BTreeMap<Ip, Spot>,
    /// Packets that came through the tunnel, padding cut off.
    pub got: Vec<Vec<u8>>,
    /// Frames to it that its engine dropped.
    pub dropped: usize,
    /// It hears nothing and says nothing.
    pub cut: bool,
    /// It answers no solicitation.
    pub mute: bool,
    pub out: Vec<Vec<u8>>,
}

impl Outsider {
    pub fn new(n: u8) -> Self {
        let secret = Secret::new([n; 32]);
        let key = crypto::dh_public(&secret);
        Self {
            n,
            spot: Spot::link_local(n),
            port: MESH_PORT,
            key,
            engine: Engine::new(key, Secret::new([n ^ 0x80; 32]), MAX_MTU),
            secret,
            stamps: Timestamps::of(1),
            neighbours: BTreeMap::new(),
            got: Vec::new(),
            dropped: 0,
            cut: false,
            mute: false,
            out: Vec::new(),
        }
    }

    /// Another member; it begins no handshake with one that has no endpoint.
    pub fn know(&mut self, now: Micros, members: &[(Key, Option<Endpoint>)]) {
        let members = members.iter().map(|(key, endpoint)| PeerConfig {
            key: *key,
            preshared: &NO_PRESHARED,
            endpoint: *endpoint,
            keepalive_s: 0,
        });
        self.engine.set_peers(now, members);
    }

    pub fn peer(&self, key: &Key) -> PeerId {
        self.engine.find(key).unwrap()
    }

    /// Sends an inner packet to the member of this key.
    pub fn send(&mut self, now: Micros, key: &Key, packet: &[u8]) {
        let mut out = [0; MAX_DATAGRAM];
        match self.engine.send(now, self.peer(key), packet, &mut out) {
            Sent::Datagram { to, len } => self.datagram(&to, &out[..len]),
            Sent::Queued => {}
            Sent::Dropped(reason) => panic!("{reason:?}"),
        }
        self.settle(now);
    }

    fn datagram(&mut self, to: &Endpoint, bytes: &[u8]) {
        if self.cut {
            return;
        }
        let hop = *self.neighbours.get(&to.ip).unwrap();
        self.out.push(packets::datagram(self.spot, hop.of_ip(to.ip), (self.port, to.port), bytes));
    }

    pub fn hear(&mut self, now: Micros, frame: &[u8]) {
        let (from, to, outer) = packets::read(frame);
        if self.cut {
            return;
        }
        match outer {
            Outer::Solicitation(target) if target == self.spot.ip && !self.mute => {
                self.neighbours.insert(from.ip, from);
                self.out.push(packets::advertisement(self.spot, from, target, self.spot.mac));
            }
            Outer::Datagram(ports, mut bytes) if to == self.spot && ports.1 == self.port => {
                self.neighbours.insert(from.ip, from);
                let from = Endpoint { ip: from.ip, port: ports.0 };
                match self.engine.receive(now, from, &mut bytes) {
                    Received::Packet { packet, .. } => {
                        let packet = policy::Packet::parse(packet).expect("a node sends whole packets").bytes.to_vec();
                        self.got.push(packet);
                    }
                    Received::Reply(_) => panic!("no load here"),
                    Received::Dropped(_) => self.dropped += 1,
                    Received::Keepalive { .. } | Received::Waits | Received::Nothing => {}
                }
                self.settle(now);
            }
            _ => {}
        }
    }

    pub fn tick(&mut self, now: Micros) {
        self.engine.tick(now);
        self.settle(now);
    }

    fn settle(&mut self, now: Micros) {
        while let Some(request) = self.engine.poll_static(now) {
            let reply = match request {
                StaticRequest::Start(request) => Started::new(&self.secret, &request)
                    .map(|started| StaticReply::Start(started.seal(self.stamps.next().unwrap()))),
                StaticRequest::Finish(request) => handshake::finish(&self.secret, &request).map(StaticReply::Finish),
                StaticRequest::Read(request) => handshake::read(&self.secret, &request).map(StaticReply::Read),
            };
            self.engine.static_reply(now, reply.ok_or(wireguard::Refused));
        }
        let mut out = [0; MAX_DATAGRAM];
        while let Some((to, len)) = self.engine.poll_transmit(now, &mut out) {
            self.datagram(&to, &out[..len]);
        }
    }

    pub fn take(&mut self) -> Vec<Vec<u8>> {
        core::mem::take(&mut self.got)
    }
}
