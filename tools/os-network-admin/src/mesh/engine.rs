//! WireGuard in user space: boringtun's protocol engine for each peer, and around it what it leaves to others: which peer a
//! datagram is of, allowed addresses, roaming, and the policy. No sockets here; what is to be sent goes to an [`Out`].
//!
//! boringtun asks the system for time and randomness itself, past [`crate::base::host`]: no simulator runs this.

use std::{
    net::{IpAddr, SocketAddrV6},
    sync::Arc,
    time::Duration,
};

use boringtun::{
    noise::{Packet, Tunn, TunnResult, handshake::parse_handshake_anon, rate_limiter::RateLimiter},
    x25519::{PublicKey, StaticSecret},
};
use crypto::Secret;
use policy::{Prefix, Preshared};
use wire::{Ip, Key};

use super::filter::Filter;
use crate::registry::Rules;

/// MeshAddress packets of up to this length, so that outer ones are of 1500 bytes.
pub const MTU: u32 = 1420;
/// The longest datagram or packet.
pub const BUFFER: usize = 2048;
/// Handshakes a second from which on a sender must show that it is where it says. Each is counted twice.
const HANDSHAKES: u64 = 200;

/// What the interface is to be.
pub struct Setup {
    pub secret: Secret,
    pub port: u16,
    /// With the lengths of their subnets.
    pub addresses: Vec<Prefix>,
    pub peers: Vec<PeerSetup>,
}

#[derive(Clone, PartialEq, Eq)]
pub struct PeerSetup {
    pub key: Key,
    pub preshared: Option<Preshared>,
    pub allowed: Vec<Prefix>,
    /// Until the peer shows that it is elsewhere.
    pub endpoint: Option<SocketAddrV6>,
    pub keepalive_s: u16,
    /// The policy of a node towards us; `None`: anything goes.
    pub rules: Option<Rules>,
}

/// Where an engine's bytes go.
pub trait Out {
    /// A datagram, outside.
    fn network(&mut self, datagram: &[u8], to: SocketAddrV6);
    /// A packet, inside.
    fn device(&mut self, packet: &[u8]);
}

/// What is known of a peer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Seen {
    pub endpoint: Option<SocketAddrV6>,
    pub handshake: Option<Duration>,
    pub received: u64,
    pub sent: u64,
    /// Packets that policy or the allowed addresses did not let pass, both ways.
    pub dropped: u64,
}

struct Peer {
    setup: PeerSetup,
    tunnel: Tunn,
    index: u32,
    filter: Option<Filter>,
    seen: Seen,
}

pub struct Engine {
    secret: StaticSecret,
    public: PublicKey,
    limiter: Arc<RateLimiter>,
    addresses: Vec<Prefix>,
    peers: Vec<Peer>,
    next_index: u32,
    buffer: Box<[u8; BUFFER]>,
}

impl Engine {
    pub fn new(setup: &Setup) -> Self {
        let secret = StaticSecret::from(*setup.secret);
        let public = PublicKey::from(&secret);
        let mut engine = Self {
            limiter: Arc::new(RateLimiter::new(&public, HANDSHAKES)),
            secret,
            public,
            addresses: setup.addresses.clone(),
            peers: Vec::new(),
            next_index: 1,
            buffer: Box::new([0; BUFFER]),
        };
        engine.set_peers(&setup.peers);
        engine
    }

    /// From now on there are these peers. Sessions with those that stay go on.
    pub fn set_peers(&mut self, setups: &[PeerSetup]) {
        let same = |one: &PeerSetup, other: &PeerSetup| one.key == other.key && one.preshared == other.preshared;
        self.peers.retain(|peer| setups.iter().any(|setup| same(setup, &peer.setup)));
        for setup in setups {
            if let Some(peer) = self.peers.iter_mut().find(|peer| same(setup, &peer.setup)) {
                peer.change(setup, &self.addresses);
                continue;
            }
            let index = self.next_index;
            // An index has 24 bits; one that has wrapped round is of a peer long gone.
            self.next_index = (index + 1) & 0xff_ffff;
            let preshared = setup.preshared.as_ref().map(|key| key.0);
            let keepalive = (setup.keepalive_s > 0).then_some(setup.keepalive_s);
            let (secret, limiter) = (self.secret.clone(), Arc::clone(&self.limiter));
            let tunnel = Tunn::new(secret, setup.key.into(), preshared, keepalive, index, Some(limiter));
            let filter = setup.rules.as_ref().map(|rules| Filter::new(&self.addresses, &setup.allowed, rules));
            let seen = Seen { endpoint: setup.endpoint, ..Seen::default() };
            self.peers.push(Peer { setup: setup.clone(), tunnel, index, filter, seen });
        }
    }

    pub fn seen(&self, key: &Key) -> Option<Seen> {
        let peer = self.peers.iter().find(|peer| peer.setup.key == *key)?;
        Some(Seen { handshake: peer.tunnel.time_since_last_handshake(), ..peer.seen.clone() })
    }

    /// Begins a handshake with every peer whose place is known, so that each learns where we are.
    pub fn greet(&mut self, out: &mut impl Out) {
        for peer in &mut self.peers {
            if peer.tunnel.time_since_last_handshake().is_none() {
                let result = peer.tunnel.format_handshake_initiation(&mut self.buffer[..], false);
                emit(result, peer.seen.endpoint, out);
            }
        }
    }

    /// A packet of this host's, from the device.
    pub fn from_device(&mut self, packet: &[u8], out: &mut impl Out) {
        let Some(to) = Tunn::dst_address(packet).map(mapped) else { return };
        // Longest prefix first, as everywhere.
        let routes = self.peers.iter_mut().filter_map(|peer| Some((peer.covers(&to)?, peer)));
        let Some((_, peer)) = routes.max_by_key(|(length, _)| *length) else { return };
        if packet.len() > MTU as usize || peer.filter.as_mut().is_some_and(|filter| !filter.outbound(packet)) {
            peer.seen.dropped += 1;
            return;
        }
        peer.seen.sent += packet.len() as u64;
        let result = peer.tunnel.encapsulate(packet, &mut self.buffer[..]);
        emit(result, peer.seen.endpoint, out);
    }

    /// A datagram from outside.
    pub fn from_network(&mut self, datagram: &[u8], from: SocketAddrV6, out: &mut impl Out) {
        let source = IpAddr::V6(*from.ip());
        let Some(at) = self.whose(datagram, from, out) else { return };
        let Some(peer) = self.peers.get_mut(at) else { return };
        match peer.tunnel.decapsulate(Some(source), datagram, &mut self.buffer[..]) {
            TunnResult::Err(_) => return,
            TunnResult::Done => {}
            TunnResult::WriteToNetwork(answer) => {
                // A cookie reply is 64 bytes long: its receiver has not shown yet where it is.
                let is_cookie = answer.len() == 64;
                out.network(answer, from);
                if is_cookie {
                    return;
                }
                peer.seen.endpoint = Some(from);
                while let TunnResult::WriteToNetwork(queued) = peer.tunnel.decapsulate(None, &[], &mut self.buffer[..])
                {
                    out.network(queued, from);
                }
            }
            TunnResult::WriteToTunnelV4(packet, source) => {
                let source = mapped(IpAddr::V4(source));
                peer.seen.received += packet.len() as u64;
                let allowed = peer.setup.allowed.iter().any(|prefix| prefix.contains(&source));
                deliver(allowed, peer.filter.as_mut(), &mut peer.seen, packet, out);
            }
            TunnResult::WriteToTunnelV6(packet, source) => {
                peer.seen.received += packet.len() as u64;
                let allowed = peer.setup.allowed.iter().any(|prefix| prefix.contains(&source.octets()));
                deliver(allowed, peer.filter.as_mut(), &mut peer.seen, packet, out);
            }
        }
        // It was authentic: this is where the peer is now.
        peer.seen.endpoint = Some(from);
    }

    /// What time brings. Four times a second is often enough.
    pub fn tick(&mut self, out: &mut impl Out) {
        self.limiter.reset_count();
        for peer in &mut self.peers {
            let result = peer.tunnel.update_timers(&mut self.buffer[..]);
            emit(result, peer.seen.endpoint, out);
        }
    }

    /// The peer that a datagram says it is of.
    fn whose(&mut self, datagram: &[u8], from: SocketAddrV6, out: &mut impl Out) -> Option<usize> {
        let by_index = |receiver: u32| self.peers.iter().position(|peer| peer.index == receiver >> 8);
        match Tunn::parse_incoming_packet(datagram).ok()? {
            Packet::HandshakeInit(_) => {
                // Whoever does not know our key, or hides where it is under load, costs no exchange of keys.
                let checked = self.limiter.verify_packet(Some(IpAddr::V6(*from.ip())), datagram, &mut self.buffer[..]);
                let initiation = match checked {
                    Ok(Packet::HandshakeInit(initiation)) => initiation,
                    Err(TunnResult::WriteToNetwork(cookie)) => {
                        out.network(cookie, from);
                        return None;
                    }
                    _ => return None,
                };
                let half = parse_handshake_anon(&self.secret, &self.public, &initiation).ok()?;
                self.peers.iter().position(|peer| peer.setup.key == half.peer_static_public)
            }
            Packet::HandshakeResponse(response) => by_index(response.receiver_idx),
            Packet::PacketCookieReply(reply) => by_index(reply.receiver_idx),
            Packet::PacketData(data) => by_index(data.receiver_idx),
        }
    }
}

impl Peer {
    fn change(&mut self, setup: &PeerSetup, own: &[Prefix]) {
        if self.setup == *setup {
            return;
        }
        match (&mut self.filter, &setup.rules) {
            (Some(filter), Some(rules)) => filter.revise(own, &setup.allowed, rules),
            (filter, rules) => *filter = rules.as_ref().map(|rules| Filter::new(own, &setup.allowed, rules)),
        }
        // Where it has shown itself counts for more than where it was said to be, unless that has changed.
        if setup.endpoint.is_some() && setup.endpoint != self.setup.endpoint {
            self.seen.endpoint = setup.endpoint;
        }
        self.setup = setup.clone();
    }

    fn covers(&self, ip: &Ip) -> Option<u8> {
        let prefixes = self.setup.allowed.iter().filter(|prefix| prefix.contains(ip));
        prefixes.map(|prefix| prefix.length).max()
    }
}

fn deliver(allowed: bool, filter: Option<&mut Filter>, seen: &mut Seen, packet: &[u8], out: &mut impl Out) {
    if allowed && filter.is_none_or(|filter| filter.inbound(packet)) {
        out.device(packet);
    } else {
        seen.dropped += 1;
    }
}

fn emit(result: TunnResult<'_>, to: Option<SocketAddrV6>, out: &mut impl Out) {
    if let (TunnResult::WriteToNetwork(datagram), Some(to)) = (result, to) {
        out.network(datagram, to);
    }
}

fn mapped(ip: IpAddr) -> Ip {
    match ip {
        IpAddr::V4(ip) => ip.to_ipv6_mapped().octets(),
        IpAddr::V6(ip) => ip.octets(),
    }
}
