//! A store until there is one that lasts.

use calls::store::{Progress, RECORDS, Sealed, Slot, Store};

/// Keeps records until power-off. Nothing cuts off a write to it, so of each record it keeps the slot that was written last.
pub struct RamStore {
    newest: [Option<(u8, Sealed)>; RECORDS],
    reading: Option<Slot>,
}

impl RamStore {
    pub const fn new() -> Self {
        Self { newest: [None; _], reading: None }
    }
}

impl Default for RamStore {
    fn default() -> Self {
        Self::new()
    }
}

impl Store for RamStore {
    fn begin_write(&mut self, slot: Slot, sealed: &Sealed) {
        self.newest[slot.record as usize] = Some((slot.index, *sealed));
        self.reading = None;
    }

    fn begin_read(&mut self, slot: Slot) {
        self.reading = Some(slot);
    }

    fn poll(&mut self, to: &mut Sealed) -> Progress {
        let Some(slot) = self.reading else { return Progress::Done };
        match &self.newest[slot.record as usize] {
            Some((index, sealed)) if *index == slot.index => {
                to.copy_from_slice(sealed);
                Progress::Done
            }
            _ => Progress::Empty,
        }
    }
}
