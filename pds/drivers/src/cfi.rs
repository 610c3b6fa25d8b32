//! NOR flash of the Common Flash Interface: a bank of two 16-bit chips. All but the addresses is in the core.

use cfi::{Bank, Cfi};
use store::{Flash, Progress};

use crate::register::Register;

/// Of the bank, in bytes: what the boards that are known have.
const ERASE_BLOCK: usize = 256 << 10;

struct Registers {
    /// What the domain has of the bank.
    blocks: usize,
    /// The beginning of the bank.
    query: usize,
}

impl Bank for Registers {
    fn read(&mut self, at: usize) -> u32 {
        Register((self.blocks + at) as *mut u32).read()
    }

    fn write(&mut self, at: usize, word: u32) {
        Register((self.blocks + at) as *mut u32).write(word);
    }

    fn read_query(&mut self, at: usize) -> u32 {
        Register((self.query + at) as *mut u32).read()
    }
}

/// The flash at the symbols `flash` and `flash_size`, and at `flash_query` if that is not the beginning of the bank. One that
/// is not there, or is another, fails in all that it is asked.
pub struct CfiFlash(Option<Cfi<Registers>>);

impl CfiFlash {
    pub fn bind() -> Self {
        let (blocks, size) = (platform::setvar!("flash"), platform::setvar!("flash_size"));
        let query = platform::setvar!("flash_query");
        assert!(blocks != 0, "the board gives no flash");
        let registers = Registers { blocks, query: if query == 0 { blocks } else { query } };
        let found = Cfi::find(registers, ERASE_BLOCK, size / ERASE_BLOCK);
        if let Err(wrong) = &found {
            sel4_microkit::debug_println!("no flash: {wrong:?}");
        }
        Self(found.ok())
    }
}

impl Flash for CfiFlash {
    fn block_size(&self) -> usize {
        self.0.as_ref().map_or(0, Cfi::block_size)
    }

    fn blocks(&self) -> usize {
        self.0.as_ref().map_or(0, Cfi::blocks)
    }

    fn read(&mut self, at: usize, to: &mut [u8]) -> bool {
        self.0.as_mut().is_some_and(|cfi| cfi.read(at, to))
    }

    fn begin_program(&mut self, at: usize, bytes: &[u8]) {
        if let Some(cfi) = &mut self.0 {
            cfi.begin_program(at, bytes);
        }
    }

    fn begin_erase(&mut self, block: usize) {
        if let Some(cfi) = &mut self.0 {
            cfi.begin_erase(block);
        }
    }

    fn set_time(&mut self, now: u64) {
        if let Some(cfi) = &mut self.0 {
            cfi.set_time(now);
        }
    }

    fn poll(&mut self) -> Progress {
        match self.0.as_mut().map(Cfi::poll) {
            Some(cfi::Progress::Busy) => Progress::Busy,
            Some(cfi::Progress::Done) => Progress::Done,
            Some(cfi::Progress::Failed) | None => Progress::Failed,
        }
    }
}

// A page of the core's is one of the domain's.
const _: () = assert!(cfi::PAGE == store::PAGE && cfi::WORD == store::WORD);
