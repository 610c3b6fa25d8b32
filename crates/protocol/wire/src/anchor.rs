//! `anchor.bin`: the public anchor as an image carries it.

use crypto::{AnchorPublic, label};
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::{
    Hash, Key,
    set::{MAX_AUTHORITIES, Unsound, majority},
};

pub const MAGIC: [u8; 8] = *b"GNSANCH2";
/// Of a file in which the key that receives is the one that signs: [`FIRST`] bytes.
pub const FIRST_MAGIC: [u8; 8] = *b"GNSANCH1";
/// Magic, keys, check.
pub const FIRST: usize = 8 + 64 + 4;

/// Who receives a node, and whose signatures its first owners need. The image's key alone finds and opens, and owns nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Anchor {
    pub reception: AnchorPublic,
    pub needed: u8,
    pub count: u8,
    /// Ed25519; those past `count` are all zero.
    pub signers: [Key; MAX_AUTHORITIES],
}

impl Anchor {
    /// The one who receives signs too: an image's of one key, and every ticket.
    pub fn alone(public: &AnchorPublic) -> Self {
        let mut signers = [[0; 32]; MAX_AUTHORITIES];
        signers[0] = public.sign;
        Self { reception: *public, needed: 1, count: 1, signers }
    }

    pub fn new(reception: &AnchorPublic, needed: u8, keys: &[Key]) -> Result<Self, Unsound> {
        let mut signers = [[0; 32]; MAX_AUTHORITIES];
        signers.get_mut(..keys.len()).ok_or(Unsound::Count)?.copy_from_slice(keys);
        let anchor = Self { reception: *reception, needed, count: keys.len() as u8, signers };
        anchor.check().map(|_| anchor)
    }

    /// The signing keys, if a node can be claimed by it.
    pub fn check(&self) -> Result<&[Key], Unsound> {
        majority(self.needed, self.count)?;
        let (used, unused) = self.signers.split_at_checked(self.count.into()).ok_or(Unsound::Count)?;
        if !unused.iter().all(|key| *key == [0; 32]) {
            return Err(Unsound::Unused);
        }
        for (place, key) in used.iter().enumerate() {
            if !crypto::sign_usable(key) {
                return Err(Unsound::Key(place));
            }
            if used.iter().take(place).any(|other| other == key) {
                return Err(Unsound::Twice(place));
            }
        }
        if self.reception.is_usable() { Ok(used) } else { Err(Unsound::Reception) }
    }

    /// Whether one of its keys is one of these.
    pub fn has_key_of(&self, sign: &Key, dh: &Key) -> bool {
        let signers = self.signers.iter().take(self.count.into());
        self.reception.sign == *sign || self.reception.dh == *dh || signers.clone().any(|key| key == sign)
    }

    pub fn shares_a_key_with(&self, other: &Self) -> bool {
        let AnchorPublic { sign, dh } = &other.reception;
        let mut signers = other.signers.iter().take(other.count.into());
        self.has_key_of(sign, dh) || signers.any(|key| self.has_key_of(key, dh))
    }
}

/// The file, and the first bytes of the region that the image prefills with it. All zero means that the image has none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct AnchorFile {
    pub magic: [u8; 8],
    pub sign: Key,
    pub dh: Key,
    pub needed: u8,
    pub count: u8,
    pub zero: [u8; 6],
    pub signers: [Key; MAX_AUTHORITIES],
    pub check: [u8; 4],
}

const _: () = assert!(size_of::<AnchorFile>() == 308);

/// What the bytes are.
// There is one of these, and no heap to put its parts on.
#[allow(clippy::large_enum_variant)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AnchorIn {
    /// All zero: the image carries no anchor.
    None,
    Some(Anchor),
    /// Something that is no anchor, or keys that are good for nothing: the image is damaged.
    Damaged,
}

impl AnchorFile {
    pub fn new(anchor: &Anchor) -> Self {
        let AnchorPublic { sign, dh } = anchor.reception;
        let Anchor { needed, count, signers, .. } = *anchor;
        let mut file = Self { magic: MAGIC, sign, dh, needed, count, zero: [0; 6], signers, check: [0; 4] };
        file.check = file.checksum();
        file
    }

    /// The bytes of a file of the first version, for an anchor of one key.
    pub fn first(public: &AnchorPublic) -> [u8; FIRST] {
        let mut bytes = [0; FIRST];
        bytes[..8].copy_from_slice(&FIRST_MAGIC);
        bytes[8..40].copy_from_slice(&public.sign);
        bytes[40..72].copy_from_slice(&public.dh);
        let check = checksum(&bytes[..FIRST - 4]);
        bytes[FIRST - 4..].copy_from_slice(&check);
        bytes
    }

    /// A whole file of either version.
    pub fn read_file(bytes: &[u8]) -> AnchorIn {
        let mut file = Self::new_zeroed();
        let magic = bytes.first_chunk();
        let length = if magic == Some(&FIRST_MAGIC) { FIRST } else { size_of::<Self>() };
        match file.as_mut_bytes().get_mut(..bytes.len()) {
            Some(to) if bytes.len() == length => to.copy_from_slice(bytes),
            _ => return AnchorIn::Damaged,
        }
        file.read()
    }

    pub fn read(&self) -> AnchorIn {
        if self.as_bytes().iter().all(|byte| *byte == 0) {
            return AnchorIn::None;
        }
        let reception = AnchorPublic { sign: self.sign, dh: self.dh };
        if self.magic == FIRST_MAGIC {
            let (file, rest) = self.as_bytes().split_at(FIRST);
            let whole = *file == Self::first(&reception) && rest.iter().all(|byte| *byte == 0);
            return if whole && reception.is_usable() {
                AnchorIn::Some(Anchor::alone(&reception))
            } else {
                AnchorIn::Damaged
            };
        }
        let anchor = Anchor { reception, needed: self.needed, count: self.count, signers: self.signers };
        let whole = self.magic == MAGIC && self.zero == [0; 6] && self.check == self.checksum();
        if whole && anchor.check().is_ok() { AnchorIn::Some(anchor) } else { AnchorIn::Damaged }
    }

    /// What a receipt of a release names.
    pub fn hash(&self) -> Hash {
        crypto::hash(label::ANCHOR_HASH, &[self.as_bytes()])
    }

    fn checksum(&self) -> [u8; 4] {
        checksum(&self.as_bytes()[..size_of::<Self>() - 4])
    }
}

fn checksum(bytes: &[u8]) -> [u8; 4] {
    let [a, b, c, d, ..] = crypto::hash(label::CHECKSUM, &[bytes]);
    [a, b, c, d]
}

#[cfg(test)]
mod tests {
    use crypto::AnchorSecret;

    use super::*;

    fn public(n: u8) -> AnchorPublic {
        AnchorSecret::from_seed(&[n; 32]).public()
    }

    #[test]
    fn reads_what_it_wrote_and_tells_damage_from_absence() {
        let alone = Anchor::alone(&public(1));
        let several = Anchor::new(&public(1), 2, &[public(2).sign, public(3).sign, public(1).sign]).unwrap();
        for anchor in [alone, several] {
            let file = AnchorFile::new(&anchor);
            assert_eq!(file.read(), AnchorIn::Some(anchor));
            assert_eq!(AnchorFile::read_file(file.as_bytes()), AnchorIn::Some(anchor));
            for at in 0..size_of::<AnchorFile>() {
                let mut damaged = file;
                damaged.as_mut_bytes()[at] ^= 1;
                assert_eq!(damaged.read(), AnchorIn::Damaged, "byte {at}");
            }
        }
        assert_eq!(AnchorFile::new_zeroed().read(), AnchorIn::None);
    }

    #[test]
    fn a_file_of_the_first_version_is_an_anchor_of_one_key() {
        let bytes = AnchorFile::first(&public(1));
        assert_eq!(AnchorFile::read_file(&bytes), AnchorIn::Some(Anchor::alone(&public(1))));
        for at in 0..FIRST {
            let mut damaged = bytes;
            damaged[at] ^= 1;
            assert_eq!(AnchorFile::read_file(&damaged), AnchorIn::Damaged, "byte {at}");
        }
        assert_eq!(AnchorFile::read_file(&bytes[..FIRST - 1]), AnchorIn::Damaged);
        // In an image zeros follow it.
        let mut region = AnchorFile::new_zeroed();
        region.as_mut_bytes()[..FIRST].copy_from_slice(&bytes);
        assert_eq!(region.read(), AnchorIn::Some(Anchor::alone(&public(1))));
        region.as_mut_bytes()[FIRST] = 1;
        assert_eq!(region.read(), AnchorIn::Damaged);
    }

    #[test]
    fn keys_that_are_good_for_nothing_and_no_majority_are_damage() {
        let alone = Anchor::alone(&public(1));
        let unusable = [AnchorPublic { dh: [0; 32], ..public(1) }, AnchorPublic { sign: [0; 32], ..public(1) }];
        for reception in unusable {
            assert_eq!(AnchorFile::new(&Anchor { reception, ..alone }).read(), AnchorIn::Damaged);
            assert_eq!(AnchorFile::read_file(&AnchorFile::first(&reception)), AnchorIn::Damaged);
        }
        let [one, two] = [2, 3].map(|n| public(n).sign);
        for (needed, keys) in [(1, &[one, two][..]), (0, &[one]), (2, &[one]), (2, &[one, one]), (2, &[one, [0; 32]])] {
            assert!(Anchor::new(&public(1), needed, keys).is_err(), "{needed} of {}", keys.len());
            let mut anchor = Anchor { needed, count: keys.len() as u8, ..alone };
            anchor.signers[..keys.len()].copy_from_slice(keys);
            assert_eq!(AnchorFile::new(&anchor).read(), AnchorIn::Damaged);
        }
        assert_eq!(Anchor::new(&public(1), 0, &[]), Err(Unsound::Count));
    }
}
