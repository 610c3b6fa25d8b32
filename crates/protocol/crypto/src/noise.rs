//! The symmetric state of Noise (revision 34, section 5) with BLAKE2s and ChaCha20-Poly1305, in the parts that
//! `claim`, `mesh` and `keystore` each need: `Noise_IK` for the claim, `Noise_IKpsk2` for WireGuard.

use blake2::{Blake2s256, Blake2sMac, Digest, digest::consts::U16};
use chacha20poly1305::{AeadInOut, ChaCha20Poly1305, KeyInit as _};
use hmac::{Mac, SimpleHmac};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::Secret;

pub const PROTOCOL: &[u8; 33] = b"Noise_IK_25519_ChaChaPoly_BLAKE2s";
/// WireGuard's `CONSTRUCTION`.
pub const WIREGUARD: &[u8; 37] = b"Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s";
/// WireGuard's `IDENTIFIER`.
pub const WIREGUARD_PROLOGUE: &[u8; 34] = b"WireGuard v1 zx2c4 Jason@zx2c4.com";
pub const TAG: usize = 16;

/// Chaining key and handshake hash.
#[derive(Zeroize, ZeroizeOnDrop)]
pub struct Symmetric {
    pub chaining_key: [u8; 32],
    pub hash: [u8; 32],
}

impl Symmetric {
    /// The claim's: `InitializeSymmetric` with the protocol name, then the prologue.
    pub fn new(prologue: &[&[u8]]) -> Self {
        Self::named(PROTOCOL, prologue)
    }

    /// WireGuard's, after the responder's static key was mixed in.
    pub fn wireguard(responder: &[u8; 32]) -> Self {
        let mut this = Self::named(WIREGUARD, &[WIREGUARD_PROLOGUE]);
        this.mix_hash(&[responder]);
        this
    }

    /// The name is longer than a hash, so it is hashed.
    fn named(name: &[u8], prologue: &[&[u8]]) -> Self {
        let hash = hash(&[name]);
        let mut this = Self { chaining_key: hash, hash };
        this.mix_hash(prologue);
        this
    }

    pub fn mix_hash(&mut self, parts: &[&[u8]]) {
        let mut digest = Blake2s256::new();
        digest.update(self.hash);
        for part in parts {
            digest.update(part);
        }
        self.hash = digest.finalize().into();
    }

    /// `MixKey` whose key nobody uses.
    pub fn mix_chaining_key(&mut self, input: &[u8]) {
        self.chaining_key = *hmac(&hmac(&self.chaining_key, &[input]), &[&[1]]);
    }

    /// `MixKeyAndHash`: mixes a preshared key into both; returns the message key.
    pub fn mix_key_and_hash(&mut self, input: &[u8]) -> Secret {
        let [chaining, hash, key] = hkdf3(&self.chaining_key, input);
        self.chaining_key = *chaining;
        self.mix_hash(&[&*hash]);
        key
    }

    /// `MixKey`: the next chaining key; returns the message key.
    pub fn mix_key(&mut self, input: &[u8]) -> Secret {
        let [chaining, key] = hkdf2(&self.chaining_key, input);
        self.chaining_key = *chaining;
        key
    }

    /// `EncryptAndHash` with nonce 0, in place.
    pub fn encrypt_and_hash(&mut self, key: &Secret, text: &mut [u8]) -> [u8; TAG] {
        let tag = crate::sealed::seal(key, &self.hash, text);
        self.mix_hash(&[text, &tag]);
        tag
    }

    /// `DecryptAndHash` with nonce 0, in place. On failure nothing of the state or text may be used.
    #[must_use]
    pub fn decrypt_and_hash(&mut self, key: &Secret, text: &mut [u8], tag: &[u8; TAG]) -> bool {
        let before = self.hash;
        self.mix_hash(&[text, tag]);
        crate::sealed::open(key, &before, text, tag)
    }

    /// `Split`: first the key from initiator to responder, then the other way.
    pub fn split(&self) -> [Cipher; 2] {
        hkdf2(&self.chaining_key, &[]).map(|key| Cipher { key, nonce: 0 })
    }
}

/// HKDF of the Noise specification, two outputs, with HMAC-BLAKE2s.
pub fn hkdf2(chaining_key: &[u8; 32], input: &[u8]) -> [Secret; 2] {
    let temp = hmac(chaining_key, &[input]);
    let first = hmac(&temp, &[&[1]]);
    let second = hmac(&temp, &[&*first, &[2]]);
    [first, second]
}

/// The same, three outputs.
pub fn hkdf3(chaining_key: &[u8; 32], input: &[u8]) -> [Secret; 3] {
    let temp = hmac(chaining_key, &[input]);
    let first = hmac(&temp, &[&[1]]);
    let second = hmac(&temp, &[&*first, &[2]]);
    let third = hmac(&temp, &[&*second, &[3]]);
    [first, second, third]
}

/// BLAKE2s.
pub fn hash(parts: &[&[u8]]) -> [u8; 32] {
    let mut digest = Blake2s256::new();
    for part in parts {
        digest.update(part);
    }
    digest.finalize().into()
}

/// Keyed BLAKE2s with 16 bytes of output: WireGuard's `Mac`. The key is of 1 to 32 bytes.
pub fn mac(key: &[u8], parts: &[&[u8]]) -> [u8; 16] {
    debug_assert!((1..=32).contains(&key.len()));
    let mut out = [0; 16];
    if let Ok(mut mac) = Blake2sMac::<U16>::new_from_slice(key) {
        for part in parts {
            blake2::digest::Update::update(&mut mac, part);
        }
        out = blake2::digest::FixedOutput::finalize_fixed(mac).into();
    }
    out
}

fn hmac(key: &[u8; 32], parts: &[&[u8]]) -> Secret {
    let mut out = Zeroizing::new([0; 32]);
    // HMAC takes a key of any length.
    if let Ok(mut mac) = SimpleHmac::<Blake2s256>::new_from_slice(key) {
        for part in parts {
            mac.update(part);
        }
        out.copy_from_slice(&mac.finalize().into_bytes());
    }
    out
}

/// One direction of the transport after the handshake. No `Debug`, no `Clone`; wiped on drop.
pub struct Cipher {
    key: Secret,
    nonce: u64,
}

/// The message was not made by the peer, or the nonces are used up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rejected;

impl Cipher {
    /// Encrypts in place; the tag goes behind the text.
    pub fn encrypt(&mut self, text: &mut [u8]) -> Result<[u8; TAG], Rejected> {
        let nonce = self.next()?;
        let cipher = ChaCha20Poly1305::new((&*self.key).into());
        cipher.encrypt_inout_detached(&nonce.into(), &[], text.into()).map(Into::into).map_err(|_| Rejected)
    }

    /// Decrypts in place. Any failure ends the session: the caller drops it.
    pub fn decrypt(&mut self, text: &mut [u8], tag: &[u8; TAG]) -> Result<(), Rejected> {
        let nonce = self.next()?;
        let cipher = ChaCha20Poly1305::new((&*self.key).into());
        cipher.decrypt_inout_detached(&nonce.into(), &[], text.into(), tag.into()).map_err(|_| Rejected)
    }

    fn next(&mut self) -> Result<[u8; 12], Rejected> {
        let nonce = self.nonce;
        // 2^64 - 1 is reserved.
        self.nonce = nonce.checked_add(1).ok_or(Rejected)?;
        let mut bytes = [0; 12];
        bytes[4..].copy_from_slice(&nonce.to_le_bytes());
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes<const N: usize>(hex: &str) -> [u8; N] {
        core::array::from_fn(|n| u8::from_str_radix(&hex[2 * n..2 * n + 2], 16).unwrap())
    }

    #[test]
    fn wireguard_begins_with_its_published_constants() {
        // What every implementation has as its initial chaining key and hash.
        let key = bytes("60e26daef327efc02ec335e2a025d2d016eb4206f87277f52d38d1988b78cd36");
        let start: [u8; 32] = bytes("2211b361081ac566691243db458ad5322d9c6c662293e8b70ee19c65ba079ef3");
        let state = Symmetric::named(WIREGUARD, &[WIREGUARD_PROLOGUE]);
        assert_eq!((state.chaining_key, state.hash), (key, start));
        assert_eq!(Symmetric::wireguard(&[7; 32]).hash, hash(&[&start, &[7; 32]]));
    }

    #[test]
    fn the_outputs_of_hkdf_are_a_chain() {
        let [first, second] = hkdf2(&[1; 32], b"input");
        let [a, b, c] = hkdf3(&[1; 32], b"input");
        assert!(a == first && b == second && c != a && c != b);
        let mut state = Symmetric { chaining_key: [1; 32], hash: [2; 32] };
        state.mix_chaining_key(b"input");
        assert_eq!(state.chaining_key, *first);
        let mut state = Symmetric { chaining_key: [1; 32], hash: [2; 32] };
        assert!(state.mix_key_and_hash(b"input") == c);
        assert_eq!((state.chaining_key, state.hash), (*a, hash(&[&[2; 32], &*b])));
    }

    #[test]
    fn a_mac_hangs_on_key_and_text_and_not_on_how_the_text_is_cut() {
        let of = |key: &[u8], parts: &[&[u8]]| mac(key, parts);
        assert_eq!(of(&[1; 32], &[b"ab", b"c"]), of(&[1; 32], &[b"abc"]));
        assert_ne!(of(&[1; 32], &[b"abc"]), of(&[1; 16], &[b"abc"]));
        assert_ne!(of(&[1; 32], &[b"abc"]), of(&[1; 32], &[b"abd"]));
    }
}
