//! The engine: what comes is checked and goes to the peer that it is for; what the peers want to ask and to send goes in
//! turns. What is agreed with a peer, and how, is in `peer`.

use clock::Micros;
use crypto::{
    Secret,
    noise::{Symmetric, TAG},
};
use fair::Budget;
use wire::{Key, handshake::ReadHandshakeReply};
use zerocopy::{FromBytes, IntoBytes};
use zeroize::Zeroize;

use crate::{
    Endpoint, MAX_MTU, MAX_PEERS, PeerConfig, PeerId, PeerView, Reason, Received, Refused, Sent, StaticReply,
    StaticRequest,
    agenda::{Agenda, Set, Turn},
    cookie::Checker,
    index::{Holder, Table},
    load::{Load, STRANGERS, Strangers, Waiting},
    messages::{self, CookieReply, Initiation, Kind, Response, covered},
    peer::{Asked, Heard, Peer},
    random::Random,
    shared::Shared,
};

/// Responses to one initiation that are taken without a cookie. Only who saw the initiation can make one.
const FREE_TRIES: u8 = 4;

/// What the keystore has been asked, and what is needed to go on.
enum Outstanding {
    Start(PeerId),
    Finish(PeerId, Asked),
    Read(Heard),
}

/// The protocol's state. It is large: better in a static than on a small stack.
pub struct Engine {
    shared: Shared,
    peers: [Option<Peer>; MAX_PEERS],
    present: Set,
    checker: Checker,
    load: Load,
    strangers: Strangers,
    stranger_budget: Budget,
    outstanding: Option<Outstanding>,
    drops: [u64; Reason::COUNT],
}

/// The set of peers, and time.
impl Engine {
    /// `public` is W's public half. `mtu` is that of the inner network, at most [`MAX_MTU`].
    pub fn new(public: Key, seed: Secret, mtu: usize) -> Self {
        Self {
            shared: Shared {
                public,
                mtu: mtu.min(MAX_MTU),
                random: Random::new(seed),
                table: Table::new(),
                agenda: Agenda::default(),
            },
            peers: [const { None }; MAX_PEERS],
            present: Set::default(),
            checker: Checker::new(&public),
            load: Load::new(),
            strangers: Strangers::default(),
            stranger_budget: Budget::new(STRANGERS),
            outstanding: None,
            drops: [0; _],
        }
    }

    /// Mixes in fresh randomness. Before each [`Self::poll_static`] that has something to ask: that step of a handshake
    /// draws an ephemeral key, or its answer does.
    pub fn reseed(&mut self, seed: &Secret) {
        self.shared.random.reseed(seed);
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
        for (id, place) in ids().zip(&mut self.peers) {
            let gone = |peer: &&mut Peer| peers.clone().all(|config| config.key != *peer.key());
            if let Some(peer) = place.as_mut().filter(gone) {
                peer.clear(&mut self.shared);
                *place = None;
                self.present.remove(id);
            }
        }
        let mut seen = Set::default();
        let own = self.shared.public;
        for config in peers.filter(|config| config.key != own) {
            let known = self.find(&config.key);
            let Some(id) = known.or_else(|| ids().find(|id| self.peers[id.index()].is_none())) else { break };
            if seen.contains(id) {
                continue;
            }
            seen.insert(id);
            match &mut self.peers[id.index()] {
                Some(peer) => peer.update(now, &config, &mut self.shared),
                place => {
                    *place = Some(Peer::new(now, id, &config, &mut self.shared.random));
                    self.present.insert(id);
                }
            }
        }
    }

    /// Wipes all session keys and begins a handshake with each peer whose place is known.
    pub fn rotate(&mut self, now: Micros) {
        for peer in self.peers.iter_mut().flatten() {
            peer.rotate(now, &mut self.shared);
        }
    }

    /// Does what is due. May be called at any time.
    pub fn tick(&mut self, now: Micros) {
        let mut rest = self.present;
        while let Some(id) = rest.next(0) {
            rest.remove(id);
            if let Some(peer) = self.peers[id.index()].as_mut().filter(|peer| peer.is_due(now)) {
                peer.tick(now, &mut self.shared);
            }
        }
    }

    /// When [`Self::tick`] is to be called next, or [`Self::poll_static`] has something new.
    pub fn deadline(&self) -> Option<Micros> {
        [self.ticks_at(), self.asks_at()].into_iter().flatten().min()
    }

    /// When [`Self::tick`] is to be called next.
    pub fn ticks_at(&self) -> Option<Micros> {
        self.peers.iter().flatten().filter_map(Peer::deadline).min()
    }

    /// The peer of this key.
    pub fn find(&self, key: &Key) -> Option<PeerId> {
        ids().zip(&self.peers).find(|(_, peer)| peer.as_ref().is_some_and(|peer| peer.key() == key)).map(|(id, _)| id)
    }

    pub fn peer(&self, peer: PeerId) -> Option<PeerView> {
        Some(self.peers.get(peer.index())?.as_ref()?.view())
    }

    pub fn peers(&self) -> impl Iterator<Item = PeerView> + '_ {
        self.peers.iter().flatten().map(Peer::view)
    }

    /// How often something was dropped for this reason.
    pub fn dropped(&self, reason: Reason) -> u64 {
        self.drops.get(reason as usize).copied().unwrap_or_default()
    }

    fn note_drop(&mut self, reason: Reason) {
        if let Some(count) = self.drops.get_mut(reason as usize) {
            *count = count.saturating_add(1);
        }
    }
}

/// What goes.
impl Engine {
    /// Seals a packet for a peer into `out`, which should hold [`crate::MAX_DATAGRAM`].
    pub fn send(&mut self, now: Micros, peer: PeerId, packet: &[u8], out: &mut [u8]) -> Sent {
        self.try_send(now, peer, packet, out).unwrap_or_else(|reason| {
            self.note_drop(reason);
            Sent::Dropped(reason)
        })
    }

    #[inline(always)]
    fn try_send(&mut self, now: Micros, id: PeerId, packet: &[u8], out: &mut [u8]) -> Result<Sent, Reason> {
        if packet.is_empty() || packet.len() > self.shared.mtu {
            return Err(Reason::Length);
        }
        let peer = self.peers.get_mut(id.index()).and_then(Option::as_mut).ok_or(Reason::NoPeer)?;
        peer.send(now, packet, out, &mut self.shared)
    }

    /// The next datagram that is to be sent: handshake messages, the packet that waited, keepalives. `out` should hold
    /// [`crate::MAX_DATAGRAM`].
    pub fn poll_transmit(&mut self, now: Micros, out: &mut [u8]) -> Option<(Endpoint, usize)> {
        while let Some(id) = self.shared.agenda.next_to_send() {
            let peer = self.peers[id.index()].as_mut();
            let sent = peer.and_then(|peer| peer.transmit(now, out, &mut self.shared));
            if sent.is_some() {
                return sent;
            }
            self.shared.agenda.send.remove(id);
        }
        None
    }
}

/// What comes: cheap checks first, and of a handshake message no more than its MACs. The rest of it waits for the
/// keystore's turn.
impl Engine {
    /// Takes a datagram that came from `from`.
    pub fn receive<'b>(&mut self, now: Micros, from: Endpoint, datagram: &'b mut [u8]) -> Received<'b> {
        let taken = match messages::kind(datagram) {
            Some(Kind::Data) => self.take_data(now, from, datagram),
            Some(Kind::Initiation) => self.take_initiation(now, from, datagram),
            Some(Kind::Response) => self.take_response(now, from, datagram),
            Some(Kind::Cookie) => self.take_cookie(now, datagram),
            None => Err(Reason::Malformed),
        };
        match taken {
            Ok(received) => received,
            Err(reason) => {
                self.note_drop(reason);
                Received::Dropped(reason)
            }
        }
    }

    #[inline(always)]
    fn take_data<'b>(&mut self, now: Micros, from: Endpoint, datagram: &'b mut [u8]) -> Result<Received<'b>, Reason> {
        let data = messages::data(datagram).ok_or(Reason::Malformed)?;
        let Some((id, Holder::Session(slot))) = self.shared.table.find(data.receiver) else {
            return Err(Reason::UnknownIndex);
        };
        let peer = self.peers[id.index()].as_mut().ok_or(Reason::UnknownIndex)?;
        let (packet, first) = peer.open(now, from, slot, data, &mut self.shared)?;
        Ok(if packet.is_empty() {
            Received::Keepalive { peer: id, first }
        } else {
            Received::Packet { peer: id, packet, first }
        })
    }

    fn take_initiation<'b>(
        &mut self,
        now: Micros,
        from: Endpoint,
        datagram: &'b mut [u8],
    ) -> Result<Received<'b>, Reason> {
        self.check_mac1(datagram)?;
        let full = self.strangers.is_full();
        if self.load.high(now, full) && !self.check_mac2(now, from, datagram) {
            return self.cookie_reply(now, from, datagram);
        }
        let message = Initiation::ref_from_bytes(datagram).map_err(|_| Reason::Malformed)?;
        let waiting = Waiting::new(from, message);
        let pushed_out = match self.peers.iter_mut().flatten().find(|peer| peer.is_at(from)) {
            Some(peer) => peer.hear_initiation(waiting, &mut self.shared.agenda),
            None => self.strangers.add(waiting, &mut self.shared.random),
        };
        if pushed_out {
            self.note_drop(Reason::Busy);
        }
        Ok(Received::Waits)
    }

    fn take_response<'b>(
        &mut self,
        now: Micros,
        from: Endpoint,
        datagram: &'b mut [u8],
    ) -> Result<Received<'b>, Reason> {
        self.check_mac1(datagram)?;
        let message = Response::ref_from_bytes(datagram).map_err(|_| Reason::Malformed)?;
        let Some((id, Holder::Initiation)) = self.shared.table.find(message.receiver.get()) else {
            return Err(Reason::UnknownIndex);
        };
        let tries = self.peers[id.index()].as_ref().and_then(Peer::tries).ok_or(Reason::UnknownIndex)?;
        if tries >= FREE_TRIES && !self.check_mac2(now, from, datagram) {
            return self.cookie_reply(now, from, datagram);
        }
        let peer = self.peers[id.index()].as_mut().ok_or(Reason::UnknownIndex)?;
        if peer.hear_response(from, message, &mut self.shared.agenda) {
            self.note_drop(Reason::Busy);
        }
        Ok(Received::Waits)
    }

    fn take_cookie<'b>(&mut self, now: Micros, datagram: &[u8]) -> Result<Received<'b>, Reason> {
        let reply = CookieReply::ref_from_bytes(datagram).map_err(|_| Reason::Malformed)?;
        let (id, _) = self.shared.table.find(reply.receiver.get()).ok_or(Reason::UnknownIndex)?;
        let peer = self.peers[id.index()].as_mut().ok_or(Reason::UnknownIndex)?;
        peer.take_cookie(now, reply)?;
        Ok(Received::Nothing)
    }

    fn check_mac1(&self, datagram: &[u8]) -> Result<(), Reason> {
        let good = covered(datagram).is_some_and(|message| self.checker.mac1(&message));
        if good { Ok(()) } else { Err(Reason::Mac) }
    }

    fn check_mac2(&mut self, now: Micros, from: Endpoint, datagram: &[u8]) -> bool {
        let random = &mut self.shared.random;
        covered(datagram).is_some_and(|message| self.checker.mac2(now, from, &message, random))
    }

    /// In the place of the message that it answers.
    fn cookie_reply<'b>(
        &mut self,
        now: Micros,
        from: Endpoint,
        datagram: &'b mut [u8],
    ) -> Result<Received<'b>, Reason> {
        let mac1 = *covered(datagram).ok_or(Reason::Malformed)?.mac1;
        // Either handshake message has its sender's index there.
        let [_, _, _, _, sender @ ..] = *datagram.first_chunk::<8>().ok_or(Reason::Malformed)?;
        let reply = self.checker.reply(now, from, u32::from_le_bytes(sender), &mac1, &mut self.shared.random);
        let reply = reply.ok_or(Reason::Busy)?;
        let place = datagram.get_mut(..reply.as_bytes().len()).ok_or(Reason::Malformed)?;
        place.copy_from_slice(reply.as_bytes());
        self.note_drop(Reason::Busy);
        Ok(Received::Reply(place))
    }
}

const _: () = assert!(size_of::<CookieReply>() <= size_of::<Response>() && TAG == 16);

/// What the keystore is asked, one question at a time.
impl Engine {
    /// The next question to the keystore. One at a time: none until the last one has its [`Self::static_reply`].
    pub fn poll_static(&mut self, now: Micros) -> Option<StaticRequest> {
        if self.outstanding.is_some() {
            return None;
        }
        // What is asked leaves its set, so this ends.
        while self.next_question().is_some_and(|at| at <= now) {
            let Some(turn) = self.shared.agenda.next_question() else { continue };
            let asked = self.ask(now, turn).unwrap_or_else(|reason| {
                self.note_drop(reason);
                None
            });
            if let Some((outstanding, request)) = asked {
                self.outstanding = Some(outstanding);
                return Some(request);
            }
        }
        None
    }

    /// Whether there may be something to ask the keystore now.
    pub fn has_question(&self, now: Micros) -> bool {
        self.asks_at().is_some_and(|at| at <= now)
    }

    /// When [`Self::poll_static`] may have something new. 0: now.
    pub fn asks_at(&self) -> Option<Micros> {
        if self.outstanding.is_some() { None } else { self.next_question() }
    }

    /// When there is something to ask. 0: now.
    fn next_question(&self) -> Option<Micros> {
        if self.shared.agenda.has_question() {
            return Some(0);
        }
        (!self.strangers.is_empty()).then(|| self.stranger_budget.ready_at())
    }

    /// `None`: what waited is needless by now.
    fn ask(&mut self, now: Micros, turn: Turn) -> Result<Option<(Outstanding, StaticRequest)>, Reason> {
        let (shared, peers) = (&mut self.shared, &mut self.peers);
        let read = |waiting: Option<Waiting>, public: &Key| {
            waiting.map(|waiting| {
                let (heard, request) = Heard::ask(public, &waiting);
                (Outstanding::Read(heard), StaticRequest::Read(request))
            })
        };
        Ok(match turn {
            Turn::Start(id) => {
                let request = peers[id.index()].as_mut().and_then(|peer| peer.start(now, shared));
                request.map(|request| (Outstanding::Start(id), StaticRequest::Start(request)))
            }
            Turn::Finish(id) => {
                let asked = peers[id.index()].as_mut().map(Peer::resume).transpose()?.flatten();
                asked.map(|(asked, request)| (Outstanding::Finish(id, asked), StaticRequest::Finish(request)))
            }
            Turn::Read(id) => read(peers[id.index()].as_mut().and_then(Peer::take_initiation), &shared.public),
            Turn::Stranger if self.strangers.is_empty() || !self.stranger_budget.spend(now) => None,
            Turn::Stranger => read(self.strangers.take(&mut shared.random), &shared.public),
        })
    }

    /// The answer to the last [`Self::poll_static`]. The peer, if its response shows that it has the new session's
    /// keys; an initiation alone shows less, and the first packet by the new keys comes as `first`.
    pub fn static_reply(&mut self, now: Micros, reply: Result<StaticReply, Refused>) -> Option<PeerId> {
        let asked = self.outstanding.take()?;
        self.take_reply(now, asked, reply).unwrap_or_else(|reason| {
            self.note_drop(reason);
            None
        })
    }

    fn take_reply(
        &mut self,
        now: Micros,
        asked: Outstanding,
        reply: Result<StaticReply, Refused>,
    ) -> Result<Option<PeerId>, Reason> {
        let shared = &mut self.shared;
        match (asked, reply) {
            (Outstanding::Start(id), Ok(StaticReply::Start(reply))) => {
                let peer = self.peers[id.index()].as_mut().ok_or(Reason::NoPeer)?;
                peer.started(reply, shared)?;
                Ok(None)
            }
            (Outstanding::Start(id), _) => {
                if let Some(peer) = &mut self.peers[id.index()] {
                    peer.not_started(&mut shared.table);
                }
                Err(Reason::Refused)
            }
            (Outstanding::Finish(id, asked), Ok(StaticReply::Finish(chaining_key))) => {
                let peer = self.peers[id.index()].as_mut().ok_or(Reason::NoPeer)?;
                peer.finish(now, &asked, chaining_key, shared)?;
                Ok(Some(id))
            }
            (Outstanding::Read(heard), Ok(StaticReply::Read(reply))) => {
                self.take_read(now, &heard, reply)?;
                Ok(None)
            }
            _ => Err(Reason::Refused),
        }
    }

    fn take_read(&mut self, now: Micros, heard: &Heard, mut reply: ReadHandshakeReply) -> Result<(), Reason> {
        let state = Symmetric { chaining_key: reply.chaining_key, hash: reply.hash };
        reply.chaining_key.zeroize();
        let id = self.find(&reply.peer).ok_or(Reason::UnknownPeer)?;
        let peer = self.peers[id.index()].as_mut().ok_or(Reason::UnknownPeer)?;
        peer.respond(now, heard, state, reply.timestamp, &mut self.shared)
    }
}

fn ids() -> impl Iterator<Item = PeerId> {
    (0..MAX_PEERS as u8).map(PeerId)
}

#[cfg(test)]
impl Engine {
    pub fn want(&mut self, now: Micros, id: PeerId) {
        self.peers[id.index()].as_mut().unwrap().want(now, &mut self.shared.agenda);
    }

    /// Indices that stand for something.
    pub fn indices(&self) -> usize {
        self.shared.table.count()
    }

    pub fn peers_mut(&mut self) -> impl Iterator<Item = &mut Peer> {
        self.peers.iter_mut().flatten()
    }
}
