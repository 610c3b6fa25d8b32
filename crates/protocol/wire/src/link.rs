//! The four datagrams of UDP 8090: hello, find, open and the answer to an open.

use crypto::{AnchorPublic, AnchorSecret, Secret, Verified, dh, dh_public, label, sealed};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::{Hash, Ip, Key, Mac, Signature, U64, VERSION};

/// First bytes of every datagram.
pub const MAGIC: [u8; 4] = *b"GNSS";

#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Header {
    pub magic: [u8; 4],
    pub version: u8,
    pub kind: u8,
    pub zero: [u8; 2],
}

impl Header {
    const fn new(kind: u8) -> Self {
        Self { magic: MAGIC, version: VERSION, kind, zero: [0; 2] }
    }
}

/// A datagram of one kind: its length and header tell it from every other.
pub trait Datagram: FromBytes + IntoBytes + Immutable + KnownLayout + Unaligned + Sized {
    const KIND: u8;
    const SIZE: usize = size_of::<Self>();

    fn header(&self) -> &Header;

    /// The datagram, if length and header are exactly its own.
    fn parse(bytes: &[u8]) -> Option<&Self> {
        Self::ref_from_bytes(bytes).ok().filter(|this| *this.header() == Header::new(Self::KIND))
    }
}

macro_rules! datagram {
    ($name:ident, $kind:literal, $size:literal) => {
        impl Datagram for $name {
            const KIND: u8 = $kind;
            fn header(&self) -> &Header {
                &self.header
            }
        }
        const _: () = assert!(size_of::<$name>() == $size);
    };
}

/// What a hello says, sealed to the anchor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct HelloBody {
    pub fiduciary: Key,
    pub claim_key: Key,
    pub address: Ip,
    /// Fresh; an open must repeat it.
    pub nonce: [u8; 16],
    /// 0 unclaimed, 1 committed and waiting for the acknowledgement.
    pub committed: u8,
    pub zero: [u8; 7],
}

/// Node to ff02::1.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Hello {
    pub header: Header,
    pub ephemeral: Key,
    pub sealed: [u8; size_of::<HelloBody>()],
    pub tag: [u8; 16],
}

datagram!(Hello, 1, 160);

impl Hello {
    /// `None` only if the anchor's X25519 half is of small order.
    pub fn seal(anchor: &AnchorPublic, ephemeral: &Secret, body: &HelloBody) -> Option<Self> {
        let public = dh_public(ephemeral);
        let key = hello_key(&dh(ephemeral, &anchor.dh)?, &public, &anchor.dh);
        let header = Header::new(Self::KIND);
        let mut hello = Self { header, ephemeral: public, sealed: [0; _], tag: [0; 16] };
        hello.sealed.copy_from_slice(body.as_bytes());
        hello.tag = sealed::seal(&key, header.as_bytes(), &mut hello.sealed);
        Some(hello)
    }

    /// What it says, for the holder of the anchor's secret.
    pub fn open(&self, anchor: &AnchorSecret) -> Option<HelloBody> {
        let key = hello_key(&dh(&anchor.dh, &self.ephemeral)?, &self.ephemeral, &dh_public(&anchor.dh));
        let mut body = self.sealed;
        sealed::open(&key, self.header.as_bytes(), &mut body, &self.tag).then_some(())?;
        HelloBody::read_from_bytes(&body).ok()
    }
}

fn hello_key(shared: &Secret, ephemeral: &Key, anchor: &Key) -> Secret {
    crypto::derive(&[], &**shared, label::HELLO, &[ephemeral, anchor])
}

/// A node stores no find's counter that is this or above: it counts until the node is switched off, and then the stored one
/// does. So nobody who can sign finds can use them up for good.
pub const UNSTORED: u64 = 1 << 62;

/// Administrator to ff02::1. Draws one hello, opens nothing.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Find {
    pub header: Header,
    pub counter: U64,
    pub sender_ip: Ip,
    pub sender_mac: Mac,
    pub zero: [u8; 2],
    pub signature: Signature,
}

datagram!(Find, 2, 104);

impl Find {
    pub fn sign(anchor: &AnchorSecret, counter: u64, sender_ip: Ip, sender_mac: Mac) -> Self {
        let header = Header::new(Self::KIND);
        let counter = U64::new(counter);
        let mut find = Self { header, counter, sender_ip, sender_mac, zero: [0; 2], signature: [0; 64] };
        find.signature = crypto::sign(&anchor.sign, label::FIND, &[find.signed()]);
        find
    }

    pub fn verify(&self, anchor: &AnchorPublic) -> Option<Verified> {
        crypto::verify(&anchor.sign, label::FIND, &[self.signed()], &self.signature)
    }

    fn signed(&self) -> &[u8] {
        &self.as_bytes()[..Self::SIZE - 64]
    }
}

/// Administrator to ff02::1. Opens the gate of one node to one peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Open {
    pub header: Header,
    /// Hash of the F that is meant.
    pub target: Hash,
    /// From the hello that it follows.
    pub nonce: [u8; 16],
    pub sender_ip: Ip,
    pub sender_mac: Mac,
    pub zero: [u8; 2],
    pub ephemeral: Key,
    pub signature: Signature,
    /// Covers all before it, the signature too, so that only the holder of A can spend a signature check.
    pub mac: [u8; 16],
}

datagram!(Open, 3, 192);

/// What an open is about, besides the keys.
pub struct OpenFor<'a> {
    pub hello: &'a HelloBody,
    pub sender_ip: Ip,
    pub sender_mac: Mac,
}

impl Open {
    /// `None` only if the node's claim key is of small order.
    pub fn sign(anchor: &AnchorSecret, ephemeral: &Secret, about: &OpenFor<'_>) -> Option<Self> {
        let mut open = Self {
            header: Header::new(Self::KIND),
            target: open_target(&about.hello.fiduciary),
            nonce: about.hello.nonce,
            sender_ip: about.sender_ip,
            sender_mac: about.sender_mac,
            zero: [0; 2],
            ephemeral: dh_public(ephemeral),
            signature: [0; 64],
            mac: [0; 16],
        };
        open.signature = crypto::sign(&anchor.sign, label::OPEN, &[open.signed()]);
        let key = open_mac_key(&dh(&anchor.dh, &about.hello.claim_key)?);
        open.mac = crypto::mac16(&key, &[open.authenticated()]);
        Some(open)
    }

    /// The cheap check, with [`open_mac_key`].
    pub fn check_mac(&self, key: &Secret) -> bool {
        crypto::equal(&crypto::mac16(key, &[self.authenticated()]), &self.mac)
    }

    pub fn verify(&self, anchor: &AnchorPublic) -> Option<Verified> {
        crypto::verify(&anchor.sign, label::OPEN, &[self.signed()], &self.signature)
    }

    fn signed(&self) -> &[u8] {
        &self.as_bytes()[..Self::SIZE - 16 - 64]
    }

    fn authenticated(&self) -> &[u8] {
        &self.as_bytes()[..Self::SIZE - 16]
    }
}

/// How an open names its node.
pub fn open_target(fiduciary: &Key) -> Hash {
    crypto::hash(label::OPEN_TARGET, &[fiduciary])
}

/// Key of the cheap check, from the static-static secret of A and N.
pub fn open_mac_key(static_static: &Secret) -> Secret {
    crypto::derive(&[], &**static_static, label::OPEN_MAC, &[])
}

/// Node to the administrator, in answer to an open.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Answer {
    pub header: Header,
    pub ephemeral: Key,
    pub sealed_token: [u8; 16],
    pub tag: [u8; 16],
}

datagram!(Answer, 4, 72);

impl Answer {
    /// Sealed with the secrets of both the fresh key and N with the open's key: it proves N.
    /// `None` if the open's ephemeral key is of small order.
    pub fn seal(claim_key: &Secret, ephemeral: &Secret, open: &Open, token: &[u8; 16]) -> Option<Self> {
        let public = dh_public(ephemeral);
        let shared = [dh(ephemeral, &open.ephemeral)?, dh(claim_key, &open.ephemeral)?];
        let key = answer_key(&shared, &public, open);
        let header = Header::new(Self::KIND);
        let mut sealed_token = *token;
        let tag = sealed::seal(&key, header.as_bytes(), &mut sealed_token);
        Some(Self { header, ephemeral: public, sealed_token, tag })
    }

    /// The token, for the sender of `open`, who kept `ephemeral`.
    pub fn open(&self, claim_key: &Key, ephemeral: &Secret, open: &Open) -> Option<[u8; 16]> {
        let shared = [dh(ephemeral, &self.ephemeral)?, dh(ephemeral, claim_key)?];
        let key = answer_key(&shared, &self.ephemeral, open);
        let mut token = self.sealed_token;
        sealed::open(&key, self.header.as_bytes(), &mut token, &self.tag).then_some(token)
    }
}

fn answer_key(shared: &[Secret; 2], ephemeral: &Key, open: &Open) -> Secret {
    crypto::derive(&*shared[0], &*shared[1], label::ANSWER, &[ephemeral, open.as_bytes()])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn secret(byte: u8) -> Secret {
        Secret::new([byte; 32])
    }

    fn body() -> HelloBody {
        HelloBody {
            fiduciary: [1; 32],
            claim_key: dh_public(&secret(5)),
            address: [3; 16],
            nonce: [4; 16],
            committed: 0,
            zero: [0; 7],
        }
    }

    #[test]
    fn only_the_anchor_reads_a_hello() {
        let (anchor, other) = (AnchorSecret::from_seed(&[1; 32]), AnchorSecret::from_seed(&[2; 32]));
        let hello = Hello::seal(&anchor.public(), &secret(9), &body()).unwrap();
        let hello = *Hello::parse(hello.as_bytes()).unwrap();
        assert_eq!(hello.open(&anchor), Some(body()));
        assert_eq!(hello.open(&other), None);
        assert!(Find::parse(hello.as_bytes()).is_none());
    }

    #[test]
    fn every_bit_of_find_and_open_counts() {
        let anchor = AnchorSecret::from_seed(&[1; 32]);
        let find = Find::sign(&anchor, 5, [1; 16], [2; 6]);
        let about = OpenFor { hello: &body(), sender_ip: [1; 16], sender_mac: [2; 6] };
        let open = Open::sign(&anchor, &secret(6), &about).unwrap();
        let key = open_mac_key(&dh(&secret(5), &anchor.public().dh).unwrap());
        let accepts_find = |find: &Find| find.verify(&anchor.public()).is_some();
        let accepts_open = |open: &Open| open.check_mac(&key) && open.verify(&anchor.public()).is_some();
        assert!(accepts_find(&find) && accepts_open(&open));
        for bit in 0..Find::SIZE * 8 {
            let mut copy = find;
            copy.as_mut_bytes()[bit / 8] ^= 1 << (bit % 8);
            assert!(Find::parse(copy.as_bytes()).is_none_or(|find| !accepts_find(find)), "bit {bit}");
        }
        for bit in 0..Open::SIZE * 8 {
            let mut copy = open;
            copy.as_mut_bytes()[bit / 8] ^= 1 << (bit % 8);
            assert!(Open::parse(copy.as_bytes()).is_none_or(|open| !accepts_open(open)), "bit {bit}");
        }
    }

    #[test]
    fn an_answer_is_read_by_the_sender_of_the_open_and_proves_the_node() {
        let anchor = AnchorSecret::from_seed(&[1; 32]);
        let about = OpenFor { hello: &body(), sender_ip: [1; 16], sender_mac: [2; 6] };
        let open = Open::sign(&anchor, &secret(6), &about).unwrap();
        let answer = Answer::seal(&secret(5), &secret(7), &open, &[8; 16]).unwrap();
        assert_eq!(answer.open(&body().claim_key, &secret(6), &open), Some([8; 16]));
        assert_eq!(answer.open(&body().claim_key, &secret(3), &open), None);
        let impostor = Answer::seal(&secret(4), &secret(7), &open, &[8; 16]).unwrap();
        assert_eq!(impostor.open(&body().claim_key, &secret(6), &open), None);
    }

    proptest! {
        #[test]
        fn parsing_any_bytes_is_total(bytes in prop::collection::vec(any::<u8>(), 0..256)) {
            let _ = (Hello::parse(&bytes), Find::parse(&bytes), Open::parse(&bytes), Answer::parse(&bytes));
        }
    }
}
