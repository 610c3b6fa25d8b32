//! The page of last words: how a dying domain tells the runner what the kernel does not. It is the one
//! thing that a domain shares with the runner, which takes it as a hint: that a domain died, and of which
//! signal, it learns from the kernel.
//!
//! Words of 8 bytes: 0 the state, 1 the cause, 2 the number of the system call or the address, 3 the
//! signal's code, 4 the length of the text, from 5 the text.

use std::fmt;

use shm::{ReadOnly, ReadWrite, region::WORD};

/// Bytes of the page.
pub const SIZE: usize = 4096;

const STATE: usize = 0;
const CAUSE: usize = WORD;
const NUMBER: usize = 2 * WORD;
const CODE: usize = 3 * WORD;
const LENGTH: usize = 4 * WORD;
const TEXT: usize = 5 * WORD;

/// How far the domain has come.
pub mod state {
    pub const STARTING: u64 = 0;
    /// The filter is installed, domain code runs.
    pub const SEALED: u64 = 1;
    /// The domain ended itself, as it may: a test's.
    pub const FINISHED: u64 = 2;
}

pub mod cause {
    pub const SYSTEM_CALL: u64 = 1;
    pub const FAULT: u64 = 2;
    pub const PANIC: u64 = 3;
}

/// The writing end.
pub struct Author<'a>(pub ReadWrite<'a>);

impl Author<'_> {
    pub fn state(&mut self, state: u64) {
        self.0.store(STATE, state);
    }

    /// Safe in a signal handler.
    pub fn last(&mut self, cause: u64, number: u64, code: u64) {
        self.0.store(NUMBER, number);
        self.0.store(CODE, code);
        self.0.store(CAUSE, cause);
    }

    /// Writes without allocating; what does not fit is cut off.
    pub fn panic(&mut self, text: fmt::Arguments<'_>) {
        let mut to = Text { bytes: [0; SIZE - TEXT], length: 0 };
        // Text never fails.
        let _ = fmt::write(&mut to, text);
        self.0.write(TEXT, &to.bytes);
        self.0.store(LENGTH, to.length as u64);
        self.0.store(CAUSE, cause::PANIC);
    }
}

struct Text {
    bytes: [u8; SIZE - TEXT],
    length: usize,
}

impl fmt::Write for Text {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for (to, from) in self.bytes.iter_mut().skip(self.length).zip(text.as_bytes()) {
            *to = *from;
            self.length += 1;
        }
        Ok(())
    }
}

/// What the page says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LastWords {
    pub state: u64,
    pub cause: u64,
    pub number: u64,
    pub code: u64,
    pub text: String,
}

impl LastWords {
    /// Whatever stands in the page, nothing of it reaches a terminal unescaped.
    pub fn read(page: ReadOnly<'_>) -> Self {
        let length = usize::try_from(page.load(LENGTH)).unwrap_or(usize::MAX);
        let mut bytes = vec![0; length.min(SIZE - TEXT)];
        page.read(TEXT, &mut bytes);
        let plain = |c: char| if c.is_control() { c.escape_default().to_string() } else { c.to_string() };
        Self {
            state: page.load(STATE),
            cause: page.load(CAUSE),
            number: page.load(NUMBER),
            code: page.load(CODE),
            text: String::from_utf8_lossy(&bytes).chars().map(plain).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU64;

    use super::*;

    fn page() -> Vec<AtomicU64> {
        (0..SIZE / WORD).map(|_| AtomicU64::new(0)).collect()
    }

    #[test]
    fn what_is_too_long_is_cut_and_what_is_not_plain_is_escaped() {
        let words = page();
        Author(ReadWrite::new(&words)).panic(format_args!("\x1b[2J{}", "x".repeat(5000)));
        let said = LastWords::read(ReadOnly::new(&words));
        assert_eq!(said.cause, cause::PANIC);
        assert!(said.text.starts_with("\\u{1b}[2Jxxx"), "{}", said.text);
        assert!(said.text.len() < SIZE + 8);
    }

    #[test]
    fn a_page_full_of_lies_is_read() {
        let words = page();
        words.iter().for_each(|word| word.store(u64::MAX, std::sync::atomic::Ordering::Relaxed));
        let said = LastWords::read(ReadOnly::new(&words));
        assert_eq!(said.text.chars().count(), SIZE - TEXT);
    }
}
