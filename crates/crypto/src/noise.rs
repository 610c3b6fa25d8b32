//! The symmetric state of `Noise_IK_25519_ChaChaPoly_BLAKE2s` (Noise revision 34, section 5), in the
//! parts that `claim` and `keystore` each need. WireGuard uses the same functions.

use blake2::{Blake2s256, Digest};
use chacha20poly1305::{AeadInOut, ChaCha20Poly1305, KeyInit as _};
use hmac::{Mac, SimpleHmac};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::Secret;

pub const PROTOCOL: &[u8; 33] = b"Noise_IK_25519_ChaChaPoly_BLAKE2s";
pub const TAG: usize = 16;

/// Chaining key and handshake hash.
#[derive(Zeroize, ZeroizeOnDrop)]
pub struct Symmetric {
    pub chaining_key: [u8; 32],
    pub hash: [u8; 32],
}

impl Symmetric {
    /// `InitializeSymmetric` with the protocol name, then the prologue.
    pub fn new(prologue: &[&[u8]]) -> Self {
        // The name is longer than a hash, so it is hashed.
        let hash: [u8; 32] = Blake2s256::digest(PROTOCOL).into();
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
