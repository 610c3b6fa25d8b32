//! Frames that were dropped on the way between the device and a domain, by whom it concerns. Cells without a signal: the
//! writer publishes after each step that dropped a frame, the reader looks when it has something to do anyway, so that a
//! flood of frames wakes nobody for its sake.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// `net` to `perimeter`: what `net` dropped. `perimeter` to `mesh`: what both dropped. Each number counts frames since
/// the domain that counts was started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Drops {
    /// From the link, and no whole frame: lengths that disagree or that no frame has, a checksum that does not fit.
    pub malformed: u64,
    /// From the link, whole, and nothing that the rules let in.
    pub refused: u64,
    /// What a domain of the node handed over and should not have: a frame that the rules do not let out or that is none, a
    /// broken ring. A sound node has next to none: a domain may hear of new rules a moment late.
    pub own: u64,
    /// For which the next ring had no room, either way.
    pub full: u64,
}

impl Drops {
    pub const NONE: Self = Self { malformed: 0, refused: 0, own: 0, full: 0 };

    /// Both together. Whatever the other side wrote, the sum is a number.
    pub const fn plus(&self, other: &Self) -> Self {
        Self {
            malformed: self.malformed.saturating_add(other.malformed),
            refused: self.refused.saturating_add(other.refused),
            own: self.own.saturating_add(other.own),
            full: self.full.saturating_add(other.full),
        }
    }
}
