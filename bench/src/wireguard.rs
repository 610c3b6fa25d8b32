//! What WireGuard costs: a packet sealed at one end and opened at the other, and a whole handshake, by the mesh's engine
//! and by boringtun, in one process and in turns. And the bare AEAD that each stands on, as the limit.
//!
//! All figures are costs, ours over theirs. `overhead` is what the packet takes beyond the same side's own AEAD.

use std::{hint::black_box, net::IpAddr, sync::Arc, time::Instant};

use anyhow::{Context, Result, bail};
use boringtun::{
    noise::{Tunn, TunnResult, rate_limiter::RateLimiter},
    x25519::{PublicKey, StaticSecret},
};
use chacha20poly1305::{AeadInOut, ChaCha20Poly1305, KeyInit};
use crypto::{Secret, dh_public};
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use wire::handshake::{self, Started, Timestamps};
use wireguard::{
    Endpoint, Engine, MAX_DATAGRAM, MAX_MTU, PeerConfig, PeerId, Received, Sent, StaticReply, StaticRequest,
};

use crate::{
    Outcome,
    figures::{Figures, Goal},
};

pub const GOALS: &[(&str, Goal)] = &[("1420/overhead_vs_boringtun", Goal::AtMost(1.0))];

const LENGTHS: [usize; 3] = [64, 512, 1420];
/// Each takes its turn so often; medians are compared.
const ROUNDS: usize = 1001;
const PACKETS: u32 = 40;
const HANDSHAKES: u32 = 1;

pub fn run(figures: &mut Figures) -> Result<Outcome> {
    let (mut ours, mut theirs) = (Ours::new()?, Theirs::new()?);
    ours.handshake()?;
    theirs.handshake()?;
    for length in LENGTHS {
        let packet = packet(length);
        let times = rounds(&mut [
            &mut || repeat(PACKETS, || ours.packet(&packet)),
            &mut aead(&packet),
            &mut || repeat(PACKETS, || theirs.packet(&packet)),
            &mut ring_aead(&packet)?,
        ])?;
        let [our_total, our_aead, their_total, their_aead] = [0, 1, 2, 3].map(|n| median(times.iter().map(|of| of[n])));
        // The median is of differences within a round, so that what slows a whole round falls out.
        let our_overhead = median(times.iter().map(|of| of[0] - of[1]));
        let their_overhead = median(times.iter().map(|of| of[2] - of[3]));
        say::show!(
            "{length}: ours {our_total:.0} ns, {our_overhead:.0} beyond the AEAD; boringtun {their_total:.0} ns, {their_overhead:.0} beyond the AEAD"
        );
        figures.put(format!("{length}/total_vs_boringtun"), our_total / their_total);
        figures.put(format!("{length}/aead_vs_ring"), our_aead / their_aead);
        figures.put(format!("{length}/overhead_vs_boringtun"), our_overhead / their_overhead);
    }
    let times = rounds(&mut [&mut || repeat(HANDSHAKES, || ours.handshake()), &mut || {
        repeat(HANDSHAKES, || theirs.handshake())
    }])?;
    let [our_handshake, their_handshake] = [0, 1].map(|n| median(times.iter().map(|of| of[n])));
    say::show!("handshake: ours {:.0} us, boringtun's {:.0} us", our_handshake / 1e3, their_handshake / 1e3);
    figures.put("handshake_vs_boringtun", our_handshake / their_handshake);
    Ok(Outcome::Done)
}

/// An IPv6 packet, which boringtun looks at.
fn packet(length: usize) -> Vec<u8> {
    let mut packet = vec![0x5a; length];
    packet[0] = 0x60;
    packet[4..6].copy_from_slice(&(length as u16 - 40).to_be_bytes());
    packet
}

/// Nanoseconds that one of these takes.
fn repeat(count: u32, mut work: impl FnMut() -> Result<()>) -> Result<f64> {
    let start = Instant::now();
    for _ in 0..count {
        work()?;
    }
    Ok(start.elapsed().as_nanos() as f64 / f64::from(count))
}

type Work<'a> = &'a mut dyn FnMut() -> Result<f64>;

/// In turns, so that whatever else the machine does falls on all alike.
fn rounds<const N: usize>(works: &mut [Work<'_>; N]) -> Result<Vec<[f64; N]>> {
    let mut rounds = Vec::with_capacity(ROUNDS);
    for _ in 0..ROUNDS {
        let mut times = [0.0; N];
        for (work, time) in works.iter_mut().zip(&mut times) {
            *time = work()?;
        }
        rounds.push(times);
    }
    Ok(rounds)
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Sealed and opened in place.
fn aead(packet: &[u8]) -> impl FnMut() -> Result<f64> {
    let cipher = ChaCha20Poly1305::new(&[7; 32].into());
    let mut text = packet.to_vec();
    let mut counter = 0u64;
    move || {
        repeat(PACKETS, || {
            counter += 1;
            let mut nonce = [0; 12];
            nonce[4..].copy_from_slice(&counter.to_le_bytes());
            let nonce = nonce.into();
            let tag = cipher.encrypt_inout_detached(&nonce, &[], text.as_mut_slice().into()).ok().context("seal")?;
            let text = black_box(&mut text);
            cipher.decrypt_inout_detached(&nonce, &[], text.as_mut_slice().into(), &tag).ok().context("open")
        })
    }
}

fn ring_aead(packet: &[u8]) -> Result<impl FnMut() -> Result<f64>> {
    let key = LessSafeKey::new(UnboundKey::new(&CHACHA20_POLY1305, &[7; 32]).ok().context("key")?);
    let length = packet.len();
    let mut text = [packet, &[0; 16]].concat();
    let mut counter = 0u64;
    Ok(move || {
        repeat(PACKETS, || {
            counter += 1;
            let mut nonce = [0; 12];
            nonce[4..].copy_from_slice(&counter.to_le_bytes());
            let nonce = || Nonce::assume_unique_for_key(nonce);
            let sealed = key.seal_in_place_separate_tag(nonce(), Aad::empty(), &mut text[..length]);
            let tag = sealed.ok().context("seal")?;
            text[length..].copy_from_slice(tag.as_ref());
            key.open_in_place(nonce(), Aad::empty(), black_box(&mut text)).ok().context("open")?;
            Ok(())
        })
    })
}

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

    /// Lets the keystore's steps be done, and takes what there is to send to the other.
    fn turn(&mut self, now: u64, other: &mut Self) -> Result<bool> {
        while let Some(request) = self.engine.poll_static(now) {
            let reply = match request {
                StaticRequest::Start(request) => {
                    let timestamp = self.timestamps.next().context("no timestamps are left")?;
                    Started::new(&self.secret, &request).map(|started| StaticReply::Start(started.seal(timestamp)))
                }
                StaticRequest::Finish(request) => handshake::finish(&self.secret, &request).map(StaticReply::Finish),
                StaticRequest::Read(request) => handshake::read(&self.secret, &request).map(StaticReply::Read),
            };
            self.engine.static_reply(now, reply.ok_or(wireguard::Refused));
        }
        let mut out = [0; MAX_DATAGRAM];
        let mut any = false;
        while let Some((_, length)) = self.engine.poll_transmit(now, &mut out) {
            any = true;
            if let Received::Dropped(reason) = other.engine.receive(now, self.at, &mut out[..length]) {
                bail!("dropped: {reason:?}");
            }
        }
        Ok(any)
    }
}

/// Two engines.
struct Ours {
    ends: [Node; 2],
    /// The second end, to the first.
    peer: PeerId,
    now: u64,
    out: [u8; MAX_DATAGRAM],
}

impl Ours {
    fn new() -> Result<Self> {
        let mut ends = [Node::new(1), Node::new(2)];
        let known = [&ends[1], &ends[0]].map(|node| (dh_public(&node.secret), node.at));
        for (node, (key, at)) in ends.iter_mut().zip(known) {
            let preshared = &[0; 32];
            node.engine.set_peers(0, [PeerConfig { key, preshared, endpoint: Some(at), keepalive_s: 0 }]);
        }
        let peer = ends[0].engine.peers().next().context("no peer")?.id;
        Ok(Self { ends, peer, now: 0, out: [0; MAX_DATAGRAM] })
    }

    /// Until both ends have used the new keys.
    fn handshake(&mut self) -> Result<()> {
        // No more often than a node would take them.
        self.now += 6_000_000;
        let [a, b] = &mut self.ends;
        a.engine.rotate(self.now);
        while a.turn(self.now, b)? | b.turn(self.now, a)? {}
        Ok(())
    }

    fn packet(&mut self, packet: &[u8]) -> Result<()> {
        let [a, b] = &mut self.ends;
        let Sent::Datagram { len, .. } = a.engine.send(self.now, self.peer, black_box(packet), &mut self.out) else {
            bail!("not sent");
        };
        match b.engine.receive(self.now, a.at, &mut self.out[..len]) {
            Received::Packet { packet, .. } => black_box(packet),
            _ => bail!("not received"),
        };
        Ok(())
    }
}

/// Two tunnels.
struct Theirs {
    ends: [Tunn; 2],
    datagram: Vec<u8>,
    out: Vec<u8>,
}

impl Theirs {
    fn new() -> Result<Self> {
        let secrets = [StaticSecret::from([1; 32]), StaticSecret::from([2; 32])];
        let publics = [PublicKey::from(&secrets[0]), PublicKey::from(&secrets[1])];
        let end = |own: usize, other: usize| {
            let limiter = Arc::new(RateLimiter::new(&publics[own], u64::MAX));
            Tunn::new(secrets[own].clone(), publics[other], None, None, own as u32, Some(limiter))
        };
        Ok(Self { ends: [end(0, 1), end(1, 0)], datagram: vec![0; 2048], out: vec![0; 2048] })
    }

    fn handshake(&mut self) -> Result<()> {
        let [a, b] = &mut self.ends;
        let from = Some(IpAddr::from([1; 16]));
        let TunnResult::WriteToNetwork(initiation) = a.format_handshake_initiation(&mut self.datagram, true) else {
            bail!("no initiation");
        };
        let TunnResult::WriteToNetwork(response) = b.decapsulate(from, initiation, &mut self.out) else {
            bail!("no response");
        };
        let TunnResult::WriteToNetwork(keepalive) = a.decapsulate(from, response, &mut self.datagram) else {
            bail!("no keepalive");
        };
        match b.decapsulate(from, keepalive, &mut self.out) {
            TunnResult::Done => Ok(()),
            _ => bail!("no session"),
        }
    }

    fn packet(&mut self, packet: &[u8]) -> Result<()> {
        let [a, b] = &mut self.ends;
        let TunnResult::WriteToNetwork(datagram) = a.encapsulate(black_box(packet), &mut self.datagram) else {
            bail!("not sent");
        };
        match b.decapsulate(Some(IpAddr::from([1; 16])), datagram, &mut self.out) {
            TunnResult::WriteToTunnelV6(packet, _) => black_box(packet),
            _ => bail!("not received"),
        };
        Ok(())
    }
}
