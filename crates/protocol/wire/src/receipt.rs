//! Receipts: a node's signed word that it has committed what its owners have decided. It proves that it was committed, not
//! that nobody has put the node's store back since.

use crypto::{Secret, Verified, label};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::{Hash, Key, Signature, U32, U64};

crate::numbers! {
    /// What it is for.
    Kind {
        /// An authority record, and by its chain all before it: sequence, and hash of the record.
        Record = 1, "record";
        /// A release: the epoch that has ended, and hash of the next anchor ([`crate::anchor::AnchorFile::hash`]).
        Release = 2, "release";
    }
}

/// The same bytes for the same act.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Receipt {
    /// [`Kind`] as a number; all zero where there is none.
    pub kind: U32,
    pub zero: [u8; 4],
    pub fleet: Hash,
    /// F.
    pub fiduciary: Key,
    /// The record's sequence, or the epoch.
    pub number: U64,
    pub hash: Hash,
    pub signature: Signature,
}

const _: () = assert!(size_of::<Receipt>() == 176);

impl Receipt {
    pub fn sign(seed: &Secret, fiduciary: &Key, kind: Kind, fleet: &Hash, number: u64, hash: &Hash) -> Self {
        let mut receipt = Self {
            kind: U32::new(kind as u32),
            zero: [0; 4],
            fleet: *fleet,
            fiduciary: *fiduciary,
            number: U64::new(number),
            hash: *hash,
            signature: [0; 64],
        };
        receipt.signature = crypto::sign(seed, label::RECEIPT, &[receipt.signed()]);
        receipt
    }

    pub fn kind(&self) -> Option<Kind> {
        Kind::from_number(self.kind.get().into())
    }

    /// Signed by the F that it names.
    pub fn verify(&self) -> Option<Verified> {
        self.kind().filter(|_| self.zero == [0; 4])?;
        crypto::verify(&self.fiduciary, label::RECEIPT, &[self.signed()], &self.signature)
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
    fn a_receipt_is_one_nodes_and_about_one_act() {
        let seed = Secret::new([4; 32]);
        let key = crypto::sign_public(&seed);
        for kind in Kind::ALL {
            let receipt = Receipt::sign(&seed, &key, *kind, &[1; 32], 7, &[2; 32]);
            assert!(receipt.verify().is_some());
            assert_eq!(receipt, Receipt::sign(&seed, &key, *kind, &[1; 32], 7, &[2; 32]));
            for bit in 0..size_of::<Receipt>() * 8 {
                let mut copy = receipt;
                copy.as_mut_bytes()[bit / 8] ^= 1 << (bit % 8);
                assert!(copy.verify().is_none(), "bit {bit}");
            }
        }
        assert!(Receipt::new_zeroed().verify().is_none());
        let stranger = crypto::sign_public(&Secret::new([5; 32]));
        assert!(Receipt::sign(&seed, &stranger, Kind::Record, &[1; 32], 7, &[2; 32]).verify().is_none());
    }
}
