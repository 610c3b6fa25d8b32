//! Orders: what the owners of a node decide together. As many of its authority set as must sign the same bytes, wherever and
//! whenever each of them does; then whoever reaches the node delivers them.

use crypto::{AnchorSecret, Verified, label};
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::{
    Hash, Key, Signature, U32, U64,
    anchor::{Anchor, AnchorFile, AnchorIn},
    binding::configuration_hash,
    set::{AuthoritySet, MAX_AUTHORITIES, signed_by},
};

/// The longest order with its body.
pub const MAX_ORDER: usize = 4096;
/// The longest configuration that fits an order.
pub const MAX_CONFIGURATION: usize = MAX_ORDER - size_of::<Order>();

crate::numbers! {
    /// What is ordered.
    Kind {
        /// The body is the configuration from now on.
        Configuration = 1, "configuration";
        /// The body is the [`Isolation`] that ends.
        Rejoin = 2, "rejoin";
        /// The body is who may own the node next, a [`Release`].
        Release = 3, "release";
    }
}

/// What is signed, with its signatures; the body follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Order {
    /// [`Kind`] as a number.
    pub kind: U32,
    /// Of the body.
    pub length: U32,
    pub fleet: Hash,
    /// [`AuthoritySet::hash`] of those who sign: no other set's order is taken.
    pub set: Hash,
    /// F of the one node that it is for; all zero, with the epoch, if it is for every node of the fleet.
    pub fiduciary: Key,
    /// The epoch that the node has.
    pub epoch: U64,
    /// The administrator's rising counter.
    pub counter: U64,
    /// [`body_hash`].
    pub body: Hash,
    /// One place for each authority of the set, in its order; all zero for those that did not sign.
    pub signatures: [Signature; MAX_AUTHORITIES],
}

const _: () = assert!(size_of::<Order>() == 600);

impl Order {
    /// One that nobody has signed yet.
    pub fn new(kind: Kind, body: &[u8]) -> Self {
        let length = u32::try_from(body.len()).unwrap_or(u32::MAX);
        let kind_number = U32::new(kind as u32);
        Self { kind: kind_number, length: U32::new(length), body: body_hash(kind, body), ..Self::new_zeroed() }
    }

    pub fn kind(&self) -> Option<Kind> {
        Kind::from_number(self.kind.get().into())
    }

    /// Fills in the signature of the authority at `place`.
    pub fn sign(mut self, authority: &AnchorSecret, place: usize) -> Self {
        let signature = crypto::sign(&authority.sign, label::ORDER, &[self.signed()]);
        if let Some(to) = self.signatures.get_mut(place) {
            *to = signature;
        }
        self
    }

    /// Signed by as many of the authorities as the set needs, and none of the signatures that are there is false.
    pub fn verify(&self, set: &AuthoritySet) -> Option<Verified> {
        let authorities = set.check().ok()?;
        (self.kind().is_some() && self.set == set.hash()).then_some(())?;
        signed_by(authorities.iter().map(|one| &one.sign), set.needed, label::ORDER, self.signed(), &self.signatures)
    }

    /// That this signature of it is the key's, at whatever place.
    pub fn is_signed_by(&self, key: &Key, signature: &Signature) -> Option<Verified> {
        crypto::verify(key, label::ORDER, &[self.signed()], signature)
    }

    /// Of what is signed: whoever has signed it, it is the same order.
    pub fn hash(&self) -> Hash {
        crypto::hash(label::ORDER, &[self.signed()])
    }

    /// What the `apply` command names.
    pub fn short(&self) -> u32 {
        short(self.as_bytes())
    }

    /// Whether it is for this node: by its name, or because it is for all.
    pub fn is_for(&self, fiduciary: &Key) -> bool {
        self.fiduciary == *fiduciary || self.is_for_all()
    }

    /// The epoch of another node is none of this one's, so an order for all has none.
    pub fn is_of_epoch(&self, epoch: U64) -> bool {
        self.epoch == if self.is_for_all() { U64::new(0) } else { epoch }
    }

    fn is_for_all(&self) -> bool {
        self.fiduciary == [0; 32]
    }

    /// Whether this is its body, to the byte.
    pub fn carries(&self, body: &[u8]) -> bool {
        let long = usize::try_from(self.length.get()).is_ok_and(|length| length == body.len());
        long && self.kind().is_some_and(|kind| self.body == body_hash(kind, body))
    }

    fn signed(&self) -> &[u8] {
        &self.as_bytes()[..size_of::<Self>() - MAX_AUTHORITIES * 64]
    }
}

/// What names an order or a record that is staged.
pub(crate) fn short(bytes: &[u8]) -> u32 {
    let [a, b, c, d, ..] = crypto::hash(label::STAGED_HASH, &[bytes]);
    u32::from_be_bytes([a, b, c, d])
}

/// Of a configuration, what the warrant says too.
pub fn body_hash(kind: Kind, body: &[u8]) -> Hash {
    match kind {
        Kind::Configuration => configuration_hash(body),
        Kind::Rejoin | Kind::Release => crypto::hash(label::ORDER_BODY, &[body]),
    }
}

/// The command that isolated the node: an order that ends this isolation ends no later one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Isolation {
    /// Whose it was, by the place in the set.
    pub authority: U32,
    /// The command's counter.
    pub counter: U32,
}

const _: () = assert!(size_of::<Isolation>() == 8);

/// Who may own the node next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Release {
    /// The next anchor; all zero for a ticket that the node makes and shows.
    pub anchor: AnchorFile,
    /// 1: the next anchor may have keys of those who let the node go.
    pub same_owner: u8,
    pub zero: [u8; 3],
}

const _: () = assert!(size_of::<Release>() == 312);

impl Release {
    pub fn to_ticket() -> Self {
        Self::new_zeroed()
    }

    pub fn to_anchor(anchor: &Anchor, same_owner: bool) -> Self {
        Self { anchor: AnchorFile::new(anchor), same_owner: same_owner.into(), zero: [0; 3] }
    }

    /// The next anchor, or that there is to be a ticket. `None`: it is neither, or it is an anchor of those who let the node
    /// go, and it is not said that this is wanted.
    pub fn next(&self, set: &AuthoritySet, before: &AnchorFile) -> Option<AnchorIn> {
        (self.zero == [0; 3] && self.same_owner <= 1).then_some(())?;
        match self.anchor.read() {
            AnchorIn::Damaged => None,
            AnchorIn::None => Some(AnchorIn::None),
            AnchorIn::Some(next) => {
                let theirs = set.places().iter().any(|one| next.has_key_of(&one.sign, &one.dh));
                let again = match before.read() {
                    AnchorIn::Some(before) => next.shares_a_key_with(&before),
                    AnchorIn::None | AnchorIn::Damaged => false,
                };
                (self.same_owner == 1 || !(theirs || again)).then_some(AnchorIn::Some(next))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::set::Authority;

    fn key(n: u8) -> AnchorSecret {
        AnchorSecret::from_seed(&[n; 32])
    }

    fn set(keys: &[u8], needed: u8) -> AuthoritySet {
        let mut set = AuthoritySet::new_zeroed();
        (set.needed, set.count) = (needed, keys.len() as u8);
        for (to, n) in set.authorities.iter_mut().zip(keys) {
            *to = Authority::signer(&key(*n).public());
        }
        set
    }

    fn order(set: &AuthoritySet) -> Order {
        let mut order = Order::new(Kind::Rejoin, Isolation::default().as_bytes());
        (order.fiduciary, order.set) = ([9; 32], set.hash());
        order
    }

    #[test]
    fn an_order_needs_as_many_signatures_as_the_set_says_and_none_that_is_false() {
        let (two_of, three_of) = (set(&[1, 2, 3], 2), set(&[1, 2, 3], 3));
        let two = order(&two_of).sign(&key(1), 0).sign(&key(3), 2);
        assert!(two.verify(&two_of).is_some());
        assert!(order(&three_of).sign(&key(1), 0).sign(&key(3), 2).verify(&three_of).is_none());
        assert!(order(&three_of).sign(&key(1), 0).sign(&key(2), 1).sign(&key(3), 2).verify(&three_of).is_some());
        assert!(order(&two_of).verify(&two_of).is_none());
        assert!(two.sign(&key(1), 1).verify(&two_of).is_none(), "one key cannot fill two places");
        assert!(two.sign(&key(4), 3).verify(&two_of).is_none(), "a place past the set");
        let twice = set(&[1, 1, 2], 2);
        let by_one = order(&twice).sign(&key(1), 0).sign(&key(1), 1);
        assert!(by_one.verify(&twice).is_none(), "not even in a set that has it twice");
        for bit in 0..(size_of::<Order>() - 4 * 64) * 8 {
            let mut copy = two;
            copy.as_mut_bytes()[bit / 8] ^= 1 << (bit % 8);
            assert!(copy.verify(&two_of).is_none(), "bit {bit}");
        }
    }

    #[test]
    fn another_sets_order_is_refused_though_its_signers_are_the_same() {
        let (ours, theirs) = (set(&[1, 2, 3], 2), set(&[2, 1, 3], 2));
        let signed = order(&theirs).sign(&key(2), 0).sign(&key(1), 1);
        assert!(signed.verify(&theirs).is_some());
        assert!(signed.verify(&ours).is_none());
        let moved = order(&theirs).sign(&key(1), 0).sign(&key(2), 1);
        assert!(moved.verify(&ours).is_none(), "signed at our places for another set");
    }

    #[test]
    fn an_order_is_for_one_node_and_epoch_or_for_all() {
        let mut order = Order::new(Kind::Rejoin, &[]);
        (order.fiduciary, order.epoch) = ([9; 32], U64::new(3));
        assert!(order.is_for(&[9; 32]) && !order.is_for(&[8; 32]));
        assert!(order.is_of_epoch(U64::new(3)) && !order.is_of_epoch(U64::new(4)));
        order.fiduciary = [0; 32];
        assert!(order.is_for(&[9; 32]) && order.is_for(&[8; 32]));
        assert!(!order.is_of_epoch(U64::new(3)));
        order.epoch = U64::new(0);
        assert!(order.is_of_epoch(U64::new(3)) && order.is_of_epoch(U64::new(4)));
    }

    #[test]
    fn a_body_is_of_one_kind_and_of_its_length() {
        let body = [7; 8];
        for kind in Kind::ALL {
            let order = Order::new(*kind, &body);
            assert!(order.carries(&body));
            assert!(!order.carries(&body[1..]) && !order.carries(&[7; 9]) && !order.carries(&[8; 8]));
            let longer = Order { length: U32::new(9), ..order };
            assert!(!longer.carries(&body) && !longer.carries(&[7; 9]));
            let unknown = Order { kind: U32::new(9), ..order };
            assert!(!unknown.carries(&body));
        }
        assert_ne!(body_hash(Kind::Configuration, &body), body_hash(Kind::Release, &body));
    }

    #[test]
    fn an_anchor_of_those_who_let_the_node_go_is_next_only_if_that_is_said() {
        let set = set(&[1, 2, 3], 2);
        let none = AnchorFile::new_zeroed();
        let before = AnchorFile::new(&Anchor::new(&key(20).public(), 1, &[key(21).public().sign]).unwrap());
        let foreign = Anchor::alone(&key(30).public());
        assert_eq!(Release::to_anchor(&foreign, false).next(&set, &before), Some(AnchorIn::Some(foreign)));
        assert_eq!(Release::to_ticket().next(&set, &before), Some(AnchorIn::None));
        let theirs = [
            Anchor::alone(&key(2).public()),
            Anchor::new(&key(30).public(), 2, &[31, 1, 32].map(|n| key(n).public().sign)).unwrap(),
            Anchor::new(&key(3).public(), 1, &[key(31).public().sign]).unwrap(),
            Anchor::alone(&key(20).public()),
            Anchor::new(&key(30).public(), 1, &[key(21).public().sign]).unwrap(),
        ];
        for (at, anchor) in theirs.into_iter().enumerate() {
            assert_eq!(Release::to_anchor(&anchor, false).next(&set, &before), None, "{at}");
            assert_eq!(Release::to_anchor(&anchor, true).next(&set, &before), Some(AnchorIn::Some(anchor)), "{at}");
        }
        assert_eq!(
            Release::to_anchor(&theirs[3], false).next(&set, &none),
            Some(AnchorIn::Some(theirs[3])),
            "no anchor is known to have been before"
        );
        for at in 0..size_of::<Release>() {
            let mut damaged = Release::to_anchor(&foreign, false);
            damaged.as_mut_bytes()[at] ^= 2;
            assert_eq!(damaged.next(&set, &before), None, "byte {at}");
        }
    }
}
