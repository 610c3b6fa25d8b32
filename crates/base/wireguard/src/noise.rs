//! The handshake of the paper's sections 5.4.2 and 5.4.3 without the steps of the static key, which the keystore does
//! between two of these.
//!
//! ```text
//!             initiator                          responder
//! message 1   start: e, es, s   keystore: ss     read: e   keystore: es, s, ss
//! message 2   resume: e, ee     keystore: se     respond: e, ee, se, psk
//!             finish: psk
//! ```

use crypto::{
    Secret, dh, dh_public_by_exchange,
    noise::{Symmetric, TAG, hkdf2},
};
use wire::Key;

use crate::random::Random;

/// Message 1 up to the static key.
pub struct Started {
    pub private: Secret,
    pub ephemeral: Key,
    pub encrypted_static: [u8; 48],
    pub state: Symmetric,
}

/// The keys of a session. None of them has been used.
pub struct Keys {
    pub send: Secret,
    pub receive: Secret,
}

/// `None`: the peer's key is none that a secret can be agreed with.
pub fn start(public: &Key, peer: &Key, random: &mut Random) -> Option<Started> {
    let private = random.draw();
    let ephemeral = dh_public_by_exchange(&private);
    let mut state = Symmetric::wireguard(peer);
    state.mix_chaining_key(&ephemeral);
    state.mix_hash(&[&ephemeral]);
    let key = state.mix_key(&*dh(&private, peer)?);
    let mut encrypted_static = [0; 48];
    let (text, tag) = encrypted_static.split_at_mut(32);
    text.copy_from_slice(public);
    tag.copy_from_slice(&state.encrypt_and_hash(&key, text));
    Some(Started { private, ephemeral, encrypted_static, state })
}

/// Message 2 at the initiator, up to `ee`. `sent` stays as it is: another message may be the right one.
pub fn resume(sent: &Symmetric, private: &Secret, ephemeral: &Key) -> Option<Symmetric> {
    let mut state = Symmetric { chaining_key: sent.chaining_key, hash: sent.hash };
    state.mix_hash(&[ephemeral]);
    state.mix_chaining_key(ephemeral);
    state.mix_chaining_key(&*dh(private, ephemeral)?);
    Some(state)
}

/// The rest of message 2. `None`: its sender is not the peer, or has another preshared key.
pub fn finish(mut state: Symmetric, preshared: &Secret, tag: &[u8; TAG]) -> Option<Keys> {
    let key = state.mix_key_and_hash(&**preshared);
    if !state.decrypt_and_hash(&key, &mut [], tag) {
        return None;
    }
    let [send, receive] = hkdf2(&state.chaining_key, &[]);
    Some(Keys { send, receive })
}

/// Message 1 at the responder, up to the ephemeral key.
pub fn read(public: &Key, ephemeral: &Key) -> Symmetric {
    let mut state = Symmetric::wireguard(public);
    state.mix_chaining_key(ephemeral);
    state.mix_hash(&[ephemeral]);
    state
}

/// Message 2.
pub struct Responded {
    pub ephemeral: Key,
    pub tag: [u8; TAG],
    pub keys: Keys,
}

/// `theirs` is the initiator's ephemeral key.
pub fn respond(
    mut state: Symmetric,
    preshared: &Secret,
    theirs: &Key,
    peer: &Key,
    random: &mut Random,
) -> Option<Responded> {
    let private = random.draw();
    let ephemeral = dh_public_by_exchange(&private);
    state.mix_hash(&[&ephemeral]);
    state.mix_chaining_key(&ephemeral);
    state.mix_chaining_key(&*dh(&private, theirs)?);
    state.mix_chaining_key(&*dh(&private, peer)?);
    let key = state.mix_key_and_hash(&**preshared);
    let tag = state.encrypt_and_hash(&key, &mut []);
    let [receive, send] = hkdf2(&state.chaining_key, &[]);
    Some(Responded { ephemeral, tag, keys: Keys { send, receive } })
}
