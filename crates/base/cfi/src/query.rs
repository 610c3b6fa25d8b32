//! What the chips say of themselves: the query table of the Common Flash Interface (JESD68.01), a byte in each word.

use crate::{Bank, CHIPS, PAGE, Wrong, same};

/// Where the table says what, in words of a chip.
mod at {
    pub const MARK: usize = 0x10;
    pub const COMMAND_SET: usize = 0x13;
    pub const EXTENDED: usize = 0x15;
    /// Exponents: microseconds of a buffered program, milliseconds of an erase; how often as long each is at most.
    pub const PROGRAM: usize = 0x20;
    pub const ERASE: usize = 0x21;
    pub const MOST_PROGRAM: usize = 0x24;
    pub const MOST_ERASE: usize = 0x25;
    pub const SIZE: usize = 0x27;
    pub const BUFFER: usize = 0x2a;
    pub const REGIONS: usize = 0x2c;
    pub const BLOCKS: usize = 0x2d;
    pub const BLOCK_SIZE: usize = 0x2f;
    /// From the extended table on.
    pub const FEATURES: usize = 5;
}

const LONGEST_US: u64 = 30_000_000;

/// Intel's and Sharp's extended commands.
const COMMAND_SET: usize = 0x0001;
/// Of the features: blocks are locked at power-up, and each is unlocked by itself and at once.
const LOCKED_AT_POWER_UP: usize = 1 << 5;

/// What a chip of the bank is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Chips {
    pub(crate) locked: bool,
    /// How long a buffered program and an erase take at most, in microseconds.
    pub(crate) program_us: u64,
    pub(crate) erase_us: u64,
}

/// Reads the table, which the chips show now.
pub(crate) fn chips(bank: &mut impl Bank, block_size: usize, blocks: usize) -> Result<Chips, Wrong> {
    let mark = [at::MARK, at::MARK + 1, at::MARK + 2].map(|word| byte(bank, word));
    if mark != [Some(b'Q'), Some(b'R'), Some(b'Y')].map(|byte| byte.map(usize::from)) {
        return Err(Wrong::NoFlash);
    }
    if half(bank, at::COMMAND_SET)? != COMMAND_SET {
        return Err(Wrong::CommandSet);
    }
    let size = bits(bank, at::SIZE)?;
    let (erased, count) = (half(bank, at::BLOCK_SIZE)? * 256, half(bank, at::BLOCKS)? + 1);
    let uniform =
        whole(bank, at::REGIONS)? == 1 && erased * CHIPS == block_size && erased.checked_mul(count) == Some(size);
    if !uniform || count < blocks {
        return Err(Wrong::Geometry);
    }
    // Two bytes, but only small exponents have a meaning.
    if half(bank, at::BUFFER)? >= usize::BITS as usize || bits(bank, at::BUFFER)? * CHIPS < PAGE {
        return Err(Wrong::Buffer);
    }
    let extended = half(bank, at::EXTENDED)?;
    let mark = [extended, extended + 1, extended + 2].map(|word| byte(bank, word));
    if extended == 0 || mark != [Some(b'P'), Some(b'R'), Some(b'I')].map(|byte| byte.map(usize::from)) {
        return Err(Wrong::CommandSet);
    }
    let locked = whole(bank, extended + at::FEATURES)? & LOCKED_AT_POWER_UP != 0;
    let program_us = time(bank, at::PROGRAM, at::MOST_PROGRAM, 1)?;
    let erase_us = time(bank, at::ERASE, at::MOST_ERASE, 1000)?;
    Ok(Chips { locked, program_us, erase_us })
}

/// The longest that something takes, of which the table has two exponents. Who says nothing, or more, has as long as any chip.
fn time(bank: &mut impl Bank, typical: usize, most: usize, unit_us: u64) -> Result<u64, Wrong> {
    let (typical, most) = (whole(bank, typical)?, whole(bank, most)?);
    let said = u32::try_from(typical + most).ok().filter(|_| typical > 0);
    let longest = said.filter(|exponent| *exponent < 32).map(|exponent| unit_us << exponent);
    Ok(longest.map_or(LONGEST_US, |longest| longest.min(LONGEST_US)))
}

/// A byte of the table, of which both chips say the same.
fn byte(bank: &mut impl Bank, word: usize) -> Option<usize> {
    same(bank.read_query(word * CHIPS * 2)).map(|chip| usize::from(chip & 0xff))
}

fn whole(bank: &mut impl Bank, word: usize) -> Result<usize, Wrong> {
    byte(bank, word).ok_or(Wrong::Chips)
}

fn half(bank: &mut impl Bank, word: usize) -> Result<usize, Wrong> {
    Ok(whole(bank, word)? | whole(bank, word + 1)? << 8)
}

/// The number that the table gives by its exponent.
fn bits(bank: &mut impl Bank, word: usize) -> Result<usize, Wrong> {
    1usize.checked_shl(whole(bank, word)? as u32).ok_or(Wrong::Geometry)
}
