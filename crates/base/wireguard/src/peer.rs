//! What the engine keeps of a peer, and its timers (the paper, section 6, and the reference's in the details that the
//! paper leaves open).

use clock::Micros;
use crypto::{
    Secret,
    noise::{Symmetric, TAG},
};
use wire::Key;
use zeroize::Zeroize;

use crate::{
    Endpoint, MAX_MTU, PeerConfig,
    cookie::Sealer,
    index::Table,
    load::Waiting,
    messages,
    session::Sessions,
    time::{JITTER, KEEPALIVE_TIMEOUT, REKEY_TIMEOUT, SECOND},
};

/// Of a timer that does not run.
pub const NEVER: Micros = Micros::MAX;

/// How far the node's own handshake has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    Idle,
    /// The keystore has been asked.
    Asked,
    /// The message is on its way, or ready to go.
    Sent,
}

/// The handshake that the node has begun.
pub struct Initiation {
    pub stage: Stage,
    /// The node's index of it; 0: none.
    pub index: u32,
    pub private: Secret,
    pub state: Symmetric,
    pub ephemeral: Key,
    pub encrypted_static: [u8; 48],
    /// Responses that the keystore has been asked about.
    pub tries: u8,
}

impl Initiation {
    fn new() -> Self {
        Self {
            stage: Stage::Idle,
            index: 0,
            private: Secret::new([0; 32]),
            state: Symmetric { chaining_key: [0; 32], hash: [0; 32] },
            ephemeral: [0; 32],
            encrypted_static: [0; 48],
            tries: 0,
        }
    }

    pub fn clear(&mut self, table: &mut Table) {
        table.remove(core::mem::take(&mut self.index));
        self.stage = Stage::Idle;
        self.private.zeroize();
        self.state.zeroize();
    }
}

/// A response that waits for the keystore.
pub struct HeardResponse {
    pub from: Endpoint,
    pub sender: u32,
    pub ephemeral: Key,
    pub tag: [u8; TAG],
}

/// The newest packet that waits for keys. One is enough to begin with: what it belongs to sends again.
pub struct Queue {
    packet: [u8; MAX_MTU],
    /// 0: none.
    length: usize,
}

impl Queue {
    const fn new() -> Self {
        Self { packet: [0; MAX_MTU], length: 0 }
    }

    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    pub fn put(&mut self, packet: &[u8]) {
        if let Some(place) = self.packet.get_mut(..packet.len()) {
            place.copy_from_slice(packet);
            self.length = packet.len();
        }
    }

    pub fn packet(&self) -> Option<&[u8]> {
        self.packet.get(..self.length).filter(|packet| !packet.is_empty())
    }

    pub fn clear(&mut self) {
        self.length = 0;
    }
}

/// When each is due.
pub struct Timers {
    /// Begin a handshake, or begin it again.
    pub initiate: Micros,
    /// Answer with a keepalive what has been heard.
    pub keepalive: Micros,
    /// Begin a handshake, because what was sent has no answer.
    pub silence: Micros,
    pub persistent: Micros,
    /// Wipe keys.
    pub expiry: Micros,
}

impl Timers {
    const fn new() -> Self {
        Self { initiate: NEVER, keepalive: NEVER, silence: NEVER, persistent: NEVER, expiry: NEVER }
    }

    pub fn next(&self) -> Micros {
        let Self { initiate, keepalive, silence, persistent, expiry } = *self;
        initiate.min(keepalive).min(silence).min(persistent).min(expiry)
    }
}

pub struct Peer {
    pub key: Key,
    pub preshared: Secret,
    configured: Option<Endpoint>,
    pub endpoint: Option<Endpoint>,
    /// Of the persistent keepalive; 0: off.
    interval: Micros,
    pub sessions: Sessions,
    pub timers: Timers,
    /// Heard again since the keepalive timer was set.
    pub heard_again: bool,
    /// A keepalive is to be sent.
    pub nudge: bool,
    pub jitter: Micros,
    /// Since when a handshake has been wanted.
    pub wanted_since: Micros,
    pub last_initiated: Option<Micros>,
    pub last_handshake: Option<Micros>,
    pub initiation: Initiation,
    pub sealer: Sealer,
    /// Of the last initiation that was taken, and when that was.
    pub timestamp: [u8; 12],
    pub last_consumed: Option<Micros>,
    pub heard_initiation: Option<Waiting>,
    pub heard_response: Option<HeardResponse>,
    /// Ready to go.
    pub send_initiation: Option<messages::Initiation>,
    pub send_response: Option<messages::Response>,
    pub queue: Queue,
    pub received: u64,
    pub sent: u64,
}

impl Peer {
    pub fn new(now: Micros, config: &PeerConfig<'_>) -> Self {
        let mut this = Self {
            key: config.key,
            preshared: Secret::new(*config.preshared),
            configured: config.endpoint,
            endpoint: config.endpoint,
            interval: 0,
            sessions: Sessions::new(),
            timers: Timers::new(),
            heard_again: false,
            nudge: false,
            jitter: 0,
            wanted_since: now,
            last_initiated: None,
            last_handshake: None,
            initiation: Initiation::new(),
            sealer: Sealer::new(&config.key),
            timestamp: [0; 12],
            last_consumed: None,
            heard_initiation: None,
            heard_response: None,
            send_initiation: None,
            send_response: None,
            queue: Queue::new(),
            received: 0,
            sent: 0,
        };
        this.set_interval(now, config.keepalive_s);
        this
    }

    /// The peer is configured again. True: what was agreed with it is void.
    pub fn update(&mut self, now: Micros, config: &PeerConfig<'_>) -> bool {
        if self.configured != config.endpoint {
            self.configured = config.endpoint;
            self.endpoint = config.endpoint.or(self.endpoint);
        }
        self.set_interval(now, config.keepalive_s);
        let changed = !crypto::equal(&*self.preshared, config.preshared);
        if changed {
            *self.preshared = *config.preshared;
        }
        changed
    }

    /// A keepalive that is turned on is due at once: it brings the session up.
    fn set_interval(&mut self, now: Micros, seconds: u16) {
        let interval = Micros::from(seconds) * SECOND;
        if interval != self.interval {
            self.interval = interval;
            self.timers.persistent = if interval > 0 { now } else { NEVER };
        }
    }

    /// Wipes all keys and forgets what is under way.
    pub fn clear(&mut self, table: &mut Table) {
        self.sessions.clear(|index| table.remove(index));
        self.initiation.clear(table);
        self.heard_response = None;
        self.send_initiation = None;
        self.send_response = None;
        self.last_initiated = None;
        let persistent = self.timers.persistent;
        self.timers = Timers { persistent, ..Timers::new() };
    }

    /// Any authentic message goes out; `data`: one with a packet in it.
    pub fn note_sent(&mut self, now: Micros, data: bool) {
        self.timers.keepalive = NEVER;
        self.note_traversal(now);
        if data && self.timers.silence == NEVER {
            self.timers.silence = now.saturating_add(KEEPALIVE_TIMEOUT + REKEY_TIMEOUT + self.jitter);
        }
    }

    /// Any authentic message has come; `data`: one with a packet in it.
    pub fn note_received(&mut self, now: Micros, data: bool) {
        self.timers.silence = NEVER;
        self.note_traversal(now);
        if data {
            if self.timers.keepalive == NEVER {
                self.timers.keepalive = now.saturating_add(KEEPALIVE_TIMEOUT);
            } else {
                self.heard_again = true;
            }
        }
    }

    fn note_traversal(&mut self, now: Micros) {
        if self.interval > 0 {
            self.timers.persistent = now.saturating_add(self.interval);
        }
    }

    /// The next persistent keepalive, whatever becomes of the one that is due.
    pub fn again(&mut self, now: Micros) {
        self.note_traversal(now);
    }

    /// Keys have been agreed and the peer is known to have them.
    pub fn complete(&mut self, now: Micros, table: &mut Table) {
        self.initiation.clear(table);
        self.send_initiation = None;
        self.timers.initiate = NEVER;
        self.last_handshake = Some(now);
    }

    pub fn draw_jitter(&mut self, random: &mut crate::random::Random) {
        self.jitter = Micros::from(random.below(JITTER));
    }

    pub fn set_expiry(&mut self) {
        self.timers.expiry = self.sessions.expiry().unwrap_or(NEVER);
    }
}
