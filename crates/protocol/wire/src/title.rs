//! What makes a node a member of a fleet: the warrant, signed beforehand by those whom the anchor names, the binding, signed
//! within the claim by the anchor's own key, and the authority set that owns the node from then on.

use crypto::{AnchorSecret, Verified, label};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::{
    Hash, Ip, Key, Signature, U64,
    anchor::Anchor,
    record::AuthorityRecord,
    set::{AuthoritySet, MAX_AUTHORITIES, signed_by},
};

/// An address and the length of its subnet; all zero for none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Prefix {
    pub ip: Ip,
    pub length: u8,
}

/// Leave to own one node. It is given in peace, by people who need not be there when the node is claimed, and dies with its
/// epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Warrant {
    /// F.
    pub fiduciary: Key,
    /// [`crate::binding::ForkRecord::hash`]; all zero if it was not known, or there is no record.
    pub fork: Hash,
    pub fleet: Hash,
    /// The stored epoch plus one.
    pub epoch: U64,
    /// Which of the fleet's sets it is, and its hash.
    pub sequence: U64,
    pub set: Hash,
    /// Of the authority record that put the set in force: what the next record continues. All zero for the fleet's first set.
    pub record: Hash,
    /// The node's own addresses inside the mesh.
    pub addresses: [Prefix; 2],
    /// Its static address on its link, and its gateway there.
    pub underlay: Prefix,
    pub gateway: Ip,
    pub zero: [u8; 5],
    /// [`crate::binding::configuration_hash`].
    pub configuration: Hash,
    /// One place for each signing key of the anchor, in its order; all zero for those that did not sign.
    pub signatures: [Signature; MAX_AUTHORITIES],
}

const _: () = assert!(size_of::<Warrant>() == 728);

impl Warrant {
    /// Fills in the signature of the anchor's signer at `place`.
    pub fn sign(mut self, signer: &AnchorSecret, place: usize) -> Self {
        let signature = crypto::sign(&signer.sign, label::WARRANT, &[self.signed()]);
        if let Some(to) = self.signatures.get_mut(place) {
            *to = signature;
        }
        self
    }

    /// Signed by as many as the anchor needs, and none of the signatures that are there is false. A fleet's first set, and no
    /// other, is in force without a record.
    pub fn verify(&self, anchor: &Anchor) -> Option<Verified> {
        let linked = (self.sequence.get() != 0) == (self.record != [0; 32]);
        let sound = self.zero == [0; 5] && linked;
        let signers = anchor.check().ok().filter(|_| sound)?;
        signed_by(signers.iter(), anchor.needed, label::WARRANT, self.signed(), &self.signatures)
    }

    /// Of what is signed: whoever has signed it, it is the same warrant.
    pub fn hash(&self) -> Hash {
        crypto::hash(label::WARRANT, &[self.signed()])
    }

    fn signed(&self) -> &[u8] {
        &self.as_bytes()[..size_of::<Self>() - MAX_AUTHORITIES * 64]
    }
}

/// What binds a node to a warrant in one claim: signed by the anchor's own key, which found the node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Binding {
    pub nonce: [u8; 32],
    /// W.
    pub mesh_key: Key,
    /// [`Warrant::hash`].
    pub warrant: Hash,
    /// The administrator's rising counter.
    pub counter: U64,
    pub signature: Signature,
}

const _: () = assert!(size_of::<Binding>() == 168);

impl Binding {
    fn signed(&self) -> &[u8] {
        &self.as_bytes()[..size_of::<Self>() - 64]
    }

    pub fn hash(&self) -> Hash {
        crypto::sha256(self.as_bytes())
    }
}

/// All of it, as the keystore verifies and keeps it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Title {
    pub binding: Binding,
    pub warrant: Warrant,
    pub set: AuthoritySet,
}

const _: () = assert!(size_of::<Title>() == 1856);

impl Title {
    /// Warrant and binding at once, where the anchor's own key is all who must sign.
    pub fn sign(mut self, anchor: &AnchorSecret) -> Self {
        self.warrant.set = self.set.hash();
        self.warrant = self.warrant.sign(anchor, 0);
        self.bind(anchor)
    }

    /// The binding, for a warrant that is signed.
    pub fn bind(mut self, anchor: &AnchorSecret) -> Self {
        self.binding.warrant = self.warrant.hash();
        self.binding.signature = crypto::sign(&anchor.sign, label::BINDING, &[self.binding.signed()]);
        self
    }

    /// What is in force once a record is: its set owns the node. What was signed for the claim is then history.
    pub fn under(mut self, record: &AuthorityRecord) -> Self {
        self.set = record.set;
        let Warrant { sequence, set, record: hash, .. } = &mut self.warrant;
        (*sequence, *set, *hash) = (record.sequence, record.set.hash(), record.hash());
        self
    }

    /// That the set is sound and the warrant's, the warrant signed by enough of the anchor's signers and the binding's, and the
    /// binding signed by the anchor.
    pub fn verify(&self, anchor: &Anchor) -> Option<Verified> {
        let Self { binding, warrant, set } = self;
        set.check().ok()?;
        (warrant.set == set.hash() && binding.warrant == warrant.hash()).then_some(())?;
        warrant.verify(anchor)?;
        crypto::verify(&anchor.reception.sign, label::BINDING, &[binding.signed()], &binding.signature)
    }
}

#[cfg(test)]
mod tests {
    use zerocopy::FromZeros;

    use super::*;
    use crate::set::Authority;

    fn key(n: u8) -> AnchorSecret {
        AnchorSecret::from_seed(&[n; 32])
    }

    fn title() -> Title {
        let mut title = Title::new_zeroed();
        title.set = AuthoritySet::alone(Authority::signer(&key(1).public()));
        title
    }

    /// Key 1 receives; three of keys 2 to 6 sign.
    fn three_of_five() -> Anchor {
        Anchor::new(&key(1).public(), 3, &[2, 3, 4, 5, 6].map(|n| key(n).public().sign)).unwrap()
    }

    #[test]
    fn a_title_with_any_bit_changed_is_refused() {
        let anchor = Anchor::alone(&key(1).public());
        let signed = title().sign(&key(1));
        assert!(signed.verify(&anchor).is_some());
        for bit in 0..size_of::<Title>() * 8 {
            let mut copy = signed;
            copy.as_mut_bytes()[bit / 8] ^= 1 << (bit % 8);
            assert!(copy.verify(&anchor).is_none(), "bit {bit}");
        }
    }

    #[test]
    fn whoever_receives_owns_nothing_without_three_of_five() {
        let anchor = three_of_five();
        let mut blank = title();
        blank.warrant.set = blank.set.hash();
        for signers in 0..32u32 {
            let warrant = (0..5).filter(|place| signers >> place & 1 == 1);
            let warrant = warrant.fold(blank.warrant, |warrant, place| warrant.sign(&key(place as u8 + 2), place));
            let titled = Title { warrant, ..blank }.bind(&key(1));
            assert_eq!(titled.verify(&anchor).is_some(), signers.count_ones() >= 3, "{signers:b}");
            // Enough signers own nothing either without the one who receives.
            assert!(Title { warrant, ..blank }.bind(&key(2)).verify(&anchor).is_none());
        }
        // The reception key is no signer, at no place.
        for place in 0..7 {
            let warrant = blank.warrant.sign(&key(2), 0).sign(&key(3), 1).sign(&key(1), place);
            assert!(Title { warrant, ..blank }.bind(&key(1)).verify(&anchor).is_none());
        }
    }

    #[test]
    fn the_first_set_has_no_record_and_every_other_has_one() {
        let anchor = Anchor::alone(&key(1).public());
        for (sequence, record, right) in [(0, 0, true), (1, 9, true), (u64::MAX, 9, true), (0, 9, false), (1, 0, false)]
        {
            let mut titled = title();
            (titled.warrant.sequence, titled.warrant.record) = (U64::new(sequence), [record; 32]);
            assert_eq!(titled.sign(&key(1)).verify(&anchor).is_some(), right, "{sequence}, {record}");
        }
    }

    #[test]
    fn a_binding_is_for_one_warrant_and_a_warrant_for_one_set() {
        let anchor = three_of_five();
        let signed = |title: Title| {
            let mut warrant = title.warrant;
            warrant.set = title.set.hash();
            for place in 0..3 {
                warrant = warrant.sign(&key(place as u8 + 2), place);
            }
            Title { warrant, ..title }.bind(&key(1))
        };
        let one = signed(title());
        let mut other = title();
        other.warrant.epoch = U64::new(7);
        let other = signed(other);
        assert!(one.verify(&anchor).is_some() && other.verify(&anchor).is_some());
        assert!(Title { binding: one.binding, ..other }.verify(&anchor).is_none());
        let set = AuthoritySet::alone(Authority::signer(&key(9).public()));
        assert!(Title { set, ..one }.verify(&anchor).is_none());
        // The same warrant with other signatures is the same warrant.
        let resigned = Title { warrant: one.warrant.sign(&key(5), 3), ..one };
        assert!(resigned.verify(&anchor).is_some());
    }
}
