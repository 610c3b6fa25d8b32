//! What the node signs in a claim: the fork record, its identity and the pairing record.

use crypto::{Secret, Verified, label};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::{Hash, Ip, Key, Signature, U32, U64, receipt::Receipt, title::Title};

/// The node's record of the fleet of one that it forks into: epoch 0, one member.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct ForkRecord {
    pub fiduciary: Key,
    pub claim_key: Key,
    pub mesh_key: Key,
    pub address: Ip,
    /// Always 0.
    pub epoch: U64,
    /// Always 1.
    pub members: U32,
    pub zero: [u8; 4],
    pub signature: Signature,
}

const _: () = assert!(size_of::<ForkRecord>() == 192);

impl ForkRecord {
    pub fn sign(seed: &Secret, fiduciary: Key, claim_key: Key, mesh_key: Key, address: Ip) -> Self {
        let mut record = Self {
            fiduciary,
            claim_key,
            mesh_key,
            address,
            epoch: U64::new(0),
            members: U32::new(1),
            zero: [0; 4],
            signature: [0; 64],
        };
        record.signature = crypto::sign(seed, label::FORK, &[record.signed()]);
        record
    }

    /// Signed by its own F, and of epoch 0 with one member.
    pub fn verify(&self) -> Option<Verified> {
        (self.epoch.get() == 0 && self.members.get() == 1).then_some(())?;
        crypto::verify(&self.fiduciary, label::FORK, &[self.signed()], &self.signature)
    }

    /// What the first binding names. A node that was claimed before it forked has no record: 32 zero bytes.
    pub fn hash(record: Option<&Self>) -> Hash {
        record.map_or([0; 32], |record| crypto::sha256(record.as_bytes()))
    }

    fn signed(&self) -> &[u8] {
        &self.as_bytes()[..size_of::<Self>() - 64]
    }
}

/// The first message from node to administrator inside the Noise session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Identity {
    pub fiduciary: Key,
    pub mesh_key: Key,
    /// The one live claim nonce; of a committed node, the nonce of its binding.
    pub nonce: [u8; 32],
    /// All zero if the node has not forked.
    pub fork: ForkRecord,
    /// The stored epoch; a binding has the next. Of a committed node, the binding's.
    pub epoch: U64,
    /// 0 unclaimed, 1 committed and waiting for the acknowledgement.
    pub committed: u8,
    pub forked: u8,
    pub zero: [u8; 6],
    /// That its last owners have let it go; all zero if nobody has.
    pub released: Receipt,
    pub signature: Signature,
}

const _: () = assert!(size_of::<Identity>() == 544);

impl Identity {
    /// Fills in the signature, which covers the Noise handshake hash too.
    pub fn sign(mut self, seed: &Secret, handshake: &Hash) -> Self {
        self.signature = crypto::sign(seed, label::IDENTITY, &[handshake, self.signed()]);
        self
    }

    pub fn verify(&self, handshake: &Hash) -> Option<Verified> {
        crypto::verify(&self.fiduciary, label::IDENTITY, &[handshake, self.signed()], &self.signature)
    }

    pub fn fork(&self) -> Option<&ForkRecord> {
        (self.forked == 1).then_some(&self.fork)
    }

    fn signed(&self) -> &[u8] {
        &self.as_bytes()[..size_of::<Self>() - 64]
    }
}

/// What a warrant says of the configuration.
pub fn configuration_hash(configuration: &[u8]) -> Hash {
    crypto::hash(label::CONFIGURATION, &[configuration])
}

/// The node's signed word that it has committed a binding. The same bytes for the same binding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct PairingRecord {
    pub fiduciary: Key,
    pub mesh_key: Key,
    pub binding: Hash,
    pub fleet: Hash,
    pub epoch: U64,
    pub signature: Signature,
}

const _: () = assert!(size_of::<PairingRecord>() == 200);

impl PairingRecord {
    pub fn sign(seed: &Secret, title: &Title) -> Self {
        let Title { binding, warrant, .. } = title;
        let mut record = Self {
            fiduciary: warrant.fiduciary,
            mesh_key: binding.mesh_key,
            binding: binding.hash(),
            fleet: warrant.fleet,
            epoch: warrant.epoch,
            signature: [0; 64],
        };
        record.signature = crypto::sign(seed, label::PAIRING, &[record.signed()]);
        record
    }

    /// Signed by the node of `title`, and about its binding.
    pub fn verify(&self, title: &Title) -> Option<Verified> {
        let Title { binding, warrant, .. } = title;
        let about = self.fiduciary == warrant.fiduciary
            && self.mesh_key == binding.mesh_key
            && self.binding == binding.hash()
            && self.fleet == warrant.fleet
            && self.epoch == warrant.epoch;
        about.then_some(())?;
        crypto::verify(&self.fiduciary, label::PAIRING, &[self.signed()], &self.signature)
    }

    /// What the acknowledgement repeats.
    pub fn hash(&self) -> Hash {
        crypto::hash(label::PAIRING_HASH, &[self.as_bytes()])
    }

    fn signed(&self) -> &[u8] {
        &self.as_bytes()[..size_of::<Self>() - 64]
    }
}

#[cfg(test)]
mod tests {
    use zerocopy::FromZeros;

    use super::*;

    #[test]
    fn records_are_bound_to_their_node_binding_and_session() {
        let seed = Secret::new([4; 32]);
        let key = crypto::sign_public(&seed);
        let fork = ForkRecord::sign(&seed, key, [1; 32], [2; 32], [3; 16]);
        assert!(fork.verify().is_some());
        assert!(ForkRecord { epoch: U64::new(1), ..fork }.verify().is_none());
        let mut identity = Identity::new_zeroed();
        identity.fiduciary = key;
        let identity = identity.sign(&seed, &[9; 32]);
        assert!(identity.verify(&[9; 32]).is_some());
        assert!(identity.verify(&[8; 32]).is_none());
        let mut bound = Title::new_zeroed();
        bound.warrant.fiduciary = key;
        let record = PairingRecord::sign(&seed, &bound);
        assert!(record.verify(&bound).is_some());
        bound.binding.counter = U64::new(1);
        assert!(record.verify(&bound).is_none());
    }
}
