//! Everything around the core: regions, a fake lifecycle, the clock, and a watch on every frame that leaves. The
//! peer's own frames come through the real perimeter; those that a test injects do not.

use core::sync::atomic::AtomicU64;
use std::{
    boxed::Box,
    collections::{BTreeMap, VecDeque},
    vec::Vec,
};

use calls::{
    alarm::{Alarm, AlarmOf},
    keystore::Ownership,
    lifecycle::{Closed, Refusal},
    mesh::Stations,
    params::Params,
    rules::{ClaimGate, MeshLink, Rules},
};
use crypto::AnchorSecret;
use link::Station;
use shm::{
    Micros, ReadOnly, ReadWrite, cell,
    mailbox::{Client, Server},
    ring::{Duplex, FRAME_SLOT},
};
use smoltcp::wire::{EthernetFrame, Icmpv6Message, Icmpv6Packet, IpProtocol, Ipv6Packet, TcpPacket};
use wire::{CLAIM_PORT, Phase};

pub use super::lifecycle::Told;
use super::{
    keystore::{Keystore, LINK_IP, Trouble},
    lifecycle::Lifecycle,
    peer::Peer,
};
use crate::{Claim, Memory, Ports};

pub const NODE_MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
pub const PEER_MAC: [u8; 6] = [2, 0, 0, 0, 0, 2];
pub const PEER_IP: [u8; 16] = [0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xab, 0xcd];
pub const MS: Micros = 1000;

/// What a frame that left was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Left {
    Advertisement,
    SynAck,
    Ack,
    /// A payload of this length.
    Data(usize),
}

pub struct World {
    pub now: Micros,
    pub claim: Claim<'static>,
    pub ports: Ports<'static>,
    pub keystore: Keystore,
    pub lifecycle: Lifecycle,
    pub lifecycle_trouble: Option<(u32, Trouble)>,
    pub anchor: AnchorSecret,
    pub peer: Peer,
    /// What left since this was last cleared.
    pub left: Vec<Left>,
    /// The frames themselves.
    pub frames: Vec<Vec<u8>>,
    /// The wire between node and peer is cut.
    pub cut: bool,
    /// How often the perimeter comes late for the node's frames.
    pub late: usize,
    net: Duplex<'static, FRAME_SLOT>,
    alarm: AlarmOf<'static>,
    notified: bool,
    /// When frames on the wire to the node are too many for the ring.
    backlog: VecDeque<Vec<u8>>,
    gates: u64,
    params: Params,
    regions: Regions,
    streams: BTreeMap<u16, Stream>,
}

/// What was sent on one connection.
struct Stream {
    first: i32,
    bytes: Vec<u8>,
}

impl Stream {
    /// Takes a segment's payload: it repeats or continues what was sent before. The whole is the upgrade and after it
    /// binary frames.
    fn take(&mut self, seq: i32, payload: &[u8]) {
        const UPGRADE: &[u8] = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n";
        let at = seq.wrapping_sub(self.first).wrapping_sub(1) as usize;
        assert!(at <= self.bytes.len());
        let known = (self.bytes.len() - at).min(payload.len());
        assert_eq!(self.bytes[at..at + known], payload[..known], "a repetition differs");
        self.bytes.extend(&payload[known..]);
        let upgrade = UPGRADE.len().min(self.bytes.len());
        assert_eq!(self.bytes[..upgrade], UPGRADE[..upgrade]);
        let mut rest = match self.bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            Some(end) => &self.bytes[end + 4..],
            None => return,
        };
        while let [first, len, ..] = rest {
            assert_eq!(*first, 0x82, "not a binary frame");
            let len = match len {
                126 if rest.len() < 4 => return,
                126 => 4 + usize::from(u16::from_be_bytes([rest[2], rest[3]])),
                len => 2 + usize::from(*len),
            };
            rest = rest.get(len..).unwrap_or_default();
        }
    }
}

/// The regions that the node's end maps.
#[derive(Clone, Copy)]
struct Regions {
    keystore: [Words; 2],
    lifecycle: [Words; 2],
    gate: Words,
    perimeter: [Words; 2],
    timer: Words,
}

type Words = &'static [AtomicU64];

impl Regions {
    fn ports(&self) -> Ports<'static> {
        let client = |[request, reply]: [Words; 2]| Client::new(ReadWrite::new(request), ReadOnly::new(reply)).unwrap();
        let [out, inn] = self.perimeter;
        Ports {
            keystore: client(self.keystore),
            perimeter: Duplex::new(ReadWrite::new(out), ReadOnly::new(inn)).unwrap(),
            gate: cell::Reader::new(ReadOnly::new(self.gate)).unwrap(),
            lifecycle: client(self.lifecycle),
            alarm: Alarm::new(ReadWrite::new(self.timer)).unwrap(),
        }
    }
}

fn region(bytes: usize) -> &'static [AtomicU64] {
    let words: Vec<AtomicU64> = (0..bytes / 8).map(|_| AtomicU64::new(0)).collect();
    Box::leak(words.into_boxed_slice())
}

fn server<const MAX: usize>([request, reply]: [Words; 2]) -> Server<'static, MAX> {
    Server::new(ReadOnly::new(request), ReadWrite::new(reply)).unwrap()
}

fn core(params: &Params) -> Claim<'static> {
    Claim::new(Box::leak(Box::new(Memory::new())), params)
}

impl World {
    pub fn new() -> Self {
        Self::with(Params::DEFAULT)
    }

    pub fn with(params: Params) -> Self {
        let anchor = AnchorSecret::from_seed(&[1; 32]);
        let regions = Regions {
            keystore: [region(0x1000), region(0x1000)],
            lifecycle: [region(0x2000), region(0x1000)],
            gate: region(0x1000),
            perimeter: [region(0x10000), region(0x10000)],
            timer: region(0x1000),
        };
        let [outward, inward] = regions.perimeter;
        let closed = ClaimGate { rules: Rules::CLOSED, token: [0; 16], nonce: [0; 16], fiduciary: [0; 32] };
        Self {
            now: 1_000_000,
            claim: core(&params),
            ports: regions.ports(),
            keystore: Keystore::new(server(regions.keystore), &anchor),
            lifecycle: Lifecycle {
                server: server(regions.lifecycle),
                cell: cell::Writer::new(ReadWrite::new(regions.gate)).unwrap(),
                gate: closed,
                told: Vec::new(),
                rivals: 3,
                time: calls::params::micros(params.claim_ms),
                started: 0,
                staged: None,
                at_rest: Vec::new(),
                status: (Ownership::Unclaimed, [0; 32]),
            },
            lifecycle_trouble: None,
            anchor,
            peer: Peer::new(),
            left: Vec::new(),
            frames: Vec::new(),
            cut: false,
            late: 0,
            net: Duplex::new(ReadWrite::new(inward), ReadOnly::new(outward)).unwrap(),
            alarm: AlarmOf::new(ReadOnly::new(regions.timer)).unwrap(),
            notified: true,
            backlog: VecDeque::new(),
            gates: 0,
            params,
            regions,
            streams: BTreeMap::new(),
        }
    }

    /// A world whose gate is open.
    pub fn open() -> Self {
        let mut world = Self::new();
        world.reopen();
        world
    }

    /// Opens the next gate, to the same peer, with another token.
    pub fn reopen(&mut self) {
        self.gates += 1;
        let number = self.gates;
        let rules = Rules {
            phase: Phase::Hold as u64,
            link: Station::new(LINK_IP, NODE_MAC),
            gate: number,
            peer: Station::new(PEER_IP, PEER_MAC),
            until: self.now + calls::params::micros(self.params.token_ms),
            mesh: MeshLink::NONE,
        };
        let fiduciary = self.keystore.public();
        let [token, nonce] = [b"token", b"nonce"]
            .map(|what| crypto::sha256(&[&what[..], &number.to_le_bytes()].concat())[..16].try_into().unwrap());
        self.publish(ClaimGate { rules, token, nonce, fiduciary });
        self.lifecycle.told.clear();
        self.pump();
    }

    /// The domain dies and is started again.
    pub fn restart(&mut self) {
        self.claim = core(&self.params);
        self.ports = self.regions.ports();
        self.notified = true;
    }

    pub fn close(&mut self) {
        let mut gate = self.lifecycle.gate;
        gate.rules.gate = 0;
        self.publish(gate);
    }

    pub fn publish(&mut self, gate: ClaimGate) {
        self.lifecycle.publish(gate);
        self.notified = true;
    }

    pub fn token(&self) -> [u8; 16] {
        self.lifecycle.gate.token
    }

    /// The deadline that the node has armed.
    pub fn armed(&mut self) -> Option<Micros> {
        let at = self.alarm.poll(self.now);
        self.notified |= self.alarm.take_signal();
        at
    }

    /// A frame to the node.
    pub fn inject(&mut self, frame: Vec<u8>) {
        self.backlog.push_back(frame);
    }

    pub fn run_for(&mut self, ms: u64) {
        self.pump();
        for _ in 0..ms {
            self.now += MS;
            self.pump();
        }
    }

    /// Lets everyone run until nobody has anything to do at this time. The core runs only when a shell would let it.
    pub fn pump(&mut self) {
        for _ in 0..2000 {
            let mut busy = false;
            if !self.cut {
                let (rules, now) = (self.lifecycle.gate.rules, self.now);
                let pass = |frame: &Vec<u8>| {
                    perimeter::decide(&rules, &Stations::NONE, now, perimeter::Side::Net, frame)
                        == Ok(perimeter::Side::Claim)
                };
                self.backlog.extend(self.peer.poll(now).into_iter().filter(pass));
            }
            while let Some(frame) = self.backlog.front() {
                if self.net.send(frame).is_err() {
                    break;
                }
                self.backlog.pop_front();
                self.notified = true;
            }
            self.armed();
            if core::mem::take(&mut self.notified) {
                busy = true;
                self.notified = self.claim.step(self.now, &mut self.ports);
                self.ports.signals(|_| {});
                self.carry();
            }
            self.notified |= self.keystore.serve();
            self.notified |= self.serve_lifecycle();
            if !busy && !self.notified && self.backlog.is_empty() {
                return;
            }
        }
        panic!("the node does not come to rest");
    }

    fn serve_lifecycle(&mut self) -> bool {
        let lifecycle = &mut self.lifecycle;
        let Some(call) = lifecycle.server.take().unwrap() else { return lifecycle.server.take_signal() };
        match self.lifecycle_trouble {
            Some((op, Trouble::Refuse(_))) if op == call.op => lifecycle.server.refuse(Refusal::Phase.code()),
            Some((op, Trouble::Silent(times))) if op == call.op && times > 0 => {
                self.lifecycle_trouble = Some((op, Trouble::Silent(times - 1)));
            }
            _ => {
                let Keystore { bound, owned, .. } = &self.keystore;
                let owner = match (bound, owned) {
                    (None, _) => Ownership::Unclaimed,
                    (Some(_), false) => Ownership::Committed,
                    (Some(_), true) => Ownership::Claimed,
                };
                let configuration = bound.map_or([0; 32], |(title, _)| title.warrant.configuration);
                lifecycle.answer(self.now, &call, (owner, configuration), |title| self.keystore.check(title));
            }
        }
        lifecycle.server.take_signal()
    }

    fn carry(&mut self) {
        if self.late > 0 {
            self.late -= 1;
            assert!(!self.keystore.owned, "the claim is final, and its last frames have not left");
            return;
        }
        let mut buffer = [0; 2048];
        while let Some(len) = self.net.recv(&mut buffer).unwrap() {
            let frame = buffer[..len].to_vec();
            assert!(self.lifecycle.gate.rules.open_to(self.now).is_some(), "a frame without a gate");
            let left = self.judge(&frame);
            self.left.push(left);
            self.frames.push(frame.clone());
            if !self.cut {
                self.peer.device.incoming.push_back(frame);
            }
        }
    }

    /// Every frame that leaves is of a kind that may, from the node to the peer.
    fn judge(&mut self, frame: &[u8]) -> Left {
        let rules = &self.lifecycle.gate.rules;
        assert_eq!(
            perimeter::decide(rules, &Stations::NONE, self.now, perimeter::Side::Claim, frame),
            Ok(perimeter::Side::Net)
        );
        let eth = EthernetFrame::new_checked(frame).unwrap();
        assert_eq!((eth.src_addr().0, eth.dst_addr().0), (NODE_MAC, PEER_MAC));
        let ip = Ipv6Packet::new_checked(eth.payload()).unwrap();
        assert_eq!((ip.src_addr().octets(), ip.dst_addr().octets()), (LINK_IP, PEER_IP));
        if ip.next_header() == IpProtocol::Icmpv6 {
            let icmp = Icmpv6Packet::new_checked(ip.payload()).unwrap();
            assert_eq!(icmp.msg_type(), Icmpv6Message::NeighborAdvert);
            assert_eq!(ip.hop_limit(), 255);
            return Left::Advertisement;
        }
        assert_eq!(ip.next_header(), IpProtocol::Tcp);
        let tcp = TcpPacket::new_checked(ip.payload()).unwrap();
        assert!(tcp.verify_checksum(&ip.src_addr().into(), &ip.dst_addr().into()));
        assert_eq!(tcp.src_port(), CLAIM_PORT);
        assert!(!tcp.rst() && !tcp.fin(), "RST or FIN");
        assert!(tcp.ack());
        let first = tcp.seq_number().0;
        if tcp.syn() {
            assert!(tcp.payload().is_empty());
            let stream = self.streams.entry(tcp.dst_port()).or_insert(Stream { first, bytes: Vec::new() });
            if stream.first != first {
                *stream = Stream { first, bytes: Vec::new() };
            }
            return Left::SynAck;
        }
        if tcp.payload().is_empty() {
            return Left::Ack;
        }
        let stream = self.streams.get_mut(&tcp.dst_port()).unwrap();
        stream.take(tcp.seq_number().0, tcp.payload());
        Left::Data(tcp.payload().len())
    }

    /// What left since this was last asked.
    pub fn take_left(&mut self) -> Vec<Left> {
        core::mem::take(&mut self.left)
    }

    /// Asserts that nothing leaves any more, whatever the peer repeats and however often the node is woken for nothing.
    pub fn assert_silent(&mut self) {
        self.run_for(1);
        self.left.clear();
        for _ in 0..2000 {
            self.notified = true;
            self.run_for(1);
        }
        assert_eq!(self.take_left(), [], "the node is not silent");
    }

    pub fn told(&mut self) -> Vec<Told> {
        core::mem::take(&mut self.lifecycle.told)
    }

    /// How the claim ended, if it did.
    pub fn ended(&self) -> Option<Closed> {
        self.lifecycle.told.iter().find_map(|told| if let Told::Ended(reason) = told { Some(*reason) } else { None })
    }
}
