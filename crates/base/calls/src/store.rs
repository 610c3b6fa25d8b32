//! Where `keystore` keeps its records: sealed ones of one size, each in two slots. Whoever stores them is trusted with
//! nothing but being there: what comes back is authenticated.
//!
//! One interface for a store that is a value in the same domain and for one that is a domain of its own.

/// The records that are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Record {
    Identity = 0,
    Ownership = 1,
}

pub const RECORDS: usize = 2;
/// Slots of a record. They are written in turn, so that a write that is cut off leaves the one before.
pub const SLOTS: usize = 2;

/// A place in the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slot {
    pub record: Record,
    /// Below [`SLOTS`].
    pub index: u8,
}

/// Bytes of a sealed record, whatever is in it. It does not follow what is kept: a later version, which keeps more, finds
/// the slots of an earlier one as they are. Three quarters of a page: with a mailbox's header it fits into one.
pub const SEALED: usize = 3072;
pub type Sealed = [u8; SEALED];

/// How the action that was begun last stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// Ask again when the store has notified.
    Busy,
    /// It is written, or was read.
    Done,
    /// Read: the slot was never written, or a write to it was cut off. The store can tell.
    Empty,
    /// The action failed.
    Failed,
}

/// One action at a time; none blocks.
pub trait Store {
    fn begin_write(&mut self, slot: Slot, sealed: &Sealed);
    fn begin_read(&mut self, slot: Slot);
    /// How it stands; what was read is copied to `to` when that is done.
    fn poll(&mut self, to: &mut Sealed) -> Progress;
}
