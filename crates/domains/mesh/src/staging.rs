//! Buffers for orders and records that come in chunks: one for each authority, so that nobody's chunks are in another's way,
//! and one that all other peers share, for authority records alone.

use wire::{
    order::Kind,
    record::AuthorityRecord,
    set::MAX_AUTHORITIES,
    staged::{CHUNK, ChunkHead, MAX_STAGED, Staged, parse},
};
use zeroize::Zeroize;

/// The slot of those who are no authority.
const SHARED: usize = MAX_AUTHORITIES;

pub struct Staging {
    slots: [Slot; MAX_AUTHORITIES + 1],
    /// An `apply` of what is in this slot is under way: nothing changes there.
    locked: Option<usize>,
}

impl Staging {
    pub const fn new() -> Self {
        Self { slots: [const { Slot::new() }; MAX_AUTHORITIES + 1], locked: None }
    }

    pub fn clear(&mut self) {
        self.slots.iter_mut().for_each(Slot::clear);
        self.locked = None;
    }

    /// The authority at this place is another, or none.
    pub fn forget(&mut self, place: usize) {
        if self.locked != Some(place)
            && let Some(slot) = self.slots.get_mut(place)
        {
            slot.clear();
        }
    }

    /// Takes a chunk of the authority at this place, or of someone who is none.
    pub fn take(&mut self, place: Option<usize>, head: &ChunkHead, part: &[u8]) -> bool {
        let at = place.unwrap_or(SHARED);
        let fits = at < SHARED || may_be_record(head, part);
        let slot = self.slots.get_mut(at).filter(|_| fits && self.locked != Some(at));
        slot.is_some_and(|slot| slot.take(head, part))
    }

    /// Whether all of what has this short hash is there for the authority at this place: its own, or else a record that someone
    /// has brought. From now on that stays as it is.
    pub fn lock(&mut self, place: usize, short: u32) -> bool {
        let has = |at: &usize| self.slots.get(*at).is_some_and(|slot| slot.has(short));
        self.locked = [place, SHARED].into_iter().find(has);
        self.locked.is_some()
    }

    /// What is locked, if anything is.
    pub fn locked(&self) -> Option<&[u8]> {
        self.slots.get(self.locked?)?.bytes()
    }

    /// Whether what is locked is something that the node gives a receipt for.
    pub fn proves(&self) -> bool {
        match self.locked().and_then(parse) {
            Some(Staged::Order(order, _)) => order.kind() == Some(Kind::Release),
            Some(Staged::Record(_)) => true,
            None => false,
        }
    }

    /// The `apply` is over. What was applied is needed no more.
    pub fn unlock(&mut self, applied: bool) {
        if let Some(slot) = self.locked.take().and_then(|at| self.slots.get_mut(at))
            && applied
        {
            slot.clear();
        }
    }
}

/// What does not begin as a record does is never whole in the shared slot.
fn may_be_record(head: &ChunkHead, part: &[u8]) -> bool {
    usize::from(head.length.get()) == size_of::<AuthorityRecord>()
        && (head.number != 0 || part.starts_with(&AuthorityRecord::MAGIC))
}

/// The buffer for one order or record. A chunk of another one begins that one: nothing is ever put together from two.
struct Slot {
    short: u32,
    length: usize,
    /// One bit for each chunk that is there.
    chunks: u8,
    bytes: [u8; MAX_STAGED],
}

impl Slot {
    const fn new() -> Self {
        const { assert!(MAX_STAGED.div_ceil(CHUNK) <= 8) };
        Self { short: 0, length: 0, chunks: 0, bytes: [0; MAX_STAGED] }
    }

    fn clear(&mut self) {
        self.bytes.zeroize();
        (self.short, self.length, self.chunks) = (0, 0, 0);
    }

    fn take(&mut self, head: &ChunkHead, part: &[u8]) -> bool {
        let (short, length) = (head.short.get(), usize::from(head.length.get()));
        if (short, length) != (self.short, self.length) {
            self.clear();
            (self.short, self.length) = (short, length);
        }
        let start = usize::from(head.number) * CHUNK;
        let Some(to) = self.bytes.get_mut(start..).and_then(|rest| rest.get_mut(..part.len())) else { return false };
        to.copy_from_slice(part);
        self.chunks |= 1_u8.checked_shl(head.number.into()).unwrap_or(0);
        true
    }

    fn bytes(&self) -> Option<&[u8]> {
        self.bytes.get(..self.length)
    }

    /// Whether what has this short hash is there, and all of it.
    fn has(&self, short: u32) -> bool {
        let unused = 8_usize.checked_sub(self.length.div_ceil(CHUNK)).filter(|unused| *unused < 8);
        self.short == short
            && unused.is_some_and(|unused| self.chunks == u8::MAX >> unused)
            && self.bytes().and_then(parse).is_some_and(|staged| staged.short() == short)
    }
}
