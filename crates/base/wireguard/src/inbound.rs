//! What comes: cheap checks first, and of a handshake message no more than its MACs. The rest of it waits for the
//! keystore's turn.

use clock::Micros;
use crypto::noise::TAG;
use zerocopy::{FromBytes, IntoBytes};

use crate::{
    Endpoint, Engine, Reason, Received,
    engine::ids,
    index::Holder,
    load::Waiting,
    messages::{self, CookieReply, Initiation, Kind, Response, covered},
    peer::{HeardResponse, Stage},
    time::{KEEPALIVE_TIMEOUT, REJECT_AFTER_TIME, REKEY_TIMEOUT},
};

/// Responses to one initiation that are taken without a cookie. Only who saw the initiation can make one.
const FREE_TRIES: u8 = 4;

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
        let length = datagram.len() as u64;
        let data = messages::data(datagram).ok_or(Reason::Malformed)?;
        let Some((id, Holder::Session(slot))) = self.table.find(data.receiver) else {
            return Err(Reason::UnknownIndex);
        };
        let peer = self.peers[id.index()].as_mut().ok_or(Reason::UnknownIndex)?;
        let session = peer.sessions.slot(slot).ok_or(Reason::UnknownIndex)?;
        let first = session.open(now, data.counter, data.text, &data.tag)?;
        // Authentic from here on.
        if first && peer.sessions.confirm(slot, |index| self.table.remove(index)) {
            peer.complete(now, &mut self.table);
            peer.set_expiry();
            self.to_start.remove(id);
            if !peer.queue.is_empty() {
                self.to_send.insert(id);
            }
        }
        peer.endpoint = Some(from);
        peer.received = peer.received.saturating_add(length);
        peer.note_received(now, !data.text.is_empty());
        let stale = peer.sessions.current().is_some_and(|current| {
            current.initiator && current.age(now) >= REJECT_AFTER_TIME - KEEPALIVE_TIMEOUT - REKEY_TIMEOUT
        });
        if stale {
            self.want(now, id);
        }
        Ok(if data.text.is_empty() {
            Received::Keepalive { peer: id, first }
        } else {
            Received::Packet { peer: id, packet: data.text, first }
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
        let mut known = ids().zip(&mut self.peers).filter_map(|(id, peer)| Some((id, peer.as_mut()?)));
        let pushed_out = match known.find(|(_, peer)| peer.endpoint == Some(from)) {
            // A known peer has a place of its own, which strangers cannot fill.
            Some((id, peer)) => {
                self.to_read.insert(id);
                peer.heard_initiation.replace(waiting).is_some()
            }
            None => self.strangers.add(waiting, &mut self.random),
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
        let Some((id, Holder::Initiation)) = self.table.find(message.receiver.get()) else {
            return Err(Reason::UnknownIndex);
        };
        let sent = |peer: &&mut crate::peer::Peer| peer.initiation.stage == Stage::Sent;
        let tries = self.peers[id.index()].as_mut().filter(sent).ok_or(Reason::UnknownIndex)?.initiation.tries;
        if tries >= FREE_TRIES && !self.check_mac2(now, from, datagram) {
            return self.cookie_reply(now, from, datagram);
        }
        let heard = HeardResponse {
            from,
            sender: message.sender.get(),
            ephemeral: message.ephemeral,
            tag: message.encrypted_nothing,
        };
        let peer = self.peers[id.index()].as_mut().ok_or(Reason::UnknownIndex)?;
        let pushed_out = peer.heard_response.replace(heard).is_some();
        self.to_finish.insert(id);
        if pushed_out {
            self.note_drop(Reason::Busy);
        }
        Ok(Received::Waits)
    }

    fn take_cookie<'b>(&mut self, now: Micros, datagram: &[u8]) -> Result<Received<'b>, Reason> {
        let reply = CookieReply::ref_from_bytes(datagram).map_err(|_| Reason::Malformed)?;
        let (id, _) = self.table.find(reply.receiver.get()).ok_or(Reason::UnknownIndex)?;
        let peer = self.peers[id.index()].as_mut().ok_or(Reason::UnknownIndex)?;
        peer.sealer.take(now, reply)?;
        Ok(Received::Nothing)
    }

    fn check_mac1(&self, datagram: &[u8]) -> Result<(), Reason> {
        let good = covered(datagram).is_some_and(|message| self.checker.mac1(&message));
        if good { Ok(()) } else { Err(Reason::Mac) }
    }

    fn check_mac2(&mut self, now: Micros, from: Endpoint, datagram: &[u8]) -> bool {
        covered(datagram).is_some_and(|message| self.checker.mac2(now, from, &message, &mut self.random))
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
        let reply = self.checker.reply(now, from, u32::from_le_bytes(sender), &mac1, &mut self.random);
        let reply = reply.ok_or(Reason::Busy)?;
        let place = datagram.get_mut(..reply.as_bytes().len()).ok_or(Reason::Malformed)?;
        place.copy_from_slice(reply.as_bytes());
        self.note_drop(Reason::Busy);
        Ok(Received::Reply(place))
    }
}

const _: () = assert!(size_of::<CookieReply>() <= size_of::<Response>() && TAG == 16);
