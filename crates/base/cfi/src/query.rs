//! What the chips say of themselves: the query table of the Common Flash Interface (JESD68.01), a byte in each word.

use crate::{Bank, CHIPS, PAGE, Wrong, same};

/// Where the table says what, in words of a chip.
mod at {
    pub const MARK: usize = 0x10;
    pub const COMMAND_SET: usize = 0x13;
    pub const EXTENDED: usize = 0x15;
    pub const SIZE: usize = 0x27;
    pub const BUFFER: usize = 0x2a;
    pub const REGIONS: usize = 0x2c;
    pub const BLOCKS: usize = 0x2d;
    pub const BLOCK_SIZE: usize = 0x2f;
    /// From the extended table on.
    pub const FEATURES: usize = 5;
}

/// Intel's and Sharp's extended commands.
const COMMAND_SET: usize = 0x0001;
/// Of the features: blocks are locked at power-up, and each is unlocked by itself and at once.
const LOCKED_AT_POWER_UP: usize = 1 << 5;

/// What a chip of the bank is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Chips {
    pub(crate) locked: bool,
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
    Ok(Chips { locked: whole(bank, extended + at::FEATURES)? & LOCKED_AT_POWER_UP != 0 })
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
