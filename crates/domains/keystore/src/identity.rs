//! What is derived: the node's keys and address from the root seed, what an anchor is good for, and the keys of the
//! authorities' commands.

use crypto::{Secret, derive, dh, dh_public, label, sign_public};
use wire::{
    Ip, Key,
    command::{self, Command},
    link,
    set::MAX_AUTHORITIES,
    title::Title,
};

/// Everything under the root seed. Made only from a record that is committed.
pub struct Keys {
    /// F, as its Ed25519 seed.
    pub fiduciary: Secret,
    /// N.
    pub claim: Secret,
    pub public: PublicKeys,
}

/// What others may know of them.
pub struct PublicKeys {
    pub fiduciary: Key,
    pub claim: Key,
    /// W's. The private half is derived again where it is needed.
    pub mesh: Key,
    /// The link-local address.
    pub address: Ip,
}

impl Keys {
    pub fn derive(root: &[u8; 32]) -> Self {
        let fiduciary = derive(&[], root, label::FIDUCIARY, &[]);
        let claim = derive(&[], root, label::CLAIM_KEY, &[]);
        let public = PublicKeys {
            fiduciary: sign_public(&fiduciary),
            claim: dh_public(&claim),
            mesh: dh_public(&mesh_key(root)),
            address: link_local(*derive(&[], root, label::LINK_ADDRESS, &[])),
        };
        Self { fiduciary, claim, public }
    }
}

/// W.
pub fn mesh_key(root: &[u8; 32]) -> Secret {
    derive(&[], root, label::MESH_KEY, &[])
}

/// fe80::/64 with this interface id. No bit of it has a meaning (RFC 7136); those ids that are
/// reserved (RFC 5453 and its registry) are moved out of their ranges.
fn link_local(mut id: [u8; 8]) -> Ip {
    let reserved = match id {
        // Subnet-router anycast.
        [0, 0, 0, 0, 0, 0, 0, 0] => true,
        // IANA's own, under its Ethernet prefix.
        [0x02, 0x00, 0x5e, 0xff, 0xfe, ..] => true,
        // Subnet anycast.
        [0xfd, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x80..=0xff] => true,
        _ => false,
    };
    if reserved {
        // No range holds both values of this bit.
        id[0] ^= 0x80;
    }
    let mut address = [0; 16];
    address[..2].copy_from_slice(&[0xfe, 0x80]);
    address[8..].copy_from_slice(&id);
    address
}

/// The anchor against which a claim is verified.
pub struct Anchor {
    pub keys: wire::anchor::Anchor,
    /// Where it comes from: one of [`calls::keystore::anchor`].
    pub kind: u8,
    /// Key of the cheap check of an open, from N and the anchor: computed once.
    pub open_key: Secret,
}

impl Anchor {
    /// `None` if the anchor's X25519 half is of small order.
    pub fn new(anchor: wire::anchor::Anchor, kind: u8, keys: &Keys) -> Option<Self> {
        let open_key = link::open_mac_key(&dh(&keys.claim, &anchor.reception.dh)?);
        Some(Self { keys: anchor, kind, open_key })
    }
}

/// The keys of an owned node's commands: computed once for a binding and a set, from N.
#[derive(Default)]
pub struct CommandKeys([Option<Secret>; MAX_AUTHORITIES]);

impl CommandKeys {
    /// The set is committed, so each of its authorities has a key that a secret can be agreed with.
    pub fn new(title: &Title, keys: &Keys) -> Self {
        let mut all = Self::default();
        for (key, authority) in all.0.iter_mut().zip(title.set.places()) {
            *key = command::key(&keys.claim, &authority.dh, title);
        }
        all
    }

    /// Which authority has made a command.
    pub fn author(&self, command: &Command) -> Option<usize> {
        self.0.iter().position(|key| key.as_ref().is_some_and(|key| command.check(key)))
    }
}

#[cfg(test)]
mod tests {
    use calls::keystore::AnchorKind;

    use super::*;

    #[test]
    fn keys_are_distinct_and_hang_on_the_root_seed() {
        let keys = Keys::derive(&[1; 32]);
        let secrets = [&keys.fiduciary, &keys.claim, &mesh_key(&[1; 32])];
        for (i, a) in secrets.iter().enumerate() {
            assert!(secrets[..i].iter().all(|b| a != b));
            assert_ne!(***a, [1; 32]);
        }
        let other = Keys::derive(&[2; 32]);
        assert_ne!(keys.public.fiduciary, other.public.fiduciary);
        assert_ne!(keys.public.claim, other.public.claim);
        assert_ne!(keys.public.mesh, other.public.mesh);
        assert_ne!(keys.public.address, other.public.address);
        assert_eq!(keys.public.address, Keys::derive(&[1; 32]).public.address);
        assert_eq!(keys.public.address[..8], [0xfe, 0x80, 0, 0, 0, 0, 0, 0]);
    }

    #[test]
    fn a_reserved_interface_id_is_never_used() {
        let reserved = |id: u64| {
            id == 0
                || (0x0200_5eff_fe00_0000..=0x0200_5eff_feff_ffff).contains(&id)
                || (0xfdff_ffff_ffff_ff80..0xfe00_0000_0000_0000).contains(&id)
        };
        let edges = [
            0,
            1,
            0x0200_5eff_fdff_ffff,
            0x0200_5eff_fe00_0000,
            0x0200_5eff_fe00_5213,
            0x0200_5eff_feff_ffff,
            0x0200_5eff_ff00_0000,
            0xfdff_ffff_ffff_ff7f,
            0xfdff_ffff_ffff_ff80,
            0xfdff_ffff_ffff_ffff,
            0xfe00_0000_0000_0000,
            u64::MAX,
        ];
        for id in edges {
            let address = link_local(id.to_be_bytes());
            let used = u64::from_be_bytes(address[8..].try_into().unwrap());
            assert!(!reserved(used), "{id:x}");
            assert_eq!(used == id, !reserved(id), "{id:x}");
        }
    }

    #[test]
    fn an_anchor_of_small_order_is_unusable() {
        let mut public = crypto::AnchorSecret::from_seed(&[1; 32]).public();
        assert!(
            public.is_usable()
                && Anchor::new(wire::anchor::Anchor::alone(&public), AnchorKind::Image as u8, &Keys::derive(&[1; 32]))
                    .is_some()
        );
        for dh in [[0; 32], [[1, 0].as_slice(), &[0; 30]].concat().try_into().unwrap()] {
            public.dh = dh;
            assert!(
                !public.is_usable()
                    && Anchor::new(
                        wire::anchor::Anchor::alone(&public),
                        AnchorKind::Image as u8,
                        &Keys::derive(&[1; 32])
                    )
                    .is_none()
            );
        }
    }
}
