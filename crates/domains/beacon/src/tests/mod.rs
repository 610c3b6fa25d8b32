//! The core with a keystore, a lifecycle and a perimeter in the same process. The keystore's part is played with real keys
//! and signatures; every frame that comes out must be one that the perimeter lets through.

mod faults;
mod find;
mod flood;
mod keystore;
mod lifecycle;
mod open;
mod random;
mod scan;

use core::sync::atomic::AtomicU64;
use std::{boxed::Box, vec::Vec};

use calls::{
    alarm::AlarmOf,
    keystore::{Refusal as KeystoreRefusal, for_beacon},
    lifecycle::{Refusal, for_beacon as for_gate},
};
use crypto::{AnchorSecret, Secret};
use shm::{ReadOnly, ReadWrite, mailbox::Operation};
use wire::link::{Datagram, Hello, HelloBody, OpenFor};

use super::*;
use keystore::{CLAIM, FIDUCIARY, Keystore, TOKEN};

pub const MS: Micros = 1000;
pub const SECOND: Micros = 1000 * MS;
const EPHEMERAL: [u8; 32] = [6; 32];

type Region = &'static [AtomicU64];

fn region(len: usize) -> Region {
    Box::leak((0..len / 8).map(|_| AtomicU64::new(0)).collect::<Vec<_>>().into_boxed_slice())
}

const fn address(n: u8) -> Station {
    Station::new([0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xab, n], [2, 0, 0, 0, 0xab, n])
}

pub const US: Station = address(0);
pub const ADMIN: Station = address(1);
pub const RIVAL: Station = address(2);
pub const OTHER: Station = address(3);

/// How a server behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mood {
    Well,
    /// Takes no call.
    Silent,
    /// Restarts instead of answering.
    Restarting,
    Refusing,
    /// Answers as if something else had been asked.
    Lying,
}

type KeystoreServer = mailbox::Server<'static, { for_beacon::MAX_REQUEST }>;
type LifecycleServer = mailbox::Server<'static, { for_gate::MAX_REQUEST }>;

pub struct Rig {
    pub core: Beacon,
    pub ports: Ports<'static>,
    pub now: Micros,
    pub rules: Rules,
    rules_out: cell::Writer<'static, Rules>,
    pub keystore_mood: Mood,
    keystore: Keystore,
    keystore_server: KeystoreServer,
    keystore_regions: [Region; 2],
    pub lifecycle_mood: Mood,
    lifecycle: LifecycleServer,
    lifecycle_regions: [Region; 2],
    pub perimeter: ring::Duplex<'static, FRAME_SLOT>,
    alarm: AlarmOf<'static>,
    anchor: AnchorSecret,
    /// The administrator's.
    pub counter: u64,
    gates: lifecycle::Gates,
    /// Operations that were asked for, with their time.
    pub asked: Vec<(Micros, u32)>,
    pub sent: Vec<Vec<u8>>,
}

impl Rig {
    pub fn new(params: Params) -> Self {
        let [rules, request, reply, gate_request, gate_reply, alarm] = core::array::from_fn(|_| region(0x1000));
        let (out, inn) = (region(0x10000), region(0x10000));
        let (ro, rw) = (ReadOnly::new, ReadWrite::new);
        let ports = Ports {
            rules: cell::Reader::new(ro(rules)).unwrap(),
            lifecycle: mailbox::Client::new(rw(gate_request), ro(gate_reply)).unwrap(),
            keystore: mailbox::Client::new(rw(request), ro(reply)).unwrap(),
            perimeter: ring::Duplex::new(rw(out), ro(inn)).unwrap(),
            alarm: Alarm::new(rw(alarm)).unwrap(),
        };
        let anchor = AnchorSecret::from_seed(&[1; 32]);
        Self {
            core: Beacon::new(params),
            ports,
            now: 10 * SECOND,
            rules: Rules { link: US, ..Rules::CLOSED },
            rules_out: cell::Writer::new(rw(rules)).unwrap(),
            keystore_mood: Mood::Well,
            keystore: Keystore::new(anchor.public()),
            keystore_server: mailbox::Server::new(ro(request), rw(reply)).unwrap(),
            keystore_regions: [request, reply],
            lifecycle_mood: Mood::Well,
            lifecycle: mailbox::Server::new(ro(gate_request), rw(gate_reply)).unwrap(),
            lifecycle_regions: [gate_request, gate_reply],
            perimeter: ring::Duplex::new(rw(inn), ro(out)).unwrap(),
            alarm: AlarmOf::new(ro(alarm)).unwrap(),
            anchor,
            counter: 100,
            gates: lifecycle::Gates::default(),
            asked: Vec::new(),
            sent: Vec::new(),
        }
    }

    /// In a phase, with nothing going on any more.
    pub fn in_phase(phase: Phase, params: Params) -> Self {
        let mut rig = Self::new(params);
        rig.enter(phase);
        rig.asked.clear();
        rig
    }

    pub fn holding() -> Self {
        Self::in_phase(Phase::Hold, Params::DEFAULT)
    }

    pub fn enter(&mut self, phase: Phase) {
        self.rules = Rules { phase: phase as u64, gate: 0, ..self.rules };
        self.keystore.claimed = phase == Phase::Claimed;
        self.rules_out.publish(&self.rules);
        self.run();
    }

    pub fn close_gate(&mut self) {
        self.rules.gate = 0;
        self.rules_out.publish(&self.rules);
        self.run();
    }

    /// Steps until nothing more happens at this time.
    pub fn run(&mut self) {
        loop {
            let more = self.core.step(self.now, &mut self.ports);
            let served = self.serve_keystore() | self.serve_lifecycle();
            self.collect();
            if !more && !served {
                break;
            }
        }
    }

    /// Time passes as it does for a domain: it runs when its alarm rings and at the end.
    pub fn pass(&mut self, time: Micros) {
        let end = self.now + time;
        while let Some(at) = self.alarm().filter(|at| *at <= end) {
            assert!(at > self.now, "an alarm for what could be done at once");
            self.now = at;
            self.run();
        }
        self.now = end;
        self.run();
    }

    pub fn alarm(&mut self) -> Option<Micros> {
        self.alarm.poll(0)
    }

    pub fn notified(&mut self) -> Vec<Channel> {
        let mut notified = Vec::new();
        self.ports.signals(|peer| notified.push(peer));
        notified
    }

    fn collect(&mut self) {
        let mut buf = [0; 2040];
        while let Some(len) = self.perimeter.recv(&mut buf).unwrap() {
            let frame = &buf[..len];
            let verdict =
                perimeter::decide(&self.rules, &calls::mesh::Stations::NONE, self.now, perimeter::Side::Beacon, frame);
            assert_eq!(verdict, Ok(perimeter::Side::Net), "{frame:02x?}");
            self.sent.push(frame.to_vec());
        }
    }

    // --- the administrator

    pub fn deliver(&mut self, frame: &[u8]) {
        self.perimeter.send(frame).unwrap();
    }

    /// A genuine datagram: the perimeter would pass it.
    pub fn say<T: Datagram>(&mut self, from: Station, datagram: &T) {
        let frame = frame_of(from, datagram);
        let verdict =
            perimeter::decide(&self.rules, &calls::mesh::Stations::NONE, self.now, perimeter::Side::Net, &frame);
        assert_eq!(verdict, Ok(perimeter::Side::Beacon));
        self.deliver(&frame);
        self.run();
    }

    pub fn find(&mut self, from: Station) -> Find {
        self.counter += 1;
        Find::sign(&self.anchor, self.counter, from.ip, from.mac)
    }

    pub fn open(&self, from: Station, hello: &HelloBody) -> Open {
        let about = OpenFor { hello, sender_ip: from.ip, sender_mac: from.mac };
        Open::sign(&self.anchor, &Secret::new(EPHEMERAL), &about).unwrap()
    }

    /// The hello that is the last thing sent.
    pub fn hello(&self) -> HelloBody {
        Hello::parse(&self.sent.last().unwrap()[62..]).unwrap().open(&self.anchor).unwrap()
    }

    /// A find and its hello.
    pub fn greet(&mut self, from: Station) -> HelloBody {
        let (find, before) = (self.find(from), self.sent.len());
        self.say(from, &find);
        self.pass(500 * MS);
        assert_eq!(self.sent.len(), before + 1);
        self.hello()
    }

    /// Find, hello, open. Returns the open.
    pub fn enter_gate(&mut self, from: Station) -> Open {
        let hello = self.greet(from);
        let open = self.open(from, &hello);
        self.say(from, &open);
        open
    }

    pub fn count(&self, op: u32) -> usize {
        self.asked.iter().filter(|(_, asked)| *asked == op).count()
    }

    // --- the keystore and lifecycle

    fn serve_keystore(&mut self) -> bool {
        let mood = self.keystore_mood;
        if mood == Mood::Silent {
            return false;
        }
        let Some(call) = self.keystore_server.take().unwrap() else { return false };
        self.asked.push((self.now, call.op));
        let [request, reply] = self.keystore_regions;
        match mood {
            Mood::Restarting => {
                self.keystore_server = mailbox::Server::new(ReadOnly::new(request), ReadWrite::new(reply)).unwrap();
            }
            Mood::Refusing => self.keystore_server.refuse(KeystoreRefusal::NotReady.code()),
            Mood::Lying if call.op == CheckFind::OP => self.keystore_server.reply::<BeaconRandom>(&[1; 32]),
            Mood::Lying => self.keystore_server.reply::<CheckFind>(&[1; 16]),
            Mood::Silent | Mood::Well => self.keystore.answer(&mut self.keystore_server, &call),
        }
        true
    }

    fn serve_lifecycle(&mut self) -> bool {
        let mood = self.lifecycle_mood;
        if mood == Mood::Silent {
            return false;
        }
        let Some(call) = self.lifecycle.take().unwrap() else { return false };
        let [request, reply] = self.lifecycle_regions;
        match mood {
            Mood::Restarting => {
                self.lifecycle = mailbox::Server::new(ReadOnly::new(request), ReadWrite::new(reply)).unwrap();
            }
            Mood::Refusing => self.lifecycle.refuse(Refusal::Phase.code()),
            Mood::Lying => self.lifecycle.reply::<CheckFind>(&[1; 16]),
            Mood::Silent | Mood::Well => {
                let request = call.parse::<OpenGate>().unwrap();
                assert_eq!(request.token, TOKEN);
                match self.gates.open(&mut self.rules, self.now, &request) {
                    Ok(()) => {
                        self.rules_out.publish(&self.rules);
                        self.lifecycle.reply::<OpenGate>(&());
                    }
                    Err(refusal) => self.lifecycle.refuse(refusal.code()),
                }
            }
        }
        true
    }
}

pub fn frame_of<T: Datagram>(from: Station, datagram: &T) -> Vec<u8> {
    frames::to_everyone(&from, datagram).bytes().to_vec()
}

pub fn is_hello(frame: &[u8]) -> bool {
    frame.get(62..).is_some_and(|rest| Hello::parse(rest).is_some())
}

pub fn is_answer(frame: &[u8]) -> bool {
    frame.get(62..).is_some_and(|rest| Answer::parse(rest).is_some())
}
