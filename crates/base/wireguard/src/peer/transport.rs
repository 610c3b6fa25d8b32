//! A peer's packets: opened and sealed by the keys in use, or waiting for some; and what its handshakes have ready.

use clock::Micros;
use zerocopy::IntoBytes;

use super::Peer;
use crate::{
    Endpoint, MAX_MTU, OVERHEAD, Reason, Sent,
    messages::Data,
    shared::Shared,
    time::{KEEPALIVE_TIMEOUT, REJECT_AFTER_TIME, REKEY_AFTER_MESSAGES, REKEY_AFTER_TIME, REKEY_TIMEOUT},
};

/// The newest packet that waits for keys. One is enough to begin with: what it belongs to sends again.
pub struct Queue {
    packet: [u8; MAX_MTU],
    /// 0: none.
    length: usize,
}

impl Queue {
    pub const fn new() -> Self {
        Self { packet: [0; MAX_MTU], length: 0 }
    }

    fn is_empty(&self) -> bool {
        self.length == 0
    }

    fn put(&mut self, packet: &[u8]) {
        if let Some(place) = self.packet.get_mut(..packet.len()) {
            place.copy_from_slice(packet);
            self.length = packet.len();
        }
    }

    fn packet(&self) -> Option<&[u8]> {
        self.packet.get(..self.length).filter(|packet| !packet.is_empty())
    }

    pub fn clear(&mut self) {
        self.length = 0;
    }
}

impl Peer {
    /// Opens a data message in place, by the keys of a slot. Its text, and whether it is the first one by these keys.
    #[inline(always)]
    pub fn open<'b>(
        &mut self,
        now: Micros,
        from: Endpoint,
        slot: u8,
        data: Data<'b>,
        shared: &mut Shared,
    ) -> Result<(&'b mut [u8], bool), Reason> {
        let Data { counter, text, tag, .. } = data;
        let session = self.sessions.slot(slot).ok_or(Reason::UnknownIndex)?;
        let first = session.open(now, counter, text, &tag)?;
        // Authentic from here on.
        let Shared { table, agenda, .. } = shared;
        if first && self.sessions.confirm(slot, |index| table.remove(index)) {
            self.complete(now, table, agenda);
            if !self.queue.is_empty() {
                agenda.send.insert(self.id);
            }
        }
        self.endpoint = Some(from);
        self.received = self.received.saturating_add((text.len() + OVERHEAD) as u64);
        self.timers.received(now, !text.is_empty());
        let stale = self.sessions.current().is_some_and(|current| {
            current.initiator && current.age(now) >= REJECT_AFTER_TIME - KEEPALIVE_TIMEOUT - REKEY_TIMEOUT
        });
        if stale {
            self.want(now, agenda);
        }
        Ok((text, first))
    }

    /// Seals a packet into `out`, or keeps it until there are keys.
    #[inline(always)]
    pub fn send(&mut self, now: Micros, packet: &[u8], out: &mut [u8], shared: &mut Shared) -> Result<Sent, Reason> {
        let to = self.endpoint.ok_or(Reason::NoEndpoint)?;
        match self.seal(now, packet, shared.mtu, out) {
            Ok((len, stale)) => {
                if stale {
                    self.want(now, &mut shared.agenda);
                }
                Ok(Sent::Datagram { to, len })
            }
            Err(Reason::Expired) => {
                self.queue.put(packet);
                self.want(now, &mut shared.agenda);
                Ok(Sent::Queued)
            }
            Err(reason) => Err(reason),
        }
    }

    /// The next datagram that is ready. `None`: nothing is left.
    pub fn transmit(&mut self, now: Micros, out: &mut [u8], shared: &mut Shared) -> Option<(Endpoint, usize)> {
        let to = self.endpoint?;
        if let Some(mut message) = self.send_response.take() {
            return Some((to, self.send_handshake(now, message.as_mut_bytes(), out)?));
        }
        if let Some(mut message) = self.send_initiation.take() {
            return Some((to, self.send_handshake(now, message.as_mut_bytes(), out)?));
        }
        let nudge = core::mem::take(&mut self.nudge);
        if self.queue.is_empty() && !nudge {
            return None;
        }
        if !self.sessions.usable(now) {
            // A packet that waits has had its handshake begun.
            if nudge {
                self.want(now, &mut shared.agenda);
            }
            return None;
        }
        let (len, stale) = match self.queue.packet() {
            Some(packet) => {
                // The queue is the peer's, as its keys are.
                let sealed = self.sessions.seal(now, packet, shared.mtu, out);
                self.queue.clear();
                self.note_sealed(now, sealed.ok()?, true)
            }
            None => {
                let sealed = self.seal(now, &[], shared.mtu, out).ok()?;
                self.timers.sent_keepalive(now);
                sealed
            }
        };
        if stale {
            self.want(now, &mut shared.agenda);
        }
        Some((to, len))
    }

    /// Seals a packet, or with none a keepalive. Its length, and whether the keys are to be renewed.
    #[inline(always)]
    fn seal(&mut self, now: Micros, packet: &[u8], mtu: usize, out: &mut [u8]) -> Result<(usize, bool), Reason> {
        let len = self.sessions.seal(now, packet, mtu, out)?;
        Ok(self.note_sealed(now, len, !packet.is_empty()))
    }

    #[inline(always)]
    fn note_sealed(&mut self, now: Micros, len: usize, data: bool) -> (usize, bool) {
        self.timers.sent(now, data);
        self.sent = self.sent.saturating_add(len as u64);
        let stale = self.sessions.current().is_some_and(|current| {
            current.counter > REKEY_AFTER_MESSAGES || (current.initiator && current.age(now) >= REKEY_AFTER_TIME)
        });
        (len, stale)
    }

    fn send_handshake(&mut self, now: Micros, message: &mut [u8], out: &mut [u8]) -> Option<usize> {
        self.sealer.seal(now, message);
        out.get_mut(..message.len())?.copy_from_slice(message);
        self.timers.sent(now, false);
        Some(message.len())
    }
}
