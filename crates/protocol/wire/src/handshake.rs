//! The steps of a handshake that take a static private key: of the claim's (Noise IK) and of WireGuard's (Noise
//! IKpsk2). On a node they are the keystore's, which alone has N and W; `claim` and `mesh` do the rest.
//!
//! What WireGuard's are asked and answer are values of one size. No answer has the result of a Diffie-Hellman exchange in
//! it, or a key that one gave: it has the next chaining key and hash, and what was sealed or opened on the way. An
//! all-zero result is refused.

use crypto::{
    Secret, dh,
    noise::{Symmetric, TAG, hkdf2},
};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::{Hash, Key};

/// The WireGuard initiation that the node sends, after `es` and its static key (`MixHash` of the sealed key is done).
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct StartHandshake {
    pub chaining_key: [u8; 32],
    pub hash: Hash,
    /// The responder's static key.
    pub peer: Key,
}

/// The state after `ss` and the sealed timestamp (its `MixHash` is done).
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct StartHandshakeReply {
    pub chaining_key: [u8; 32],
    pub hash: Hash,
    /// The keystore's own rising TAI64N, sealed with the key that `ss` gave.
    pub timestamp: [u8; 28],
    pub zero: [u8; 4],
}

/// The WireGuard response that came, after `ee`.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct FinishHandshake {
    pub chaining_key: [u8; 32],
    /// The responder's ephemeral key.
    pub ephemeral: Key,
}

/// The WireGuard initiation that came: its state after the ephemeral key was mixed into both.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct ReadHandshake {
    pub chaining_key: [u8; 32],
    pub hash: Hash,
    pub ephemeral: Key,
    pub encrypted_static: [u8; 48],
    pub encrypted_timestamp: [u8; 28],
    pub zero: [u8; 4],
}

/// The state after `es`, `s`, `ss` and the timestamp.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct ReadHandshakeReply {
    pub chaining_key: [u8; 32],
    pub hash: Hash,
    /// The initiator's static key.
    pub peer: Key,
    pub timestamp: [u8; 12],
    pub zero: [u8; 4],
}

pub const TIMESTAMP: usize = 12;
/// Timestamps of a block: as many as there are nanoseconds in a second. A block is reserved by a commit before the first
/// of it is used, so that they rise across power cuts; so many last that no mesh can wear the store out by asking.
pub const PER_BLOCK: u32 = 1_000_000_000;
/// Seconds of TAI64 begin here.
const TAI64: u64 = 1 << 62;

/// The rising TAI64N of a node without a clock: its seconds are the number of the block, its nanoseconds count within.
pub struct Timestamps {
    pub block: u64,
    pub used: u32,
}

impl Timestamps {
    /// None are left: a block is to be reserved.
    pub const fn none() -> Self {
        Self { block: 0, used: PER_BLOCK }
    }

    pub const fn of(block: u64) -> Self {
        Self { block, used: 0 }
    }
}

impl Iterator for Timestamps {
    type Item = [u8; TIMESTAMP];

    fn next(&mut self) -> Option<Self::Item> {
        let nanoseconds = Some(self.used).filter(|used| *used < PER_BLOCK)?;
        let seconds = TAI64.checked_add(self.block)?;
        self.used = nanoseconds.checked_add(1)?;
        let mut timestamp = [0; TIMESTAMP];
        timestamp[..8].copy_from_slice(&seconds.to_be_bytes());
        timestamp[8..].copy_from_slice(&nanoseconds.to_be_bytes());
        Some(timestamp)
    }
}

/// `es` and `s` of the responder: the initiator's static key.
pub fn read_static(secret: &Secret, state: &mut Symmetric, ephemeral: &Key, sealed: &[u8; 32 + TAG]) -> Option<Key> {
    let (mut peer, tag) = parts::<32>(sealed)?;
    let key = state.mix_key(&*dh(secret, ephemeral)?);
    state.decrypt_and_hash(&key, &mut peer, &tag).then_some(peer)
}

/// The initiator's message 1 after `ss`; its timestamp is still to come.
pub struct Started {
    state: Symmetric,
    key: Secret,
}

impl Started {
    pub fn new(secret: &Secret, request: &StartHandshake) -> Option<Self> {
        let mut state = Symmetric { chaining_key: request.chaining_key, hash: request.hash };
        let key = state.mix_key(&*dh(secret, &request.peer)?);
        Some(Self { state, key })
    }

    pub fn seal(mut self, mut timestamp: [u8; TIMESTAMP]) -> StartHandshakeReply {
        let tag = self.state.encrypt_and_hash(&self.key, &mut timestamp);
        let mut sealed = [0; TIMESTAMP + TAG];
        sealed[..TIMESTAMP].copy_from_slice(&timestamp);
        sealed[TIMESTAMP..].copy_from_slice(&tag);
        let Symmetric { chaining_key, hash } = self.state;
        StartHandshakeReply { chaining_key, hash, timestamp: sealed, zero: [0; 4] }
    }
}

/// `se` of the initiator, message 2: the next chaining key.
pub fn finish(secret: &Secret, request: &FinishHandshake) -> Option<[u8; 32]> {
    let [next, _key] = hkdf2(&request.chaining_key, &*dh(secret, &request.ephemeral)?);
    Some(*next)
}

/// The responder's side of message 1.
pub fn read(secret: &Secret, request: &ReadHandshake) -> Option<ReadHandshakeReply> {
    let mut state = Symmetric { chaining_key: request.chaining_key, hash: request.hash };
    let peer = read_static(secret, &mut state, &request.ephemeral, &request.encrypted_static)?;
    let key = state.mix_key(&*dh(secret, &peer)?);
    let (mut timestamp, tag) = parts(&request.encrypted_timestamp)?;
    let opened = state.decrypt_and_hash(&key, &mut timestamp, &tag);
    let Symmetric { chaining_key, hash } = state;
    opened.then_some(ReadHandshakeReply { chaining_key, hash, peer, timestamp, zero: [0; 4] })
}

/// What is sealed, and its tag.
fn parts<const N: usize>(sealed: &[u8]) -> Option<([u8; N], [u8; TAG])> {
    let (text, tag) = sealed.split_first_chunk()?;
    Some((*text, tag.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timestamps_rise_through_a_block_and_from_block_to_block() {
        assert_eq!(Timestamps::none().next(), None);
        let mut last = [0; TIMESTAMP];
        for block in [1, 2, 255, 256, 1 << 40] {
            let mut timestamps = Timestamps::of(block);
            for used in [0, 1, 254, 255, 256, PER_BLOCK - 2, PER_BLOCK - 1] {
                timestamps.used = used;
                let next = timestamps.next().unwrap();
                assert!(next > last, "{block}, {used}");
                // 2^62 and the block, then the nanoseconds: as every reader of TAI64N takes it.
                assert_eq!(next[..8], ((1 << 62) + block).to_be_bytes());
                assert_eq!(next[8..], used.to_be_bytes());
                last = next;
            }
            assert_eq!(timestamps.next(), None);
        }
        assert_eq!(Timestamps::of(u64::MAX).next(), None);
    }
}
