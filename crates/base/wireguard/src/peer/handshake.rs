//! A peer's handshakes between the keystore's steps: what it is asked, and what is made of its answers.

use clock::Micros;
use crypto::{
    Secret,
    noise::{Symmetric, TAG},
};
use wire::{
    Key,
    handshake::{FinishHandshake, ReadHandshake, StartHandshake, StartHandshakeReply},
};
use zeroize::Zeroize;

use super::Peer;
use crate::{
    Endpoint, Reason,
    agenda::Agenda,
    index::{Holder, Table},
    load::Waiting,
    messages::{self, CookieReply, Response},
    noise,
    session::Agreed,
    shared::Shared,
    time::INITIATION_INTERVAL,
};

/// How far the node's own handshake has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Idle,
    /// The keystore has been asked.
    Asked,
    /// The message is on its way, or ready to go.
    Sent,
}

/// The handshake that the node has begun.
pub struct Initiation {
    stage: Stage,
    /// The node's index of it; 0: none.
    index: u32,
    private: Secret,
    state: Symmetric,
    ephemeral: Key,
    encrypted_static: [u8; 48],
    /// Responses that the keystore has been asked about.
    tries: u8,
}

impl Initiation {
    pub fn new() -> Self {
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

    #[cfg(test)]
    pub fn has_index(&self) -> bool {
        self.index != 0
    }

    #[cfg(test)]
    pub fn is_wiped(&self) -> bool {
        *self.private == [0; 32] && self.state.chaining_key == [0; 32]
    }
}

/// A response that waits for the keystore.
pub struct HeardResponse {
    from: Endpoint,
    sender: u32,
    ephemeral: Key,
    tag: [u8; TAG],
}

/// A response that the keystore has been asked about, and what is needed to go on.
pub struct Asked {
    index: u32,
    hash: [u8; 32],
    sender: u32,
    from: Endpoint,
    tag: [u8; TAG],
}

/// An initiation that the keystore has been asked about: it says whose it is.
pub struct Heard {
    from: Endpoint,
    sender: u32,
    ephemeral: Key,
}

impl Heard {
    pub fn ask(public: &Key, waiting: &Waiting) -> (Self, ReadHandshake) {
        let state = noise::read(public, &waiting.ephemeral);
        let request = ReadHandshake {
            chaining_key: state.chaining_key,
            hash: state.hash,
            ephemeral: waiting.ephemeral,
            encrypted_static: waiting.encrypted_static,
            encrypted_timestamp: waiting.encrypted_timestamp,
            zero: [0; 4],
        };
        (Self { from: waiting.from, sender: waiting.sender, ephemeral: waiting.ephemeral }, request)
    }
}

/// The node's own.
impl Peer {
    /// Begins a handshake in the place of the last one. `None`: with this key no secret can be agreed.
    pub fn start(&mut self, now: Micros, shared: &mut Shared) -> Option<StartHandshake> {
        let Shared { public, random, table, agenda, .. } = shared;
        self.give_up(table, agenda);
        self.timers.initiated(now, random);
        let started = noise::start(public, &self.key, random)?;
        let request =
            StartHandshake { chaining_key: started.state.chaining_key, hash: started.state.hash, peer: self.key };
        let initiation = &mut self.initiation;
        initiation.stage = Stage::Asked;
        initiation.private = started.private;
        initiation.ephemeral = started.ephemeral;
        initiation.encrypted_static = started.encrypted_static;
        initiation.tries = 0;
        Some(request)
    }

    /// What the node has begun with the peer does not go on.
    pub(super) fn give_up(&mut self, table: &mut Table, agenda: &mut Agenda) {
        self.initiation.clear(table);
        self.heard_response = None;
        agenda.finish.remove(self.id);
    }

    /// The keystore has done its step: the message may go.
    pub fn started(&mut self, mut reply: StartHandshakeReply, shared: &mut Shared) -> Result<(), Reason> {
        let initiation = &mut self.initiation;
        // It may have become needless meanwhile.
        if initiation.stage != Stage::Asked {
            return Err(Reason::NoPeer);
        }
        initiation.state.chaining_key = reply.chaining_key;
        initiation.state.hash = reply.hash;
        reply.chaining_key.zeroize();
        let index = shared.table.insert(&mut shared.random, self.id, Holder::Initiation).ok_or(Reason::Busy)?;
        initiation.index = index;
        initiation.stage = Stage::Sent;
        let (ephemeral, encrypted_static) = (initiation.ephemeral, initiation.encrypted_static);
        self.send_initiation = Some(messages::Initiation::new(index, ephemeral, encrypted_static, reply.timestamp));
        shared.agenda.send.insert(self.id);
        Ok(())
    }

    /// The keystore has not done its step. The timer runs: it is tried again.
    pub fn not_started(&mut self, table: &mut Table) {
        if self.initiation.stage == Stage::Asked {
            self.initiation.clear(table);
        }
    }

    /// How many responses there have been to the message that went out; `None`: none is expected.
    pub fn tries(&self) -> Option<u8> {
        (self.initiation.stage == Stage::Sent).then_some(self.initiation.tries)
    }

    /// A response waits for the keystore. True: in the place of another.
    pub fn hear_response(&mut self, from: Endpoint, message: &Response, agenda: &mut Agenda) -> bool {
        agenda.finish.insert(self.id);
        let heard = HeardResponse {
            from,
            sender: message.sender.get(),
            ephemeral: message.ephemeral,
            tag: message.encrypted_nothing,
        };
        self.heard_response.replace(heard).is_some()
    }

    /// What the keystore is asked about the response that waits, if one still does.
    pub fn resume(&mut self) -> Result<Option<(Asked, FinishHandshake)>, Reason> {
        let Some(heard) = self.heard_response.take() else { return Ok(None) };
        let initiation = &mut self.initiation;
        if initiation.stage != Stage::Sent {
            return Ok(None);
        }
        initiation.tries = initiation.tries.saturating_add(1);
        let state = noise::resume(&initiation.state, &initiation.private, &heard.ephemeral).ok_or(Reason::Forged)?;
        let HeardResponse { from, sender, ephemeral, tag } = heard;
        let request = FinishHandshake { chaining_key: state.chaining_key, ephemeral };
        Ok(Some((Asked { index: initiation.index, hash: state.hash, sender, from, tag }, request)))
    }

    /// The keystore has done its step: if the response is the peer's, its keys are in use.
    pub fn finish(
        &mut self,
        now: Micros,
        asked: &Asked,
        chaining_key: [u8; 32],
        shared: &mut Shared,
    ) -> Result<(), Reason> {
        let state = Symmetric { chaining_key, hash: asked.hash };
        let index = asked.index;
        if self.initiation.stage != Stage::Sent || self.initiation.index != index {
            return Err(Reason::UnknownIndex);
        }
        let keys = noise::finish(state, &self.preshared, &asked.tag).ok_or(Reason::Forged)?;
        let agreed =
            Agreed { local: index, remote: asked.sender, send: &keys.send, receive: &keys.receive, initiator: true };
        let Shared { table, agenda, .. } = shared;
        table.change(index, Holder::Session(self.sessions.free()));
        self.initiation.index = 0;
        self.sessions.begin(now, &agreed, |gone| table.remove(gone));
        self.complete(now, table, agenda);
        self.endpoint = Some(asked.from);
        self.timers.received(now, false);
        // A packet, or a keepalive, tells the peer that it may use the keys too.
        self.nudge = true;
        agenda.send.insert(self.id);
        Ok(())
    }

    /// A cookie for the last message that went out.
    pub fn take_cookie(&mut self, now: Micros, reply: &CookieReply) -> Result<(), Reason> {
        self.sealer.take(now, reply)
    }
}

/// The peer's.
impl Peer {
    /// An initiation from where the peer is known to be waits for the keystore: a place of the peer's own, which
    /// strangers cannot fill. True: in the place of another.
    pub fn hear_initiation(&mut self, waiting: Waiting, agenda: &mut Agenda) -> bool {
        agenda.read.insert(self.id);
        self.heard_initiation.replace(waiting).is_some()
    }

    pub fn take_initiation(&mut self) -> Option<Waiting> {
        self.heard_initiation.take()
    }

    /// The keystore has read the peer's initiation: if it is a new one it is answered.
    pub fn respond(
        &mut self,
        now: Micros,
        heard: &Heard,
        state: Symmetric,
        timestamp: [u8; 12],
        shared: &mut Shared,
    ) -> Result<(), Reason> {
        if timestamp <= self.timestamp {
            return Err(Reason::Replay);
        }
        if self.last_consumed.is_some_and(|last| now.saturating_sub(last) < INITIATION_INTERVAL) {
            return Err(Reason::TooSoon);
        }
        self.timestamp = timestamp;
        self.last_consumed = Some(now);
        self.endpoint = Some(heard.from);
        self.timers.received(now, false);
        let Shared { random, table, agenda, .. } = shared;
        let responded = noise::respond(state, &self.preshared, &heard.ephemeral, &self.key, random);
        let responded = responded.ok_or(Reason::Forged)?;
        let holder = Holder::Session(self.sessions.free());
        let index = table.insert(random, self.id, holder).ok_or(Reason::Busy)?;
        let keys = &responded.keys;
        let agreed =
            Agreed { local: index, remote: heard.sender, send: &keys.send, receive: &keys.receive, initiator: false };
        self.sessions.begin(now, &agreed, |gone| table.remove(gone));
        self.timers.set_expiry(self.sessions.expiry());
        self.timers.responded(now);
        self.send_response = Some(Response::new(index, heard.sender, responded.ephemeral, responded.tag));
        agenda.send.insert(self.id);
        Ok(())
    }
}
