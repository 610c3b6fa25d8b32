//! The children of lifecycle, and what the death of one means for the node.

use calls::{Domain, Needed};
use wire::Phase;

/// Which children have died: a bit for each [`Domain`].
pub struct Children {
    dead: u32,
}

impl Children {
    pub const fn alive() -> Self {
        Self { dead: 0 }
    }

    /// Returns false if its death is known.
    pub fn bury(&mut self, child: Domain) -> bool {
        let known = self.is_dead(child);
        self.dead |= 1 << child as u32;
        !known
    }

    pub fn is_dead(&self, child: Domain) -> bool {
        self.dead & (1 << child as u32) != 0
    }
}

/// Whether a node in this phase can no longer be what it is without this domain.
pub const fn needed(domain: Domain, phase: Phase) -> bool {
    match domain.needed() {
        Needed::Never => false,
        Needed::UntilClaimed => !matches!(phase, Phase::Claimed),
        Needed::Always => true,
    }
}
