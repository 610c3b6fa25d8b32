//! Shared memory as words of atomics: defined behaviour whatever the other end does meanwhile.
//!
//! The platform makes the slice once, at start, from the mapping that the system description
//! declares; that is the only `unsafe` and it is not here.

use core::sync::atomic::{AtomicU64, Ordering, fence};

/// Bytes per word of a region.
pub const WORD: usize = 8;

/// A region that this domain only reads.
#[derive(Clone, Copy)]
pub struct ReadOnly<'a>(&'a [AtomicU64]);

/// A region of which this domain is the one writer. Not `Copy`: one writer.
pub struct ReadWrite<'a>(&'a [AtomicU64]);

impl<'a> ReadOnly<'a> {
    pub fn new(words: &'a [AtomicU64]) -> Self {
        Self(words)
    }

    /// Length in bytes.
    pub fn len(&self) -> usize {
        self.0.len() * WORD
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The word at byte offset `at`, acquire. Zero outside the region.
    pub fn load(&self, at: usize) -> u64 {
        debug_assert!(at.is_multiple_of(WORD));
        self.0.get(at / WORD).map_or(0, |word| word.load(Ordering::Acquire))
    }

    /// Copies bytes from word-aligned offset `at` into private memory. Bytes outside the region read as zero.
    pub fn read(&self, at: usize, to: &mut [u8]) {
        debug_assert!(at.is_multiple_of(WORD));
        let mut words = self.0.get(at / WORD..).unwrap_or(&[]).iter();
        let mut next = || words.next().map_or(0, |word| word.load(Ordering::Relaxed)).to_ne_bytes();
        // Whole words apart: this is what every frame goes through.
        let (whole, rest) = to.as_chunks_mut::<WORD>();
        whole.iter_mut().for_each(|chunk| *chunk = next());
        if !rest.is_empty() {
            rest.iter_mut().zip(next()).for_each(|(to, byte)| *to = byte);
        }
        // Keeps these loads before whatever is loaded next (a sequence number, checked again).
        fence(Ordering::Acquire);
    }
}

impl<'a> ReadWrite<'a> {
    pub fn new(words: &'a [AtomicU64]) -> Self {
        Self(words)
    }

    pub fn read_only(&self) -> ReadOnly<'a> {
        ReadOnly(self.0)
    }

    /// Length in bytes.
    pub fn len(&self) -> usize {
        self.0.len() * WORD
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The word at byte offset `at` that this domain wrote itself.
    pub fn load(&self, at: usize) -> u64 {
        self.read_only().load(at)
    }

    /// Stores a word at byte offset `at`, release. Nothing happens outside the region.
    pub fn store(&mut self, at: usize, value: u64) {
        debug_assert!(at.is_multiple_of(WORD));
        if let Some(word) = self.0.get(at / WORD) {
            word.store(value, Ordering::Release);
        }
    }

    /// Copies `from` to word-aligned offset `at`; the last word is filled with zeros.
    pub fn write(&mut self, at: usize, from: &[u8]) {
        debug_assert!(at.is_multiple_of(WORD));
        // Keeps these stores behind whatever was stored before (an odd sequence number).
        fence(Ordering::Release);
        let mut words = self.0.get(at / WORD..).unwrap_or(&[]).iter();
        let mut put = |bytes| {
            if let Some(word) = words.next() {
                word.store(u64::from_ne_bytes(bytes), Ordering::Relaxed);
            }
        };
        // Whole words apart: this is what every frame goes through.
        let (whole, rest) = from.as_chunks::<WORD>();
        whole.iter().for_each(|chunk| put(*chunk));
        if !rest.is_empty() {
            let mut bytes = [0; WORD];
            bytes.iter_mut().zip(rest).for_each(|(to, byte)| *to = *byte);
            put(bytes);
        }
    }

    /// Overwrites `len` bytes from word-aligned offset `at` on with zeros, and the rest of the last word.
    pub fn wipe(&mut self, at: usize, len: usize) {
        debug_assert!(at.is_multiple_of(WORD));
        // Keeps these stores behind whatever was stored before.
        fence(Ordering::Release);
        for word in self.0.get(at / WORD..).unwrap_or(&[]).iter().take(len.div_ceil(WORD)) {
            word.store(0, Ordering::Relaxed);
        }
        fence(Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_was_written_and_zero_outside() {
        let words: [AtomicU64; 4] = Default::default();
        let mut writer = ReadWrite::new(&words);
        writer.write(8, b"hello, world");
        let mut out = [0xff; 40];
        ReadOnly::new(&words).read(8, &mut out);
        assert_eq!(&out[..12], b"hello, world");
        assert_eq!(out[12..], [0; 28]);
        assert_eq!(writer.load(4096), 0);
        writer.store(4096, 1);
        writer.write(4096, b"x");
        writer.wipe(8, 4);
        ReadOnly::new(&words).read(8, &mut out[..16]);
        assert_eq!(&out[..16], b"\0\0\0\0\0\0\0\0orld\0\0\0\0");
        writer.wipe(0, usize::MAX);
        assert_eq!(writer.load(16), 0);
    }
}
