//! Measures the mesh's WireGuard: two engines in one domain, each with the keystore's static steps beside it. Packets
//! sealed at one and opened at the other, the bare AEAD over as many bytes, and handshakes.
#![no_std]
#![no_main]

use core::hint::black_box;

use bench_report::Report;
use chacha20poly1305::{AeadInOut, ChaCha20Poly1305, KeyInit};
use crypto::{Secret, dh_public};
use pd::Wake;
use platform::{Handler, counter, start};
use sel4_microkit::protection_domain;
use wire::handshake::{self, Started, Timestamps};
use wireguard::{
    Endpoint, Engine, MAX_DATAGRAM, MAX_MTU, PeerConfig, PeerId, Received, Refused, Sent, StaticReply, StaticRequest,
};

const LENGTHS: [usize; 3] = [64, 512, 1420];
/// Before the first that counts.
const WARM: u64 = 4;
const PACKETS: u64 = 256;
const HANDSHAKES: u64 = 8;
/// Microseconds between handshakes: no more often than a node would take them.
const APART: u64 = 6_000_000;

/// What should have worked has not: the figures would mean nothing.
struct Failed;

struct Node {
    engine: Engine,
    secret: Secret,
    timestamps: Timestamps,
    at: Endpoint,
}

impl Node {
    fn new(n: u8) -> Self {
        let secret = Secret::new([n; 32]);
        let engine = Engine::new(dh_public(&secret), Secret::new([n + 10; 32]), MAX_MTU);
        Self { engine, secret, timestamps: Timestamps::of(1), at: Endpoint { ip: [n; 16], port: 51820 } }
    }

    fn meet(&mut self, other: &Self) {
        let config =
            PeerConfig { key: dh_public(&other.secret), preshared: &[0; 32], endpoint: Some(other.at), keepalive_s: 0 };
        self.engine.set_peers(0, [config]);
    }

    fn answer(&mut self, request: &StaticRequest) -> Option<StaticReply> {
        match request {
            StaticRequest::Start(request) => {
                let timestamp = self.timestamps.next()?;
                Started::new(&self.secret, request).map(|started| StaticReply::Start(started.seal(timestamp)))
            }
            StaticRequest::Finish(request) => handshake::finish(&self.secret, request).map(StaticReply::Finish),
            StaticRequest::Read(request) => handshake::read(&self.secret, request).map(StaticReply::Read),
        }
    }

    /// Does the keystore's steps, and gives the other what there is to send. False: nothing was.
    fn turn(&mut self, now: u64, other: &mut Self) -> Result<bool, Failed> {
        while let Some(request) = self.engine.poll_static(now) {
            let reply = self.answer(&request).ok_or(Refused);
            self.engine.static_reply(now, reply);
        }
        let mut out = [0; MAX_DATAGRAM];
        let mut any = false;
        while let Some((_, len)) = self.engine.poll_transmit(now, &mut out) {
            any = true;
            let datagram = out.get_mut(..len).ok_or(Failed)?;
            if let Received::Dropped(_) = other.engine.receive(now, self.at, datagram) {
                return Err(Failed);
            }
        }
        Ok(any)
    }
}

struct Bench {
    ends: [Node; 2],
    /// The second end, to the first.
    peer: PeerId,
    now: u64,
    out: [u8; MAX_DATAGRAM],
}

impl Bench {
    fn new() -> Result<Self, Failed> {
        let [mut a, mut b] = [Node::new(1), Node::new(2)];
        a.meet(&b);
        b.meet(&a);
        let peer = a.engine.peers().next().ok_or(Failed)?.id;
        Ok(Self { ends: [a, b], peer, now: 0, out: [0; MAX_DATAGRAM] })
    }

    /// From the wish for a session until both ends have used its keys.
    fn handshake(&mut self) -> Result<(), Failed> {
        self.now += APART;
        let [a, b] = &mut self.ends;
        a.engine.rotate(self.now);
        while a.turn(self.now, b)? | b.turn(self.now, a)? {}
        // Each has agreed on keys in this one.
        let fresh = |node: &Node| node.engine.peers().all(|peer| peer.last_handshake == Some(self.now));
        if fresh(a) && fresh(b) { Ok(()) } else { Err(Failed) }
    }

    fn packet(&mut self, packet: &[u8]) -> Result<(), Failed> {
        let [a, b] = &mut self.ends;
        let Sent::Datagram { len, .. } = a.engine.send(self.now, self.peer, black_box(packet), &mut self.out) else {
            return Err(Failed);
        };
        let datagram = self.out.get_mut(..len).ok_or(Failed)?;
        match b.engine.receive(self.now, a.at, datagram) {
            Received::Packet { packet: opened, .. } if opened.len() >= packet.len() => {
                black_box(opened);
                Ok(())
            }
            _ => Err(Failed),
        }
    }

    fn measure(&mut self, report: &mut Report) -> Result<(), Failed> {
        report.figure("handshake_ticks", repeat(HANDSHAKES, || self.handshake())?);
        report.figure("handshakes", HANDSHAKES);
        for length in LENGTHS {
            let text = [0x5a; MAX_MTU];
            let packet = text.get(..length).ok_or(Failed)?;
            report.figure("length", length as u64);
            report.figure("total_ticks", repeat(PACKETS, || self.packet(packet))?);
            report.figure("aead_ticks", aead(length)?);
            report.figure("packets", PACKETS);
        }
        Ok(())
    }
}

/// Sealed and opened in place.
fn aead(length: usize) -> Result<u64, Failed> {
    let cipher = ChaCha20Poly1305::new(&[7; 32].into());
    let mut text = [0x5a; MAX_MTU];
    let text = text.get_mut(..length).ok_or(Failed)?;
    let mut count = 0u64;
    repeat(PACKETS, || {
        count += 1;
        let mut nonce = [0; 12];
        nonce[4..].copy_from_slice(&count.to_le_bytes());
        let nonce = nonce.into();
        let tag = cipher.encrypt_inout_detached(&nonce, &[], (&mut *text).into()).map_err(|_| Failed)?;
        let text = black_box(&mut *text);
        cipher.decrypt_inout_detached(&nonce, &[], text.into(), &tag).map_err(|_| Failed)
    })
}

/// Ticks that so many take.
fn repeat(count: u64, mut work: impl FnMut() -> Result<(), Failed>) -> Result<u64, Failed> {
    for _ in 0..WARM {
        work()?;
    }
    let since = counter();
    for _ in 0..count {
        work()?;
    }
    Ok(counter() - since)
}

#[protection_domain]
fn init() -> impl Handler {
    let mut report = Report::bind();
    let measured = Bench::new().and_then(|mut bench| bench.measure(&mut report));
    report.figure("failed", u64::from(measured.is_err()));
    report.end();
    start(|_: &Wake| false)
}
