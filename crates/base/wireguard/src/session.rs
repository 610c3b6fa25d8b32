//! The sessions of one peer: at most three pairs of keys, one that went before, one in use, and one that the peer has
//! not used yet and the node therefore must not (the paper, sections 5.4.4 and 6).
//!
//! Keys are written to their place once, and wiped there.

use chacha20poly1305::{AeadInOut, ChaCha20Poly1305, KeyInit, Nonce, aead::inout::InOutBuf};
use clock::Micros;
use crypto::noise::TAG;
use zeroize::Zeroize;

use crate::{
    OVERHEAD, Reason, messages,
    replay::Window,
    time::{REJECT_AFTER_MESSAGES, REJECT_AFTER_TIME},
};

pub const SLOTS: usize = 3;

/// One pair of keys.
pub struct Session {
    /// The node's index of it; 0: the slot is free.
    local: u32,
    /// The peer's.
    remote: u32,
    send: [u8; 32],
    receive: [u8; 32],
    pub created: Micros,
    /// The node sent the initiation.
    pub initiator: bool,
    /// The next packet's.
    pub counter: u64,
    window: Window,
    heard: bool,
}

/// What a new session is made of.
pub struct Agreed<'a> {
    pub local: u32,
    pub remote: u32,
    pub send: &'a [u8; 32],
    pub receive: &'a [u8; 32],
    pub initiator: bool,
}

fn nonce(counter: u64) -> Nonce {
    let mut nonce = [0; 12];
    nonce[4..].copy_from_slice(&counter.to_le_bytes());
    nonce.into()
}

impl Session {
    const fn new() -> Self {
        Self {
            local: 0,
            remote: 0,
            send: [0; 32],
            receive: [0; 32],
            created: 0,
            initiator: false,
            counter: 0,
            window: Window::new(),
            heard: false,
        }
    }

    pub fn age(&self, now: Micros) -> Micros {
        now.saturating_sub(self.created)
    }

    fn spent(&self, now: Micros) -> bool {
        self.age(now) >= REJECT_AFTER_TIME || self.counter >= REJECT_AFTER_MESSAGES
    }

    /// A data message around `packet`, padded to 16 bytes but not past `mtu`. Its length.
    #[inline(always)]
    fn seal(&mut self, packet: &[u8], mtu: usize, out: &mut [u8]) -> Result<usize, Reason> {
        let padded = packet.len().next_multiple_of(16).min(mtu).max(packet.len());
        let message = out.get_mut(..padded + OVERHEAD).ok_or(Reason::Length)?;
        let (header, rest) = message.split_first_chunk_mut().ok_or(Reason::Length)?;
        let (text, tag) = rest.split_at_mut(padded);
        messages::write_data_header(header, self.remote, self.counter);
        let text = if padded == packet.len() {
            // As most packets of a full link are: no copy.
            InOutBuf::new(packet, text).map_err(|_| Reason::Length)?
        } else {
            let (head, padding) = text.split_at_mut(packet.len());
            head.copy_from_slice(packet);
            padding.fill(0);
            text.into()
        };
        let cipher = ChaCha20Poly1305::new(&self.send.into());
        let made = cipher.encrypt_inout_detached(&nonce(self.counter), &[], text).map_err(|_| Reason::Length)?;
        tag.copy_from_slice(&made);
        self.counter += 1;
        Ok(padded + OVERHEAD)
    }

    /// Opens the text of a data message in place. True: the first one by these keys.
    #[inline(always)]
    pub fn open(&mut self, now: Micros, counter: u64, text: &mut [u8], tag: &[u8; TAG]) -> Result<bool, Reason> {
        if self.age(now) >= REJECT_AFTER_TIME || counter >= REJECT_AFTER_MESSAGES {
            return Err(Reason::Expired);
        }
        if !self.window.fresh(counter) {
            return Err(Reason::Replay);
        }
        let cipher = ChaCha20Poly1305::new(&self.receive.into());
        cipher.decrypt_inout_detached(&nonce(counter), &[], text.into(), tag.into()).map_err(|_| Reason::Forged)?;
        self.window.mark(counter);
        Ok(!core::mem::replace(&mut self.heard, true))
    }

    /// Wipes it. The index that it had, or 0.
    fn clear(&mut self) -> u32 {
        self.send.zeroize();
        self.receive.zeroize();
        self.window.clear();
        core::mem::take(&mut self.local)
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.clear();
    }
}

/// Which slot has which part, and the slots.
pub struct Sessions {
    slots: [Session; SLOTS],
    previous: Option<u8>,
    current: Option<u8>,
    next: Option<u8>,
}

impl Sessions {
    pub const fn new() -> Self {
        Self { slots: [const { Session::new() }; SLOTS], previous: None, current: None, next: None }
    }

    pub fn slot(&mut self, slot: u8) -> Option<&mut Session> {
        self.slots.get_mut(usize::from(slot)).filter(|session| session.local != 0)
    }

    fn get(&self, slot: Option<u8>) -> Option<&Session> {
        self.slots.get(usize::from(slot?)).filter(|session| session.local != 0)
    }

    pub fn current(&self) -> Option<&Session> {
        self.get(self.current)
    }

    /// There are keys that a packet may be sent with.
    pub fn usable(&self, now: Micros) -> bool {
        self.current().is_some_and(|session| !session.spent(now))
    }

    /// Seals with the keys in use. `Expired`: there are none.
    #[inline(always)]
    pub fn seal(&mut self, now: Micros, packet: &[u8], mtu: usize, out: &mut [u8]) -> Result<usize, Reason> {
        let current = self.current.and_then(|slot| self.slot(slot)).filter(|session| !session.spent(now));
        current.ok_or(Reason::Expired)?.seal(packet, mtu, out)
    }

    /// The slot for the next session. Its index is to be entered for it before [`Self::begin`].
    pub fn free(&self) -> u8 {
        let taken = [self.previous, self.current, self.next];
        (0..SLOTS as u8).find(|slot| !taken.contains(&Some(*slot))).unwrap_or_default()
    }

    /// A session that was just agreed, in the slot that was [`Self::free`]. `gone` hears the indices that are void.
    pub fn begin(&mut self, now: Micros, agreed: &Agreed<'_>, mut gone: impl FnMut(u32)) {
        let slot = self.free();
        let session = &mut self.slots[usize::from(slot)];
        session.clear();
        session.local = agreed.local;
        session.remote = agreed.remote;
        session.send = *agreed.send;
        session.receive = *agreed.receive;
        session.initiator = agreed.initiator;
        session.created = now;
        session.counter = 0;
        session.heard = false;
        if agreed.initiator {
            // The response shows that the peer has the keys, so they may be used at once.
            let (before, dropped) = match self.next.take() {
                Some(next) => (Some(next), self.current.take()),
                None => (self.current.take(), None),
            };
            let older = core::mem::replace(&mut self.previous, before);
            self.current = Some(slot);
            self.drop_slots([older, dropped], &mut gone);
        } else {
            let dropped = [self.previous.take(), self.next.replace(slot)];
            self.drop_slots(dropped, &mut gone);
        }
    }

    /// The peer has used this slot's keys. True: they were those that waited for it, and are now in use.
    pub fn confirm(&mut self, slot: u8, mut gone: impl FnMut(u32)) -> bool {
        if self.next != Some(slot) {
            return false;
        }
        let older = core::mem::replace(&mut self.previous, self.current.take());
        self.current = self.next.take();
        self.drop_slots([older, None], &mut gone);
        true
    }

    fn drop_slots(&mut self, slots: [Option<u8>; 2], gone: &mut impl FnMut(u32)) {
        for slot in slots.into_iter().flatten() {
            if let Some(session) = self.slots.get_mut(usize::from(slot)) {
                gone(session.clear());
            }
        }
    }

    /// Wipes what may no longer be used in either direction. Nothing could use the keys after that; the paper allows
    /// to keep them for thrice as long.
    pub fn expire(&mut self, now: Micros, gone: impl FnMut(u32)) {
        self.wipe(|session| session.age(now) >= REJECT_AFTER_TIME, gone);
    }

    pub fn clear(&mut self, gone: impl FnMut(u32)) {
        self.wipe(|_| true, gone);
    }

    fn wipe(&mut self, mut which: impl FnMut(&Session) -> bool, mut gone: impl FnMut(u32)) {
        for part in [&mut self.previous, &mut self.current, &mut self.next] {
            if let Some(session) = part.and_then(|slot| self.slots.get_mut(usize::from(slot)))
                && which(session)
            {
                gone(session.clear());
                *part = None;
            }
        }
    }

    /// When the first of them is to be wiped.
    pub fn expiry(&self) -> Option<Micros> {
        let parts = [self.previous, self.current, self.next];
        let sessions = parts.into_iter().filter_map(|part| self.get(part));
        sessions.map(|session| session.created.saturating_add(REJECT_AFTER_TIME)).min()
    }

    #[cfg(test)]
    pub fn indices(&self) -> usize {
        self.slots.iter().filter(|slot| slot.local != 0).count()
    }

    #[cfg(test)]
    pub fn keys(&self) -> usize {
        self.slots.iter().filter(|slot| slot.send != [0; 32] || slot.receive != [0; 32]).count()
    }
}
