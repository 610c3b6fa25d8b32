//! Reads a block, a bounded piece at a time, and says what is in it.

use sha2::Digest as _;
use zerocopy::{FromZeros, IntoBytes};

use crate::{
    flash::{Flash, PAGE, WORD},
    layout::{
        BlockHeader, Digest, ENTRY, EntryHeader, FORMAT, Geometry, Mark, NEW, Page, SET, is_erased, is_set, is_settled,
    },
};

/// Whose a block is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owner {
    /// Nobody's: it is erased as far as is looked at, or nothing is there but a beginning of the header that a new one gets.
    Blank,
    /// This record's, and it is in its place.
    Ours { generation: u32 },
    /// Its header is good and belongs somewhere else.
    Misplaced,
    /// A later version's.
    Newer,
    /// Anything else.
    Unknown,
}

/// The last entry of a block that was confirmed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Top {
    None,
    Readable { place: usize, sequence: u64, digest: Digest },
    Unreadable { place: usize },
}

/// What a block has to say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scan {
    pub owner: Owner,
    pub first: bool,
    pub second: bool,
    pub closed: bool,
    pub top: Top,
    /// Something in it is not as a finished write leaves it, and only an erase mends it.
    pub dirty: bool,
    /// A word is half set that is set once more by whoever goes on.
    pub unsettled: bool,
    /// Its header cannot be read although an entry can.
    pub headless: bool,
}

impl Scan {
    pub const BLANK: Self = Self {
        owner: Owner::Blank,
        first: false,
        second: false,
        closed: false,
        top: Top::None,
        dirty: false,
        unsettled: false,
        headless: false,
    };

    const fn of(self, owner: Owner) -> Self {
        Self { owner, ..self }
    }

    /// Whether it says that the other block is being rewritten.
    pub const fn is_open(&self) -> bool {
        self.first || self.second && !self.closed
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Header,
    Place(usize),
    Top,
    Tail,
}

/// The reading of one block.
pub struct Scanner {
    geometry: Geometry,
    record: u8,
    which: usize,
    stage: Stage,
    header: BlockHeader,
    top: Option<(usize, EntryHeader)>,
    scan: Scan,
}

impl Scanner {
    pub fn new(geometry: Geometry, record: u8, which: usize) -> Self {
        let (stage, scan) = (Stage::Header, Scan::BLANK);
        Self { geometry, record, which, stage, header: BlockHeader::new_zeroed(), top: None, scan }
    }

    /// Reads one piece; what it says when all is read. `Err`: it cannot be read.
    pub fn step(&mut self, flash: &mut impl Flash) -> Result<Option<Scan>, Unreadable> {
        self.stage = match self.stage {
            Stage::Header => self.header(flash)?,
            Stage::Place(place) => self.place(flash, place)?,
            Stage::Top => self.top(flash)?,
            Stage::Tail => {
                self.tail(flash)?;
                // A whole block is not read for it: a boot has no time for that, and nothing is written where something
                // stands. Every place is looked at, and what comes first.
                if self.scan == Scan::BLANK.of(Owner::Unknown) && self.is_beginning() {
                    self.scan = Scan::BLANK;
                }
                return Ok(Some(self.scan));
            }
        };
        Ok(None)
    }

    fn begin(&self) -> usize {
        self.geometry.at(self.record, self.which)
    }

    fn expected(&self, generation: u32) -> BlockHeader {
        BlockHeader::new(self.record, self.which, self.geometry.body, generation)
    }

    fn header(&mut self, flash: &mut impl Flash) -> Result<Stage, Unreadable> {
        let begin = self.begin();
        read(flash, begin, self.header.as_mut_bytes())?;
        let generation = self.header.generation.get();
        self.scan.owner = match self.header {
            header if !header.holds() => Owner::Unknown,
            header if header.format.get() > FORMAT => Owner::Newer,
            header if header.is_like(&self.expected(generation)) => Owner::Ours { generation },
            _ => Owner::Misplaced,
        };
        self.scan.dirty |= self.header.is_scribbled();
        for (mark, said) in [
            (Mark::First, &mut self.scan.first),
            (Mark::Second, &mut self.scan.second),
            (Mark::Closed, &mut self.scan.closed),
        ] {
            let mut word = [0; 4];
            read(flash, Geometry::mark(begin, mark), &mut word)?;
            let word = u32::from_le_bytes(word);
            // The other block is whole before this is begun to be written, and what it ends is not to come back.
            *said = if mark == Mark::Closed { word != !SET } else { is_set(word) };
            let to_settle = if mark == Mark::Second { &mut self.scan.unsettled } else { &mut self.scan.dirty };
            *to_settle |= !is_settled(word);
        }
        Ok(Stage::Place(0))
    }

    /// Entries stand one after the other from the first place on.
    fn place(&mut self, flash: &mut impl Flash, place: usize) -> Result<Stage, Unreadable> {
        if place == self.geometry.places() {
            return Ok(Stage::Top);
        }
        let mut page = Page::default();
        read(flash, self.geometry.entry(self.begin(), place), page.as_mut_bytes())?;
        if is_erased(&page) {
            return Ok(Stage::Place(place + 1));
        }
        let header: EntryHeader = zerocopy::transmute!(page);
        if is_set(header.valid.get()) {
            // A place that was passed over is left by no write.
            let before = self.top.map_or(0, |(place, _)| place + 1);
            self.scan.dirty |= place != before;
            self.scan.dirty |= self.top.is_some_and(|(_, header)| !is_settled(header.valid.get()));
            self.top = Some((place, header));
        } else {
            self.scan.dirty = true;
        }
        Ok(Stage::Place(place + 1))
    }

    fn top(&mut self, flash: &mut impl Flash) -> Result<Stage, Unreadable> {
        let Some((place, header)) = self.top else {
            return Ok(Stage::Tail);
        };
        self.scan.unsettled |= !is_settled(header.valid.get());
        let mut hash = header.hash();
        let begin = self.geometry.entry(self.begin(), place) + PAGE;
        for at in (0..self.geometry.body).step_by(PAGE) {
            let mut page = [0; PAGE];
            let page = &mut page[..PAGE.min(self.geometry.body - at)];
            read(flash, begin + at, page)?;
            hash.update(page);
        }
        let digest: Digest = hash.finalize().into();
        let generation = header.generation.get();
        let named = header.magic == ENTRY
            && header.record.get() == u32::from(self.record)
            && header.place.get() as usize == place
            && header.body.get() as usize == self.geometry.body;
        let whole = named && digest == header.digest;
        let readable = whole
            && match self.scan.owner {
                Owner::Ours { generation: block } => block == generation,
                // Nobody else makes such an entry, so the block is ours and its header has suffered.
                Owner::Unknown => {
                    self.scan.owner = Owner::Ours { generation };
                    (self.scan.headless, self.scan.dirty) = (true, true);
                    true
                }
                _ => false,
            };
        let sequence = header.sequence.get();
        self.scan.top = if readable { Top::Readable { place, sequence, digest } } else { Top::Unreadable { place } };
        Ok(Stage::Tail)
    }

    /// A write that was cut off before its header has left something in the first place that is free.
    fn tail(&mut self, flash: &mut impl Flash) -> Result<(), Unreadable> {
        let free = self.top.map_or(0, |(place, _)| place + 1);
        if free < self.geometry.places() {
            let at = self.geometry.entry(self.begin(), free);
            self.scan.dirty |= !erased(flash, at, self.geometry.stride())?;
        }
        Ok(())
    }

    /// Whether the header that was read is erased, or has no bit cleared that a new block's has not.
    fn is_beginning(&self) -> bool {
        let new = self.expected(NEW);
        let bytes = self.header.as_bytes().iter().zip(new.as_bytes());
        bytes.into_iter().all(|(read, new)| read & new == *new)
    }
}

/// The flash says that it cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unreadable;

pub fn read(flash: &mut impl Flash, at: usize, to: &mut [u8]) -> Result<(), Unreadable> {
    if flash.read(at, to) { Ok(()) } else { Err(Unreadable) }
}

/// Whether so many bytes, whole words, are erased.
pub fn erased(flash: &mut impl Flash, at: usize, len: usize) -> Result<bool, Unreadable> {
    let mut page = Page::default();
    for from in (0..len).step_by(PAGE) {
        let page = &mut page[..PAGE.min(len - from) / WORD];
        read(flash, at + from, page.as_mut_bytes())?;
        if !is_erased(page) {
            return Ok(false);
        }
    }
    Ok(true)
}
