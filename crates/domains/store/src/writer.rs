//! Writes and erases, one action of the flash after the other, and reads back what each has done.

use zerocopy::{FromZeros, IntoBytes};

use crate::{
    flash::{Flash, PAGE, Progress, WORD},
    layout::{BlockHeader, EntryHeader, Geometry, Mark, Page, SET, UNTIL_VALID, can_become},
    recover::Part,
    scan::{erased, read},
};

/// One thing to be done to a block of a record, by its number in the record, or to a block of the flash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act {
    Mark(usize, Mark),
    /// The word that makes the entry in this place valid, once more: a cut may have left it half set.
    Confirm(usize, usize),
    /// A block of the record, whatever is in it.
    Erase(usize),
    /// A block of the flash, unless so many bytes at its beginning, which are all that is ever written of it, are erased.
    Clear(usize, usize),
    Header(usize, u32),
    /// What is to be written, as an entry of this generation in this place.
    Entry(usize, u32, usize),
    /// The first bytes of what is to be written, as they are.
    Bytes(usize, usize),
}

/// The most acts that make one plan.
const ACTS: usize = 10;

/// Acts in their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Plan([Option<Act>; ACTS]);

impl Plan {
    pub fn new(acts: impl IntoIterator<Item = Act>) -> Self {
        let mut plan = [None; ACTS];
        plan.iter_mut().zip(acts).for_each(|(place, act)| *place = Some(act));
        Self(plan)
    }

    /// One entry, to both blocks, and before it what they lack for it.
    pub fn append(headers: [bool; 2], generation: u32, place: usize) -> Self {
        let missing = (0..2).filter(|which| !headers[*which]).map(|which| Act::Header(which, generation));
        Self::new(missing.chain((0..2).map(|which| Act::Entry(which, generation, place))))
    }

    /// Blocks are made anew with one entry or none: the other one than the source while the source has the newest entry, then
    /// the source. The generation is the source's, `sure` the place of an entry in it that a cut may have left half valid.
    pub fn rewrite(source: usize, generation: u32, entry: bool, sure: Option<usize>, part: Part) -> Self {
        let other = 1 - source;
        let make = |which: usize, generation: u32| {
            let entry = entry.then_some(Act::Entry(which, generation, 0));
            [Some(Act::Erase(which)), Some(Act::Header(which, generation)), entry].into_iter().flatten()
        };
        let mark = |which: usize, mark: Mark| core::iter::once(Act::Mark(which, mark));
        let sure = sure.map(|place| Act::Confirm(source, place)).into_iter();
        match part {
            Part::Both => {
                let next = generation.wrapping_add(1);
                let first = mark(source, Mark::First).chain(make(other, next));
                let second = mark(other, Mark::Second).chain(make(source, next));
                Self::new(sure.chain(first).chain(second).chain(mark(other, Mark::Closed)))
            }
            Part::Other => {
                let second = mark(source, Mark::Second).chain(make(other, generation));
                Self::new(sure.chain(second).chain(mark(source, Mark::Closed)))
            }
            Part::Note => Self::new(mark(source, Mark::Closed)),
        }
    }
}

/// How far it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// The flash is at work.
    Busy,
    More,
    Done,
}

/// The flash has not done it, or not so that it can be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Failed;

impl From<crate::scan::Unreadable> for Failed {
    fn from(_: crate::scan::Unreadable) -> Self {
        Self
    }
}

/// What has been done, and what failed, since the domain was started.
pub use calls::store::Account;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// The act's piece of this number is next.
    Piece(usize),
    Programming(usize),
    /// Whether it is erased is not known from here on.
    Look(usize),
    Erasing,
    /// It is erased up to here.
    Verify(usize),
}

/// Bytes of a block that are looked at in one piece.
const LOOK: usize = 4096;

/// The carrying out of a plan.
pub struct Writer {
    geometry: Geometry,
    record: u8,
    sequence: u64,
    plan: Plan,
    at: usize,
    stage: Stage,
    /// Of the entry that was begun last.
    header: EntryHeader,
}

/// Something that one action of the flash writes.
struct Piece {
    at: usize,
    page: Page,
    /// So many words of it.
    len: usize,
}

impl Piece {
    /// The first page of `from`, which is whole words.
    fn new(at: usize, from: &[u8]) -> Self {
        let from = &from[..from.len().min(PAGE)];
        debug_assert!(from.len().is_multiple_of(WORD));
        let mut page = Page::default();
        page.as_mut_bytes()[..from.len()].copy_from_slice(from);
        Self { at, page, len: from.len() / WORD }
    }

    fn words(&self) -> &[u32] {
        &self.page[..self.len]
    }

    /// What stands there.
    fn read<'p>(&self, flash: &mut impl Flash, to: &'p mut Page) -> Result<&'p [u32], Failed> {
        let words = &mut to[..self.len];
        read(flash, self.at, words.as_mut_bytes())?;
        Ok(words)
    }
}

impl Writer {
    pub fn new(geometry: Geometry, record: u8, sequence: u64, plan: Plan) -> Self {
        let (at, stage, header) = (0, Stage::Piece(0), EntryHeader::new_zeroed());
        Self { geometry, record, sequence, plan, at, stage, header }
    }

    /// Does one piece of it; `body` is what is to be written, the same in each step.
    pub fn step(&mut self, flash: &mut impl Flash, body: &[u8], account: &mut Account) -> Result<Step, Failed> {
        let Some(act) = self.plan.0.get(self.at).copied().flatten() else {
            return Ok(Step::Done);
        };
        self.stage = match self.stage {
            Stage::Piece(0) if matches!(act, Act::Erase(_)) => self.erase(flash, act, account),
            Stage::Piece(0) if matches!(act, Act::Clear(..)) => Stage::Look(0),
            Stage::Piece(number) => match self.piece(act, number, body) {
                Some(piece) => {
                    let mut stands = Page::default();
                    // What is erased there does not suffice: only an erase would.
                    if !can_become(piece.read(flash, &mut stands)?, piece.words()) {
                        return Err(Failed);
                    }
                    flash.begin_program(piece.at, piece.words().as_bytes());
                    Stage::Programming(number)
                }
                None => {
                    account.writes += u64::from(matches!(act, Act::Entry(..) | Act::Bytes(..)));
                    self.at += 1;
                    Stage::Piece(0)
                }
            },
            Stage::Programming(number) => match (flash.poll(), self.piece(act, number, body)) {
                (Progress::Busy, _) => return Ok(Step::Busy),
                (Progress::Done, Some(piece)) => {
                    let mut stands = Page::default();
                    if piece.read(flash, &mut stands)? != piece.words() {
                        return Err(Failed);
                    }
                    Stage::Piece(number + 1)
                }
                _ => return Err(Failed),
            },
            Stage::Look(at) => {
                let len = LOOK.min(self.used(act) - at);
                if len == 0 {
                    self.at += 1;
                    Stage::Piece(0)
                } else if erased(flash, self.begin(act) + at, len)? {
                    Stage::Look(at + len)
                } else {
                    self.erase(flash, act, account)
                }
            }
            Stage::Erasing => match flash.poll() {
                Progress::Busy => return Ok(Step::Busy),
                Progress::Done => Stage::Verify(0),
                Progress::Failed => return Err(Failed),
            },
            Stage::Verify(at) => {
                let len = LOOK.min(self.used(act) - at);
                if len == 0 {
                    self.at += 1;
                    Stage::Piece(0)
                } else if erased(flash, self.begin(act) + at, len)? {
                    Stage::Verify(at + len)
                } else {
                    return Err(Failed);
                }
            }
        };
        Ok(Step::More)
    }

    fn erase(&self, flash: &mut impl Flash, act: Act, account: &mut Account) -> Stage {
        account.erases += 1;
        flash.begin_erase(self.begin(act) / self.geometry.block);
        Stage::Erasing
    }

    /// Where the block begins that an act is about.
    fn begin(&self, act: Act) -> usize {
        match act {
            Act::Mark(which, _)
            | Act::Confirm(which, _)
            | Act::Erase(which)
            | Act::Header(which, _)
            | Act::Entry(which, ..) => self.geometry.at(self.record, which),
            Act::Clear(block, _) => block * self.geometry.block,
            Act::Bytes(at, _) => at,
        }
    }

    /// How much of its block an act is about.
    fn used(&self, act: Act) -> usize {
        if let Act::Clear(_, used) = act { used } else { self.geometry.block }
    }

    /// The piece of this number of an act that programs. An entry's last one is the word that makes it valid.
    fn piece(&mut self, act: Act, number: usize, body: &[u8]) -> Option<Piece> {
        let begin = self.begin(act);
        let pages = body.len().div_ceil(PAGE);
        match act {
            Act::Mark(_, mark) if number == 0 => Some(Piece::new(Geometry::mark(begin, mark), &SET.to_le_bytes())),
            Act::Confirm(_, place) if number == 0 => {
                Some(Piece::new(self.geometry.entry(begin, place) + UNTIL_VALID, &SET.to_le_bytes()))
            }
            Act::Header(which, generation) if number == 0 => {
                let header = BlockHeader::new(self.record, which, self.geometry.body, generation);
                Some(Piece::new(begin, header.as_bytes()))
            }
            Act::Entry(_, generation, place) => {
                // Both blocks get the same one, and its digest is most of the work.
                if number == 0 && !self.header.is_for(generation, place) {
                    self.header = EntryHeader::new(self.record, generation, place, self.sequence, body);
                }
                let at = self.geometry.entry(begin, place);
                let header = self.header.as_bytes();
                match number.checked_sub(pages) {
                    None => Some(Piece::new(at + (number + 1) * PAGE, &body[number * PAGE..])),
                    Some(0) => Some(Piece::new(at, &header[..UNTIL_VALID])),
                    Some(1) => Some(Piece::new(at + UNTIL_VALID, &header[UNTIL_VALID..])),
                    Some(_) => None,
                }
            }
            Act::Bytes(at, len) if number < len.div_ceil(PAGE) => {
                let from = number * PAGE;
                Some(Piece::new(at + from, &body[from..len]))
            }
            _ => None,
        }
    }
}
