//! What stands where in an erase block of a record. Numbers are little-endian; what is not named stays erased.
//!
//! A block is a page that names it, a page of words, then places for entries. An entry is a page with its header, whose last
//! word makes it valid, then its body.

use sha2::{Digest as _, Sha256};
use zerocopy::{
    FromBytes, Immutable, IntoBytes, KnownLayout,
    little_endian::{U32, U64},
};

use crate::flash::{PAGE, WORD};

pub const MAGIC: [u8; 8] = *b"genstore";
pub const ENTRY: [u8; 4] = *b"entr";
/// Another number for each layout that an earlier version cannot read. The block's header is the same in all.
pub const FORMAT: u32 = 1;

/// The generation of blocks that are written for the first time.
pub const NEW: u32 = 1;

/// What an erased byte reads as.
pub const ERASED: u8 = 0xff;
/// A word that has been set. An erased one is not.
pub const SET: u32 = 0;

/// Where the words of a block begin, and where its entries do.
const WORDS: usize = PAGE;
const ENTRIES: usize = 2 * PAGE;

pub type Digest = [u8; 32];

/// The first page of a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct BlockHeader {
    pub magic: [u8; 8],
    pub format: U32,
    pub record: U32,
    /// 0 or 1: which of the two of its record.
    pub which: U32,
    /// Bytes of an entry's body.
    pub body: U32,
    /// Rises with each rewriting; equal in both blocks unless one is being rewritten.
    pub generation: U32,
    /// Of all before.
    digest: Digest,
    unused: [u8; 4],
}

/// The first page of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct EntryHeader {
    pub magic: [u8; 4],
    pub record: U32,
    /// The block's.
    pub generation: U32,
    pub place: U32,
    pub sequence: U64,
    /// Bytes of the body.
    pub body: U32,
    /// Of all before and of the body.
    pub digest: Digest,
    /// Set last.
    pub valid: U32,
}

const _: () = assert!(size_of::<BlockHeader>() == PAGE && size_of::<EntryHeader>() == PAGE);
/// Bytes of each header that its digest is over, and of an entry's header that are written before its last word.
const DIGESTED: usize = 28;
pub const UNTIL_VALID: usize = PAGE - WORD;

impl BlockHeader {
    pub fn new(record: u8, which: usize, body: usize, generation: u32) -> Self {
        let mut header = Self {
            magic: MAGIC,
            format: FORMAT.into(),
            record: u32::from(record).into(),
            which: U32::new(which as u32),
            body: U32::new(body as u32),
            generation: generation.into(),
            digest: [ERASED; 32],
            unused: [ERASED; 4],
        };
        header.digest = header.made();
        header
    }

    fn made(&self) -> Digest {
        Sha256::digest(&self.as_bytes()[..DIGESTED]).into()
    }

    /// Whether it says the same.
    pub fn is_like(&self, other: &Self) -> bool {
        self.as_bytes()[..UNTIL_VALID] == other.as_bytes()[..UNTIL_VALID]
    }

    /// Whether there is something where nobody writes.
    pub fn is_scribbled(&self) -> bool {
        self.unused != [ERASED; 4]
    }

    /// Whether somebody has written it as it is, of whatever format.
    pub fn holds(&self) -> bool {
        self.magic == MAGIC && self.digest == self.made()
    }
}

impl EntryHeader {
    pub fn new(record: u8, generation: u32, place: usize, sequence: u64, body: &[u8]) -> Self {
        let mut header = Self {
            magic: ENTRY,
            record: u32::from(record).into(),
            generation: generation.into(),
            place: U32::new(place as u32),
            sequence: sequence.into(),
            body: U32::new(body.len() as u32),
            digest: [ERASED; 32],
            valid: SET.into(),
        };
        let mut hash = header.hash();
        hash.update(body);
        header.digest = hash.finalize().into();
        header
    }

    /// Whether it was made for an entry of this generation in this place.
    pub fn is_for(&self, generation: u32, place: usize) -> bool {
        self.magic == ENTRY && self.generation.get() == generation && self.place.get() as usize == place
    }

    /// The hash of what stands before the digest, to be gone on with by the body.
    pub fn hash(&self) -> Sha256 {
        Sha256::new_with_prefix(&self.as_bytes()[..DIGESTED])
    }
}

/// Words that are set one by one while the block stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mark {
    /// This block has the newest entry; the other is being rewritten, and then this one.
    First = 0,
    /// This block has the newest entry; the other is being rewritten, and that is all.
    Second = 1,
    /// What the second says is done.
    Closed = 2,
}

/// What a word that is set at most once says. A write that was cut off, or cells that have lost their charge, leave bits of
/// both kinds: the greater half counts, so a few never turn it, and whoever reads sees that it is to be settled.
pub fn is_set(word: u32) -> bool {
    word.count_zeros() >= u32::BITS / 2
}

/// Whether a word is as it was written or erased.
pub fn is_settled(word: u32) -> bool {
    word == SET || word == !SET
}

/// A page, in words: a boot looks at so many that bytes would take it several times as long.
pub type Page = [u32; PAGE / WORD];

pub fn is_erased(words: &[u32]) -> bool {
    words.iter().all(|word| *word == u32::MAX)
}

/// Whether programming makes of what stands what is new: it clears bits, and only an erase would set them.
pub fn can_become(stands: &[u32], new: &[u32]) -> bool {
    stands.iter().zip(new).all(|(stands, new)| stands & new == *new)
}

/// Where things stand in blocks of this size, for bodies of this one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Geometry {
    pub block: usize,
    pub body: usize,
}

impl Geometry {
    /// From one entry to the next.
    pub const fn stride(&self) -> usize {
        PAGE + self.body.next_multiple_of(PAGE)
    }

    /// Entries that a block has place for.
    pub const fn places(&self) -> usize {
        self.block.saturating_sub(ENTRIES) / self.stride()
    }

    /// Where the two blocks of a record begin.
    pub const fn at(&self, record: u8, which: usize) -> usize {
        (record as usize * calls::store::COPIES + which) * self.block
    }

    pub const fn mark(block: usize, mark: Mark) -> usize {
        block + WORDS + mark as usize * WORD
    }

    pub const fn entry(&self, block: usize, place: usize) -> usize {
        block + ENTRIES + place * self.stride()
    }
}
