//! What goes: packets that are sealed with the keys in use, or wait for them, and what the handshakes have ready.

use clock::Micros;
use zerocopy::IntoBytes;

use crate::{
    Endpoint, Engine, PeerId, Reason, Sent,
    peer::Peer,
    time::{KEEPALIVE_TIMEOUT, REKEY_AFTER_MESSAGES, REKEY_AFTER_TIME},
};

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
        if packet.is_empty() || packet.len() > self.mtu {
            return Err(Reason::Length);
        }
        let peer = self.peers.get_mut(id.index()).and_then(Option::as_mut).ok_or(Reason::NoPeer)?;
        let to = peer.endpoint.ok_or(Reason::NoEndpoint)?;
        match peer.seal(now, packet, self.mtu, out) {
            Ok((len, stale)) => {
                if stale {
                    self.want(now, id);
                }
                Ok(Sent::Datagram { to, len })
            }
            Err(Reason::Expired) => {
                peer.queue.put(packet);
                self.want(now, id);
                Ok(Sent::Queued)
            }
            Err(reason) => Err(reason),
        }
    }

    /// The next datagram that is to be sent: handshake messages, the packet that waited, keepalives. `out` should hold
    /// [`crate::MAX_DATAGRAM`].
    pub fn poll_transmit(&mut self, now: Micros, out: &mut [u8]) -> Option<(Endpoint, usize)> {
        while let Some(id) = self.to_send.next(self.send_turn) {
            self.send_turn = id.0.wrapping_add(1);
            let sent = self.transmit(now, id, out);
            if sent.is_some() {
                return sent;
            }
            self.to_send.remove(id);
        }
        None
    }

    /// `None`: nothing is left for this peer.
    fn transmit(&mut self, now: Micros, id: PeerId, out: &mut [u8]) -> Option<(Endpoint, usize)> {
        let peer = self.peers[id.index()].as_mut()?;
        let to = peer.endpoint?;
        if let Some(mut message) = peer.send_response.take() {
            return Some((to, peer.send_handshake(now, message.as_mut_bytes(), out)?));
        }
        if let Some(mut message) = peer.send_initiation.take() {
            return Some((to, peer.send_handshake(now, message.as_mut_bytes(), out)?));
        }
        let nudge = core::mem::take(&mut peer.nudge);
        if peer.queue.is_empty() && !nudge {
            return None;
        }
        if !peer.sessions.usable(now) {
            // A packet that waits has had its handshake begun.
            if nudge {
                self.want(now, id);
            }
            return None;
        }
        let (len, stale) = match peer.queue.packet() {
            Some(packet) => {
                // The queue is the peer's, as its keys are.
                let sealed = peer.sessions.seal(now, packet, self.mtu, out);
                peer.queue.clear();
                peer.note_data(now, sealed.ok()?)
            }
            None => {
                let (len, stale) = peer.seal(now, &[], self.mtu, out).ok()?;
                if core::mem::take(&mut peer.heard_again) {
                    peer.timers.keepalive = now.saturating_add(KEEPALIVE_TIMEOUT);
                }
                (len, stale)
            }
        };
        if stale {
            self.want(now, id);
        }
        Some((to, len))
    }
}

impl Peer {
    /// Seals a packet, or with none a keepalive. Its length, and whether the keys are to be renewed.
    #[inline(always)]
    fn seal(&mut self, now: Micros, packet: &[u8], mtu: usize, out: &mut [u8]) -> Result<(usize, bool), Reason> {
        let len = self.sessions.seal(now, packet, mtu, out)?;
        if packet.is_empty() {
            self.note_sent(now, false);
            self.sent = self.sent.saturating_add(len as u64);
            return Ok((len, self.is_stale(now)));
        }
        Ok(self.note_data(now, len))
    }

    fn note_data(&mut self, now: Micros, len: usize) -> (usize, bool) {
        self.note_sent(now, true);
        self.sent = self.sent.saturating_add(len as u64);
        (len, self.is_stale(now))
    }

    fn is_stale(&self, now: Micros) -> bool {
        self.sessions.current().is_some_and(|current| {
            current.counter > REKEY_AFTER_MESSAGES || (current.initiator && current.age(now) >= REKEY_AFTER_TIME)
        })
    }

    fn send_handshake(&mut self, now: Micros, message: &mut [u8], out: &mut [u8]) -> Option<usize> {
        self.sealer.seal(now, message);
        out.get_mut(..message.len())?.copy_from_slice(message);
        self.note_sent(now, false);
        Some(message.len())
    }
}
