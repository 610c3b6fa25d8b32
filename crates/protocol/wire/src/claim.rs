//! The messages inside the claim's Noise session, one WebSocket binary frame each.
//!
//! 1. administrator: Noise message 1, [`INITIATION`] bytes
//! 2. node: Noise message 2, [`RESPONSE`] bytes
//! 3. node: [`IdentityMessage`]
//! 4. administrator: a grant, [`GrantHead`] and the configuration
//! 5. node: [`PairingMessage`]
//! 6. administrator: [`Acknowledgement`]
//!
//! 3 to 6 are Noise transport messages: the plain text below and a tag of 16 bytes.

use crypto::label;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::{
    Hash, Key, U16, U32, VERSION,
    binding::{Identity, PairingRecord},
    title::Title,
};

/// Noise message 1: ephemeral, encrypted static, tag of the empty payload.
pub const INITIATION: usize = 32 + 48 + 16;
/// Noise message 2: ephemeral, tag of the empty payload.
pub const RESPONSE: usize = 32 + 16;
/// Tag of a transport message.
pub const TAG: usize = 16;
/// The longest configuration in a grant.
pub const MAX_CONFIGURATION: usize = 4096;
/// The longest plain text of a grant.
pub const MAX_GRANT: usize = size_of::<GrantHead>() + MAX_CONFIGURATION;

/// The Noise prologue.
pub fn prologue(fiduciary: &Key, hello_nonce: &[u8; 16], token: &[u8; 16]) -> [u8; 80] {
    let mut bytes = [0; 80];
    let label = label::PROLOGUE.bytes();
    bytes[..label.len()].copy_from_slice(label);
    bytes[15] = VERSION;
    bytes[16..48].copy_from_slice(fiduciary);
    bytes[48..64].copy_from_slice(hello_nonce);
    bytes[64..].copy_from_slice(token);
    bytes
}

const _: () = assert!(label::PROLOGUE.bytes().len() == 15);

/// First byte of messages 3 to 6.
pub mod kind {
    pub const IDENTITY: u8 = 1;
    pub const GRANT: u8 = 2;
    pub const PAIRING: u8 = 3;
    pub const ACKNOWLEDGEMENT: u8 = 4;
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct IdentityMessage {
    pub kind: u8,
    pub zero: [u8; 7],
    pub identity: Identity,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct GrantHead {
    pub kind: u8,
    pub zero: [u8; 5],
    /// Length of the configuration that follows.
    pub configuration: U16,
    pub title: Title,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct PairingMessage {
    pub kind: u8,
    pub zero: [u8; 3],
    /// Valid opens that were turned away because the gate was another's. Not signed.
    pub rivals: U32,
    pub record: PairingRecord,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Acknowledgement {
    pub kind: u8,
    pub zero: [u8; 7],
    /// [`PairingRecord::hash`].
    pub record: Hash,
}

/// A grant: head and configuration, of exactly the length that the head says.
pub fn parse_grant(text: &[u8]) -> Option<(&GrantHead, &[u8])> {
    let (head, configuration) = GrantHead::ref_from_prefix(text).ok()?;
    let whole = head.kind == kind::GRANT
        && head.zero == [0; 5]
        && configuration.len() <= MAX_CONFIGURATION
        && usize::from(head.configuration.get()) == configuration.len();
    whole.then_some((head, configuration))
}

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use proptest::prelude::*;
    use zerocopy::FromZeros;

    use super::*;

    proptest! {
        #[test]
        fn a_grant_is_parsed_only_at_its_exact_length(len in 0usize..5000, said in 0u16..5000, zero in 0u8..2) {
            let mut head = GrantHead::new_zeroed();
            head.kind = kind::GRANT;
            head.zero[4] = zero;
            head.configuration = U16::new(said);
            let mut text = Vec::from(head.as_bytes());
            text.resize(text.len() + len, 7);
            let expected = len == usize::from(said) && len <= MAX_CONFIGURATION && zero == 0;
            prop_assert_eq!(parse_grant(&text).is_some(), expected);
        }

        #[test]
        fn any_bytes_are_parsed_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..700)) {
            let _ = parse_grant(&bytes);
        }
    }
}
