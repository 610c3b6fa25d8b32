//! What `store` writes to: a NOR flash, whatever stands for one.

use shm::Micros;

/// The most that is programmed at once, in bytes.
pub const PAGE: usize = 64;

/// What is programmed at once and may be torn only between two of, in bytes. Addresses and lengths are multiples of it.
pub const WORD: usize = 4;

/// How the action that was begun last stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// Ask again.
    Busy,
    Done,
    /// The device says that it failed, or there is none.
    Failed,
}

/// Erase blocks of one size that this domain alone has. An erased byte is 0xff; programming clears bits, and only an erase
/// sets them. One action at a time; none waits.
pub trait Flash {
    /// Bytes of an erase block.
    fn block_size(&self) -> usize;

    /// How many erase blocks there are.
    fn blocks(&self) -> usize;

    /// Copies what stands from byte `at` on. False: it cannot be read.
    fn read(&mut self, at: usize, to: &mut [u8]) -> bool;

    /// Begins to program at most [`PAGE`] bytes from byte `at` on; they lie in one aligned page.
    fn begin_program(&mut self, at: usize, bytes: &[u8]);

    /// Begins to erase a block.
    fn begin_erase(&mut self, block: usize);

    /// The time, in microseconds, before anything else in a step. One that may never be ready needs it, so as to give up.
    fn set_time(&mut self, _: Micros) {}

    /// Goes on with what was begun, a bounded piece of it, and says how it stands.
    fn poll(&mut self) -> Progress;
}

/// There is no flash.
pub struct Absent;

impl Flash for Absent {
    fn block_size(&self) -> usize {
        0
    }

    fn blocks(&self) -> usize {
        0
    }

    fn read(&mut self, _: usize, _: &mut [u8]) -> bool {
        false
    }

    fn begin_program(&mut self, _: usize, _: &[u8]) {}

    fn begin_erase(&mut self, _: usize) {}

    fn poll(&mut self) -> Progress {
        Progress::Failed
    }
}
