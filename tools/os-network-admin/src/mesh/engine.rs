//! WireGuard in user space: boringtun's protocol engine for each peer, and around it what it leaves to others: which peer a
//! datagram is of, allowed addresses, roaming, and the policy. No sockets here; what is to be sent goes to an [`Out`].
//!
//! boringtun asks the system for time and randomness itself, past [`crate::base::host`]: no simulator runs this.

use std::{
    collections::{BTreeMap, HashMap},
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
use tokio::time::Instant;
use wire::{Ip, Key};

use super::{filter::Filter, stamp::Stamps};
use crate::{
    base::{
        host::{self, Host, System},
        path::FULL,
        say::say,
    },
    registry::Rules,
};

/// The longest datagram or packet.
pub const BUFFER: usize = 2048;
/// Handshakes a second from which on a sender must show that it is where it says. Each is counted twice.
const HANDSHAKES: u64 = 200;
/// A peer that was sent something and says nothing for so long is treated like one without a session.
const UNHEARD: Duration = Duration::from_secs(3);
/// How often a handshake is begun for that: a peer that only listens answers with nothing sooner than after ten seconds.
const GREETED: Duration = Duration::from_secs(15);

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

impl PeerSetup {
    /// Whether a packet from this address can be the peer's.
    fn allows(&self, source: IpAddr) -> bool {
        named(source).is_some_and(|source| self.allowed.iter().any(|prefix| prefix.contains(&source)))
    }
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
    filter: Option<Filter>,
    seen: Seen,
    /// The first packet since it was heard last was sent then.
    unanswered: Option<Instant>,
    greeted: Option<Instant>,
}

pub struct Engine {
    secret: StaticSecret,
    public: PublicKey,
    limiter: Arc<RateLimiter>,
    addresses: Vec<Prefix>,
    /// By the index that datagrams of their sessions carry.
    peers: BTreeMap<u32, Peer>,
    by_key: HashMap<Key, u32>,
    /// By an address that is one peer's alone.
    by_address: HashMap<Ip, u32>,
    /// What is allowed to peers besides: whole networks.
    networks: Vec<(Prefix, u32)>,
    next_index: u32,
    stamps: Stamps,
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
            peers: BTreeMap::new(),
            by_key: HashMap::new(),
            by_address: HashMap::new(),
            networks: Vec::new(),
            next_index: 1,
            stamps: Stamps::new(),
            buffer: Box::new([0; BUFFER]),
        };
        engine.set_peers(&setup.peers);
        engine
    }

    /// From now on there are these peers. Sessions with those that stay go on.
    pub fn set_peers(&mut self, setups: &[PeerSetup]) {
        let stay: HashMap<&Key, &PeerSetup> = setups.iter().map(|setup| (&setup.key, setup)).collect();
        let gone = self.peers.values().filter(|peer| !stay.contains_key(&peer.setup.key));
        let gone: Vec<Key> = gone.map(|peer| peer.setup.key).collect();
        gone.iter().for_each(|key| self.remove_peer(key));
        setups.iter().for_each(|setup| self.set_peer(setup));
    }

    /// From now on this is one of the peers. A session goes on if the keys are the same.
    pub fn set_peer(&mut self, setup: &PeerSetup) {
        let known = self.by_key.get(&setup.key).copied().and_then(|index| Some((index, self.peers.remove(&index)?)));
        let (index, peer) = match known {
            Some((index, mut peer)) if peer.setup.preshared == setup.preshared => {
                self.forget_routes(index, &peer.setup);
                peer.change(setup, &self.addresses);
                (index, peer)
            }
            known => {
                if let Some((index, peer)) = known {
                    self.forget_routes(index, &peer.setup);
                    self.by_key.remove(&setup.key);
                }
                // The library would end the process.
                if let Err(error) = host::check_clock() {
                    return say(error);
                }
                self.new_peer(setup)
            }
        };
        self.by_key.insert(setup.key, index);
        for prefix in &setup.allowed {
            if prefix.length == 128 {
                self.by_address.insert(prefix.ip, index);
            } else {
                self.networks.push((*prefix, index));
            }
        }
        self.peers.insert(index, peer);
    }

    /// From now on this is none of the peers.
    pub fn remove_peer(&mut self, key: &Key) {
        let Some(index) = self.by_key.remove(key) else { return };
        if let Some(peer) = self.peers.remove(&index) {
            self.forget_routes(index, &peer.setup);
        }
    }

    fn new_peer(&mut self, setup: &PeerSetup) -> (u32, Peer) {
        let index = self.next_index;
        // An index has 24 bits; after the last come those of peers long gone.
        let after = (1..).map(|step| index.wrapping_add(step) & 0xff_ffff);
        self.next_index = after.take(self.peers.len() + 2).find(|next| !self.peers.contains_key(next)).unwrap_or(0);
        let preshared = setup.preshared.as_ref().map(|key| key.0);
        let keepalive = (setup.keepalive_s > 0).then_some(setup.keepalive_s);
        let (secret, limiter) = (self.secret.clone(), Arc::clone(&self.limiter));
        let tunnel = Tunn::new(secret, setup.key.into(), preshared, keepalive, index, Some(limiter));
        // After it has looked at the clock.
        self.stamps.begin(System.since_1970());
        let filter = setup.rules.as_ref().map(|rules| Filter::new(&self.addresses, &setup.allowed, rules));
        let seen = Seen { endpoint: setup.endpoint, ..Seen::default() };
        (index, Peer { setup: setup.clone(), tunnel, filter, seen, unanswered: None, greeted: None })
    }

    /// What was another's since stays the other's.
    fn forget_routes(&mut self, index: u32, setup: &PeerSetup) {
        for prefix in &setup.allowed {
            if self.by_address.get(&prefix.ip) == Some(&index) {
                self.by_address.remove(&prefix.ip);
            }
        }
        self.networks.retain(|(_, of)| *of != index);
    }

    pub fn seen(&self, key: &Key) -> Option<Seen> {
        let peer = self.by_key.get(key).and_then(|index| self.peers.get(index))?;
        Some(Seen { handshake: peer.tunnel.time_since_last_handshake(), ..peer.seen.clone() })
    }

    /// The highest timestamp that a handshake may have had until now, in Unix milliseconds.
    pub fn highest_stamp_ms(&self) -> i64 {
        self.stamps.highest_ms()
    }

    /// Whether there is a session with a peer, and nothing that it was sent lately stays without a word.
    pub fn hears(&self, key: &Key) -> bool {
        let peer = self.by_key.get(key).and_then(|index| self.peers.get(index));
        peer.is_some_and(|peer| peer.tunnel.time_since_last_handshake().is_some() && !peer.is_unheard())
    }

    /// Whether there is something that a peer leaves without a word.
    pub fn is_unheard(&self, key: &Key) -> bool {
        let peer = self.by_key.get(key).and_then(|index| self.peers.get(index));
        peer.is_some_and(Peer::is_unheard)
    }

    /// Sends every peer something authentic at once, so that each learns where we are now.
    pub fn poke(&mut self, out: &mut impl Out) {
        for peer in self.peers.values_mut() {
            if peer.tunnel.time_since_last_handshake().is_some() {
                let result = peer.tunnel.encapsulate(&[], &mut self.buffer[..]);
                emit(result, peer.seen.endpoint, out);
            } else {
                peer.greet(&mut self.buffer[..], out);
            }
        }
    }

    /// Begins a handshake with every peer whose place is known, so that each learns where we are.
    pub fn greet(&mut self, out: &mut impl Out) {
        self.peers.values_mut().for_each(|peer| peer.greet(&mut self.buffer[..], out));
    }

    /// The same with one.
    pub fn greet_peer(&mut self, key: &Key, out: &mut impl Out) {
        if let Some(peer) = self.by_key.get(key).and_then(|index| self.peers.get_mut(index)) {
            peer.greet(&mut self.buffer[..], out);
        }
    }

    /// A packet of this host's, from the device.
    pub fn from_device(&mut self, packet: &[u8], out: &mut impl Out) {
        let Some(to) = Tunn::dst_address(packet).and_then(named) else { return };
        let Some(peer) = self.route(&to).and_then(|index| self.peers.get_mut(&index)) else { return };
        if packet.len() > FULL as usize || peer.filter.as_mut().is_some_and(|filter| !filter.outbound(packet)) {
            peer.seen.dropped += 1;
            return;
        }
        peer.seen.sent += packet.len() as u64;
        peer.unanswered.get_or_insert_with(Instant::now);
        let result = peer.tunnel.encapsulate(packet, &mut self.buffer[..]);
        emit(result, peer.seen.endpoint, out);
    }

    /// A datagram from outside.
    pub fn from_network(&mut self, datagram: &[u8], from: SocketAddrV6, out: &mut impl Out) {
        let source = IpAddr::V6(*from.ip());
        let Some(at) = self.whose(datagram, from, out) else { return };
        let Some(peer) = self.peers.get_mut(&at) else { return };
        // It needs nothing but the peer's public key and what was seen on the link: it may be anybody's.
        let is_cookie = matches!(Tunn::parse_incoming_packet(datagram), Ok(Packet::PacketCookieReply(_)));
        match peer.tunnel.decapsulate(Some(source), datagram, &mut self.buffer[..]) {
            TunnResult::Err(_) => return,
            TunnResult::Done if is_cookie => return,
            TunnResult::Done => {}
            TunnResult::WriteToNetwork(answer) => {
                // A cookie reply is 64 bytes long: its receiver has not shown yet where it is.
                let is_cookie = answer.len() == 64;
                out.network(answer, from);
                if is_cookie {
                    return;
                }
                peer.heard(from);
                while let TunnResult::WriteToNetwork(queued) = peer.tunnel.decapsulate(None, &[], &mut self.buffer[..])
                {
                    out.network(queued, from);
                }
            }
            TunnResult::WriteToTunnelV4(packet, source) => {
                peer.seen.received += packet.len() as u64;
                let allowed = peer.setup.allows(source.into());
                deliver(allowed, peer.filter.as_mut(), &mut peer.seen, packet, out);
            }
            TunnResult::WriteToTunnelV6(packet, source) => {
                peer.seen.received += packet.len() as u64;
                let allowed = peer.setup.allows(source.into());
                deliver(allowed, peer.filter.as_mut(), &mut peer.seen, packet, out);
            }
        }
        peer.heard(from);
    }

    /// What time brings. Four times a second is often enough.
    pub fn tick(&mut self, out: &mut impl Out) {
        self.limiter.reset_count();
        for peer in self.peers.values_mut() {
            let result = peer.tunnel.update_timers(&mut self.buffer[..]);
            emit(result, peer.seen.endpoint, out);
            if peer.is_unheard() && peer.greeted.is_none_or(|at| at.elapsed() >= GREETED) {
                peer.greeted = Some(Instant::now());
                let result = peer.tunnel.format_handshake_initiation(&mut self.buffer[..], false);
                emit(result, peer.seen.endpoint, out);
            }
        }
    }

    /// The peer that an address is of: longest prefix first, as everywhere.
    fn route(&self, to: &Ip) -> Option<u32> {
        let networks = || self.networks.iter().filter(|(prefix, _)| prefix.contains(to));
        let network = || networks().max_by_key(|(prefix, _)| prefix.length).map(|(_, index)| *index);
        self.by_address.get(to).copied().or_else(network)
    }

    /// The peer that a datagram says it is of.
    fn whose(&mut self, datagram: &[u8], from: SocketAddrV6, out: &mut impl Out) -> Option<u32> {
        let by_index = |receiver: u32| Some(receiver >> 8);
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
                self.by_key.get(&half.peer_static_public).copied()
            }
            Packet::HandshakeResponse(response) => by_index(response.receiver_idx),
            Packet::PacketCookieReply(reply) => by_index(reply.receiver_idx),
            Packet::PacketData(data) => by_index(data.receiver_idx),
        }
    }
}

impl Peer {
    /// Something authentic has come: this is where the peer is now.
    fn heard(&mut self, from: SocketAddrV6) {
        self.seen.endpoint = Some(from);
        self.unanswered = None;
    }

    fn is_unheard(&self) -> bool {
        self.unanswered.is_some_and(|since| since.elapsed() >= UNHEARD)
    }

    fn greet(&mut self, buffer: &mut [u8], out: &mut impl Out) {
        if self.tunnel.time_since_last_handshake().is_none() {
            let result = self.tunnel.format_handshake_initiation(buffer, false);
            emit(result, self.seen.endpoint, out);
        }
    }

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

/// A packet's address as prefixes name it. An IPv6 packet with a mapped one would be taken for another family's.
fn named(ip: IpAddr) -> Option<Ip> {
    match ip {
        IpAddr::V4(ip) => Some(ip.to_ipv6_mapped().octets()),
        IpAddr::V6(ip) => Some(ip.octets()).filter(|_| ip.to_ipv4_mapped().is_none()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(number: u8, preshared: u8, allowed: Prefix) -> PeerSetup {
        PeerSetup {
            key: [number; 32],
            preshared: Some(Preshared([preshared; 32])),
            allowed: vec![allowed],
            endpoint: None,
            keepalive_s: 0,
            rules: None,
        }
    }

    #[test]
    fn an_address_leads_to_the_peer_that_has_it_now_and_a_session_goes_on_with_the_same_keys() {
        let address = |last| Prefix::v4([10, 8, 0, last], 32);
        let setup = Setup { secret: Secret::new([9; 32]), port: 1, addresses: Vec::new(), peers: Vec::new() };
        let mut engine = Engine::new(&setup);
        let key_at = |engine: &Engine, ip: Prefix| {
            let index = engine.route(&ip.ip)?;
            Some((index, engine.peers.get(&index)?.setup.key[0]))
        };
        engine.set_peers(&[peer(1, 1, address(1)), peer(2, 2, address(2)), peer(3, 3, Prefix::v4([10, 8, 0, 0], 24))]);
        let first = key_at(&engine, address(1)).unwrap();
        assert_eq!(
            (first.1, key_at(&engine, address(2)).unwrap().1, key_at(&engine, address(7)).unwrap().1),
            (1, 2, 3)
        );
        // It has moved.
        engine.set_peer(&peer(1, 1, address(5)));
        assert_eq!((key_at(&engine, address(5)), key_at(&engine, address(1)).unwrap().1), (Some(first), 3));
        // With another preshared key it is another session.
        engine.set_peer(&peer(1, 7, address(5)));
        let second = key_at(&engine, address(5)).unwrap();
        assert!(second.1 == 1 && second.0 != first.0 && !engine.peers.contains_key(&first.0));
        // Another has its address; then it goes, and takes nothing of the other's with it.
        engine.set_peer(&peer(4, 4, address(5)));
        engine.remove_peer(&[1; 32]);
        assert_eq!(key_at(&engine, address(5)).unwrap().1, 4);
        engine.set_peers(&[peer(4, 4, address(5))]);
        assert_eq!(
            (engine.peers.len(), engine.by_key.len(), engine.by_address.len(), engine.networks.len()),
            (1, 1, 1, 0)
        );
        assert!(engine.seen(&[4; 32]).is_some() && engine.seen(&[2; 32]).is_none());
    }

    #[test]
    fn a_packet_of_one_family_is_of_no_prefix_of_the_other() {
        let setup = peer(1, 1, Prefix::v4([10, 8, 0, 0], 24));
        assert!(setup.allows("10.8.0.1".parse().unwrap()));
        assert!(!setup.allows("::ffff:10.8.0.1".parse().unwrap()));
        let setup = peer(1, 1, Prefix { ip: [0; 16], length: 0 });
        let allowed = ["2001:db8::1", "8.8.8.8", "::ffff:8.8.8.8"].map(|ip| setup.allows(ip.parse().unwrap()));
        assert_eq!(allowed, [true, false, false]);
    }

    #[test]
    fn an_index_that_a_peer_has_is_given_to_no_other() {
        let setup = Setup { secret: Secret::new([9; 32]), port: 1, addresses: Vec::new(), peers: Vec::new() };
        let mut engine = Engine::new(&setup);
        engine.set_peer(&peer(1, 1, Prefix::v4([10, 8, 0, 1], 32)));
        engine.next_index = 0xff_ffff;
        for number in 2..5 {
            engine.set_peer(&peer(number, 1, Prefix::v4([10, 8, 0, number], 32)));
        }
        assert_eq!(engine.peers.keys().copied().collect::<Vec<_>>(), [0, 1, 2, 0xff_ffff]);
    }

    /// Datagrams for the network, and where they go.
    #[derive(Default)]
    struct Sent(Vec<(Vec<u8>, SocketAddrV6)>);

    impl Out for Sent {
        fn network(&mut self, datagram: &[u8], to: SocketAddrV6) {
            self.0.push((datagram.into(), to));
        }

        fn device(&mut self, _: &[u8]) {}
    }

    fn place(last: u8) -> SocketAddrV6 {
        SocketAddrV6::new([0xfe80, 0, 0, 0, 0, 0, 0, last.into()].into(), 51820, 0, 2)
    }

    /// Two engines that know each other, and where they are; each has the other as its only peer.
    fn two() -> [Engine; 2] {
        let secrets = [[1; 32], [2; 32]];
        let keys = secrets.map(|secret| *PublicKey::from(&StaticSecret::from(secret)).as_bytes());
        [0, 1].map(|at: usize| {
            let mut other = peer(0, 7, Prefix::v4([10, 8, 0, 2 - at as u8], 32));
            (other.key, other.endpoint) = (keys[1 - at], Some(place(2 - at as u8)));
            let secret = Secret::new(secrets[at]);
            Engine::new(&Setup { secret, port: 1, addresses: Vec::new(), peers: vec![other] })
        })
    }

    fn endpoint(engine: &Engine) -> Option<SocketAddrV6> {
        engine.peers.values().next().unwrap().seen.endpoint
    }

    /// Lets both talk until neither has anything to say. The first is at place 1, the second at place 2.
    fn talk(engines: &mut [Engine; 2], first: Sent) {
        let mut waiting: Vec<(usize, Vec<u8>)> = first.0.into_iter().map(|(bytes, _)| (1, bytes)).collect();
        while let Some((to, bytes)) = waiting.pop() {
            let mut sent = Sent::default();
            engines[to].from_network(&bytes, place(2 - to as u8), &mut sent);
            waiting.extend(sent.0.into_iter().map(|(bytes, _)| (1 - to, bytes)));
        }
    }

    #[test]
    fn only_what_is_authentic_moves_a_peer() {
        let mut engines = two();
        let mut sent = Sent::default();
        engines[0].greet(&mut sent);
        // Whoever has seen the initiation can make this of it: the responder's public key is enough.
        let forger = RateLimiter::new(&engines[1].public, 0);
        let mut forged = [0; BUFFER];
        let cookie = match forger.verify_packet(Some(IpAddr::V6(*place(1).ip())), &sent.0[0].0, &mut forged) {
            Err(TunnResult::WriteToNetwork(cookie)) => cookie.to_vec(),
            _ => panic!("no cookie"),
        };
        engines[0].from_network(&cookie, place(9), &mut Sent::default());
        assert_eq!(endpoint(&engines[0]), Some(place(2)), "a cookie moves nobody");
        talk(&mut engines, sent);
        // What is no message of the session's, or one that came before, neither.
        let mut sent = Sent::default();
        engines[1].poke(&mut sent);
        let keepalive = sent.0[0].0.clone();
        let mut broken = keepalive.clone();
        *broken.last_mut().unwrap() ^= 1;
        engines[0].from_network(&broken, place(9), &mut Sent::default());
        assert_eq!(endpoint(&engines[0]), Some(place(2)));
        engines[0].from_network(&keepalive, place(3), &mut Sent::default());
        engines[0].from_network(&keepalive, place(9), &mut Sent::default());
        assert_eq!(endpoint(&engines[0]), Some(place(3)), "an authentic one does");
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_is_not_heard_for_a_few_seconds_is_like_one_without_a_session() {
        let mut engines = two();
        let key = engines[0].peers.values().next().unwrap().setup.key;
        let mut sent = Sent::default();
        engines[0].greet(&mut sent);
        assert!(!engines[0].hears(&key));
        talk(&mut engines, sent);
        assert!(engines[0].hears(&key), "there is a session");
        let packet = echo();
        let begun = |sent: &Sent| sent.0.iter().filter(|(bytes, _)| bytes[0] == 1).count();
        let mut sent = Sent::default();
        engines[0].from_device(&packet, &mut sent);
        tokio::time::advance(UNHEARD).await;
        assert!(!engines[0].hears(&key));
        engines[0].tick(&mut sent);
        engines[0].tick(&mut sent);
        assert_eq!(begun(&sent), 1, "one handshake is begun");
        // An answer, and it is heard again.
        talk(&mut engines, sent);
        assert!(engines[0].hears(&key));
        // Idle is not unheard.
        tokio::time::advance(10 * UNHEARD).await;
        assert!(engines[0].hears(&key));
    }

    #[test]
    fn a_poke_reaches_every_peer_at_once_with_a_session_or_without() {
        let mut engines = two();
        let mut sent = Sent::default();
        engines[0].poke(&mut sent);
        assert_eq!((sent.0.len(), sent.0[0].0[0]), (1, 1), "a handshake begins");
        talk(&mut engines, sent);
        let mut sent = Sent::default();
        engines[0].poke(&mut sent);
        assert_eq!((sent.0.len(), sent.0[0].0.len(), sent.0[0].1), (1, 32, place(2)), "a keepalive");
        // The host has moved, and is followed.
        engines[1].from_network(&sent.0[0].0, place(5), &mut Sent::default());
        assert_eq!(endpoint(&engines[1]), Some(place(5)));
    }

    /// A packet to the second engine's address.
    fn echo() -> Vec<u8> {
        let mut packet = vec![0; 28];
        (packet[0], packet[3], packet[9]) = (0x45, 28, 1);
        packet[12..20].copy_from_slice(&[10, 8, 0, 1, 10, 8, 0, 2]);
        packet
    }
}
