//! A peer: what is agreed with it and what is under way. Whatever changes one does so through a method here or in its
//! parts, so that keys, indices, timers and its places on the [`Agenda`] fit each other at any time.

mod handshake;
mod timers;
mod transport;

use clock::Micros;
use crypto::Secret;
use wire::Key;

use crate::{
    Endpoint, PeerConfig, PeerId, PeerView, agenda::Agenda, cookie::Sealer, index::Table, load::Waiting, messages,
    random::Random, session::Sessions, shared::Shared,
};
pub use handshake::{Asked, Heard};
use handshake::{HeardResponse, Initiation};
use timers::{Overdue, Timers};
use transport::Queue;

pub struct Peer {
    id: PeerId,
    key: Key,
    preshared: Secret,
    configured: Option<Endpoint>,
    endpoint: Option<Endpoint>,
    sessions: Sessions,
    timers: Timers,
    last_handshake: Option<Micros>,
    initiation: Initiation,
    sealer: Sealer,
    /// Of the last initiation that was taken, and when that was.
    timestamp: [u8; 12],
    last_consumed: Option<Micros>,
    heard_initiation: Option<Waiting>,
    heard_response: Option<HeardResponse>,
    /// Ready to go.
    send_initiation: Option<messages::Initiation>,
    send_response: Option<messages::Response>,
    /// A keepalive is to be sent.
    nudge: bool,
    queue: Queue,
    received: u64,
    sent: u64,
}

impl Peer {
    pub fn new(now: Micros, id: PeerId, config: &PeerConfig<'_>, random: &mut Random) -> Self {
        Self {
            id,
            key: config.key,
            preshared: Secret::new(*config.preshared),
            configured: config.endpoint,
            endpoint: config.endpoint,
            sessions: Sessions::new(),
            timers: Timers::new(now, config.keepalive_s, random),
            last_handshake: None,
            initiation: Initiation::new(),
            sealer: Sealer::new(&config.key),
            timestamp: [0; 12],
            last_consumed: None,
            heard_initiation: None,
            heard_response: None,
            send_initiation: None,
            send_response: None,
            nudge: false,
            queue: Queue::new(),
            received: 0,
            sent: 0,
        }
    }

    /// The peer is configured again. What was agreed with it is void if its preshared key is another.
    pub fn update(&mut self, now: Micros, config: &PeerConfig<'_>, shared: &mut Shared) {
        if self.configured != config.endpoint {
            self.configured = config.endpoint;
            self.endpoint = config.endpoint.or(self.endpoint);
        }
        self.timers.set_interval(now, config.keepalive_s);
        if !crypto::equal(&*self.preshared, config.preshared) {
            *self.preshared = *config.preshared;
            self.clear(shared);
        }
    }

    /// Wipes all keys and forgets what the node has begun. Before a peer is dropped, too: its indices are not its own.
    pub fn clear(&mut self, shared: &mut Shared) {
        self.sessions.clear(|index| shared.table.remove(index));
        self.initiation.clear(&mut shared.table);
        self.heard_response = None;
        self.send_initiation = None;
        self.send_response = None;
        self.timers.clear();
        shared.agenda.forget(self.id);
    }

    /// New keys in the place of all that were there.
    pub fn rotate(&mut self, now: Micros, shared: &mut Shared) {
        self.clear(shared);
        self.want(now, &mut shared.agenda);
    }

    /// A handshake is wanted: now, or as soon as the peer may be asked again.
    pub fn want(&mut self, now: Micros, agenda: &mut Agenda) {
        if self.endpoint.is_some() && self.timers.want(now, agenda.start.contains(self.id)) {
            agenda.start.insert(self.id);
        }
    }

    pub fn is_due(&self, now: Micros) -> bool {
        self.timers.is_due(now)
    }

    /// When [`Self::tick`] has something to do next.
    pub fn deadline(&self) -> Option<Micros> {
        self.timers.next()
    }

    /// Does what is due.
    pub fn tick(&mut self, now: Micros, shared: &mut Shared) {
        let Shared { table, agenda, .. } = shared;
        if self.timers.expired(now) {
            self.sessions.expire(now, |index| table.remove(index));
            self.timers.set_expiry(self.sessions.expiry());
        }
        let mut wanted = false;
        if self.timers.take_keepalive(now) {
            wanted = !self.sessions.usable(now);
            if !wanted {
                self.nudge = true;
                agenda.send.insert(self.id);
            }
        }
        match self.timers.take_overdue(now) {
            None => {}
            Some(Overdue::Again) => agenda.start.insert(self.id),
            // The next packet begins anew.
            Some(Overdue::GiveUp) => {
                self.give_up(table, agenda);
                self.queue.clear();
            }
        }
        if self.timers.take_silence(now) || wanted {
            self.want(now, agenda);
        }
    }

    /// Keys have been agreed and the peer is known to have them.
    fn complete(&mut self, now: Micros, table: &mut Table, agenda: &mut Agenda) {
        self.initiation.clear(table);
        self.send_initiation = None;
        self.timers.agreed();
        self.timers.set_expiry(self.sessions.expiry());
        self.last_handshake = Some(now);
        agenda.start.remove(self.id);
    }

    pub fn key(&self) -> &Key {
        &self.key
    }

    /// Whether this is where the peer was heard last, or is configured to be.
    pub fn is_at(&self, place: Endpoint) -> bool {
        self.endpoint == Some(place)
    }

    pub fn view(&self) -> PeerView {
        PeerView {
            id: self.id,
            key: self.key,
            endpoint: self.endpoint,
            last_handshake: self.last_handshake,
            received: self.received,
            sent: self.sent,
        }
    }
}

#[cfg(test)]
impl Peer {
    pub fn sessions(&mut self) -> &mut Sessions {
        &mut self.sessions
    }

    /// Indices that stand for something of the peer's.
    pub fn indices(&self) -> usize {
        self.sessions.indices() + usize::from(self.initiation.has_index())
    }

    /// Sessions whose keys are there.
    pub fn keys(&self) -> usize {
        self.sessions.keys()
    }

    /// Nothing of an own handshake's secrets is left.
    pub fn is_wiped(&self) -> bool {
        self.initiation.is_wiped()
    }

    pub fn expiry_fits(&self) -> bool {
        self.sessions.expiry().is_none_or(|at| at == self.timers.expiry())
    }
}
