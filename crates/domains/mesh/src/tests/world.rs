//! Everything around the cores: regions, fake domains, the link, the clock, and a watch on every frame that leaves.

use core::sync::atomic::AtomicU64;
use std::{boxed::Box, collections::VecDeque, vec, vec::Vec};

use calls::{
    alarm::{Alarm, AlarmOf},
    drops::Drops,
    mesh::{Account, Heartbeat, MAX_SEATS, Membership, Seat, Stations, Tenancy},
    params::Params,
    rules::{MeshLink, Rules},
};
use heapless::Vec as Few;
use perimeter::Side;
use policy::{Configuration, Peer, Prefix, Role, Rule};
use shm::{
    Micros, ReadOnly, ReadWrite, cell,
    mailbox::{Client, Server},
    ring::{Duplex, FRAME_SLOT},
};
use wire::{
    COMMAND_PORT, Key, MESH_PORT, Phase, TELEMETRY_PORT,
    command::Command,
    telemetry::{CommandResult, Telemetry},
};
use wireguard::Endpoint;
use zerocopy::{FromZeros, IntoBytes};

use super::{
    domains::{Keystore, Lifecycle},
    outsider::Outsider,
    packets::{self, Outer, Spot, V4, V6},
};
use crate::{Memory, Mesh, Ports};

pub const MS: Micros = 1000;
pub const SECOND: Micros = 1_000_000;

/// The numbers of the members, in keys and addresses.
pub const AUTHORITY: u8 = 1;
pub const NODE: u8 = 2;
pub const OTHER: u8 = 3;
pub const LAPTOP: u8 = 9;

type Words = &'static [AtomicU64];

#[derive(Clone, Copy)]
struct Regions {
    keystore: [Words; 2],
    lifecycle: [Words; 2],
    membership: Words,
    perimeter: [Words; 2],
    stations: Words,
    drops: Words,
    account: Words,
    workload: [Words; 2],
    tenancy: Words,
    heartbeat: Words,
    timer: Words,
}

impl Regions {
    fn new() -> Self {
        Self {
            keystore: [region(0x1000), region(0x1000)],
            lifecycle: [region(0x2000), region(0x1000)],
            membership: region(0x2000),
            perimeter: [region(0x10000), region(0x10000)],
            stations: region(0x1000),
            drops: region(0x1000),
            account: region(0x1000),
            workload: [region(0x10000), region(0x10000)],
            tenancy: region(0x1000),
            heartbeat: region(0x1000),
            timer: region(0x1000),
        }
    }

    fn ports(&self) -> Ports<'static> {
        let client = |[request, reply]: [Words; 2]| Client::new(ReadWrite::new(request), ReadOnly::new(reply)).unwrap();
        Ports {
            keystore: client(self.keystore),
            lifecycle: client(self.lifecycle),
            membership: cell::Reader::new(ReadOnly::new(self.membership)).unwrap(),
            perimeter: near(self.perimeter),
            stations: cell::Writer::new(ReadWrite::new(self.stations)).unwrap(),
            drops: cell::Reader::new(ReadOnly::new(self.drops)).unwrap(),
            account: cell::Reader::new(ReadOnly::new(self.account)).unwrap(),
            workload: near(self.workload),
            tenancy: cell::Writer::new(ReadWrite::new(self.tenancy)).unwrap(),
            heartbeat: cell::Reader::new(ReadOnly::new(self.heartbeat)).unwrap(),
            alarm: Alarm::new(ReadWrite::new(self.timer)).unwrap(),
        }
    }
}

fn near([out, inn]: [Words; 2]) -> Duplex<'static, FRAME_SLOT> {
    Duplex::new(ReadWrite::new(out), ReadOnly::new(inn)).unwrap()
}

fn far([out, inn]: [Words; 2]) -> Duplex<'static, FRAME_SLOT> {
    near([inn, out])
}

fn region(bytes: usize) -> Words {
    let words: Vec<AtomicU64> = (0..bytes / 8).map(|_| AtomicU64::new(0)).collect();
    Box::leak(words.into_boxed_slice())
}

fn server<const MAX: usize>([request, reply]: [Words; 2]) -> Server<'static, MAX> {
    Server::new(ReadOnly::new(request), ReadWrite::new(reply)).unwrap()
}

fn core(params: &Params) -> Mesh<'static> {
    Mesh::new(Box::leak(Box::new(Memory::new())), params)
}

/// A node: the core, and the domains around it.
pub struct Node {
    pub n: u8,
    pub spot: Spot,
    pub mesh: Mesh<'static>,
    pub ports: Ports<'static>,
    pub keystore: Keystore,
    pub lifecycle: Lifecycle,
    pub workload: Duplex<'static, FRAME_SLOT>,
    pub heartbeat: cell::Writer<'static, Heartbeat>,
    pub stations: Stations,
    /// What the perimeter says.
    pub drops: cell::Writer<'static, Drops>,
    /// What lifecycle says.
    pub account: cell::Writer<'static, Account>,
    pub tenancy: Tenancy,
    /// Frames that left.
    pub left: Vec<Vec<u8>>,
    pub notified: bool,
    /// What lifecycle tells the perimeter.
    pub rules: Rules,
    net: Duplex<'static, FRAME_SLOT>,
    stations_cell: cell::Reader<'static, Stations>,
    tenancy_cell: cell::Reader<'static, Tenancy>,
    alarm: AlarmOf<'static>,
    backlog: VecDeque<Vec<u8>>,
    regions: Regions,
    params: Params,
}

impl Node {
    fn new(n: u8, params: Params) -> Self {
        let regions = Regions::new();
        let mut membership = Membership::new_zeroed();
        membership.epoch = 1;
        membership.fiduciary = [n | 0x80; 32];
        let spot = Spot::link_local(n);
        membership.link = link::Station::new(spot.ip, spot.mac);
        Self {
            n,
            spot,
            mesh: core(&params),
            ports: regions.ports(),
            keystore: Keystore::new(server(regions.keystore), n),
            lifecycle: Lifecycle {
                server: server(regions.lifecycle),
                cell: cell::Writer::new(ReadWrite::new(regions.membership)).unwrap(),
                membership,
                told: Vec::new(),
                trouble: None,
                result: CommandResult::Done,
            },
            workload: far(regions.workload),
            heartbeat: cell::Writer::new(ReadWrite::new(regions.heartbeat)).unwrap(),
            stations: Stations::NONE,
            drops: cell::Writer::new(ReadWrite::new(regions.drops)).unwrap(),
            account: cell::Writer::new(ReadWrite::new(regions.account)).unwrap(),
            tenancy: Tenancy::new_zeroed(),
            left: Vec::new(),
            notified: true,
            rules: Rules::CLOSED,
            net: far(regions.perimeter),
            stations_cell: cell::Reader::new(ReadOnly::new(regions.stations)).unwrap(),
            tenancy_cell: cell::Reader::new(ReadOnly::new(regions.tenancy)).unwrap(),
            alarm: AlarmOf::new(ReadOnly::new(regions.timer)).unwrap(),
            backlog: VecDeque::new(),
            regions,
            params,
        }
    }

    pub fn key(&self) -> Key {
        crypto::dh_public(&self.keystore.secret)
    }

    pub fn endpoint(&self) -> Endpoint {
        Endpoint { ip: self.spot.ip, port: MESH_PORT }
    }

    /// Puts a configuration into force.
    pub fn join(&mut self, configuration: &Configuration) {
        let underlay = configuration.underlay;
        self.keystore.owned = true;
        self.rules.phase = Phase::Claimed as u64;
        self.rules.link = self.lifecycle.membership.link;
        self.rules.mesh = MeshLink {
            member: 1,
            address: underlay.map_or([0; 16], |underlay| underlay.address.ip),
            length: underlay.map_or(0, |underlay| underlay.address.length.into()),
            gateway: underlay.and_then(|underlay| underlay.gateway).unwrap_or_default(),
        };
        let mut bytes = [0; 4096];
        let bytes = configuration.write(&mut bytes).unwrap();
        assert!(Configuration::parse(bytes).is_ok());
        self.lifecycle.membership.phase = Phase::Claimed as u64;
        self.lifecycle.membership.seats = seats(configuration);
        self.lifecycle.configure(bytes);
        self.lifecycle.publish();
        self.notified = true;
    }

    /// Another set is in force: these are in the mesh by it, and those have left it.
    pub fn adopt(&mut self, staying: &[Seat], parting: &[Seat]) {
        let membership = &mut self.lifecycle.membership;
        membership.sequence += 1;
        membership.seats = [Seat::default(); MAX_SEATS];
        let all = staying.iter().copied().chain(parting.iter().map(|seat| Seat { place: Seat::PARTS, ..*seat }));
        membership.seats.iter_mut().zip(all).for_each(|(to, seat)| *to = seat);
        self.lifecycle.publish();
        self.notified = true;
    }

    pub fn leave(&mut self) {
        self.lifecycle.configure(&[]);
        self.lifecycle.publish();
        self.notified = true;
    }

    /// The domain dies and is started again.
    pub fn restart(&mut self) {
        self.mesh = core(&self.params);
        self.ports = self.regions.ports();
        self.notified = true;
    }

    /// The keystore's mailbox begins anew.
    pub fn restart_keystore(&mut self) {
        self.keystore.server = server(self.regions.keystore);
        self.notified = true;
    }

    pub fn restart_lifecycle(&mut self) {
        self.lifecycle.server = server(self.regions.lifecycle);
        self.notified = true;
    }

    pub fn inject(&mut self, frame: Vec<u8>) {
        self.backlog.push_back(frame);
    }

    /// What the workload says.
    pub fn emit(&mut self, packet: &[u8]) {
        self.workload.send(packet).unwrap();
        self.notified = true;
    }

    /// What the workload hears.
    pub fn heard(&mut self) -> Vec<Vec<u8>> {
        let mut buffer = [0; 2048];
        core::iter::from_fn(|| self.workload.recv(&mut buffer).unwrap().map(|len| buffer[..len].to_vec())).collect()
    }

    pub fn armed(&mut self, now: Micros) -> Option<Micros> {
        let at = self.alarm.poll(now);
        self.notified |= self.alarm.take_signal();
        at
    }

    /// Every frame that leaves is one that may, and the perimeter thinks so too. The stations are those that are
    /// published by now.
    fn judge(&mut self, now: Micros, frame: &[u8]) {
        let (from, to, outer) = packets::read(frame);
        assert_ne!(self.lifecycle.membership.length, 0, "a frame without a membership");
        let verdict = perimeter::decide(&self.rules, &self.stations, now, Side::Mesh, frame);
        assert_eq!(verdict, Ok(Side::Net));
        assert_eq!(from.mac, self.spot.mac);
        let is_station = |ip| self.stations.iter().any(|station| *station == ip);
        match outer {
            Outer::Datagram(ports, bytes) => {
                assert!(is_station(to.ip), "a datagram to no station");
                assert_eq!(ports.0, MESH_PORT);
                assert_eq!(from.ip == self.spot.ip, to.ip[0] == 0xfe);
                assert!(bytes.len() >= 32 && bytes.len() <= 1452);
            }
            Outer::Solicitation(target) => {
                assert!(is_station(target), "a solicitation of no station");
                assert!(to.ip == target || to == Spot { ip: target, mac: [0; 6] }.solicited_node());
            }
            Outer::Advertisement(target) => {
                assert_eq!(target, from.ip);
                assert!(is_station(to.ip), "an advertisement to no station");
            }
        }
    }

    /// One round. Returns whether anything happened.
    fn run(&mut self, now: Micros, link: &mut Vec<Vec<u8>>) -> bool {
        let mut busy = false;
        while let Some(frame) = self.backlog.front() {
            if self.net.send(frame).is_err() {
                break;
            }
            self.backlog.pop_front();
            self.notified = true;
        }
        self.armed(now);
        if core::mem::take(&mut self.notified) {
            busy = true;
            self.notified = self.mesh.step(now, &mut self.ports);
            self.ports.signals(|_| {});
            if let Some(stations) = self.stations_cell.poll() {
                self.stations = stations;
            }
            if let Some(tenancy) = self.tenancy_cell.poll() {
                self.tenancy = tenancy;
            }
            let mut buffer = [0; 2048];
            while let Some(len) = self.net.recv(&mut buffer).unwrap() {
                self.judge(now, &buffer[..len]);
                self.left.push(buffer[..len].to_vec());
                link.push(buffer[..len].to_vec());
            }
        }
        self.notified |= self.keystore.serve();
        self.notified |= self.lifecycle.serve();
        if u64::from(self.keystore.isolated) != self.lifecycle.membership.isolated {
            self.lifecycle.membership.isolated = u64::from(self.keystore.isolated);
            self.lifecycle.publish();
            self.notified = true;
        }
        // Frames for which its ring has no room wait until it takes some: it need not, before its keys are there.
        busy || self.notified
    }
}

pub struct World {
    pub now: Micros,
    pub node: Node,
    pub other: Node,
    pub authority: Outsider,
    pub laptop: Outsider,
    /// Frames that were on the link, from whomever.
    pub seen: Vec<Vec<u8>>,
}

pub fn rule(direction: policy::Direction, role: Role, protocol: policy::Protocol, port: u16) -> Rule {
    Rule { direction, role, protocol, port }
}

pub fn member(n: u8, key: Key, role: Role, endpoint: Option<Endpoint>) -> Peer {
    let mut allowed = Few::new();
    for (ip, length) in [(V4(n).ip(), 128), (V6(n).ip(), 128)] {
        allowed.push(Prefix { ip, length }).unwrap();
    }
    let endpoint = endpoint.map(|at| policy::Endpoint { ip: at.ip, port: at.port });
    Peer { key, role, preshared: None, endpoint, allowed, keepalive_s: 0 }
}

/// The committed set has as authorities whom the configuration has.
pub fn seats(configuration: &Configuration) -> [Seat; MAX_SEATS] {
    let mut seats = [Seat::default(); MAX_SEATS];
    let authorities = configuration.peers.iter().filter(|peer| peer.role == Role::Authority);
    for ((to, peer), place) in seats.iter_mut().zip(authorities).zip(0..) {
        let (endpoint, port) = peer.endpoint.map_or(([0; 16], 0), |at| (at.ip, at.port));
        let inner = peer.allowed.iter().find(|prefix| !prefix.is_v4()).map_or([0; 16], |prefix| prefix.ip);
        *to = Seat { key: peer.key, inner, endpoint, port: port.into(), place };
    }
    seats
}

impl World {
    /// Nodes that nobody has claimed.
    pub fn new() -> Self {
        let now = 5 * SECOND;
        let (node, other) = (Node::new(NODE, Params::DEFAULT), Node::new(OTHER, Params::DEFAULT));
        let (mut authority, mut laptop) = (Outsider::new(AUTHORITY), Outsider::new(LAPTOP));
        let nodes = [(node.key(), Some(node.endpoint())), (other.key(), Some(other.endpoint()))];
        for outsider in [&mut authority, &mut laptop] {
            outsider.know(now, &nodes);
            outsider.neighbours.extend([(node.spot.ip, node.spot), (other.spot.ip, other.spot)]);
        }
        Self { now, node, other, authority, laptop, seen: Vec::new() }
    }

    /// Both nodes are members, with these rules, and the authority knows it.
    pub fn joined(rules: &[Rule]) -> Self {
        let mut world = Self::new();
        world.configure(rules);
        world.run_for(100);
        world
    }

    /// Puts the usual configuration with these rules into force at both nodes.
    pub fn configure(&mut self, rules: &[Rule]) {
        let configuration = self.configuration(NODE, rules);
        self.node.join(&configuration);
        let configuration = self.configuration(OTHER, rules);
        self.other.join(&configuration);
        self.pump();
    }

    pub fn configuration(&self, n: u8, rules: &[Rule]) -> Configuration {
        let at = |spot: Spot| Some(Endpoint { ip: spot.ip, port: MESH_PORT });
        let friend = if n == NODE { &self.other } else { &self.node };
        let mut peers = Few::new();
        for peer in [
            member(AUTHORITY, self.authority.key, Role::Authority, at(Spot::link_local(AUTHORITY))),
            member(friend.n, friend.key(), Role::Node, at(friend.spot)),
            member(LAPTOP, self.laptop.key, Role::Peer, None),
        ] {
            assert!(peers.push(peer).is_ok());
        }
        let mut addresses = Few::new();
        addresses.push(Prefix { ip: V4(n).ip(), length: 96 + 24 }).unwrap();
        addresses.push(Prefix { ip: V6(n).ip(), length: 64 }).unwrap();
        Configuration { addresses, underlay: None, peers, rules: Few::from_slice(rules).unwrap() }
    }

    /// Lets everyone run until nobody has anything to do at this time.
    pub fn pump(&mut self) {
        for _ in 0..5000 {
            let mut link = Vec::new();
            let mut busy = self.node.run(self.now, &mut link);
            busy |= self.other.run(self.now, &mut link);
            link.append(&mut self.authority.out);
            link.append(&mut self.laptop.out);
            if !busy && link.is_empty() {
                return;
            }
            for frame in link {
                let to: [u8; 6] = frame[..6].try_into().unwrap();
                let from: [u8; 6] = frame[6..12].try_into().unwrap();
                for node in [&mut self.node, &mut self.other] {
                    let passes = || {
                        perimeter::decide(&node.rules, &node.stations, self.now, Side::Net, &frame) == Ok(Side::Mesh)
                    };
                    if (to == node.spot.mac || to[0] == 0x33 && from != node.spot.mac) && passes() {
                        node.inject(frame.clone());
                    }
                }
                for outsider in [&mut self.authority, &mut self.laptop] {
                    if to == outsider.spot.mac || to[0] == 0x33 && from != outsider.spot.mac {
                        outsider.hear(self.now, &frame);
                    }
                }
                self.seen.push(frame);
            }
        }
        panic!("the world does not come to rest");
    }

    pub fn run_for(&mut self, ms: u64) {
        self.pump();
        for _ in 0..ms.div_ceil(10) {
            self.now += 10 * MS;
            self.authority.tick(self.now);
            self.laptop.tick(self.now);
            self.pump();
        }
    }

    /// An inner packet from an outsider to the node.
    pub fn authority_sends(&mut self, packet: &[u8]) {
        self.authority.send(self.now, &self.node.key(), packet);
        self.pump();
    }

    pub fn laptop_sends(&mut self, packet: &[u8]) {
        self.laptop.send(self.now, &self.node.key(), packet);
        self.pump();
    }

    pub fn other_sends(&mut self, packet: &[u8]) {
        self.other.emit(packet);
        self.pump();
    }

    pub fn workload_sends(&mut self, packet: &[u8]) {
        self.node.emit(packet);
        self.pump();
    }

    /// A datagram to the port of commands.
    pub fn say(&mut self, payload: &[u8]) {
        self.authority_sends(&packets::udp(V4(AUTHORITY), V4(NODE), (40000, COMMAND_PORT), payload));
    }

    pub fn make(&self, operation: impl Into<u8>, argument: u32, counter: u32) -> Command {
        let Keystore { command_key, fiduciary, .. } = &self.node.keystore;
        Command::new(command_key, fiduciary, operation, argument, counter)
    }

    pub fn command(&mut self, operation: impl Into<u8>, argument: u32, counter: u32) {
        let command = self.make(operation, argument, counter);
        self.say(command.as_bytes());
    }

    pub fn update(&mut self, update: &[u8]) {
        for chunk in chunks(update) {
            self.say(&chunk);
        }
    }

    /// The telemetry of the node that came since this was last asked. Nothing else came.
    pub fn telemetry(&mut self) -> Vec<Telemetry> {
        let got = self.authority.take();
        got.iter()
            .map(|packet| self.read_telemetry(packet).unwrap_or_else(|| panic!("no telemetry: {packet:02x?}")))
            .filter(|record| record.node == [NODE | 0x80; 8])
            .collect()
    }

    pub fn read_telemetry(&self, packet: &[u8]) -> Option<Telemetry> {
        let (ports, payload) = packets::read_udp(packet)?;
        (ports == (TELEMETRY_PORT, TELEMETRY_PORT)).then_some(())?;
        Telemetry::parse(&payload)
    }

    /// A record that was made now.
    pub fn now_telemetry(&mut self) -> Telemetry {
        self.run_for(11_000);
        *self.telemetry().last().unwrap()
    }

    /// Has every pair of members make a session.
    pub fn acquaint(&mut self) {
        let (node, other) = (self.node.key(), self.other.key());
        for key in [node, other] {
            for outsider in [&mut self.authority, &mut self.laptop] {
                let n = outsider.n;
                outsider.send(self.now, &key, &packets::udp(V4(n), V4(NODE), (1, 1), &[]));
            }
            self.run_for(50);
        }
        self.node.heard();
        self.other.heard();
        self.authority.take();
        self.laptop.take();
    }
}

/// The datagrams of an update.
pub fn chunks(update: &[u8]) -> Vec<Vec<u8>> {
    use wire::staged::{CHUNK, ChunkHead, parse};
    let short = parse(update).unwrap().short();
    let chunks = update.chunks(CHUNK).zip(0u8..).map(|(part, number)| {
        let head = ChunkHead { short: short.into(), length: (update.len() as u16).into(), number, zero: [0; 17] };
        [head.as_bytes(), part].concat()
    });
    chunks.collect()
}

/// Bytes that are no packet of anyone's.
pub fn noise(len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    for (at, byte) in bytes.iter_mut().enumerate() {
        *byte = (at as u8).wrapping_mul(167) ^ 0x5a;
    }
    bytes
}
