//! The protocol's messages to the byte: layout, and the cryptography that belongs to each message.
//!
//! Everything is of fixed size and big-endian, but the configuration. `docs/protocol.md`
//! says the same in tables. A message is parsed by its length and header alone; what a signature
//! or a seal covers is decided here, so that node and administrator cannot differ.
#![no_std]
#![forbid(unsafe_code)]

#[cfg(test)]
extern crate std;

pub mod anchor;
pub mod binding;
pub mod claim;
pub mod command;
pub mod handshake;
pub mod link;
mod numbers;
pub mod order;
mod phase;
pub mod receipt;
pub mod record;
pub mod set;
pub mod staged;
pub mod telemetry;
pub mod ticket;
pub mod title;

pub use phase::Phase;
pub use zerocopy::big_endian::{U16, U32, U64};

/// UDP port of hello, find, open and answer, on both sides.
pub const BEACON_PORT: u16 = 8090;
/// TCP port of the claim endpoint.
pub const CLAIM_PORT: u16 = 9443;
/// UDP port of WireGuard, outside the tunnel.
pub const MESH_PORT: u16 = 51820;
/// UDP port of authority commands and of chunks of orders and records, inside the tunnel.
pub const COMMAND_PORT: u16 = 8090;
/// UDP port of telemetry, inside the tunnel.
pub const TELEMETRY_PORT: u16 = 8091;
/// The protocol's version, part of every header and of the Noise prologue.
pub const VERSION: u8 = 1;

/// All nodes on the link, ff02::1.
pub const ALL_NODES: [u8; 16] = [0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];

pub type Key = [u8; 32];
pub type Hash = [u8; 32];
pub type Ip = [u8; 16];
pub type Mac = [u8; 6];
pub type Signature = [u8; 64];

/// The node's identity as a reader compares it: the first 20 bytes of a hash of F, in groups of four hex digits.
pub struct Fingerprint(pub [u8; 20]);

impl Fingerprint {
    pub fn of(fiduciary: &Key) -> Self {
        let hash = crypto::hash(crypto::label::FINGERPRINT, &[fiduciary]);
        let mut short = [0; 20];
        short.copy_from_slice(&hash[..20]);
        Self(short)
    }

    /// Reads what `Display` writes; [separators](is_separator), colons and letter case do not matter.
    pub fn parse(text: &str) -> Option<Self> {
        let mut bytes = [0; 20];
        let mut digits = text.chars().filter(|c| *c != ':' && !is_separator(*c));
        for byte in &mut bytes {
            let (high, low) = (digits.next()?.to_digit(16)?, digits.next()?.to_digit(16)?);
            *byte = (high << 4 | low) as u8;
        }
        digits.next().is_none().then_some(Self(bytes))
    }
}

/// What may stand between the characters of a ticket or a fingerprint: blanks, and dashes in whatever form a text processor has
/// given them. The mark that some editors put before a text is none of its characters either.
pub fn is_separator(c: char) -> bool {
    c.is_whitespace() || matches!(c, '-' | '\u{2010}'..='\u{2015}' | '\u{2212}' | '\u{feff}')
}

impl core::fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        for (i, pair) in self.0.chunks(2).enumerate() {
            if i > 0 {
                f.write_str("-")?;
            }
            for byte in pair {
                write!(f, "{byte:02x}")?;
            }
        }
        Ok(())
    }
}

/// Bytes as lower-case hex.
pub struct Hex<'a>(pub &'a [u8]);

impl core::fmt::Display for Hex<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

#[cfg(test)]
mod tests {
    use std::string::ToString;

    use super::*;

    #[test]
    fn a_fingerprint_reads_back() {
        let shown = Fingerprint::of(&[7; 32]).to_string();
        assert_eq!(shown.len(), 49);
        assert_eq!(Fingerprint::parse(&shown.to_uppercase()).unwrap().0, Fingerprint::of(&[7; 32]).0);
        for dash in "\u{2010}\u{2011}\u{2012}\u{2013}\u{2014}\u{2015}\u{2212}\u{a0}".chars() {
            let typeset = shown.replace('-', &dash.to_string());
            assert_eq!(Fingerprint::parse(&typeset).unwrap().0, Fingerprint::of(&[7; 32]).0, "{dash:?}");
        }
        assert!(Fingerprint::parse(&shown[1..]).is_none());
        // A letter that only looks like a digit is none.
        assert!(Fingerprint::parse(&shown.replacen(&shown[..1], "\u{430}", 1)).is_none());
        assert!(Fingerprint::parse(&(shown + "0")).is_none());
    }
}
