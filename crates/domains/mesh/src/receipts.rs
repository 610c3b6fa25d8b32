//! When the node's receipt is sent: three times after what it is for, because each may be lost, and when it is asked for.

use shm::Micros;

const TIMES: u8 = 3;
const APART_MICROS: Micros = 1_000_000;

pub struct Receipts {
    left: u8,
    at: Micros,
}

impl Receipts {
    pub const fn none() -> Self {
        Self { left: 0, at: 0 }
    }

    /// There is a new one.
    pub fn made(&mut self, now: Micros) {
        *self = Self { left: TIMES, at: now };
    }

    /// An authority wants to see it.
    pub fn asked(&mut self, now: Micros) {
        *self = Self { left: self.left.max(1), at: now };
    }

    pub fn is_due(&self, now: Micros) -> bool {
        self.deadline().is_some_and(|at| now >= at)
    }

    /// The keystore is being asked for it.
    pub fn take(&mut self, now: Micros) {
        *self = Self { left: self.left.saturating_sub(1), at: now.saturating_add(APART_MICROS) };
    }

    pub fn deadline(&self) -> Option<Micros> {
        (self.left > 0).then_some(self.at)
    }
}
