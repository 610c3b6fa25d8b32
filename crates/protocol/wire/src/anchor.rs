//! `anchor.bin`: the public anchor as an image carries it.

use crypto::{AnchorPublic, label};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::Key;

pub const MAGIC: [u8; 8] = *b"GNSANCH1";

/// The file, and the first bytes of the region that the image prefills with it. All zero means that the image has none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct AnchorFile {
    pub magic: [u8; 8],
    pub sign: Key,
    pub dh: Key,
    pub check: [u8; 4],
}

/// What the bytes are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AnchorIn {
    /// All zero: the image carries no anchor.
    None,
    Some(AnchorPublic),
    /// Something that is no anchor, or keys that are good for nothing: the image is damaged.
    Damaged,
}

impl AnchorFile {
    pub fn new(anchor: &AnchorPublic) -> Self {
        let mut file = Self { magic: MAGIC, sign: anchor.sign, dh: anchor.dh, check: [0; 4] };
        file.check = file.checksum();
        file
    }

    pub fn read(&self) -> AnchorIn {
        let anchor = AnchorPublic { sign: self.sign, dh: self.dh };
        if self.as_bytes().iter().all(|byte| *byte == 0) {
            AnchorIn::None
        } else if self.magic == MAGIC && self.check == self.checksum() && anchor.is_usable() {
            AnchorIn::Some(anchor)
        } else {
            AnchorIn::Damaged
        }
    }

    fn checksum(&self) -> [u8; 4] {
        let [a, b, c, d, ..] = crypto::hash(label::CHECKSUM, &[&self.magic, &self.sign, &self.dh]);
        [a, b, c, d]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_it_wrote_and_tells_damage_from_absence() {
        let anchor = crypto::AnchorSecret::from_seed(&[1; 32]).public();
        let mut file = AnchorFile::new(&anchor);
        assert_eq!(file.read(), AnchorIn::Some(anchor));
        file.sign[3] ^= 1;
        assert_eq!(file.read(), AnchorIn::Damaged);
        assert_eq!(AnchorFile::new_zeroed().read(), AnchorIn::None);
    }

    #[test]
    fn keys_that_are_good_for_nothing_are_damage() {
        let anchor = crypto::AnchorSecret::from_seed(&[1; 32]).public();
        for unusable in [AnchorPublic { dh: [0; 32], ..anchor }, AnchorPublic { sign: [0; 32], ..anchor }] {
            assert_eq!(AnchorFile::new(&unusable).read(), AnchorIn::Damaged);
        }
    }

    use zerocopy::FromZeros;
}
