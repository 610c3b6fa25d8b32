//! The engine and the outer side together: packets of peers on one side, frames on the other. What the engine learns about where
//! peers are is published as [`Stations`] before a frame goes there.

use calls::mesh::Stations;
use crypto::Secret;
use policy::{Configuration, MAX_PEERS};
use shm::{Micros, cell};
use wire::Key;
use wireguard::{
    Endpoint, Engine, MAX_MTU, PeerConfig, PeerId, Reason, Received, Refused, Sent, StaticReply, StaticRequest,
};

use crate::outer::{Frame, Outer, Own, Ring};

/// In one step the engine sends at most so many datagrams by itself.
const BATCH: usize = 32;
const NO_PRESHARED: [u8; 32] = [0; 32];

/// What a frame brought. Peers are named by their places in the configuration.
#[derive(Default)]
pub struct Arrived<'f> {
    /// The peer's packet, perhaps with padding behind it.
    pub packet: Option<(usize, &'f mut [u8])>,
    /// A session with this peer is now known to be live.
    pub confirmed: Option<usize>,
}

pub struct Counters {
    /// Inner packets, and their bytes, of all peers.
    pub received: u64,
    pub received_bytes: u64,
    pub sent: u64,
    pub sent_bytes: u64,
    pub handshakes: u64,
}

impl Counters {
    const ZERO: Self = Self { received: 0, received_bytes: 0, sent: 0, sent_bytes: 0, handshakes: 0 };
}

pub struct Tunnel {
    engine: Option<Engine>,
    outer: Outer,
    frame: Frame,
    /// The peer in the configuration, by its place in the engine, and the other way round.
    places: [Option<usize>; MAX_PEERS],
    ids: [Option<PeerId>; MAX_PEERS],
    /// Where the peer was when the stations were last looked at, by place in the engine.
    seen: [Option<Endpoint>; MAX_PEERS],
    /// When the session was agreed that was counted last, by place in the engine.
    agreed: [Option<Micros>; MAX_PEERS],
    pub counters: Counters,
}

impl Tunnel {
    pub const fn new() -> Self {
        Self {
            engine: None,
            outer: Outer::new(),
            frame: Frame::new(),
            places: [None; MAX_PEERS],
            ids: [None; MAX_PEERS],
            seen: [None; MAX_PEERS],
            agreed: [None; MAX_PEERS],
            counters: Counters::ZERO,
        }
    }

    pub fn is_up(&self) -> bool {
        self.engine.is_some()
    }

    pub fn start(&mut self, public: Key, seed: Secret) {
        self.engine = Some(Engine::new(public, seed, MAX_MTU));
    }

    /// Session keys, neighbours and what waited for them are gone.
    pub fn stop(&mut self, stations: &mut cell::Writer<'_, Stations>) {
        self.engine = None;
        self.outer.set_own(None);
        (self.places, self.ids, self.agreed) = ([None; MAX_PEERS], [None; MAX_PEERS], [None; MAX_PEERS]);
        self.frame = Frame::new();
        self.publish(stations);
    }

    /// These peers and no others, from this place on the link.
    pub fn set_peers(
        &mut self,
        now: Micros,
        own: Own,
        configuration: &Configuration,
        stations: &mut cell::Writer<'_, Stations>,
    ) {
        self.outer.set_own(Some(own));
        let Some(engine) = &mut self.engine else { return };
        engine.set_peers(
            now,
            configuration.peers.iter().map(|peer| PeerConfig {
                key: peer.key,
                preshared: peer.preshared.as_ref().map_or(&NO_PRESHARED, |preshared| &preshared.0),
                endpoint: peer.endpoint.map(|at| Endpoint { ip: at.ip, port: at.port }),
                keepalive_s: peer.keepalive_s,
            }),
        );
        (self.places, self.ids) = ([None; MAX_PEERS], [None; MAX_PEERS]);
        for view in engine.peers() {
            let place = configuration.peers.iter().position(|peer| peer.key == view.key);
            if let Some(to) = place.and_then(|place| self.ids.get_mut(place)) {
                *to = Some(view.id);
            }
            if let Some(to) = self.places.get_mut(view.id.index()) {
                *to = place;
            }
            if let Some(agreed) = self.agreed.get_mut(view.id.index()) {
                *agreed = view.last_handshake;
            }
        }
        self.publish(stations);
    }

    pub fn reseed(&mut self, seed: &Secret) {
        if let Some(engine) = &mut self.engine {
            engine.reseed(seed);
        }
    }

    pub fn rotate(&mut self, now: Micros) {
        if let Some(engine) = &mut self.engine {
            engine.rotate(now);
        }
    }

    // --- the static key's steps

    pub fn has_question(&self, now: Micros) -> bool {
        self.engine.as_ref().is_some_and(|engine| engine.has_question(now))
    }

    pub fn poll_static(&mut self, now: Micros) -> Option<StaticRequest> {
        self.engine.as_mut()?.poll_static(now)
    }

    /// The peer of the configuration with whom this made a session that is known to be live.
    pub fn static_reply(
        &mut self,
        now: Micros,
        reply: Result<StaticReply, Refused>,
        stations: &mut cell::Writer<'_, Stations>,
    ) -> Option<usize> {
        let proven = self.engine.as_mut()?.static_reply(now, reply);
        self.publish(stations);
        self.confirm(proven?)
    }

    /// A peer has used a session: it lives at both ends.
    fn confirm(&mut self, id: PeerId) -> Option<usize> {
        let view = self.engine.as_ref()?.peer(id)?;
        let agreed = self.agreed.get_mut(id.index())?;
        if *agreed != view.last_handshake {
            *agreed = view.last_handshake;
            self.counters.handshakes = self.counters.handshakes.wrapping_add(1);
        }
        *self.places.get(id.index())?
    }

    // --- packets

    /// Takes a frame.
    pub fn receive<'f>(
        &mut self,
        now: Micros,
        frame: &'f mut [u8],
        ring: &mut Ring<'_>,
        stations: &mut cell::Writer<'_, Stations>,
    ) -> Arrived<'f> {
        let mut arrived = Arrived::default();
        let Some(engine) = &mut self.engine else { return arrived };
        let Some((from, at)) = self.outer.take(now, frame, ring) else { return arrived };
        let Some(datagram) = frame.get_mut(at) else { return arrived };
        match engine.receive(now, from, datagram) {
            Received::Packet { peer, packet, first } => {
                self.counters.received = self.counters.received.wrapping_add(1);
                self.counters.received_bytes = self.counters.received_bytes.wrapping_add(packet.len() as u64);
                self.heard_from(peer, stations);
                arrived.confirmed = if first { self.confirm(peer) } else { None };
                arrived.packet = self.places.get(peer.index()).copied().flatten().map(|place| (place, packet));
            }
            Received::Keepalive { peer, first } => {
                self.heard_from(peer, stations);
                arrived.confirmed = if first { self.confirm(peer) } else { None };
            }
            Received::Reply(reply) => {
                let len = reply.len();
                if let Some(to) = self.frame.datagram_mut().get_mut(..len) {
                    to.copy_from_slice(reply);
                    self.outer.send(now, &mut self.frame, len, &from, ring);
                }
            }
            // The engine counts what it drops.
            Received::Waits | Received::Nothing | Received::Dropped(_) => {}
        }
        arrived
    }

    /// Sends a packet to the peer at this place in the configuration.
    pub fn send(&mut self, now: Micros, place: usize, packet: &[u8], ring: &mut Ring<'_>) {
        let Some(engine) = &mut self.engine else { return };
        let Some(id) = self.ids.get(place).copied().flatten() else { return };
        match engine.send(now, id, packet, self.frame.datagram_mut()) {
            Sent::Datagram { to, len } => self.outer.send(now, &mut self.frame, len, &to, ring),
            Sent::Queued => {}
            Sent::Dropped(_) => return,
        }
        self.counters.sent = self.counters.sent.wrapping_add(1);
        self.counters.sent_bytes = self.counters.sent_bytes.wrapping_add(packet.len() as u64);
    }

    /// Does what is due and sends what waits. Returns true if there is more.
    pub fn pump(&mut self, now: Micros, ring: &mut Ring<'_>) -> bool {
        let Some(engine) = &mut self.engine else { return false };
        engine.tick(now);
        self.outer.tick(now, ring);
        for _ in 0..BATCH {
            let Some((to, len)) = engine.poll_transmit(now, self.frame.datagram_mut()) else { return false };
            self.outer.send(now, &mut self.frame, len, &to, ring);
        }
        true
    }

    /// Frames and datagrams that were no peer's.
    pub fn outer_dropped(&self) -> u64 {
        const OUTER: [Reason; 9] = [
            Reason::Malformed,
            Reason::Mac,
            Reason::UnknownIndex,
            Reason::UnknownPeer,
            Reason::Replay,
            Reason::Forged,
            Reason::TooSoon,
            Reason::Busy,
            Reason::Refused,
        ];
        let dropped = self.engine.iter().flat_map(|engine| OUTER.map(|reason| engine.dropped(reason)));
        dropped.fold(self.outer.dropped, u64::wrapping_add)
    }

    /// Datagrams that should have gone out and did not.
    pub fn lost(&self) -> u64 {
        self.outer.lost
    }

    /// Nothing is asked of the keystore before `ask_at`.
    pub fn deadline(&self, ask_at: Micros) -> Option<Micros> {
        let engine = self.engine.as_ref()?;
        let asks_at = engine.asks_at().map(|at| at.max(ask_at));
        [engine.ticks_at(), asks_at, self.outer.deadline()].into_iter().flatten().min()
    }

    /// An authentic packet tells where its peer is.
    fn heard_from(&mut self, id: PeerId, stations: &mut cell::Writer<'_, Stations>) {
        let at = self.engine.as_ref().and_then(|engine| engine.peer(id)).and_then(|view| view.endpoint);
        if self.seen.get(id.index()) != Some(&at) {
            self.publish(stations);
        }
    }

    /// Says where the stations are, if that has changed.
    fn publish(&mut self, cell: &mut cell::Writer<'_, Stations>) {
        self.seen = [None; MAX_PEERS];
        for view in self.engine.iter().flat_map(Engine::peers) {
            if let Some(seen) = self.seen.get_mut(view.id.index()) {
                *seen = view.endpoint;
            }
        }
        let stations = self.outer.set_endpoints(self.seen.iter().flatten().map(|at| at.ip));
        if *stations != cell.latest() {
            cell.publish(stations);
        }
    }
}
