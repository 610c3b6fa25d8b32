//! Blocks of the configuration at rest: `lifecycle` has them sealed and opened here, and has `store` keep them.
//!
//! A sealed block is nonce 24 | text 2048 | tag 16, with XChaCha20-Poly1305 under a key from the root seed that serves
//! nothing else. The configuration's hash and the block's number are authenticated: a block passes for no other.

use calls::store::{BLOCK, SEALED_BLOCK};
use chacha20poly1305::{AeadInOut, KeyInit, XChaCha20Poly1305};
use crypto::{Secret, label};
use wire::Hash;

use crate::vault::NONCE;

fn key(root: &[u8; 32]) -> Secret {
    crypto::derive(&[], root, label::BLOCK_KEY, &[])
}

fn place(configuration: &Hash, index: u64) -> [u8; 40] {
    let mut place = [0; 40];
    place[..32].copy_from_slice(configuration);
    place[32..].copy_from_slice(&index.to_be_bytes());
    place
}

/// `fresh` and what is sealed make the nonce, as in the vault.
pub fn seal(
    root: &[u8; 32],
    configuration: &Hash,
    index: u64,
    plain: &[u8; BLOCK],
    fresh: &[u8; NONCE],
) -> Option<[u8; SEALED_BLOCK]> {
    let (key, place) = (key(root), place(configuration, index));
    let nonce: [u8; NONCE] = *crypto::derive(&*key, fresh, label::BLOCK_KEY, &[b"nonce", &place, plain]);
    let mut sealed = [0; SEALED_BLOCK];
    let (to_nonce, rest) = sealed.split_at_mut(NONCE);
    to_nonce.copy_from_slice(&nonce);
    let (text, to_tag) = rest.split_at_mut(BLOCK);
    text.copy_from_slice(plain);
    let cipher = XChaCha20Poly1305::new((&*key).into());
    let tag = cipher.encrypt_inout_detached((&nonce).into(), &place, text.into()).ok()?;
    to_tag.copy_from_slice(&tag);
    Some(sealed)
}

/// `None`: it was not sealed by this node for this place.
pub fn open(root: &[u8; 32], configuration: &Hash, index: u64, sealed: &[u8; SEALED_BLOCK]) -> Option<[u8; BLOCK]> {
    let key = key(root);
    let (nonce, rest) = sealed.split_first_chunk::<NONCE>()?;
    let (text, tag) = rest.split_first_chunk::<BLOCK>()?;
    let mut plain = *text;
    let cipher = XChaCha20Poly1305::new((&*key).into());
    let opened = cipher.decrypt_inout_detached(
        nonce.into(),
        &place(configuration, index),
        plain.as_mut_slice().into(),
        tag.try_into().ok()?,
    );
    opened.is_ok().then_some(plain)
}
