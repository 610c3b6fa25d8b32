//! The engine's state, its peers and its timers.

use clock::Micros;
use crypto::Secret;
use wire::Key;

use crate::{
    MAX_MTU, MAX_PEERS, PeerConfig, PeerId, PeerView, Reason,
    cookie::Checker,
    handshake::Outstanding,
    index::Table,
    load::{Budget, Load, STRANGERS, Strangers},
    peer::{NEVER, Peer},
    random::Random,
    time::{REKEY_ATTEMPT_TIME, REKEY_TIMEOUT},
};

/// A set of peers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Set(u16);

impl Set {
    pub fn insert(&mut self, peer: PeerId) {
        self.0 |= 1 << peer.0;
    }

    pub fn remove(&mut self, peer: PeerId) {
        self.0 &= !(1 << peer.0);
    }

    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The first one at or after `from`, around.
    pub fn next(self, from: u8) -> Option<PeerId> {
        (!self.is_empty()).then(|| {
            let from = u32::from(from) % u16::BITS;
            PeerId(((self.0.rotate_right(from).trailing_zeros() + from) % u16::BITS) as u8)
        })
    }
}

const _: () = assert!(MAX_PEERS == u16::BITS as usize);

/// The protocol's state. It is large: better in a static than on a small stack.
pub struct Engine {
    pub(crate) public: Key,
    pub(crate) mtu: usize,
    pub(crate) random: Random,
    pub(crate) checker: Checker,
    pub(crate) table: Table,
    pub(crate) peers: [Option<Peer>; MAX_PEERS],
    present: Set,
    pub(crate) load: Load,
    pub(crate) strangers: Strangers,
    pub(crate) stranger_budget: Budget,
    pub(crate) outstanding: Option<Outstanding>,
    /// What the keystore is asked next: own initiations, responses and initiations that came. And whose turn it is.
    pub(crate) to_start: Set,
    pub(crate) to_finish: Set,
    pub(crate) to_read: Set,
    pub(crate) turn: u8,
    /// Those to whom something may be sent, and whose turn it is.
    pub(crate) to_send: Set,
    pub(crate) send_turn: u8,
    pub(crate) drops: [u64; Reason::COUNT],
}

impl Engine {
    /// `public` is W's public half. `mtu` is that of the inner network, at most [`MAX_MTU`].
    pub fn new(public: Key, seed: Secret, mtu: usize) -> Self {
        Self {
            public,
            mtu: mtu.min(MAX_MTU),
            random: Random::new(seed),
            checker: Checker::new(&public),
            table: Table::new(),
            peers: [const { None }; MAX_PEERS],
            present: Set::default(),
            load: Load::new(),
            strangers: Strangers::new(),
            stranger_budget: Budget::new(STRANGERS),
            outstanding: None,
            to_start: Set::default(),
            to_finish: Set::default(),
            to_read: Set::default(),
            turn: 0,
            to_send: Set::default(),
            send_turn: 0,
            drops: [0; _],
        }
    }

    /// Mixes in fresh randomness.
    pub fn reseed(&mut self, seed: &Secret) {
        self.random.reseed(seed);
    }

    /// Replaces the set of peers. Who stays keeps its sessions, unless its preshared key changed, and the place where it
    /// was last heard, unless the configured one changed. Who goes is forgotten with its keys. The node's own
    /// key and a second entry of a key are passed over, and those past [`MAX_PEERS`].
    pub fn set_peers<'a, P>(&mut self, now: Micros, peers: P)
    where
        P: IntoIterator<Item = PeerConfig<'a>>,
        P::IntoIter: Clone,
    {
        let peers = peers.into_iter();
        for id in ids() {
            let gone = |peer: &Peer| peers.clone().all(|config| config.key != peer.key);
            if self.peers[id.index()].as_ref().is_some_and(gone) {
                self.remove(id);
            }
        }
        let mut seen = Set::default();
        let own = self.public;
        for config in peers.filter(|config| config.key != own) {
            let known = self.find(&config.key);
            let Some(id) = known.or_else(|| ids().find(|id| self.peers[id.index()].is_none())) else { break };
            if seen.0 & 1 << id.0 != 0 {
                continue;
            }
            seen.insert(id);
            match &mut self.peers[id.index()] {
                Some(peer) => {
                    if peer.update(now, &config) {
                        peer.clear(&mut self.table);
                        self.forget(id);
                    }
                }
                place => {
                    let peer = place.insert(Peer::new(now, &config));
                    peer.draw_jitter(&mut self.random);
                    self.present.insert(id);
                }
            }
        }
    }

    fn remove(&mut self, id: PeerId) {
        if let Some(peer) = &mut self.peers[id.index()] {
            peer.clear(&mut self.table);
        }
        self.peers[id.index()] = None;
        self.present.remove(id);
        self.forget(id);
    }

    /// Nothing that was under way with the peer goes on.
    fn forget(&mut self, id: PeerId) {
        for set in [&mut self.to_start, &mut self.to_finish, &mut self.to_send] {
            set.remove(id);
        }
    }

    /// Wipes all session keys and begins a handshake with each peer whose place is known.
    pub fn rotate(&mut self, now: Micros) {
        for id in ids() {
            if let Some(peer) = &mut self.peers[id.index()] {
                peer.clear(&mut self.table);
                self.forget(id);
                self.want(now, id);
            }
        }
    }

    /// A handshake is wanted: now, or as soon as the peer may be asked again.
    pub(crate) fn want(&mut self, now: Micros, id: PeerId) {
        let Some(peer) = self.peers[id.index()].as_mut().filter(|peer| peer.endpoint.is_some()) else { return };
        peer.wanted_since = now;
        let waits = self.to_start.0 & 1 << id.0 != 0;
        if peer.timers.initiate == NEVER && !waits {
            let earliest = peer.last_initiated.map_or(now, |last| last.saturating_add(REKEY_TIMEOUT));
            if earliest <= now {
                self.to_start.insert(id);
            } else {
                peer.timers.initiate = earliest;
            }
        }
    }

    /// Does what is due. May be called at any time.
    pub fn tick(&mut self, now: Micros) {
        let mut rest = self.present;
        while let Some(id) = rest.next(0) {
            rest.remove(id);
            let due = |peer: &&mut Peer| peer.timers.next() <= now;
            if self.peers[id.index()].as_mut().filter(due).is_some() {
                self.tick_peer(now, id);
            }
        }
    }

    fn tick_peer(&mut self, now: Micros, id: PeerId) {
        let Some(peer) = &mut self.peers[id.index()] else { return };
        if peer.timers.expiry <= now {
            peer.sessions.expire(now, |index| self.table.remove(index));
            peer.set_expiry();
        }
        let mut wanted = false;
        if peer.timers.keepalive <= now || peer.timers.persistent <= now {
            if peer.timers.persistent <= now {
                peer.again(now);
            }
            peer.timers.keepalive = NEVER;
            wanted = !peer.sessions.usable(now);
            if !wanted {
                peer.nudge = true;
                self.to_send.insert(id);
            }
        }
        if peer.timers.initiate <= now {
            peer.timers.initiate = NEVER;
            if now.saturating_sub(peer.wanted_since) < REKEY_ATTEMPT_TIME {
                self.to_start.insert(id);
            } else {
                // Nobody is there. The next packet begins anew.
                peer.initiation.clear(&mut self.table);
                peer.heard_response = None;
                self.to_finish.remove(id);
                peer.timers.keepalive = NEVER;
                peer.queue.clear();
            }
        }
        if peer.timers.silence <= now {
            peer.timers.silence = NEVER;
            wanted = true;
        }
        if wanted {
            self.want(now, id);
        }
    }

    /// When [`Self::tick`] is to be called next, or [`Self::poll_static`] has something new.
    pub fn deadline(&self) -> Option<Micros> {
        let timers = self.peers.iter().flatten().map(|peer| peer.timers.next());
        let question = if self.outstanding.is_some() { None } else { self.next_question() };
        timers.chain(question).min().filter(|at| *at != NEVER)
    }

    /// The peer of this key.
    pub fn find(&self, key: &Key) -> Option<PeerId> {
        ids().find(|id| self.peers[id.index()].as_ref().is_some_and(|peer| peer.key == *key))
    }

    pub fn peer(&self, peer: PeerId) -> Option<PeerView> {
        let of = self.peers.get(peer.index())?.as_ref()?;
        Some(PeerView {
            id: peer,
            key: of.key,
            endpoint: of.endpoint,
            last_handshake: of.last_handshake,
            received: of.received,
            sent: of.sent,
        })
    }

    pub fn peers(&self) -> impl Iterator<Item = PeerView> + '_ {
        ids().filter_map(|id| self.peer(id))
    }

    /// How often something was dropped for this reason.
    pub fn dropped(&self, reason: Reason) -> u64 {
        self.drops.get(reason as usize).copied().unwrap_or_default()
    }

    pub(crate) fn note_drop(&mut self, reason: Reason) {
        if let Some(count) = self.drops.get_mut(reason as usize) {
            *count = count.saturating_add(1);
        }
    }
}

pub(crate) fn ids() -> impl Iterator<Item = PeerId> {
    (0..MAX_PEERS as u8).map(PeerId)
}
