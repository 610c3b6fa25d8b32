//! Authority records: how one set takes over from another, for a whole fleet at once. They form a chain, which a node that was
//! away walks step by step, and none expires.

use core::fmt;

use crypto::{AnchorSecret, Verified, label};
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::{
    Hash, Key, Signature, U64,
    set::{Authority, AuthoritySet, MAX_AUTHORITIES, Unsound, signed_by},
};

/// Signed by as many of the set before as that one needs, by as many of the new one, and by all whose keys are new.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct AuthorityRecord {
    pub magic: [u8; 4],
    pub zero: [u8; 4],
    pub fleet: Hash,
    /// One more than that of the set before; a fleet's first set has 0, and no record.
    pub sequence: U64,
    /// [`Self::hash`] of the record before; all zero for the first.
    pub previous: Hash,
    pub set: AuthoritySet,
    /// One place for each authority of the set before, in its order; all zero for those that did not sign.
    pub old: [Signature; MAX_AUTHORITIES],
    /// The same for the new set.
    pub new: [Signature; MAX_AUTHORITIES],
}

const _: () = assert!(size_of::<AuthorityRecord>() == 1936);

/// Why a set does not follow another by a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wrong {
    /// It has bytes that mean nothing.
    Form,
    /// What is wrong with the new set.
    Set(Unsound),
    Fleet,
    /// It is not the next one.
    Sequence,
    /// It follows another record: somebody has signed two.
    Previous,
    /// Too few of the set before have signed, or a signature is false.
    Old,
    /// Too few of the new set have signed, or a signature is false.
    New,
    /// The authority at this place has keys that the set before had not, and has not signed.
    Newcomer(usize),
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Form => f.write_str("it has bytes that mean nothing"),
            Self::Set(unsound) => write!(f, "its set is none: {unsound}"),
            Self::Fleet => f.write_str("it is another fleet's"),
            Self::Sequence => f.write_str("it is not the next of its chain"),
            Self::Previous => f.write_str("it follows another record than the one that is in force"),
            Self::Old => f.write_str("too few of the set before have signed it, or one of their signatures is false"),
            Self::New => f.write_str("too few of the new set have signed it, or one of their signatures is false"),
            Self::Newcomer(place) => {
                write!(f, "authority {} has keys that the set before had not, and has not signed it", place + 1)
            }
        }
    }
}

impl AuthorityRecord {
    /// What it begins with: no order's kind.
    pub const MAGIC: [u8; 4] = *b"GNSR";

    /// One that nobody has signed yet.
    pub fn new(fleet: &Hash, sequence: u64, previous: &Hash, set: &AuthoritySet) -> Self {
        let (magic, sequence) = (Self::MAGIC, U64::new(sequence));
        Self { magic, sequence, fleet: *fleet, previous: *previous, set: *set, ..Self::new_zeroed() }
    }

    /// Fills in the signature of the authority at a place of the set before.
    pub fn sign_as_old(mut self, authority: &AnchorSecret, place: usize) -> Self {
        let signature = self.signature(authority);
        if let Some(to) = self.old.get_mut(place) {
            *to = signature;
        }
        self
    }

    /// Fills in the signature of the authority at a place of the new set.
    pub fn sign_as_new(mut self, authority: &AnchorSecret, place: usize) -> Self {
        let signature = self.signature(authority);
        if let Some(to) = self.new.get_mut(place) {
            *to = signature;
        }
        self
    }

    /// That this signature of it is the key's, at whatever place of either set.
    pub fn is_signed_by(&self, key: &Key, signature: &Signature) -> Option<Verified> {
        crypto::verify(key, label::RECORD, &[self.signed()], signature)
    }

    fn signature(&self, authority: &AnchorSecret) -> Signature {
        crypto::sign(&authority.sign, label::RECORD, &[self.signed()])
    }

    /// That its set takes over from `before`, which has been in force by the record of this sequence and hash.
    pub fn verify(
        &self,
        before: &AuthoritySet,
        fleet: &Hash,
        sequence: u64,
        previous: &Hash,
    ) -> Result<Verified, Wrong> {
        if self.magic != Self::MAGIC || self.zero != [0; 4] {
            return Err(Wrong::Form);
        }
        let new = self.set.check().map_err(Wrong::Set)?;
        if self.fleet != *fleet {
            return Err(Wrong::Fleet);
        }
        if Some(self.sequence.get()) != sequence.checked_add(1) {
            return Err(Wrong::Sequence);
        }
        if self.previous != *previous {
            return Err(Wrong::Previous);
        }
        let old = before.check().map_err(|_| Wrong::Old)?;
        let signed = |set: &[Authority], needed, signatures| {
            signed_by(set.iter().map(|one| &one.sign), needed, label::RECORD, self.signed(), signatures)
        };
        signed(old, before.needed, &self.old).ok_or(Wrong::Old)?;
        let verified = signed(new, self.set.needed, &self.new).ok_or(Wrong::New)?;
        let mut signatures = new.iter().zip(&self.new).enumerate();
        match signatures
            .find(|(_, (one, signature))| **signature == [0; 64] && !old.iter().any(|it| it.has_keys_of(one)))
        {
            Some((place, _)) => Err(Wrong::Newcomer(place)),
            None => Ok(verified),
        }
    }

    /// Of what is signed: whoever has signed it, it is the same record.
    pub fn hash(&self) -> Hash {
        crypto::hash(label::RECORD, &[self.signed()])
    }

    fn signed(&self) -> &[u8] {
        &self.as_bytes()[..size_of::<Self>() - 2 * MAX_AUTHORITIES * 64]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FLEET: Hash = [0xf1; 32];

    fn key(n: u8) -> AnchorSecret {
        AnchorSecret::from_seed(&[n; 32])
    }

    fn set(needed: u8, keys: &[u8]) -> AuthoritySet {
        let all: std::vec::Vec<Authority> = keys.iter().map(|n| Authority::signer(&key(*n).public())).collect();
        AuthoritySet::new(needed, &all).unwrap()
    }

    fn record(sequence: u64, previous: Hash, set: &AuthoritySet) -> AuthorityRecord {
        AuthorityRecord::new(&FLEET, sequence, &previous, set)
    }

    /// Each signs by its key at its place.
    fn signed(record: AuthorityRecord, old: &[(usize, u8)], new: &[(usize, u8)]) -> AuthorityRecord {
        let record = old.iter().fold(record, |record, (place, n)| record.sign_as_old(&key(*n), *place));
        new.iter().fold(record, |record, (place, n)| record.sign_as_new(&key(*n), *place))
    }

    /// Of keys 1, 2, 3 the third gives way to 4; two must sign, before and after.
    fn sets() -> (AuthoritySet, AuthoritySet) {
        (set(2, &[1, 2, 3]), set(2, &[1, 2, 4]))
    }

    fn good() -> AuthorityRecord {
        signed(record(1, [0; 32], &sets().1), &[(0, 1), (1, 2)], &[(0, 1), (2, 4)])
    }

    fn judge(record: &AuthorityRecord) -> Result<(), Wrong> {
        record.verify(&sets().0, &FLEET, 0, &[0; 32]).map(|_| ())
    }

    #[test]
    fn a_set_follows_by_the_signatures_of_both() {
        assert_eq!(judge(&good()), Ok(()));
        // The one who goes may sign too, and may be of those who must.
        let by_leaver = signed(record(1, [0; 32], &sets().1), &[(1, 2), (2, 3)], &[(1, 2), (2, 4)]);
        assert_eq!(judge(&by_leaver), Ok(()));
        assert_eq!(by_leaver.hash(), good().hash(), "whoever has signed it");
    }

    #[test]
    fn the_threshold_of_the_old_set_is_needed() {
        let new = [(0, 1), (1, 2), (2, 4)];
        for old in [&[][..], &[(0, 1)], &[(2, 3)], &[(0, 1), (1, 1)], &[(0, 1), (2, 4)], &[(0, 1), (3, 2)]] {
            assert_eq!(judge(&signed(record(1, [0; 32], &sets().1), old, &new)), Err(Wrong::Old), "{old:?}");
        }
        // A false one spoils enough good ones.
        assert_eq!(judge(&good().sign_as_old(&key(9), 2)), Err(Wrong::Old));
    }

    #[test]
    fn the_threshold_of_the_new_set_is_needed_and_everybody_who_is_new() {
        let old = [(0, 1), (1, 2)];
        for new in [&[][..], &[(2, 4)], &[(0, 1), (1, 1)], &[(0, 1), (2, 3)], &[(0, 1), (1, 2), (2, 9)]] {
            assert_eq!(judge(&signed(record(1, [0; 32], &sets().1), &old, new)), Err(Wrong::New), "{new:?}");
        }
        // Enough, but not the one whose keys nobody has seen at work.
        let without = signed(record(1, [0; 32], &sets().1), &old, &[(0, 1), (1, 2)]);
        assert_eq!(judge(&without), Err(Wrong::Newcomer(2)));
    }

    #[test]
    fn no_sequence_is_skipped_or_comes_again() {
        for sequence in [0, 2, 3, u64::MAX] {
            let other = signed(record(sequence, [0; 32], &sets().1), &[(0, 1), (1, 2)], &[(0, 1), (2, 4)]);
            assert_eq!(judge(&other), Err(Wrong::Sequence), "{sequence}");
        }
        // An old record replayed: of two steps the first does not come back.
        let (old, new) = sets();
        let second = signed(record(2, good().hash(), &old), &[(0, 1), (1, 2)], &[(0, 1), (2, 3)]);
        assert!(second.verify(&new, &FLEET, 1, &good().hash()).is_ok());
        assert_eq!(good().verify(&old, &FLEET, 2, &second.hash()).err(), Some(Wrong::Sequence));
        let last = signed(record(0, [0; 32], &new), &[(0, 1), (1, 2)], &[(0, 1), (2, 4)]);
        assert_eq!(
            last.verify(&old, &FLEET, u64::MAX, &[0; 32]).err(),
            Some(Wrong::Sequence),
            "there is none after the last"
        );
    }

    #[test]
    fn a_record_follows_the_one_that_is_in_force() {
        let wrong = signed(record(1, [7; 32], &sets().1), &[(0, 1), (1, 2)], &[(0, 1), (2, 4)]);
        assert_eq!(judge(&wrong), Err(Wrong::Previous));
        // Two records with one sequence, both well signed: what follows the one does not follow the other.
        let (old, new) = sets();
        let fork = signed(record(1, [0; 32], &set(2, &[1, 2, 5])), &[(0, 1), (1, 2)], &[(0, 1), (2, 5)]);
        assert!(fork.verify(&old, &FLEET, 0, &[0; 32]).is_ok() && fork.hash() != good().hash());
        let next = signed(record(2, fork.hash(), &old), &[(0, 1), (1, 2)], &[(0, 1), (2, 3)]);
        assert_eq!(next.verify(&new, &FLEET, 1, &good().hash()).err(), Some(Wrong::Previous));
        assert_eq!(fork.verify(&new, &FLEET, 1, &good().hash()).err(), Some(Wrong::Sequence));
    }

    #[test]
    fn another_fleets_record_is_refused() {
        let (old, new) = sets();
        let theirs = AuthorityRecord::new(&[0xf2; 32], 1, &[0; 32], &new);
        let theirs = signed(theirs, &[(0, 1), (1, 2)], &[(0, 1), (2, 4)]);
        assert!(theirs.verify(&old, &[0xf2; 32], 0, &[0; 32]).is_ok());
        assert_eq!(judge(&theirs), Err(Wrong::Fleet));
    }

    #[test]
    fn the_same_person_with_new_keys_signs_with_the_new_ones() {
        let (old, same) = (set(2, &[1, 2, 3]), set(2, &[1, 2, 13]));
        let verify = |record: AuthorityRecord| record.verify(&old, &FLEET, 0, &[0; 32]).map(|_| ());
        let blank = record(1, [0; 32], &same);
        assert_eq!(verify(signed(blank, &[(0, 1), (2, 3)], &[(0, 1), (2, 3)])), Err(Wrong::New), "with the old one");
        assert_eq!(verify(signed(blank, &[(0, 1), (2, 13)], &[(0, 1), (2, 13)])), Err(Wrong::Old));
        assert_eq!(verify(signed(blank, &[(0, 1), (2, 3)], &[(0, 1), (1, 2)])), Err(Wrong::Newcomer(2)));
        assert_eq!(verify(signed(blank, &[(0, 1), (2, 3)], &[(0, 1), (2, 13)])), Ok(()));
        // A new X25519 key alone is new as well: what signs for it is the key that stays.
        let mut moved = old;
        moved.authorities[2].dh = key(13).public().dh;
        let blank = record(1, [0; 32], &moved);
        assert_eq!(verify(signed(blank, &[(0, 1), (1, 2)], &[(0, 1), (1, 2)])), Err(Wrong::Newcomer(2)));
        assert_eq!(verify(signed(blank, &[(0, 1), (1, 2)], &[(0, 1), (2, 3)])), Ok(()));
    }

    #[test]
    fn one_key_at_two_places_makes_no_set_in_any_form() {
        let (old, _) = sets();
        type Change = fn(&mut AuthoritySet);
        let changes: [Change; 5] = [
            |set| set.authorities[1] = set.authorities[0],
            |set| set.authorities[1].sign = set.authorities[0].sign,
            |set| set.authorities[1].dh = set.authorities[0].dh,
            |set| (set.authorities[1].mesh, set.authorities[1].inner) = (set.authorities[0].dh, [0xfd; 16]),
            |set| (set.authorities[1].mesh, set.authorities[1].inner) = (set.authorities[1].dh, [0xfd; 16]),
        ];
        for (at, change) in changes.into_iter().enumerate() {
            let mut twice = old;
            change(&mut twice);
            let blank = record(1, [0; 32], &twice);
            let all = signed(blank, &[(0, 1), (1, 2), (2, 3)], &[(0, 1), (1, 2), (2, 3)]);
            assert_eq!(judge(&all), Err(Wrong::Set(Unsound::Twice(1))), "{at}");
            // A set like that decides nothing either.
            let by_twice = signed(record(1, [0; 32], &old), &[(0, 1), (1, 1)], &[(0, 1), (1, 2)]);
            assert_eq!(by_twice.verify(&twice, &FLEET, 0, &[0; 32]).err(), Some(Wrong::Old), "{at}");
        }
    }

    #[test]
    fn a_record_with_any_byte_changed_is_refused() {
        let good = good();
        for at in 0..size_of::<AuthorityRecord>() {
            let mut copy = good;
            copy.as_mut_bytes()[at] ^= 1 << (at % 8);
            assert!(judge(&copy).is_err(), "byte {at}");
        }
    }
}
