//! The administrative fiduciary key A (and a ticket's one-node claim key): Ed25519 and X25519 from one seed.

use crate::{Secret, derive, dh_public, dh_usable, label, sign_public, sign_usable};

/// The private half. No `Debug`, no `Clone`; wiped on drop.
pub struct AnchorSecret {
    pub sign: Secret,
    pub dh: Secret,
}

/// The public half: what a node keeps as its anchor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AnchorPublic {
    pub sign: [u8; 32],
    pub dh: [u8; 32],
}

impl AnchorPublic {
    /// With its X25519 half a secret can be agreed, and its other half verifies.
    pub fn is_usable(&self) -> bool {
        dh_usable(&self.dh) && sign_usable(&self.sign)
    }
}

impl AnchorSecret {
    pub fn from_seed(seed: &[u8; 32]) -> Self {
        Self { sign: derive(&[], seed, label::ADMIN_SIGN, &[]), dh: derive(&[], seed, label::ADMIN_DH, &[]) }
    }

    pub fn public(&self) -> AnchorPublic {
        AnchorPublic { sign: sign_public(&self.sign), dh: dh_public(&self.dh) }
    }
}
