//! The authority set: who owns a node, how many of them must sign, and where each is in the mesh.
//!
//! Plain signatures at fixed places: it is seen who has signed.

use core::fmt;

use crypto::{AnchorPublic, Label, Verified, label};
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::{Hash, Ip, Key, Signature, U16};

/// The most authorities in a set.
pub const MAX_AUTHORITIES: usize = 7;

/// One authority: its keys, and its place in the mesh, which one that only signs has not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Authority {
    /// Ed25519.
    pub sign: Key,
    /// X25519.
    pub dh: Key,
    /// Its WireGuard key, and with it all that follows; all zero without a place in the mesh.
    pub mesh: Key,
    /// Where it is inside the mesh, IPv6.
    pub inner: Ip,
    /// Where it is outside; all zero, with the port, if nobody knows and it speaks first.
    pub endpoint: Ip,
    pub port: U16,
    pub zero: [u8; 6],
}

const _: () = assert!(size_of::<Authority>() == 136);

impl Authority {
    /// One that signs and commands, without a place in the mesh.
    pub fn signer(keys: &AnchorPublic) -> Self {
        Self { sign: keys.sign, dh: keys.dh, ..Self::default() }
    }

    pub fn has_place(&self) -> bool {
        let Self { mesh, inner, endpoint, port, .. } = self;
        *mesh != [0; 32] || *inner != [0; 16] || *endpoint != [0; 16] || port.get() != 0
    }

    /// Whether it is the same as another by all of its keys, wherever it is in the mesh.
    pub fn has_keys_of(&self, other: &Self) -> bool {
        (self.sign, self.dh, self.mesh) == (other.sign, other.dh, other.mesh)
    }

    /// Its X25519 keys: whoever has one of them can agree what it can.
    fn agreeing(&self) -> impl Iterator<Item = &Key> {
        [&self.dh, &self.mesh].into_iter().take(if self.has_place() { 2 } else { 1 })
    }

    fn check(&self, place: usize) -> Result<(), Unsound> {
        let Self { sign, dh, mesh, inner, endpoint, port, zero } = self;
        if !crypto::sign_usable(sign) || !crypto::dh_usable(dh) {
            return Err(Unsound::Key(place));
        }
        let (known, anywhere) = (*endpoint != [0; 16], port.get() != 0);
        let placed = crypto::dh_usable(mesh) && is_host(inner) && known == anywhere && (!known || is_host(endpoint));
        if *zero != [0; 6] || (self.has_place() && !placed) {
            return Err(Unsound::Place(place));
        }
        Ok(())
    }
}

/// A host's IPv6 address: in ::/8 and ff00::/8 there are none.
fn is_host(ip: &Ip) -> bool {
    !matches!(ip[0], 0 | 0xff)
}

/// `needed` of the first `count` authorities must sign.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct AuthoritySet {
    pub needed: u8,
    pub count: u8,
    pub zero: [u8; 6],
    /// Those past `count` are all zero.
    pub authorities: [Authority; MAX_AUTHORITIES],
}

const _: () = assert!(size_of::<AuthoritySet>() == 960);

/// Whether so many of so many are a majority, and there is room for them.
pub(crate) fn majority(needed: u8, count: u8) -> Result<(), Unsound> {
    if count == 0 || usize::from(count) > MAX_AUTHORITIES {
        return Err(Unsound::Count);
    }
    if needed > count || 2 * u16::from(needed) <= u16::from(count) {
        return Err(Unsound::Majority);
    }
    Ok(())
}

/// Signed by so many of the keys, each at its own place, and none of the signatures that are there is false.
pub(crate) fn signed_by<'k>(
    keys: impl Iterator<Item = &'k Key> + Clone,
    needed: u8,
    label: Label,
    signed: &[u8],
    signatures: &[Signature; MAX_AUTHORITIES],
) -> Option<Verified> {
    let (mut good, mut last) = (0, None);
    for (place, signature) in signatures.iter().enumerate().filter(|(_, signature)| **signature != [0; 64]) {
        last = Some(crypto::verify(keys.clone().nth(place)?, label, &[signed], signature)?);
        good += 1;
    }
    last.filter(|_| good >= needed)
}

/// What is wrong with a set, or with an anchor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unsound {
    /// There is no authority, or there are more than fit.
    Count,
    /// So many are not the majority of all, or are more than there are.
    Majority,
    /// Bytes that mean nothing are not zero.
    Unused,
    /// The authority at this place has a key that is good for nothing, or in another than its canonical encoding.
    Key(usize),
    /// What it has of a place in the mesh is not all of one.
    Place(usize),
    /// The authority at this place has a key that one before it, or it itself, has too.
    Twice(usize),
    /// It has the inner address of one before it.
    Address(usize),
    /// The key that receives is good for nothing.
    Reception,
}

impl fmt::Display for Unsound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Count => write!(f, "it has no authority, or more than {MAX_AUTHORITIES}"),
            Self::Majority => f.write_str("those who must sign are no majority of it, or more than there are"),
            Self::Unused => f.write_str("it has bytes that mean nothing"),
            Self::Key(place) => write!(f, "authority {} has a key that nobody can have made", place + 1),
            Self::Place(place) => write!(f, "authority {} has only a part of a place in the mesh", place + 1),
            Self::Twice(place) => write!(f, "authority {} has one key twice, or one that another has too", place + 1),
            Self::Address(place) => write!(f, "authority {} has the inner address of another", place + 1),
            Self::Reception => f.write_str("the key that receives is one that nobody can have made"),
        }
    }
}

impl AuthoritySet {
    /// The set of one.
    pub fn alone(one: Authority) -> Self {
        let mut set = Self { needed: 1, count: 1, ..Self::new_zeroed() };
        set.authorities[0] = one;
        set
    }

    pub fn new(needed: u8, authorities: &[Authority]) -> Result<Self, Unsound> {
        let mut set = Self { needed, ..Self::new_zeroed() };
        let places = set.authorities.get_mut(..authorities.len()).ok_or(Unsound::Count)?;
        places.copy_from_slice(authorities);
        set.count = authorities.len() as u8;
        set.check()?;
        Ok(set)
    }

    /// The authorities, if the set is one that a node may be owned by: one key at two places would count as two of those who
    /// must sign, and of two minorities both could decide.
    pub fn check(&self) -> Result<&[Authority], Unsound> {
        majority(self.needed, self.count)?;
        let used = self.places();
        let unused = self.authorities.iter().skip(used.len());
        if self.zero != [0; 6] || !unused.clone().all(|place| *place == Authority::default()) {
            return Err(Unsound::Unused);
        }
        for (place, one) in used.iter().enumerate() {
            one.check(place)?;
            let before = || used.iter().take(place);
            let twice = before().any(|other| {
                other.sign == one.sign || one.agreeing().any(|key| other.agreeing().any(|its| its == key))
            });
            if twice || (one.has_place() && one.mesh == one.dh) {
                return Err(Unsound::Twice(place));
            }
            if one.has_place() && before().any(|other| other.inner == one.inner) {
                return Err(Unsound::Address(place));
            }
        }
        Ok(used)
    }

    /// Those that are there, whether or not the set is sound.
    pub fn places(&self) -> &[Authority] {
        self.authorities.get(..self.count.into()).unwrap_or_default()
    }

    pub fn hash(&self) -> Hash {
        crypto::hash(label::SET, &[self.as_bytes()])
    }
}

#[cfg(test)]
mod tests {
    use crypto::AnchorSecret;

    use super::*;

    fn signer(n: u8) -> Authority {
        Authority::signer(&AnchorSecret::from_seed(&[n; 32]).public())
    }

    /// One with a place in the mesh.
    fn placed(n: u8) -> Authority {
        let (mut inner, mut endpoint) = ([0xfd; 16], [0xfe; 16]);
        (inner[15], endpoint[15]) = (n, n);
        let mesh = AnchorSecret::from_seed(&[n + 100; 32]).public().dh;
        Authority { mesh, inner, endpoint, port: U16::new(51820), ..signer(n) }
    }

    fn set(needed: u8, authorities: &[Authority]) -> AuthoritySet {
        AuthoritySet::new(needed, authorities).unwrap()
    }

    #[test]
    fn the_majority_of_one_to_seven_must_sign() {
        let all: std::vec::Vec<Authority> = (1..=8).map(placed).collect();
        for count in 0..=8 {
            for needed in 0..=9 {
                let expected = match () {
                    () if count == 0 || count > 7 => Err(Unsound::Count),
                    () if needed > count || 2 * needed <= count => Err(Unsound::Majority),
                    () => Ok(()),
                };
                let made = AuthoritySet::new(needed as u8, &all[..count]);
                assert_eq!(made.map(|_| ()), expected, "{needed} of {count}");
                if let Ok(made) = made {
                    assert_eq!(made.check().unwrap(), &all[..count]);
                }
            }
        }
        let past = AuthoritySet { count: 8, ..set(4, &all[..7]) };
        assert_eq!(past.check(), Err(Unsound::Count));
        assert!(past.places().is_empty());
    }

    #[test]
    fn no_key_is_at_two_places_in_any_form() {
        let third = |change: fn(&mut Authority)| {
            let mut last = placed(3);
            change(&mut last);
            AuthoritySet::new(2, &[placed(1), signer(2), last]).map(|_| ())
        };
        assert_eq!(third(|_| ()), Ok(()));
        let twice: [fn(&mut Authority); 8] = [
            |one| *one = placed(1),
            |one| one.sign = placed(1).sign,
            |one| one.sign = signer(2).sign,
            |one| one.dh = signer(2).dh,
            |one| one.dh = placed(1).mesh,
            |one| one.mesh = placed(1).mesh,
            |one| one.mesh = signer(2).dh,
            |one| one.mesh = one.dh,
        ];
        for (at, change) in twice.into_iter().enumerate() {
            assert_eq!(third(change), Err(Unsound::Twice(2)), "{at}");
        }
        assert_eq!(third(|one| one.inner = placed(1).inner), Err(Unsound::Address(2)));
        // Of two who only sign, neither has an address.
        assert!(AuthoritySet::new(2, &[signer(1), signer(2), signer(3)]).is_ok());
        // Two behind one door have one endpoint.
        assert_eq!(third(|one| (one.endpoint, one.port) = (placed(1).endpoint, placed(1).port)), Ok(()));
    }

    #[test]
    fn keys_are_good_for_something_and_a_place_is_whole() {
        let second = |change: fn(&mut Authority)| {
            let mut last = placed(2);
            change(&mut last);
            AuthoritySet::new(2, &[signer(1), last]).map(|_| ())
        };
        let keys: [fn(&mut Authority); 5] = [
            |one| one.sign = [0; 32],
            |one| (one.sign, one.sign[0]) = ([0; 32], 1),
            |one| one.dh = [0; 32],
            |one| (one.dh, one.dh[0]) = ([0; 32], 1),
            |one| one.dh[31] |= 0x80,
        ];
        for (at, change) in keys.into_iter().enumerate() {
            assert_eq!(second(change), Err(Unsound::Key(1)), "{at}");
        }
        let places: [fn(&mut Authority); 10] = [
            |one| one.mesh = [0; 32],
            |one| one.mesh[31] |= 0x80,
            |one| one.inner = [0; 16],
            |one| one.inner[0] = 0xff,
            |one| one.inner[0] = 0,
            |one| one.endpoint = [0; 16],
            |one| one.endpoint[0] = 0xff,
            |one| one.port = U16::new(0),
            |one| one.zero[5] = 1,
            |one| *one = Authority { port: U16::new(1), ..signer(2) },
        ];
        for (at, change) in places.into_iter().enumerate() {
            assert_eq!(second(change), Err(Unsound::Place(1)), "{at}");
        }
        assert_eq!(second(|one| (one.endpoint, one.port) = ([0; 16], U16::new(0))), Ok(()));
        assert_eq!(second(|one| *one = signer(2)), Ok(()));
    }

    #[test]
    fn what_means_nothing_is_zero_and_every_bit_is_hashed() {
        let sound = set(2, &[placed(1), placed(2), signer(3)]);
        for at in (2..8).chain(8 + 3 * 136..960) {
            let mut copy = sound;
            copy.as_mut_bytes()[at] = 1;
            assert_eq!(copy.check(), Err(Unsound::Unused), "{at}");
        }
        for bit in 0..960 * 8 {
            let mut copy = sound;
            copy.as_mut_bytes()[bit / 8] ^= 1 << (bit % 8);
            assert_ne!(copy.hash(), sound.hash());
        }
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_judged_without_panic(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 960)) {
            let set = AuthoritySet::read_from_bytes(&bytes).unwrap();
            let _ = (set.check().is_ok(), set.places(), set.hash());
        }
    }
}
