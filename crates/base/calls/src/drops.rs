//! Frames that were dropped on the way between the device and a domain, by reason. Cells without a signal: the
//! writer publishes after each step that dropped a frame, the reader looks when it has something to do anyway, so that a
//! flood of frames wakes nobody for its sake.

use wire::telemetry::REASONS;
pub use wire::telemetry::Reason;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// `net` to `perimeter`: what `net` dropped. `perimeter` to `mesh`: what both dropped. Each number counts frames since
/// the domain that counts was started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Drops {
    /// By [`Reason`] as a number.
    pub by_reason: [u64; REASONS],
}

impl Drops {
    pub const NONE: Self = Self { by_reason: [0; REASONS] };

    /// One more.
    pub fn count(&mut self, reason: Reason) {
        if let Some(count) = self.by_reason.get_mut(usize::from(u8::from(reason))) {
            *count = count.saturating_add(1);
        }
    }

    /// How many for this reason.
    pub fn of(&self, reason: Reason) -> u64 {
        self.by_reason.get(usize::from(u8::from(reason))).copied().unwrap_or_default()
    }

    /// How many in all.
    pub fn all(&self) -> u64 {
        self.by_reason.iter().fold(0, |sum, count| sum.saturating_add(*count))
    }

    /// Both together. Whatever the other side wrote, the sum is a number.
    pub fn plus(&self, other: &Self) -> Self {
        let mut sum = *self;
        sum.by_reason.iter_mut().zip(other.by_reason).for_each(|(sum, count)| *sum = sum.saturating_add(count));
        sum
    }
}

impl<const N: usize> From<[(Reason, u64); N]> for Drops {
    fn from(counts: [(Reason, u64); N]) -> Self {
        let mut drops = Self::NONE;
        for (reason, count) in counts {
            if let Some(place) = drops.by_reason.get_mut(usize::from(u8::from(reason))) {
                *place = count;
            }
        }
        drops
    }
}
