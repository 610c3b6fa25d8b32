//! Domain to `timer`: the one deadline at which the domain wants to be notified. Nothing flows back but the notification.

use shm::{Micros, ReadOnly, ReadWrite, TooSmall, cell};

/// The domain's end.
pub struct Alarm<'a> {
    cell: cell::Writer<'a, u64>,
    set: Option<Micros>,
}

impl<'a> Alarm<'a> {
    pub fn new(region: ReadWrite<'a>) -> Result<Self, TooSmall> {
        let mut cell = cell::Writer::new(region)?;
        // A predecessor's deadline is not this one's.
        cell.publish(&0);
        Ok(Self { cell, set: None })
    }

    /// Asks to be woken at `deadline`, or never. `timer` is notified only of a change.
    pub fn set(&mut self, deadline: Option<Micros>) {
        if deadline != self.set {
            self.set = deadline;
            self.cell.publish(&deadline.map_or(0, |at| at.max(1)));
        }
    }

    pub fn take_signal(&mut self) -> bool {
        self.cell.take_signal()
    }
}

/// The timer's end.
pub struct AlarmOf<'a> {
    cell: cell::Reader<'a, u64>,
    at: Option<Micros>,
    signal: bool,
}

impl<'a> AlarmOf<'a> {
    pub fn new(region: ReadOnly<'a>) -> Result<Self, TooSmall> {
        Ok(Self { cell: cell::Reader::new(region)?, at: None, signal: false })
    }

    /// Takes a new deadline, and signals one that has passed, once. Returns the one still to come.
    pub fn poll(&mut self, now: Micros) -> Option<Micros> {
        if let Some(at) = self.cell.poll() {
            self.at = (at != 0).then_some(at);
        }
        if self.at.is_some_and(|at| at <= now) {
            self.at = None;
            self.signal = true;
        }
        self.at
    }

    pub fn take_signal(&mut self) -> bool {
        core::mem::take(&mut self.signal)
    }
}
