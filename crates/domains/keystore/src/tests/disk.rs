//! A store that outlives the core, and fails in every way that a store can.

use std::{cell::RefCell, rc::Rc, vec::Vec};

use calls::store::{Progress, Record, Sealed, Slot, Store};

/// What goes wrong, from when on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The next write fails and changes nothing.
    Write,
    /// The next write is done, and what is read next is something else.
    ReadBack,
    /// The next write is done, and the read after it fails.
    Read,
    /// The power goes in the middle of the next write.
    Cut,
    /// Reads fail.
    Dead,
}

#[derive(Default)]
pub struct Inside {
    pub slots: [[Option<Sealed>; 2]; 2],
    pub fault: Option<Fault>,
    /// Every action takes until this is cleared.
    pub busy: bool,
    pub writes: Vec<Slot>,
    action: Option<(Slot, bool)>,
}

#[derive(Clone, Default)]
pub struct Disk(pub Rc<RefCell<Inside>>);

impl Disk {
    pub fn fail(&self, fault: Fault) {
        self.0.borrow_mut().fault = Some(fault);
    }

    pub fn set_busy(&self, busy: bool) {
        self.0.borrow_mut().busy = busy;
    }

    pub fn power_on(&self) {
        let mut inside = self.0.borrow_mut();
        inside.fault = None;
        inside.busy = false;
        inside.action = None;
    }

    pub fn writes(&self) -> usize {
        self.0.borrow().writes.len()
    }

    pub fn is_empty(&self) -> bool {
        self.0.borrow().slots.as_flattened().iter().all(Option::is_none)
    }

    /// Another disk with the same content.
    pub fn copy(&self) -> Self {
        let copy = Self::default();
        copy.0.borrow_mut().slots = self.0.borrow().slots;
        copy
    }

    pub fn slot(&self, record: Record, index: usize) -> Option<Sealed> {
        self.0.borrow().slots[record as usize][index]
    }

    pub fn set(&self, record: Record, index: usize, sealed: Option<Sealed>) {
        self.0.borrow_mut().slots[record as usize][index] = sealed;
    }
}

impl Store for Disk {
    fn begin_write(&mut self, slot: Slot, sealed: &Sealed) {
        let mut inside = self.0.borrow_mut();
        inside.writes.push(slot);
        inside.action = Some((slot, true));
        let value = match inside.fault {
            Some(Fault::Write) => return,
            Some(Fault::Cut) => None,
            _ => Some(*sealed),
        };
        inside.slots[slot.record as usize][usize::from(slot.index)] = value;
    }

    fn begin_read(&mut self, slot: Slot) {
        self.0.borrow_mut().action = Some((slot, false));
    }

    fn poll(&mut self, to: &mut Sealed) -> Progress {
        let mut inside = self.0.borrow_mut();
        let (slot, write) = inside.action.expect("nothing was begun");
        if inside.busy {
            return Progress::Busy;
        }
        let content = inside.slots[slot.record as usize][usize::from(slot.index)];
        match (inside.fault, write, content) {
            (Some(Fault::Write), true, _) | (Some(Fault::Read), false, _) => {
                inside.fault = None;
                Progress::Failed
            }
            (Some(Fault::Dead), false, _) => Progress::Failed,
            (Some(Fault::Cut), true, _) => Progress::Busy,
            (_, true, _) => Progress::Done,
            (_, false, None) => Progress::Empty,
            (fault, false, Some(sealed)) => {
                *to = sealed;
                if fault == Some(Fault::ReadBack) {
                    inside.fault = None;
                    to[40] ^= 1;
                }
                Progress::Done
            }
        }
    }
}
