//! The first-boot ticket: what an image without an anchor shows on its console, once per boot while unclaimed.
//!
//! Text: `GENESIS1` and base32 (RFC 4648, no padding) in groups of eight after dashes. All of it is
//! in the alphanumeric set of QR codes.

use core::fmt;

use base32ct::{Base32UpperUnpadded, Encoding};
use crypto::label;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::{Key, is_separator};

const PREFIX: &str = "GENESIS1";
const RAW: usize = 32 + 32 + 4;
const TEXT: usize = 109;
const GROUP: usize = 8;
/// Length of the text.
pub const LENGTH: usize = PREFIX.len() + TEXT + TEXT.div_ceil(GROUP);

/// Seed of the one-node claim key and the F of the one node that it claims.
#[derive(Zeroize, ZeroizeOnDrop)]
pub struct Ticket {
    pub secret: [u8; 32],
    pub fiduciary: Key,
}

/// Why a text is no ticket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BadTicket {
    /// It does not start with `GENESIS1`.
    Prefix,
    /// It has too few or too many characters.
    Length,
    /// It has a character outside A-Z and 2-7.
    Character,
    /// The check bytes do not match: a character was mistyped.
    Checksum,
}

impl fmt::Display for BadTicket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Prefix => "a ticket starts with GENESIS1",
            Self::Length => "a ticket has 109 characters after GENESIS1, dashes not counted",
            Self::Character => "a ticket has only the letters A to Z and the digits 2 to 7 after GENESIS1",
            Self::Checksum => "the ticket's check characters do not match: one or more characters were mistyped",
        })
    }
}

impl Ticket {
    /// The text, ASCII.
    pub fn to_text(&self) -> Zeroizing<[u8; LENGTH]> {
        let mut raw = Zeroizing::new([0; RAW]);
        raw[..32].copy_from_slice(&self.secret);
        raw[32..64].copy_from_slice(&self.fiduciary);
        raw[64..].copy_from_slice(&self.checksum());
        let mut digits = Zeroizing::new([0; TEXT]);
        let mut text = Zeroizing::new([b'-'; LENGTH]);
        text[..PREFIX.len()].copy_from_slice(PREFIX.as_bytes());
        // The buffer is exactly as long as the encoding.
        let encoded = Base32UpperUnpadded::encode(&*raw, &mut *digits).map(str::as_bytes).unwrap_or_default();
        for (to, from) in text[PREFIX.len()..].chunks_mut(GROUP + 1).zip(encoded.chunks(GROUP)) {
            to[1..][..from.len()].copy_from_slice(from);
        }
        text
    }

    /// Reads the text; [separators](is_separator) and letter case do not matter.
    pub fn from_text(text: &str) -> Result<Self, BadTicket> {
        let mut chars = text.chars().filter(|c| !is_separator(*c)).map(|c| c.to_ascii_uppercase());
        if !PREFIX.chars().all(|expected| chars.next() == Some(expected)) {
            return Err(BadTicket::Prefix);
        }
        let mut digits = Zeroizing::new([0u8; TEXT]);
        for digit in digits.iter_mut() {
            let next = chars.next().ok_or(BadTicket::Length)?;
            if !matches!(next, 'A'..='Z' | '2'..='7') {
                return Err(BadTicket::Character);
            }
            *digit = next as u8;
        }
        if chars.next().is_some() {
            return Err(BadTicket::Length);
        }
        let mut raw = Zeroizing::new([0; RAW]);
        let decoded = Base32UpperUnpadded::decode(*digits, &mut *raw).map_err(|_| BadTicket::Checksum)?;
        // The last character has a bit to spare, which the decoder does not look at.
        let mut again = Zeroizing::new([0u8; TEXT]);
        let again = Base32UpperUnpadded::encode(decoded, &mut *again).map_err(|_| BadTicket::Checksum)?;
        if decoded.len() != RAW || !crypto::equal(again.as_bytes(), &*digits) {
            return Err(BadTicket::Checksum);
        }
        let mut ticket = Self { secret: [0; 32], fiduciary: [0; 32] };
        ticket.secret.copy_from_slice(&raw[..32]);
        ticket.fiduciary.copy_from_slice(&raw[32..64]);
        if crypto::equal(&ticket.checksum(), &raw[64..]) { Ok(ticket) } else { Err(BadTicket::Checksum) }
    }

    fn checksum(&self) -> [u8; 4] {
        let [a, b, c, d, ..] = crypto::hash(label::CHECKSUM, &[&self.secret, &self.fiduciary]);
        [a, b, c, d]
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_other_last_character_is_found() {
        let text = Ticket { secret: [1; 32], fiduciary: [2; 32] }.to_text();
        for other in b'A'..=b'Z' {
            let mut wrong = text.to_vec();
            *wrong.last_mut().unwrap() = other;
            let read = Ticket::from_text(core::str::from_utf8(&wrong).unwrap());
            assert_eq!(read.is_ok(), wrong == *text);
        }
    }

    #[test]
    fn separators_are_whatever_a_text_processor_makes_of_them() {
        let text = Ticket { secret: [1; 32], fiduciary: [2; 32] }.to_text();
        let text = core::str::from_utf8(&*text).unwrap();
        for dash in "\u{2010}\u{2011}\u{2012}\u{2013}\u{2014}\u{2015}\u{2212} \n\u{a0}".chars() {
            let typeset = std::format!("\u{feff}{}", text.replace('-', &std::string::String::from(dash)));
            assert!(Ticket::from_text(&typeset).is_ok(), "{dash:?}");
        }
    }

    proptest! {
        #[test]
        fn text_reads_back_and_a_changed_character_is_found(secret: [u8; 32], fiduciary: [u8; 32], at in 0usize..109, by in 1u8..26) {
            let text = Ticket { secret, fiduciary }.to_text();
            let text = core::str::from_utf8(&*text).unwrap();
            let ticket = Ticket::from_text(&text.to_lowercase()).map_err(|e| TestCaseError::fail(std::format!("{e}")))?;
            prop_assert!(ticket.secret == secret && ticket.fiduciary == fiduciary);
            let mut wrong = text.as_bytes().to_vec();
            let at = PREFIX.len() + at / GROUP * (GROUP + 1) + 1 + at % GROUP;
            wrong[at] = if wrong[at].is_ascii_uppercase() { b'A' + (wrong[at] - b'A' + by) % 26 } else { b'A' };
            prop_assert!(Ticket::from_text(core::str::from_utf8(&wrong).unwrap()).is_err());
        }

        #[test]
        fn any_text_is_refused_without_panic(text in "\\PC*", tail in "GENESIS1[A-Z2-7-]{0,130}") {
            prop_assert!(Ticket::from_text(&text).is_err());
            prop_assert!(Ticket::from_text(&tail).is_err());
        }
    }
}
