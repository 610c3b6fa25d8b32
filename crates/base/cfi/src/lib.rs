//! NOR flash of the Common Flash Interface with the command set 0x0001 (Intel and Sharp: the families 28F128J3 and P30, and
//! what QEMU's `virt` machines have): a bank of two 16-bit chips side by side, which take every command together.
//!
//! Here and not beside the drivers, because it needs neither a board nor seL4: the tests run it against a model of the chips
//! that takes no command which a chip may misread.
//!
//! Nothing waits: an action is begun, and [`Cfi::poll`] asks the chips a bounded number of times how it stands. Chips that
//! are not ready after twice what they say that it takes at most have failed: nothing is read or begun before they are.
#![no_std]
#![forbid(unsafe_code)]

#[cfg(test)]
extern crate std;

#[cfg(test)]
mod model;
mod query;
#[cfg(test)]
mod tests;

use query::Chips;
use zerocopy::FromBytes;

/// The most that is programmed at once, in bytes: the write buffers of the smallest chips. It lies in one aligned page.
pub const PAGE: usize = 64;

/// What is read and written at once, in bytes: a word of each chip.
pub const WORD: usize = 4;

const CHIPS: usize = 2;

/// Commands (datasheet of the P30, table "Command Codes"), to both chips. A chip looks at the low byte alone.
mod command {
    const fn both(code: u32) -> u32 {
        code << 16 | code
    }

    /// Of all bits, so that it changes nothing if a chip takes it for data.
    pub const READ_ARRAY: u32 = u32::MAX;
    pub const QUERY: u32 = both(0x98);
    pub const CLEAR_STATUS: u32 = both(0x50);
    /// The one that chips take while they are at work.
    pub const READ_STATUS: u32 = both(0x70);
    pub const ERASE: u32 = both(0x20);
    pub const BUFFERED_PROGRAM: u32 = both(0xe8);
    pub const LOCK_SETUP: u32 = both(0x60);
    pub const CONFIRM: u32 = both(0xd0);

    /// How many words of a chip follow.
    pub const fn count(words: usize) -> u32 {
        both(words as u32 - 1)
    }
}

/// Bits of a chip's status.
mod status {
    pub const READY: u16 = 1 << 7;
    /// Erase, program, voltage, locked block.
    pub const ERRORS: u16 = 1 << 5 | 1 << 4 | 1 << 3 | 1 << 1;
}

/// How often one poll looks at the status.
const LOOKS: usize = 64;

/// How many words a chip takes for data at the most, before it takes commands again: of a buffered program that was cut off
/// before it knew its length.
const PENDING: usize = (1 << 16) + 2;

/// How often a driver that begins looks whether the erase has ended that another began: for a second at least.
const PATIENCE: usize = 1 << 22;

/// The registers of the bank: what the domain has of it.
pub trait Bank {
    /// The word at this byte of the part that the domain has; a multiple of [`WORD`].
    fn read(&mut self, at: usize) -> u32;

    fn write(&mut self, at: usize, word: u32);

    /// The word at this byte from the beginning of the bank on, where chips show their query table.
    fn read_query(&mut self, at: usize) -> u32;
}

/// Why a bank is not used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wrong {
    /// No CFI flash answers.
    NoFlash,
    /// The two chips say different things.
    Chips,
    /// Another command set than 0x0001.
    CommandSet,
    /// Blocks of another size, of several sizes, or too few of them.
    Geometry,
    /// The chips' write buffers are smaller than a page.
    Buffer,
}

/// How the action that was begun last stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    Busy,
    Done,
    /// The chips say that it failed, or it was none that can be begun.
    Failed,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Action {
    Over(Progress),
    /// A page waits for the write buffers.
    Fill {
        at: usize,
        words: usize,
    },
    /// The chips are at work in the block of this byte, for so many microseconds at the most.
    Wait {
        block: usize,
        most: u64,
    },
}

/// A part of a bank, from a block's beginning on.
pub struct Cfi<B> {
    bank: B,
    chips: Chips,
    block_size: usize,
    blocks: usize,
    action: Action,
    /// The time, in microseconds, and when the chips are to be ready with what was begun.
    now: u64,
    until: Option<u64>,
    /// The chips were not ready in time with something in the block of this byte, and are not known to be since.
    late: Option<usize>,
    /// Something else was begun meanwhile, so the caller has lost count: what he hears of is no success.
    spoilt: bool,
    page: [u32; PAGE / WORD],
}

impl<B: Bank> Cfi<B> {
    /// Asks the chips what they are. `block_size`, in bytes, is of the bank, so twice that of a chip. Whatever the chips were
    /// in the midst of, by a driver that ended there, comes to its end or is given up.
    pub fn find(mut bank: B, block_size: usize, blocks: usize) -> Result<Self, Wrong> {
        let size = block_size.checked_mul(blocks).filter(|size| *size > 0 && block_size.is_multiple_of(PAGE));
        // No entry ends there, should a chip take a command for data.
        let last = size.ok_or(Wrong::Geometry)? - WORD;
        let ask = |bank: &mut B| {
            bank.write(last, command::READ_ARRAY);
            // Chips that are at work show that; the others an erased word, or that they wait for the rest of a command.
            let mut looks = 0..PATIENCE;
            while status(bank.read(last)) & status::READY == 0 && looks.next().is_some() {}
            bank.write(last, command::READ_ARRAY);
            bank.write(last, command::QUERY);
            let chips = query::chips(bank, block_size, blocks);
            bank.write(last, command::READ_ARRAY);
            chips
        };
        let chips = match ask(&mut bank) {
            Err(Wrong::NoFlash) => {
                (0..PENDING).for_each(|_| bank.write(last, command::READ_ARRAY));
                ask(&mut bank)?
            }
            chips => chips?,
        };
        let action = Action::Over(Progress::Done);
        let page = [0; PAGE / WORD];
        Ok(Self { bank, chips, block_size, blocks, action, now: 0, until: None, late: None, spoilt: false, page })
    }

    pub fn block_size(&self) -> usize {
        self.block_size
    }

    pub fn blocks(&self) -> usize {
        self.blocks
    }

    fn size(&self) -> usize {
        self.block_size * self.blocks
    }

    /// It is so late now, in microseconds of a clock that does not go back. Without it chips may take as long as they like.
    pub fn set_time(&mut self, now: u64) {
        self.now = now;
    }

    /// Copies what stands from byte `at` on. False: it lies outside, or the chips are at work.
    pub fn read(&mut self, at: usize, to: &mut [u8]) -> bool {
        let inside = at.checked_add(to.len()).is_some_and(|end| end <= self.size());
        if !inside || !matches!(self.action, Action::Over(_)) || !self.take_commands() {
            return false;
        }
        // Each word once: a read of the bank is slow, and so are bytes where the processor wants words to be aligned.
        if at.is_multiple_of(WORD)
            && let Ok(words) = <[u32]>::mut_from_bytes(to)
        {
            for (at, word) in (at..).step_by(WORD).zip(words) {
                *word = self.bank.read(at).to_le();
            }
            return true;
        }
        let before = (at.next_multiple_of(WORD) - at).min(to.len());
        let (first, rest) = to.split_at_mut(before);
        let (words, last) = rest.as_chunks_mut::<WORD>();
        self.read_part(at, first);
        let mut at = at + before;
        for word in words {
            *word = self.bank.read(at).to_le_bytes();
            at += WORD;
        }
        self.read_part(at, last);
        true
    }

    /// Bytes of one word.
    fn read_part(&mut self, at: usize, to: &mut [u8]) {
        if !to.is_empty() {
            let word = self.bank.read(at / WORD * WORD).to_le_bytes();
            to.iter_mut().zip(&word[at % WORD..]).for_each(|(to, byte)| *to = *byte);
        }
    }

    /// Begins to program at most [`PAGE`] bytes of one aligned page, whole words.
    pub fn begin_program(&mut self, at: usize, bytes: &[u8]) {
        let (words, rest) = bytes.as_chunks::<WORD>();
        let fits = rest.is_empty() && !words.is_empty() && at.is_multiple_of(WORD) && at % PAGE + bytes.len() <= PAGE;
        if self.begin(Some(at).filter(|_| fits)).is_none() {
            return;
        }
        for (to, word) in self.page.iter_mut().zip(words) {
            *to = u32::from_le_bytes(*word);
        }
        self.action = Action::Fill { at, words: words.len() };
        self.bank.write(at, command::BUFFERED_PROGRAM);
    }

    /// Begins to erase a block.
    pub fn begin_erase(&mut self, block: usize) {
        let Some(block) = self.begin(block.checked_mul(self.block_size)) else { return };
        self.bank.write(block, command::ERASE);
        self.bank.write(block, command::CONFIRM);
        self.action = Action::Wait { block, most: self.chips.erase_us };
    }

    /// Goes on with what was begun.
    pub fn poll(&mut self) -> Progress {
        let (block, most) = match self.action {
            Action::Over(progress) => return progress,
            Action::Wait { block, most } => (block, most),
            Action::Fill { at, words } => {
                let (block, most) = (self.block_of(at), self.chips.program_us);
                // Where the data is, as Linux does it: QEMU takes the address of the count for that of the buffer.
                if status(self.bank.read(at)) & status::READY == 0 {
                    self.bank.write(at, command::BUFFERED_PROGRAM);
                    return self.wait(block, most);
                }
                self.bank.write(at, command::count(words));
                for (at, word) in (at..).step_by(WORD).zip(&self.page[..words]) {
                    self.bank.write(at, *word);
                }
                self.bank.write(at, command::CONFIRM);
                (self.action, self.until) = (Action::Wait { block, most }, None);
                (block, most)
            }
        };
        for _ in 0..LOOKS {
            let status = status(self.bank.read(block));
            if status & status::READY != 0 {
                self.bank.write(block, command::READ_ARRAY);
                let failed = status & status::ERRORS != 0 || self.spoilt;
                let progress = if failed { Progress::Failed } else { Progress::Done };
                self.action = Action::Over(progress);
                return progress;
            }
        }
        self.wait(block, most)
    }

    /// The chips are not ready. They may be so for twice as long as they say.
    fn wait(&mut self, block: usize, most: u64) -> Progress {
        let until = *self.until.get_or_insert(self.now.saturating_add(2 * most));
        if self.now <= until {
            return Progress::Busy;
        }
        self.late = Some(block);
        self.action = Action::Over(Progress::Failed);
        Progress::Failed
    }

    /// Whether the chips are done with whatever they were late with, so that they take commands and show what they hold.
    fn take_commands(&mut self) -> bool {
        let Some(block) = self.late else { return true };
        // Chips at work do not hear the first; those that have lost a command end it by that, and show data that may look
        // like any status.
        self.bank.write(block, command::READ_ARRAY);
        self.bank.write(block, command::READ_STATUS);
        if status(self.bank.read(block)) & status::READY == 0 {
            return false;
        }
        self.bank.write(block, command::READ_ARRAY);
        self.late = None;
        true
    }

    /// Makes the chips ready for an action at this byte, and says in which block that is.
    fn begin(&mut self, at: Option<usize>) -> Option<usize> {
        if !matches!(self.action, Action::Over(_)) {
            self.spoilt = true;
            return None;
        }
        (self.spoilt, self.until) = (false, None);
        self.action = Action::Over(Progress::Failed);
        let block = self.block_of(at.filter(|at| *at < self.size())?);
        if !self.take_commands() {
            return None;
        }
        self.bank.write(block, command::CLEAR_STATUS);
        if self.chips.locked {
            self.bank.write(block, command::LOCK_SETUP);
            self.bank.write(block, command::CONFIRM);
        }
        Some(block)
    }

    fn block_of(&self, at: usize) -> usize {
        at / self.block_size * self.block_size
    }
}

/// Of both chips, from what they show: ready when both are, with the errors of each.
const fn status(word: u32) -> u16 {
    let [low, high] = lanes(word);
    low & high & status::READY | (low | high) & status::ERRORS
}

/// A word of the bank, by chip.
const fn lanes(word: u32) -> [u16; CHIPS] {
    [word as u16, (word >> 16) as u16]
}

/// What both chips say.
fn same(word: u32) -> Option<u16> {
    let [low, high] = lanes(word);
    (low == high).then_some(low)
}
