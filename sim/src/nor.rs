//! A NOR flash that is no kinder than a chip: programming only clears bits, an erase takes a whole block through zeros, and
//! power can go at every word of a program, within it, and within an erase.
//!
//! A value: it can be cloned, hashed and compared, and what a cut leaves depends on nothing but its number and its seed.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    hash::{DefaultHasher, Hash, Hasher},
    rc::Rc,
};

use calls::store::BLOCKS;
use node::store::{Flash, PAGE, Progress, WORD};

use crate::rng::Rng;

/// Bytes that are kept together; those that are erased are not kept.
const CHUNK: usize = 1024;
const ERASED: u8 = 0xff;

/// Points of an erase at which power can go: before it, while its bits are cleared, while they are set, before the last ones.
pub const ERASE_POINTS: u64 = 4;

/// When power goes, and what is left of what was being done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Cut {
    /// The point, counted from the beginning: a word that is programmed is one, an erase is [`ERASE_POINTS`].
    pub point: u64,
    /// 0: nothing of the word. Else some of its bits, and other ones for another number.
    pub seed: u64,
}

/// What a flash holds.
#[derive(Clone, PartialEq, Eq, Hash, Default)]
pub struct Image(BTreeMap<usize, Vec<u8>>);

impl Image {
    pub fn byte(&self, at: usize) -> u8 {
        self.0.get(&(at / CHUNK)).map_or(ERASED, |chunk| chunk[at % CHUNK])
    }

    /// As somebody does who has the chip in hand, or as time does.
    pub fn set(&mut self, at: usize, byte: u8) {
        let chunk = self.0.entry(at / CHUNK).or_insert_with(|| vec![ERASED; CHUNK]);
        chunk[at % CHUNK] = byte;
        if byte == ERASED && chunk.iter().all(|byte| *byte == ERASED) {
            self.0.remove(&(at / CHUNK));
        }
    }

    pub fn flip(&mut self, at: usize, bit: u8) {
        self.set(at, self.byte(at) ^ 1 << bit);
    }

    /// Puts bytes of another image, or of this one, somewhere.
    pub fn copy(&mut self, from: &Self, at: usize, to: usize, len: usize) {
        (0..len).for_each(|offset| self.set(to + offset, from.byte(at + offset)));
    }

    /// Whether nothing stands in so many bytes, whole kilobytes.
    pub fn is_erased(&self, at: usize, len: usize) -> bool {
        self.0.range(at / CHUNK..(at + len) / CHUNK).next().is_none()
    }

    /// Tells images apart.
    pub fn digest(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.hash(&mut hasher);
        hasher.finish()
    }

    fn read(&self, at: usize, to: &mut [u8]) {
        let mut done = 0;
        while done < to.len() {
            let (chunk, from) = ((at + done) / CHUNK, (at + done) % CHUNK);
            let len = (CHUNK - from).min(to.len() - done);
            match self.0.get(&chunk) {
                Some(bytes) => to[done..done + len].copy_from_slice(&bytes[from..from + len]),
                None => to[done..done + len].fill(ERASED),
            }
            done += len;
        }
    }
}

/// The flash.
#[derive(Clone)]
pub struct Nor {
    pub image: Image,
    block: usize,
    blocks: usize,
    /// Points so far.
    points: u64,
    cut: Option<Cut>,
    dead: bool,
    /// Actions, by their number, that the chip says to have failed; nothing of them is done.
    failing: BTreeSet<u64>,
    /// Bits, by byte, that cannot be cleared.
    stuck: BTreeMap<usize, u8>,
    /// Whether nothing is read, programmed or erased any more, and the chip says so.
    broken: bool,
    /// How often an action is asked for until it is done.
    busy: u32,
    waiting: u32,
    actions: u64,
    failed: bool,
    programs: Vec<u64>,
    erases: Vec<u64>,
}

impl Nor {
    /// As many blocks as a node's, each of so many bytes.
    pub fn new(block: usize) -> Self {
        Self {
            image: Image::default(),
            block,
            blocks: BLOCKS,
            points: 0,
            cut: None,
            dead: false,
            failing: BTreeSet::new(),
            stuck: BTreeMap::new(),
            broken: false,
            busy: 0,
            waiting: 0,
            actions: 0,
            failed: false,
            programs: vec![0; BLOCKS],
            erases: vec![0; BLOCKS],
        }
    }

    /// A new one that holds this.
    pub fn with(block: usize, image: Image) -> Self {
        Self { image, ..Self::new(block) }
    }

    /// Has power go.
    pub fn cut_at(&mut self, cut: Cut) {
        self.cut = Some(cut);
    }

    /// Whether it has gone.
    pub fn is_dead(&self) -> bool {
        self.dead
    }

    /// Power is back; no cut is ahead.
    pub fn restore(&mut self) {
        (self.cut, self.dead, self.failed, self.waiting) = (None, false, false, 0);
    }

    /// Points so far, since it was made.
    pub fn points(&self) -> u64 {
        self.points
    }

    /// Programs and erases so far.
    pub fn actions(&self) -> u64 {
        self.actions
    }

    /// The action of this number will fail, and its device says so.
    pub fn fail(&mut self, action: u64) {
        self.failing.insert(action);
    }

    /// Bits of a byte are never cleared again.
    pub fn stick(&mut self, at: usize, bits: u8) {
        self.stuck.insert(at, bits);
    }

    /// From now on nothing works, or everything does.
    pub fn break_down(&mut self, broken: bool) {
        self.broken = broken;
    }

    /// From now on an action is busy for so many polls.
    pub fn set_busy(&mut self, polls: u32) {
        self.busy = polls;
    }

    /// Actions that programmed, by block.
    pub fn programs(&self) -> &[u64] {
        &self.programs
    }

    /// Erases by block.
    pub fn erases(&self) -> &[u64] {
        &self.erases
    }

    /// An action begins; whether anything of it is done.
    fn begin(&mut self) -> bool {
        let action = self.actions;
        self.actions += 1;
        self.waiting = self.busy;
        self.failed = self.broken || self.failing.remove(&action);
        !self.failed && !self.dead
    }

    /// The next point; what is left if power goes there.
    fn point(&mut self) -> Option<Rng> {
        let cut = self.cut.filter(|cut| cut.point == self.points);
        self.points += 1;
        let cut = cut?;
        self.dead = true;
        Some(Rng::new(cut.point << 8 ^ cut.seed))
    }

    fn program(&mut self, at: usize, word: [u8; WORD]) {
        let seed = self.cut.map_or(0, |cut| cut.seed);
        let torn = self.point();
        for (offset, byte) in word.into_iter().enumerate() {
            let at = at + offset;
            let stands = self.image.byte(at);
            assert_eq!(stands & byte, byte, "byte {at:#x}: {stands:02x} cannot become {byte:02x} without an erase");
            let kept = match &torn {
                None => 0,
                Some(_) if seed == 0 => ERASED,
                Some(rng) => rng.next().to_le_bytes()[0],
            };
            let stuck = self.stuck.get(&at).copied().unwrap_or(0);
            self.image.set(at, byte | stands & (kept | stuck));
        }
    }

    /// First all bits are cleared, then all are set.
    fn erase(&mut self, block: usize) {
        let begin = block * self.block;
        for point in 0..ERASE_POINTS {
            let Some(rng) = self.point() else { continue };
            // How far into the block what was being done has come, and from which end.
            let reached = usize::try_from(rng.below(self.block as u64)).unwrap_or(0);
            let upwards = rng.below(2) == 0;
            let is_done = |offset: usize| if upwards { offset < reached } else { offset >= reached };
            for offset in 0..self.block {
                let (at, [random, other, ..]) = (begin + offset, rng.next().to_le_bytes());
                let stands = self.image.byte(at);
                let left = match point {
                    0 => stands,
                    1 if is_done(offset) => stands & random,
                    1 => stands,
                    2 if is_done(offset) => ERASED,
                    2 => random & other,
                    _ if is_done(offset) => ERASED,
                    _ => random | other,
                };
                self.image.set(at, left);
            }
            return;
        }
        let (first, end) = (begin / CHUNK, (begin + self.block).div_ceil(CHUNK));
        if self.block.is_multiple_of(CHUNK) {
            (first..end).for_each(|chunk| drop(self.image.0.remove(&chunk)));
        } else {
            (begin..begin + self.block).for_each(|at| self.image.set(at, ERASED));
        }
    }
}

impl Flash for Nor {
    fn block_size(&self) -> usize {
        self.block
    }

    fn blocks(&self) -> usize {
        self.blocks
    }

    fn read(&mut self, at: usize, to: &mut [u8]) -> bool {
        assert!(at + to.len() <= self.block * self.blocks, "within the flash");
        if !self.dead && !self.broken {
            self.image.read(at, to);
        }
        !self.dead && !self.broken
    }

    fn begin_program(&mut self, at: usize, bytes: &[u8]) {
        assert!(at.is_multiple_of(WORD) && bytes.len().is_multiple_of(WORD) && !bytes.is_empty(), "whole words");
        assert_eq!(at / PAGE, (at + bytes.len() - 1) / PAGE, "within a page");
        assert!(at + bytes.len() <= self.block * self.blocks, "within the flash");
        if self.begin() {
            self.programs[at / self.block] += 1;
            for (offset, word) in bytes.as_chunks().0.iter().enumerate() {
                if !self.dead {
                    self.program(at + offset * WORD, *word);
                }
            }
        }
    }

    fn begin_erase(&mut self, block: usize) {
        assert!(block < self.blocks, "within the flash");
        if self.begin() {
            self.erases[block] += 1;
            self.erase(block);
        }
    }

    fn poll(&mut self) -> Progress {
        if self.dead {
            return Progress::Busy;
        }
        if self.waiting > 0 {
            self.waiting -= 1;
            return Progress::Busy;
        }
        if core::mem::take(&mut self.failed) { Progress::Failed } else { Progress::Done }
    }
}

/// The handle of who drives it; what it is a handle of stays when its holder dies.
#[derive(Clone)]
pub struct Chip(pub Rc<RefCell<Nor>>);

impl Flash for Chip {
    fn block_size(&self) -> usize {
        self.0.borrow().block
    }

    fn blocks(&self) -> usize {
        self.0.borrow().blocks
    }

    fn read(&mut self, at: usize, to: &mut [u8]) -> bool {
        self.0.borrow_mut().read(at, to)
    }

    fn begin_program(&mut self, at: usize, bytes: &[u8]) {
        self.0.borrow_mut().begin_program(at, bytes);
    }

    fn begin_erase(&mut self, block: usize) {
        self.0.borrow_mut().begin_erase(block);
    }

    fn poll(&mut self) -> Progress {
        self.0.borrow_mut().poll()
    }
}
