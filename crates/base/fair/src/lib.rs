//! Who is heard when more comes than can be looked at: a budget per second, and among those that wait a choice at random,
//! so that nobody gains by being first or by knowing when.
#![no_std]
#![forbid(unsafe_code)]

#[cfg(test)]
extern crate std;

#[cfg(test)]
mod tests;

use clock::{Micros, SECOND};

/// A generator that draws numbers.
pub trait Draw {
    /// Uniform below `range`; 0 if that is 0.
    fn below(&mut self, range: u32) -> u32;
}

/// A budget of so many per second, saved up for a second at most. Time alone refills it: no timer runs for it.
pub struct Budget {
    interval: Micros,
    /// When the next one may be spent.
    at: Micros,
}

impl Budget {
    /// 0 counts as 1: who looks at nothing cannot be reached.
    pub const fn new(per_second: u64) -> Self {
        Self { interval: SECOND / if per_second == 0 { 1 } else { per_second }, at: 0 }
    }

    /// From when on the next one may be spent.
    pub fn ready_at(&self) -> Micros {
        self.at
    }

    /// False: nothing is left.
    pub fn spend(&mut self, now: Micros) -> bool {
        let ready = self.at <= now;
        if ready {
            self.at = self.at.max(now.saturating_sub(SECOND)).saturating_add(self.interval);
        }
        ready
    }
}

/// Of all that arrived since one was taken, each has the same chance to be among those that wait, `N` at most.
pub struct Reservoir<T, const N: usize> {
    items: [Option<T>; N],
    arrived: u32,
}

impl<T, const N: usize> Default for Reservoir<T, N> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T, const N: usize> Reservoir<T, N> {
    pub const fn new() -> Self {
        Self { items: [const { None }; N], arrived: 0 }
    }

    pub fn is_empty(&self) -> bool {
        self.items.iter().all(Option::is_none)
    }

    pub fn is_full(&self) -> bool {
        self.items.iter().all(Option::is_some)
    }

    pub fn clear(&mut self) {
        *self = Self::new();
    }

    /// One that waits, to be replaced by a newer one of its kind: that is no arrival.
    pub fn find(&mut self, mut wanted: impl FnMut(&T) -> bool) -> Option<&mut T> {
        self.items.iter_mut().flatten().find(|item| wanted(item))
    }

    /// Adds one that has arrived. Without a draw the first ones stay. True: it pushed out another, or was itself not kept.
    pub fn add(&mut self, item: T, draw: Option<&mut impl Draw>) -> bool {
        self.arrived = self.arrived.saturating_add(1);
        if let Some(free) = self.items.iter_mut().find(|place| place.is_none()) {
            *free = Some(item);
            return false;
        }
        if let Some(drawn) = draw.and_then(|draw| self.items.get_mut(draw.below(self.arrived) as usize)) {
            *drawn = Some(item);
        }
        true
    }

    /// One of those that wait, any of them. The rest count as arrived now, so that what comes next has a fair chance too.
    pub fn take(&mut self, draw: &mut impl Draw) -> Option<T> {
        let count = self.items.iter().flatten().count() as u32;
        let drawn = draw.below(count) as usize;
        let taken = self.items.iter_mut().filter(|item| item.is_some()).nth(drawn)?.take();
        self.arrived = count.saturating_sub(1);
        taken
    }
}
