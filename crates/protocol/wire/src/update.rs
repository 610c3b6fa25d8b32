//! Signed updates: a new configuration for one node, signed by its authority set, in numbered chunks over UDP 8090 inside
//! the tunnel. Chunks are staged unread; the `apply` command names the head, and only then is anything verified and used.

use crypto::{AnchorSecret, Verified, label};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::{
    Hash, Key, Signature, U16, U32, U64,
    set::{AuthoritySet, MAX_AUTHORITIES, signed_by},
};

/// The longest update: head and configuration.
pub const MAX_UPDATE: usize = 4096;
/// Bytes of every chunk but the last, which may be shorter.
pub const CHUNK: usize = 1024;
/// The longest configuration that fits an update.
pub const MAX_CONFIGURATION: usize = MAX_UPDATE - size_of::<UpdateHead>();

/// What is signed, with its signatures; the configuration follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct UpdateHead {
    pub fleet: Hash,
    /// F of the one node that it is for.
    pub fiduciary: Key,
    /// The epoch that the node has.
    pub epoch: U64,
    /// The administrator's rising counter.
    pub counter: U64,
    /// [`crate::binding::configuration_hash`].
    pub configuration: Hash,
    pub length: U32,
    pub zero: [u8; 4],
    /// One place for each authority of the set, in its order; all zero for those that did not sign.
    pub signatures: [Signature; MAX_AUTHORITIES],
}

const _: () = assert!(size_of::<UpdateHead>() == 568);

impl UpdateHead {
    /// Fills in the signature of the authority at `place`.
    pub fn sign(mut self, authority: &AnchorSecret, place: usize) -> Self {
        let signature = crypto::sign(&authority.sign, label::UPDATE, &[self.signed()]);
        if let Some(to) = self.signatures.get_mut(place) {
            *to = signature;
        }
        self
    }

    /// Signed by as many of the authorities as the set needs, and none of the signatures that are there is false.
    pub fn verify(&self, set: &AuthoritySet) -> Option<Verified> {
        let authorities = set.check().ok().filter(|_| self.zero == [0; 4])?;
        let keys = authorities.iter().map(|one| &one.sign);
        signed_by(keys, set.needed, label::UPDATE, self.signed(), &self.signatures)
    }

    /// What the `apply` command names.
    pub fn short(&self) -> u32 {
        let [a, b, c, d, ..] = crypto::hash(label::UPDATE_HASH, &[self.as_bytes()]);
        u32::from_be_bytes([a, b, c, d])
    }

    fn signed(&self) -> &[u8] {
        &self.as_bytes()[..size_of::<Self>() - MAX_AUTHORITIES * 64]
    }
}

/// Head and configuration, of exactly the length that the head says.
pub fn parse(bytes: &[u8]) -> Option<(&UpdateHead, &[u8])> {
    let (head, configuration) = UpdateHead::ref_from_prefix(bytes).ok()?;
    (bytes.len() <= MAX_UPDATE && head.length.get() as usize == configuration.len()).then_some((head, configuration))
}

/// First bytes of the datagram of a chunk; [`CHUNK`] bytes or the rest follow. A command is 16 bytes and a chunk is always
/// longer, so that the length tells them apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct ChunkHead {
    /// [`UpdateHead::short`] of the update that it is part of.
    pub update: U32,
    /// Length of the whole update.
    pub length: U16,
    /// From 0.
    pub number: u8,
    pub zero: [u8; 17],
}

const _: () = assert!(size_of::<ChunkHead>() == 24);

/// The chunks of an update, each with its head.
pub fn parse_chunk(bytes: &[u8]) -> Option<(&ChunkHead, &[u8])> {
    let (head, part) = ChunkHead::ref_from_prefix(bytes).ok()?;
    let length = usize::from(head.length.get());
    let start = usize::from(head.number) * CHUNK;
    let whole = head.zero == [0; 17]
        && (size_of::<UpdateHead>()..=MAX_UPDATE).contains(&length)
        && start < length
        && part.len() == CHUNK.min(length - start);
    whole.then_some((head, part))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use zerocopy::FromZeros;

    use super::*;
    use crate::set::Authority;

    fn set(keys: &[AnchorSecret], needed: u8) -> AuthoritySet {
        let mut set = AuthoritySet::new_zeroed();
        (set.needed, set.count) = (needed, keys.len() as u8);
        for (to, key) in set.authorities.iter_mut().zip(keys) {
            *to = Authority::signer(&key.public());
        }
        set
    }

    fn head() -> UpdateHead {
        let mut head = UpdateHead::new_zeroed();
        head.fiduciary = [9; 32];
        head
    }

    #[test]
    fn an_update_needs_as_many_signatures_as_the_set_says_and_none_that_is_false() {
        let keys = [1, 2, 3].map(|byte| AnchorSecret::from_seed(&[byte; 32]));
        let two = head().sign(&keys[0], 0).sign(&keys[2], 2);
        assert!(two.verify(&set(&keys, 2)).is_some());
        assert!(two.verify(&set(&keys, 3)).is_none());
        assert!(two.verify(&set(&keys[..1], 1)).is_none(), "a place past the set");
        assert!(head().verify(&set(&keys, 2)).is_none());
        assert!(two.sign(&keys[0], 1).verify(&set(&keys, 2)).is_none(), "one key cannot fill two places");
        let twice = [1, 1, 2].map(|byte| AnchorSecret::from_seed(&[byte; 32]));
        let by_one = head().sign(&twice[0], 0).sign(&twice[1], 1);
        assert!(by_one.verify(&set(&twice, 2)).is_none(), "not even in a set that has it twice");
        for bit in 0..(size_of::<UpdateHead>() - 448) * 8 {
            let mut copy = two;
            copy.as_mut_bytes()[bit / 8] ^= 1 << (bit % 8);
            assert!(copy.verify(&set(&keys, 2)).is_none(), "bit {bit}");
        }
    }

    proptest! {
        #[test]
        fn chunks_are_taken_only_with_their_own_length(
            length in any::<u16>(), number in 0..8u8, part in proptest::collection::vec(any::<u8>(), 0..1100),
        ) {
            let head = ChunkHead { update: U32::new(1), length: U16::new(length), number, zero: [0; 17] };
            let bytes = [head.as_bytes(), &part].concat();
            let (start, length) = (usize::from(number) * CHUNK, usize::from(length));
            let fits = (568..=4096).contains(&length) && start < length && part.len() == CHUNK.min(length - start);
            prop_assert_eq!(parse_chunk(&bytes).is_some(), fits);
        }

        #[test]
        fn an_update_has_exactly_its_length(length in 0..5000u32, real in 0..5000usize) {
            let mut head = head();
            head.length = U32::new(length);
            let bytes = [head.as_bytes(), &std::vec![7; real]].concat();
            prop_assert_eq!(parse(&bytes).is_some(), length as usize == real && bytes.len() <= MAX_UPDATE);
        }
    }
}
