//! Which peers have something for the keystore or for the network, and whose turn it is.

use crate::{MAX_PEERS, PeerId};

/// A set of peers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Set(u16);

const _: () = assert!(MAX_PEERS == u16::BITS as usize);

impl Set {
    pub fn insert(&mut self, peer: PeerId) {
        self.0 |= 1 << peer.0;
    }

    pub fn remove(&mut self, peer: PeerId) {
        self.0 &= !(1 << peer.0);
    }

    pub fn contains(self, peer: PeerId) -> bool {
        self.0 & 1 << peer.0 != 0
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

/// Whose question to the keystore is next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// This peer's response waits.
    Finish(PeerId),
    /// The node's own initiation to this peer.
    Start(PeerId),
    /// This peer's initiation waits.
    Read(PeerId),
    /// The strangers', if one of them waits.
    Stranger,
}

/// Peers put themselves in; what has its turn is taken out.
#[derive(Default)]
pub struct Agenda {
    pub start: Set,
    pub finish: Set,
    pub read: Set,
    pub send: Set,
    turn: u8,
    send_turn: u8,
}

impl Agenda {
    /// A peer has something to ask.
    pub fn has_question(&self) -> bool {
        [self.start, self.finish, self.read].iter().any(|set| !set.is_empty())
    }

    /// Each kind has its turn, so that none can keep another waiting; and among the peers it moves on, too.
    /// `None`: nobody of that kind waits.
    pub fn next_question(&mut self) -> Option<Turn> {
        let (turn, after) = (self.turn % 4, self.turn / 4);
        self.turn = self.turn.wrapping_add(1);
        let taken = |set: &mut Set| set.next(after).inspect(|id| set.remove(*id));
        match turn {
            0 => taken(&mut self.finish).map(Turn::Finish),
            1 => taken(&mut self.start).map(Turn::Start),
            2 => taken(&mut self.read).map(Turn::Read),
            _ => Some(Turn::Stranger),
        }
    }

    /// Whose turn to send it is. It stays in until it has nothing left to send.
    pub fn next_to_send(&mut self) -> Option<PeerId> {
        let id = self.send.next(self.send_turn)?;
        self.send_turn = id.0.wrapping_add(1);
        Some(id)
    }

    /// Nothing that the node has begun with the peer goes on.
    pub fn forget(&mut self, peer: PeerId) {
        for set in [&mut self.start, &mut self.finish, &mut self.send] {
            set.remove(peer);
        }
    }
}
