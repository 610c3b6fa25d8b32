//! Bytes in their order, big-endian.

use zerocopy::{FromBytes, Immutable, KnownLayout};

/// What is left to be read.
pub struct Fields<'a>(pub &'a [u8]);

impl<'a> Fields<'a> {
    pub fn take<T: FromBytes + Immutable + KnownLayout>(&mut self) -> Option<T> {
        let (value, rest) = T::read_from_prefix(self.0).ok()?;
        self.0 = rest;
        Some(value)
    }

    /// So many bytes, their number before them in one byte.
    pub fn text(&mut self) -> Option<&'a str> {
        let length: u8 = self.take()?;
        let (text, rest) = self.0.split_at_checked(length.into())?;
        self.0 = rest;
        str::from_utf8(text).ok()
    }
}

/// A text that [`Fields::text`] reads; it is at most 255 bytes long.
pub fn push_text(to: &mut Vec<u8>, text: &str) {
    to.push(u8::try_from(text.len()).unwrap_or(u8::MAX));
    to.extend(text.as_bytes().iter().take(255));
}
