//! The authority's end of the mesh, or that of a member that is no node, as a host of the world. It speaks WireGuard with the project's own engine, one for each
//! node, because the one that `os-network-admin` uses asks the system for time and randomness; what is above it, commands,
//! updates and what telemetry means, is that program's library.

use std::{
    cell::RefCell,
    collections::{BTreeMap, VecDeque},
    future::poll_fn,
    net::Ipv6Addr,
    rc::Rc,
    task::Poll,
};

use crypto::{Secret, dh_public};
use link::{DATAGRAM, HOP_LIMIT, UdpPorts};
use os_network_admin::{
    base::error::Error,
    fleet::{
        View,
        delivery::{Lane, News},
        endpoint,
    },
    registry::{AUTHORITY, Member, between},
};
use shm::Micros;
use smoltcp::wire::{IpProtocol, Ipv6Packet, UdpPacket};
use wire::{
    COMMAND_PORT, Ip, Key, MESH_PORT, Mac, TELEMETRY_PORT,
    handshake::{self, Started, Timestamps},
    receipt::Receipt,
    telemetry::Telemetry,
};
use wireguard::{
    Endpoint, Engine, MAX_DATAGRAM, MAX_MTU, PeerConfig, Received, Refused, Sent, StaticReply, StaticRequest,
};
use zerocopy::FromBytes;

use crate::{
    probe::{Answer, Probes},
    rng::Rng,
    station::Station,
    world::Host,
};

const ETHERNET_HEADER: usize = 14;

pub struct Authority {
    station: Rc<RefCell<Station>>,
    secret: Secret,
    timestamps: Timestamps,
    rng: Rng,
    /// The own inner address.
    inner: Ip,
    /// By the registry's number of the member.
    peers: BTreeMap<i64, Peer>,
    heard: VecDeque<(i64, News)>,
    /// What has been heard since that was last asked.
    said: Vec<(i64, News)>,
    now: Micros,
}

/// A node, and the tunnel to it.
struct Peer {
    at: Ip,
    inner: Ip,
    key: Key,
    engine: Box<Engine>,
    /// When the last of its sessions was agreed, and how many there were.
    agreed: Option<Micros>,
    handshakes: u64,
    probes: Option<Probes>,
}

impl Authority {
    /// On the host of this station.
    pub fn new(station: Rc<RefCell<Station>>, rng: &Rng) -> Self {
        let mut secret = Secret::new([0; 32]);
        rng.fill(&mut *secret);
        Self {
            station,
            secret,
            timestamps: Timestamps::of(1),
            rng: rng.split(),
            inner: [0; 16],
            peers: BTreeMap::new(),
            heard: VecDeque::new(),
            said: Vec::new(),
            now: 0,
        }
    }

    pub fn public(&self) -> Key {
        dh_public(&self.secret)
    }

    /// Takes on who is a member now, and drops who is none any more. `own`: the member that this is, if it is not the authority.
    pub fn set_members(&mut self, view: &View<'_>, own: Option<&Member>) -> Result<(), Error> {
        self.inner = view.fleet.addresses(own.map_or(AUTHORITY, |own| own.host)).1.octets();
        let live = view.live()?;
        self.peers.retain(|id, _| live.iter().any(|node| node.member.id == *id));
        for node in &live {
            let member = &node.member;
            let Some((endpoint, _)) = endpoint(node) else { continue };
            if self.peers.contains_key(&member.id) {
                continue;
            }
            let mut seed = Secret::new([0; 32]);
            self.rng.fill(&mut *seed);
            let mut engine = Box::new(Engine::new(self.public(), seed, MAX_MTU));
            let shared = own.map(|own| between((own.id, &own.preshared), (member.id, &member.preshared)));
            if let (Some(_), Some(mac)) = (own, member.mac) {
                // As what is exported says: a node answers no solicitation of a host that it does not know.
                self.station.borrow_mut().know(&link::Station::new(endpoint.ip, mac));
            }
            let config = PeerConfig {
                key: member.key,
                preshared: &shared.as_ref().unwrap_or(&member.preshared).0,
                endpoint: Some(Endpoint { ip: endpoint.ip, port: endpoint.port }),
                keepalive_s: 0,
            };
            engine.set_peers(self.now, [config]);
            let inner = view.fleet.addresses(member.host).1.octets();
            let peer =
                Peer { at: endpoint.ip, inner, key: member.key, engine, agreed: None, handshakes: 0, probes: None };
            self.peers.insert(member.id, peer);
        }
        Ok(())
    }

    /// Whether the session with a member is up.
    pub fn has_session(&self, member: i64) -> bool {
        let peer = self.peers.get(&member);
        peer.is_some_and(|peer| peer.engine.peers().any(|peer| peer.last_handshake.is_some()))
    }

    /// How many sessions have been agreed with a member.
    pub fn handshakes(&self, member: i64) -> u64 {
        self.peers.get(&member).map_or(0, |peer| peer.handshakes)
    }

    /// From now on probes go to a member, so often.
    pub fn probe(&mut self, member: i64, every: Micros) {
        let now = self.now;
        if let Some(peer) = self.peers.get_mut(&member) {
            peer.probes = Some(Probes::new(every, now));
        }
    }

    /// What a member has said since it is probed, but for telemetry, and when.
    pub fn answers(&self, member: i64) -> &[(Micros, Answer)] {
        let probes = self.peers.get(&member).and_then(|peer| peer.probes.as_ref());
        probes.map_or(&[], |probes| &probes.answers)
    }

    /// What members have said since this was last asked.
    pub fn take_said(&mut self) -> Vec<(i64, News)> {
        std::mem::take(&mut self.said)
    }

    fn send_probes(&mut self, member: i64) {
        let (now, from) = (self.now, self.inner);
        let Some(peer) = self.peers.get_mut(&member) else { return };
        let packets = peer.probes.as_mut().map_or_else(Vec::new, |probes| probes.due(now, from, peer.inner));
        packets.iter().for_each(|packet| self.send_packet(member, packet));
    }

    fn send(&mut self, member: i64, to: Ip, port: u16, payload: &[u8]) {
        let (from, to) = (link::Station::new(self.inner, [0; 6]), link::Station::new(to, [0; 6]));
        let mut frame = vec![0; DATAGRAM + payload.len()];
        frame[DATAGRAM..].copy_from_slice(payload);
        let ports = UdpPorts { source: port, destination: port };
        link::datagram(&mut frame, &from, &to, ports, HOP_LIMIT).expect("a datagram fits into a packet");
        self.send_packet(member, &frame[ETHERNET_HEADER..]);
    }

    fn send_packet(&mut self, member: i64, packet: &[u8]) {
        let Some(peer) = self.peers.get_mut(&member) else { return };
        let Some(id) = peer.engine.find(&peer.key) else { return };
        let mut out = [0; MAX_DATAGRAM];
        if let Sent::Datagram { to, len } = peer.engine.send(self.now, id, packet, &mut out) {
            self.station.borrow_mut().send_to(&to.ip, MESH, &out[..len]);
        }
        self.pump(member);
    }

    /// Answers what an engine asks of the static key, and sends what it has to send.
    fn pump(&mut self, member: i64) {
        let Some(peer) = self.peers.get_mut(&member) else { return };
        peer.engine.tick(self.now);
        while let Some(request) = peer.engine.poll_static(self.now) {
            let reply = match request {
                StaticRequest::Start(request) => self.timestamps.next().and_then(|timestamp| {
                    Started::new(&self.secret, &request).map(|started| StaticReply::Start(started.seal(timestamp)))
                }),
                StaticRequest::Finish(request) => handshake::finish(&self.secret, &request).map(StaticReply::Finish),
                StaticRequest::Read(request) => handshake::read(&self.secret, &request).map(StaticReply::Read),
            };
            peer.engine.static_reply(self.now, reply.ok_or(Refused));
        }
        let mut out = [0; MAX_DATAGRAM];
        while let Some((to, len)) = peer.engine.poll_transmit(self.now, &mut out) {
            self.station.borrow_mut().send_to(&to.ip, MESH, &out[..len]);
        }
        let agreed = peer.engine.peers().find_map(|peer| peer.last_handshake);
        if agreed != peer.agreed {
            (peer.agreed, peer.handshakes) = (agreed, peer.handshakes + 1);
        }
    }

    fn hear(&mut self) {
        loop {
            let Some(mut datagram) = self.station.borrow_mut().receive_from(MESH_PORT) else { return };
            let from = Endpoint { ip: datagram.from, port: datagram.ports.source };
            let Some((member, peer)) = self.peers.iter_mut().find(|(_, peer)| peer.at == datagram.from) else {
                continue;
            };
            let member = *member;
            let mut said = None;
            match peer.engine.receive(self.now, from, &mut datagram.payload) {
                Received::Packet { packet, .. } => {
                    if let Some(news) = telemetry(packet, peer.inner, self.inner) {
                        self.heard.push_back((member, news.clone()));
                        self.said.push((member, news));
                    } else if let Some(probes) = &mut peer.probes {
                        said = probes.take(self.now, packet, peer.inner, self.inner);
                    }
                }
                Received::Reply(reply) => self.station.borrow_mut().send_to(&from.ip, MESH, reply),
                _ => {}
            }
            self.pump(member);
            if let Some(packet) = said {
                self.send_packet(member, &packet);
            }
        }
    }
}

const MESH: UdpPorts = UdpPorts { source: MESH_PORT, destination: MESH_PORT };

/// The record or the receipt in an inner packet from a node's own address.
fn telemetry(packet: &[u8], from: Ip, to: Ip) -> Option<News> {
    let packet = Ipv6Packet::new_checked(packet).ok()?;
    let right = packet.src_addr().octets() == from && packet.dst_addr().octets() == to;
    let udp =
        UdpPacket::new_checked(packet.payload()).ok().filter(|_| right && packet.next_header() == IpProtocol::Udp)?;
    let payload = (udp.dst_port() == TELEMETRY_PORT).then(|| udp.payload())?;
    let record = Telemetry::parse(payload).map(|record| News::Record(Box::new(record)));
    record.or_else(|| Receipt::read_from_bytes(payload).ok().map(News::Receipt))
}

impl Host for Authority {
    fn mac(&self) -> Mac {
        self.station.borrow().at.mac
    }

    fn receive(&mut self, frame: &[u8]) {
        self.station.borrow_mut().receive(frame);
    }

    fn poll(&mut self, now: Micros) -> Vec<Vec<u8>> {
        self.now = now;
        self.hear();
        let members: Vec<i64> = self.peers.keys().copied().collect();
        for member in members {
            self.pump(member);
            self.send_probes(member);
        }
        self.station.borrow_mut().poll(now)
    }

    fn next(&mut self) -> Option<Micros> {
        let engines = self.peers.values().filter_map(|peer| peer.engine.deadline());
        let engines = engines.map(|at| at.max(self.now + 1)).min();
        let probes = self.peers.values().filter_map(|peer| Some(peer.probes.as_ref()?.next)).min();
        [engines, probes, self.station.borrow_mut().next()].into_iter().flatten().min()
    }
}

/// The way to the nodes and back, for [`os_network_admin::fleet::delivery`].
pub struct Mesh(pub Rc<RefCell<Authority>>);

impl Lane for Mesh {
    async fn send(&mut self, to: &Member, at: Ipv6Addr, datagram: &[u8]) -> Result<(), Error> {
        self.0.borrow_mut().send(to.id, at.octets(), COMMAND_PORT, datagram);
        Ok(())
    }

    async fn next(&mut self) -> Result<(i64, News), Error> {
        let heard = &self.0;
        Ok(poll_fn(|_| heard.borrow_mut().heard.pop_front().map_or(Poll::Pending, Poll::Ready)).await)
    }
}
