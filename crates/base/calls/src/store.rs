//! Where `keystore` keeps its records and `lifecycle` the blocks of the configuration: sealed ones of one size. Whoever
//! stores them is trusted with nothing but being there: what comes back is authenticated.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// The records that are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Record {
    Identity = 0,
    Ownership = 1,
    Counters = 2,
}

pub const RECORDS: usize = 3;

/// Bytes of a sealed record, whatever is in it. It does not follow what is kept: a later version, which keeps more, finds
/// the entries of an earlier one as they are. Three quarters of a page: with a mailbox's header it fits into one.
pub const SEALED: usize = 3072;
pub type Sealed = [u8; SEALED];

/// The erase blocks of a record, each with every entry that the other has.
pub const COPIES: usize = 2;
/// Slots of a configuration, an erase block each.
pub const CONFIGURATIONS: usize = 2;
/// Erase blocks in all: first the records', in their order, then those of the configurations.
pub const BLOCKS: usize = RECORDS * COPIES + CONFIGURATIONS;

/// Bytes of a block of a configuration, as `lifecycle` has it sealed: each has this length, the last one too.
pub const BLOCK: usize = 2048;
/// The same sealed: with a nonce and a tag.
pub const SEALED_BLOCK: usize = BLOCK + 24 + 16;
/// Blocks of a configuration: as many as the longest has.
pub const MAX_BLOCKS: usize = (wire::claim::MAX_CONFIGURATION + 8).div_ceil(BLOCK);

refusals! {
    /// Why `store` refuses.
    Refusal {
        /// Not an operation of this channel, or no such record, slot or block.
        NotAllowed = 1,
        /// The device did not do it, or what was written reads as something else. Whether it is there is not known: read again.
        Failed = 2,
        /// The sequence number is not above the newest: read again.
        Stale = 3,
        /// What is there is damaged, foreign or newer, as [`for_keystore::Find`] says: nothing is written over it.
        Unusable = 4,
    }
}

wire::numbers! {
    /// What was found of a record.
    Finding {
        /// Neither block was ever written.
        Empty = 0, "empty";
        /// The newest entry, which both blocks have.
        Found = 1, "found";
        /// An entry was confirmed and can be read in neither block, or a block holds what no write and no cut leaves.
        Damaged = 2, "damaged";
        /// Somebody else's data.
        Foreign = 3, "foreign";
        /// Written by a later version.
        Newer = 4, "newer";
    }
}

#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct FindReply {
    /// [`Finding`] as a number.
    pub finding: u64,
    /// 0 unless it is found.
    pub sequence: u64,
    /// All zero unless it is found.
    pub sealed: Sealed,
}

#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct AppendRequest {
    /// [`Record`] as a number.
    pub record: u64,
    /// Above that of every entry of the record.
    pub sequence: u64,
    pub sealed: Sealed,
}

/// What `keystore` may ask.
pub mod for_keystore {
    use super::{AppendRequest, FindReply};

    operations! {
        /// The newest entry of the record of this number. When the reply is there, both of its blocks have it, unless the device
        /// takes no more: then it is in one, and no entry can be appended.
        Find = 1, repeatable true: u64 => FindReply;
        /// Writes an entry to both blocks and reads it back. Not repeated: who does not know the outcome finds it.
        Append = 2, repeatable false: AppendRequest => ();
        /// Rewrites the record of this number so that its newest entry is its only one, and every other is erased.
        Purge = 3, repeatable true: u64 => ();
    }
}

#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct BlockPlace {
    /// Below [`CONFIGURATIONS`].
    pub slot: u64,
    /// Below [`MAX_BLOCKS`].
    pub index: u64,
}

#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct WriteBlockRequest {
    pub place: BlockPlace,
    pub sealed: [u8; SEALED_BLOCK],
}

/// What `store` has done since the flash was made, as far as it can know, and since it was started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Account {
    /// Entries and blocks written since the domain was started.
    pub writes: u64,
    /// Erase blocks erased since the domain was started.
    pub erases: u64,
    /// Actions that failed, and entries that could be read in one block only, since the domain was started.
    pub errors: u64,
}

/// What `lifecycle` may ask.
pub mod for_lifecycle {
    use super::{Account, BlockPlace, SEALED_BLOCK, WriteBlockRequest};

    operations! {
        /// What stands in a block of a configuration's slot: erased or not, it is for `keystore` to open.
        ReadBlock = 16, repeatable true: BlockPlace => [u8; SEALED_BLOCK];
        /// Writes a block into a slot that is erased there, and reads it back.
        WriteBlock = 17, repeatable true: WriteBlockRequest => ();
        /// Erases a slot.
        EraseSlot = 18, repeatable true: u64 => ();
        ReadAccount = 19, repeatable true: () => Account;
    }
}
