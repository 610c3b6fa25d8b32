//! The responder of `Noise_IK_25519_ChaChaPoly_BLAKE2s` without its static key: what needs that key is
//! done by the keystore between two calls here. Each step consumes the one before it, so that none
//! can be taken twice or left out.
//!
//! ```text
//! <- s
//! -> e, es, s, ss     read: e here; es, s, ss in the keystore; the payload's tag here
//! <- e, ee, se        respond: all here
//! ```

use calls::keystore::{Initiation, InitiationReply};
use crypto::{
    Secret, dh, dh_public_by_exchange,
    noise::{Cipher, Symmetric},
};
use wire::{
    Hash, Key,
    claim::{INITIATION, RESPONSE, TAG},
};
use zeroize::Zeroize;

/// The handshake's message 1 is not the anchor's, or not for this session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rejected;

/// Message 1, before the keystore's part.
pub struct Begun {
    symmetric: Symmetric,
    ephemeral: Key,
    encrypted_static: [u8; 48],
    tag: [u8; TAG],
}

/// Message 1, read and authentic.
pub struct Read {
    symmetric: Symmetric,
    ephemeral: Key,
    peer: Key,
}

/// The transport after the handshake.
pub struct Session {
    /// The handshake hash.
    pub hash: Hash,
    pub receive: Cipher,
    pub send: Cipher,
}

impl Begun {
    /// `claim_key` is N's public half.
    pub fn new(prologue: &[u8], claim_key: &Key, message: &[u8; INITIATION]) -> Self {
        let mut begun = Self {
            symmetric: Symmetric::new(&[prologue]),
            ephemeral: [0; 32],
            encrypted_static: [0; 48],
            tag: [0; TAG],
        };
        let (ephemeral, rest) = message.split_at(32);
        let (encrypted_static, tag) = rest.split_at(48);
        begun.ephemeral.copy_from_slice(ephemeral);
        begun.encrypted_static.copy_from_slice(encrypted_static);
        begun.tag.copy_from_slice(tag);
        begun.symmetric.mix_hash(&[claim_key]);
        begun.symmetric.mix_hash(&[ephemeral]);
        begun
    }

    /// What the keystore is asked.
    pub fn request(&self) -> Initiation {
        Initiation {
            chaining_key: self.symmetric.chaining_key,
            hash: self.symmetric.hash,
            ephemeral: self.ephemeral,
            encrypted_static: self.encrypted_static,
        }
    }

    /// Goes on from the keystore's part: checks the empty payload.
    pub fn read(mut self, mut reply: InitiationReply) -> Result<Read, Rejected> {
        self.symmetric.chaining_key = reply.chaining_key;
        self.symmetric.hash = reply.hash;
        let key = Secret::new(reply.key);
        reply.chaining_key.zeroize();
        reply.key.zeroize();
        if !self.symmetric.decrypt_and_hash(&key, &mut [], &self.tag) {
            return Err(Rejected);
        }
        Ok(Read { symmetric: self.symmetric, ephemeral: self.ephemeral, peer: reply.peer })
    }
}

impl Read {
    /// Message 2. `ephemeral` must be fresh.
    pub fn respond(mut self, ephemeral: &Secret) -> Result<([u8; RESPONSE], Session), Rejected> {
        let public = dh_public_by_exchange(ephemeral);
        self.symmetric.mix_hash(&[&public]);
        self.symmetric.mix_key(&*dh(ephemeral, &self.ephemeral).ok_or(Rejected)?);
        let key = self.symmetric.mix_key(&*dh(ephemeral, &self.peer).ok_or(Rejected)?);
        let tag = self.symmetric.encrypt_and_hash(&key, &mut []);
        let mut message = [0; RESPONSE];
        let (head, tail) = message.split_at_mut(32);
        head.copy_from_slice(&public);
        tail.copy_from_slice(&tag);
        let [receive, send] = self.symmetric.split();
        Ok((message, Session { hash: self.symmetric.hash, receive, send }))
    }
}
