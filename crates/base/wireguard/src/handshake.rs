//! The handshakes between the keystore's steps: what it is asked, one at a time and each kind in turn, and what is made
//! of its answers.

use clock::Micros;
use crypto::noise::{Symmetric, TAG};
use wire::Key;
use wire::handshake::{FinishHandshake, ReadHandshake, ReadHandshakeReply, StartHandshake, StartHandshakeReply};
use zeroize::Zeroize;

use crate::{
    Endpoint, Engine, PeerId, Reason, Refused, StaticReply, StaticRequest,
    index::Holder,
    load::Waiting,
    messages::{Initiation, Response},
    noise,
    peer::Stage,
    session::Agreed,
    time::{INITIATION_INTERVAL, REKEY_TIMEOUT},
};

/// What the keystore has been asked, and what is needed to go on.
pub enum Outstanding {
    Start(PeerId),
    Finish { peer: PeerId, index: u32, hash: [u8; 32], sender: u32, from: Endpoint, tag: [u8; TAG] },
    Read { from: Endpoint, sender: u32, ephemeral: Key },
}

impl Engine {
    /// The next question to the keystore. One at a time: none until the last one has its [`Self::static_reply`].
    pub fn poll_static(&mut self, now: Micros) -> Option<StaticRequest> {
        if self.outstanding.is_some() {
            return None;
        }
        // What is asked leaves its set, so this ends.
        while self.next_question().is_some_and(|at| at <= now) {
            // Each kind has its turn, so that none can keep another waiting; and among the peers it moves on, too.
            let (turn, after) = (self.turn % 4, self.turn / 4);
            self.turn = self.turn.wrapping_add(1);
            let request = match turn {
                0 => self.to_finish.next(after).and_then(|id| self.ask_finish(id)),
                1 => self.to_start.next(after).and_then(|id| self.ask_start(now, id)),
                2 => self.to_read.next(after).and_then(|id| self.ask_peer(id)),
                _ => self.ask_stranger(now),
            };
            if request.is_some() {
                return request;
            }
        }
        None
    }

    /// When there is something to ask. 0: now.
    pub(crate) fn next_question(&self) -> Option<Micros> {
        let sets = [self.to_finish, self.to_start, self.to_read];
        if sets.iter().any(|set| !set.is_empty()) {
            return Some(0);
        }
        (!self.strangers.is_empty()).then(|| self.stranger_budget.ready_at())
    }

    fn ask_peer(&mut self, id: PeerId) -> Option<StaticRequest> {
        self.to_read.remove(id);
        let waiting = self.peers[id.index()].as_mut()?.heard_initiation.take()?;
        Some(self.ask_read(&waiting))
    }

    fn ask_start(&mut self, now: Micros, id: PeerId) -> Option<StaticRequest> {
        self.to_start.remove(id);
        let peer = self.peers[id.index()].as_mut()?;
        peer.initiation.clear(&mut self.table);
        peer.heard_response = None;
        self.to_finish.remove(id);
        peer.draw_jitter(&mut self.random);
        peer.last_initiated = Some(now);
        peer.timers.initiate = now.saturating_add(REKEY_TIMEOUT + peer.jitter);
        let started = noise::start(&self.public, &peer.key, &mut self.random)?;
        let request =
            StartHandshake { chaining_key: started.state.chaining_key, hash: started.state.hash, peer: peer.key };
        peer.initiation.stage = Stage::Asked;
        peer.initiation.private = started.private;
        peer.initiation.ephemeral = started.ephemeral;
        peer.initiation.encrypted_static = started.encrypted_static;
        peer.initiation.tries = 0;
        self.outstanding = Some(Outstanding::Start(id));
        Some(StaticRequest::Start(request))
    }

    fn ask_finish(&mut self, id: PeerId) -> Option<StaticRequest> {
        self.to_finish.remove(id);
        let peer = self.peers[id.index()].as_mut()?;
        let heard = peer.heard_response.take()?;
        let initiation = &mut peer.initiation;
        if initiation.stage != Stage::Sent {
            return None;
        }
        initiation.tries = initiation.tries.saturating_add(1);
        let Some(state) = noise::resume(&initiation.state, &initiation.private, &heard.ephemeral) else {
            self.note_drop(Reason::Forged);
            return None;
        };
        self.outstanding = Some(Outstanding::Finish {
            peer: id,
            index: initiation.index,
            hash: state.hash,
            sender: heard.sender,
            from: heard.from,
            tag: heard.tag,
        });
        let request = FinishHandshake { chaining_key: state.chaining_key, ephemeral: heard.ephemeral };
        Some(StaticRequest::Finish(request))
    }

    fn ask_stranger(&mut self, now: Micros) -> Option<StaticRequest> {
        if self.strangers.is_empty() || !self.stranger_budget.spend(now) {
            return None;
        }
        let waiting = self.strangers.take(&mut self.random)?;
        Some(self.ask_read(&waiting))
    }

    fn ask_read(&mut self, waiting: &Waiting) -> StaticRequest {
        let state = noise::read(&self.public, &waiting.ephemeral);
        self.outstanding =
            Some(Outstanding::Read { from: waiting.from, sender: waiting.sender, ephemeral: waiting.ephemeral });
        StaticRequest::Read(ReadHandshake {
            chaining_key: state.chaining_key,
            hash: state.hash,
            ephemeral: waiting.ephemeral,
            encrypted_static: waiting.encrypted_static,
            encrypted_timestamp: waiting.encrypted_timestamp,
            zero: [0; 4],
        })
    }

    /// The answer to the last [`Self::poll_static`]. The peer, if its response shows that it has the new session's
    /// keys; an initiation alone shows less, and the first packet by the new keys comes as `first`.
    pub fn static_reply(&mut self, now: Micros, reply: Result<StaticReply, Refused>) -> Option<PeerId> {
        let asked = self.outstanding.take()?;
        let outcome = match (asked, reply) {
            (Outstanding::Start(id), Ok(StaticReply::Start(reply))) => self.started(id, reply).map(|()| None),
            (Outstanding::Start(id), _) => {
                // Its timer runs: it is tried again.
                if let Some(peer) = self.peers[id.index()].as_mut()
                    && peer.initiation.stage == Stage::Asked
                {
                    peer.initiation.clear(&mut self.table);
                }
                Err(Reason::Refused)
            }
            (Outstanding::Finish { peer, index, hash, sender, from, tag }, Ok(StaticReply::Finish(chaining_key))) => {
                let state = Symmetric { chaining_key, hash };
                self.finished(now, peer, index, state, sender, from, &tag).map(|()| Some(peer))
            }
            (Outstanding::Read { from, sender, ephemeral }, Ok(StaticReply::Read(reply))) => {
                self.have_read(now, from, sender, &ephemeral, reply).map(|()| None)
            }
            _ => Err(Reason::Refused),
        };
        outcome.unwrap_or_else(|reason| {
            self.note_drop(reason);
            None
        })
    }

    fn started(&mut self, id: PeerId, mut reply: StartHandshakeReply) -> Result<(), Reason> {
        let peer = self.peers[id.index()].as_mut().ok_or(Reason::NoPeer)?;
        let initiation = &mut peer.initiation;
        // It may have become needless meanwhile.
        if initiation.stage != Stage::Asked {
            return Err(Reason::NoPeer);
        }
        initiation.state.chaining_key = reply.chaining_key;
        initiation.state.hash = reply.hash;
        reply.chaining_key.zeroize();
        initiation.index = self.table.insert(&mut self.random, id, Holder::Initiation).ok_or(Reason::Busy)?;
        initiation.stage = Stage::Sent;
        let message =
            Initiation::new(initiation.index, initiation.ephemeral, initiation.encrypted_static, reply.timestamp);
        peer.send_initiation = Some(message);
        self.to_send.insert(id);
        Ok(())
    }

    #[expect(clippy::too_many_arguments, reason = "the fields of one message and its sender")]
    fn finished(
        &mut self,
        now: Micros,
        id: PeerId,
        index: u32,
        state: Symmetric,
        sender: u32,
        from: Endpoint,
        tag: &[u8; TAG],
    ) -> Result<(), Reason> {
        let peer = self.peers[id.index()].as_mut().ok_or(Reason::NoPeer)?;
        if peer.initiation.stage != Stage::Sent || peer.initiation.index != index {
            return Err(Reason::UnknownIndex);
        }
        let keys = noise::finish(state, &peer.preshared, tag).ok_or(Reason::Forged)?;
        let agreed = Agreed { local: index, remote: sender, send: &keys.send, receive: &keys.receive, initiator: true };
        self.table.change(index, Holder::Session(peer.sessions.free()));
        peer.initiation.index = 0;
        peer.sessions.begin(now, &agreed, |gone| self.table.remove(gone));
        peer.complete(now, &mut self.table);
        peer.set_expiry();
        peer.endpoint = Some(from);
        peer.note_received(now, false);
        // A packet, or a keepalive, tells the peer that it may use the keys too.
        peer.nudge = true;
        self.to_start.remove(id);
        self.to_send.insert(id);
        Ok(())
    }

    fn have_read(
        &mut self,
        now: Micros,
        from: Endpoint,
        sender: u32,
        ephemeral: &Key,
        mut reply: ReadHandshakeReply,
    ) -> Result<(), Reason> {
        let state = Symmetric { chaining_key: reply.chaining_key, hash: reply.hash };
        reply.chaining_key.zeroize();
        let id = self.find(&reply.peer).ok_or(Reason::UnknownPeer)?;
        let peer = self.peers[id.index()].as_mut().ok_or(Reason::UnknownPeer)?;
        if reply.timestamp <= peer.timestamp {
            return Err(Reason::Replay);
        }
        if peer.last_consumed.is_some_and(|last| now.saturating_sub(last) < INITIATION_INTERVAL) {
            return Err(Reason::TooSoon);
        }
        peer.timestamp = reply.timestamp;
        peer.last_consumed = Some(now);
        peer.endpoint = Some(from);
        peer.note_received(now, false);
        let responded = noise::respond(state, &peer.preshared, ephemeral, &peer.key, &mut self.random);
        let responded = responded.ok_or(Reason::Forged)?;
        let holder = Holder::Session(peer.sessions.free());
        let index = self.table.insert(&mut self.random, id, holder).ok_or(Reason::Busy)?;
        let keys = &responded.keys;
        let agreed =
            Agreed { local: index, remote: sender, send: &keys.send, receive: &keys.receive, initiator: false };
        peer.sessions.begin(now, &agreed, |gone| self.table.remove(gone));
        peer.set_expiry();
        peer.last_initiated = Some(now);
        peer.send_response = Some(Response::new(index, sender, responded.ephemeral, responded.tag));
        self.to_send.insert(id);
        Ok(())
    }
}
