//! The primitives as the protocol uses them, each with its label, shared by node and administrator.
//!
//! No algorithm is implemented here: X25519, Ed25519, ChaCha20-Poly1305, BLAKE2s, SHA-256 and HKDF
//! come from the RustCrypto and dalek crates. This crate fixes how they are combined, so that both
//! sides and the documentation say the same thing once.
#![no_std]
#![forbid(unsafe_code)]

#[cfg(test)]
extern crate std;

pub mod anchor;
pub mod label;
pub mod noise;
pub mod sealed;

use ed25519_dalek::{Signer, SigningKey, VerifyingKey};
use hkdf::Hkdf;
use hmac::{KeyInit, Mac, SimpleHmac};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use x25519_dalek::{PublicKey, StaticSecret, X25519_BASEPOINT_BYTES};
use zeroize::Zeroizing;

pub use anchor::{AnchorPublic, AnchorSecret};
pub use label::Label;

/// A 32-byte secret that is wiped when dropped.
pub type Secret = Zeroizing<[u8; 32]>;

/// HKDF-SHA-256. `context` is appended to the label, after a zero byte.
pub fn derive<const N: usize>(salt: &[u8], secret: &[u8], label: Label, context: &[&[u8]]) -> Zeroizing<[u8; N]> {
    let mut out = Zeroizing::new([0; N]);
    let mut info: [&[u8]; 10] = [&[]; 10];
    info[0] = label.bytes();
    info[1] = &[0];
    for (to, from) in info[2..].iter_mut().zip(context) {
        *to = from;
    }
    debug_assert!(context.len() <= 8);
    // N is a small constant; HKDF refuses only more than 255 blocks.
    let expanded = Hkdf::<Sha256>::new(Some(salt), secret).expand_multi_info(&info, &mut *out);
    debug_assert!(expanded.is_ok());
    out
}

/// SHA-256 of a label, a zero byte and the parts, one after the other.
pub fn hash(label: Label, parts: &[&[u8]]) -> [u8; 32] {
    let mut digest = Sha256::new();
    digest.update(label.bytes());
    digest.update([0]);
    for part in parts {
        digest.update(part);
    }
    digest.finalize().into()
}

/// SHA-256, with no label: for what others compute too.
pub fn sha256(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

/// X25519. `None` if the result is all zero, which a small-order public key forces.
pub fn dh(secret: &Secret, public: &[u8; 32]) -> Option<Secret> {
    let shared = StaticSecret::from(**secret).diffie_hellman(&PublicKey::from(*public));
    shared.was_contributory().then(|| Zeroizing::new(shared.to_bytes()))
}

/// The X25519 public key of a secret.
pub fn dh_public(secret: &Secret) -> [u8; 32] {
    PublicKey::from(&StaticSecret::from(**secret)).to_bytes()
}

/// The same, as an exchange is computed: it takes twice as long, and no table of thirty kilobytes. For programs that need
/// that table for nothing else.
pub fn dh_public_by_exchange(secret: &Secret) -> [u8; 32] {
    StaticSecret::from(**secret).diffie_hellman(&PublicKey::from(X25519_BASEPOINT_BYTES)).to_bytes()
}

/// The points of small order, of the curve and of its twist: with these, and no others, every exchange is all zero. Those of
/// order eight (the last two) are in no range that could be named.
const SMALL_ORDER: [[u8; 32]; 5] = {
    let mut points = [[0; 32]; 5];
    points[1][0] = 1;
    // 2^255 - 20, which is -1.
    points[2] = [0xff; 32];
    (points[2][0], points[2][31]) = (0xec, 0x7f);
    points[3] = *b"\xe0\xeb\x7a\x7c\x3b\x41\xb8\xae\x16\x56\xe3\xfa\xf1\x9f\xc4\x6a\xda\x09\x8d\xeb\x9c\x32\xb1\xfd\x86\x62\x05\x16\x5f\x49\xb8\x00";
    points[4] = *b"\x5f\x9c\x95\xbc\xa3\x50\x8c\x24\xb1\xd0\xb1\x55\x9c\x83\xef\x5b\x04\x44\x5c\xc4\x58\x1c\x8e\x86\xd8\x22\x4e\xdd\xd0\x9f\x11\x57";
    points
};

/// Whether a public key can stand for someone in X25519: a secret can be agreed with it, which a point of small order
/// forbids, and the bytes are the one canonical encoding of its point, so that equal keys are equal bytes.
pub fn dh_usable(public: &[u8; 32]) -> bool {
    let [low, middle @ .., high] = public;
    // From 2^255 - 19 on the same points come again, and the highest bit means nothing.
    let canonical = *high < 0x7f || (*high == 0x7f && !(middle.iter().all(|byte| *byte == 0xff) && *low >= 0xed));
    canonical && !SMALL_ORDER.contains(public)
}

/// Whether a public key can verify anything in Ed25519.
pub fn sign_usable(public: &[u8; 32]) -> bool {
    VerifyingKey::from_bytes(public).is_ok_and(|key| !key.is_weak())
}

/// The Ed25519 public key of a seed.
pub fn sign_public(seed: &Secret) -> [u8; 32] {
    SigningKey::from_bytes(seed).verifying_key().to_bytes()
}

/// Ed25519 over `hash(label, parts)`: every signature in the protocol is of this form.
pub fn sign(seed: &Secret, label: Label, parts: &[&[u8]]) -> [u8; 64] {
    SigningKey::from_bytes(seed).sign(&hash(label, parts)).to_bytes()
}

/// Proof that a signature was checked; only [`verify`] makes one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verified(());

/// Strict Ed25519 verification (no small-order keys, canonical encodings only).
pub fn verify(key: &[u8; 32], label: Label, parts: &[&[u8]], signature: &[u8; 64]) -> Option<Verified> {
    let key = VerifyingKey::from_bytes(key).ok()?;
    let signature = ed25519_dalek::Signature::from_bytes(signature);
    key.verify_strict(&hash(label, parts), &signature).ok().map(|()| Verified(()))
}

/// HMAC-SHA-256, truncated to 16 bytes: the cheap check before an expensive one.
pub fn mac16(key: &Secret, parts: &[&[u8]]) -> [u8; 16] {
    let mut out = [0; 16];
    if let Ok(mut mac) = SimpleHmac::<Sha256>::new_from_slice(&**key) {
        for part in parts {
            mac.update(part);
        }
        out.copy_from_slice(&mac.finalize().into_bytes()[..16]);
    }
    out
}

/// Equality in constant time.
pub fn equal(a: &[u8], b: &[u8]) -> bool {
    a.ct_eq(b).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(byte: u8) -> Secret {
        Zeroizing::new([byte; 32])
    }

    #[test]
    fn a_signature_is_bound_to_its_label_and_every_part() {
        let seed = secret(1);
        let key = sign_public(&seed);
        let signature = sign(&seed, label::FIND, &[b"ab", b"c"]);
        assert!(verify(&key, label::FIND, &[b"abc"], &signature).is_some());
        assert!(verify(&key, label::OPEN, &[b"abc"], &signature).is_none());
        assert!(verify(&key, label::FIND, &[b"abd"], &signature).is_none());
        assert!(verify(&sign_public(&secret(2)), label::FIND, &[b"abc"], &signature).is_none());
    }

    #[test]
    fn a_small_order_key_verifies_nothing() {
        // The identity point: without the strict check it verifies S = 0, R = identity for any message.
        let mut identity = [0; 32];
        identity[0] = 1;
        let mut signature = [0; 64];
        signature[0] = 1;
        assert!(verify(&identity, label::FIND, &[b"x"], &signature).is_none());
    }

    #[test]
    fn an_all_zero_exchange_is_refused() {
        assert!(dh(&secret(7), &[0; 32]).is_none());
        let (a, b) = (secret(7), secret(9));
        assert_eq!(dh_public(&a), dh_public_by_exchange(&a));
        assert_eq!(dh(&a, &dh_public(&b)), dh(&b, &dh_public(&a)));
    }

    #[test]
    fn usable_is_one_canonical_encoding_of_a_point_of_no_small_order() {
        let good = dh_public(&secret(7));
        assert!(dh_usable(&good));
        let (mut high, mut past) = (good, [0xff; 32]);
        high[31] |= 0x80;
        (past[0], past[31]) = (0xed + 9, 0x7f);
        let mut nine = [0; 32];
        nine[0] = 9;
        // The same two points, with which a secret can be agreed, in other words.
        for (same, other) in [(good, high), (nine, past)] {
            assert_eq!(dh(&secret(5), &same), dh(&secret(5), &other));
            assert!(dh_usable(&same) && !dh_usable(&other));
        }
        let mut last = [0xff; 32];
        (last[0], last[31]) = (0xeb, 0x7f);
        assert!(dh_usable(&last), "the last but one of the field is a point of the curve or of its twist");
        last[0] = 0xec;
        let mut one = [0; 32];
        one[0] = 1;
        assert!([[0; 32], one, last].iter().all(|small| SMALL_ORDER.contains(small)));
        for small in SMALL_ORDER {
            assert!(!dh_usable(&small) && dh(&secret(5), &small).is_none());
            // Its neighbours are others.
            let mut next = small;
            next[16] ^= 4;
            assert!(dh_usable(&next) && dh(&secret(5), &next).is_some());
        }
        assert!(sign_usable(&sign_public(&secret(7))));
        let mut identity = [0; 32];
        identity[0] = 1;
        assert!(!sign_usable(&identity) && !sign_usable(&[0; 32]));
    }

    #[test]
    fn derivations_differ_by_label_and_context() {
        let a = derive::<32>(&[], &[1; 32], label::HELLO, &[b"a"]);
        assert_ne!(a, derive::<32>(&[], &[1; 32], label::OPEN_MAC, &[b"a"]));
        assert_ne!(a, derive::<32>(&[], &[1; 32], label::HELLO, &[b"b"]));
        assert_ne!(a, derive::<32>(&[2], &[1; 32], label::HELLO, &[b"a"]));
    }
}
