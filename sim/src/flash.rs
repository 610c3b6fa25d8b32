//! Where a simulated node keeps its records: it outlives the node's power, and can lose it at any write.
//!
//! Until a driver and a log for real flash exist, what is simulated is the interface that the keystore sees: slots, of
//! which a write that is cut off leaves the old record or none.

use std::{
    cell::{RefCell, RefMut},
    collections::BTreeMap,
    rc::Rc,
};

use calls::store::{Progress, Sealed, Slot, Store};

use crate::nor::{Chip, Nor};

/// Bytes of an erase block, as on the boards.
const BLOCK: usize = 256 << 10;

/// A flash; copies of the handle are the same one.
#[derive(Clone)]
pub struct Flash(Rc<RefCell<Contents>>, Chip);

impl Default for Flash {
    fn default() -> Self {
        Self(Rc::default(), Chip(Rc::new(RefCell::new(Nor::new(BLOCK)))))
    }
}

#[derive(Clone, Default)]
struct Contents {
    slots: BTreeMap<(u8, u8), Sealed>,
    writes: u64,
    cut: Option<(u64, Tear)>,
    dead: bool,
}

/// What a cut leaves of the record that was being written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tear {
    /// What stood there before.
    Old,
    /// Nothing that can be read.
    Nothing,
    /// All of it, but nobody was told.
    New,
}

impl Flash {
    pub fn new() -> Self {
        Self::default()
    }

    /// The same contents, in another flash.
    pub fn copy(&self) -> Self {
        Self(Rc::new(RefCell::new(self.0.borrow().clone())), Chip(Rc::new(RefCell::new(self.nor().clone()))))
    }

    /// What `store` has.
    pub fn nor(&self) -> RefMut<'_, Nor> {
        self.1.0.borrow_mut()
    }

    /// The handle that `store` has of it.
    pub fn chip(&self) -> Chip {
        self.1.clone()
    }

    /// How many records were written so far.
    pub fn writes(&self) -> u64 {
        self.0.borrow().writes
    }

    /// Cuts the power at write number `write`, counted from 0: from then on nothing is answered, until [`Self::restore`].
    pub fn cut_at(&self, write: u64, tear: Tear) {
        self.0.borrow_mut().cut = Some((write, tear));
    }

    /// Whether a cut has happened.
    pub fn is_cut(&self) -> bool {
        self.0.borrow().dead
    }

    /// Power is back.
    pub fn restore(&self) {
        let mut contents = self.0.borrow_mut();
        (contents.cut, contents.dead) = (None, false);
        self.nor().restore();
    }
}

/// The keystore's handle.
pub struct Handle {
    flash: Flash,
    doing: Option<Slot>,
}

impl Handle {
    pub fn new(flash: &Flash) -> Self {
        Self { flash: flash.clone(), doing: None }
    }
}

fn key(slot: Slot) -> (u8, u8) {
    (slot.record as u8, slot.index)
}

impl Store for Handle {
    fn begin_write(&mut self, slot: Slot, sealed: &Sealed) {
        self.doing = None;
        let mut contents = self.flash.0.borrow_mut();
        let write = contents.writes;
        contents.writes += 1;
        match contents.cut {
            _ if contents.dead => {}
            Some((at, tear)) if at == write => {
                contents.dead = true;
                match tear {
                    Tear::Old => {}
                    Tear::Nothing => drop(contents.slots.remove(&key(slot))),
                    Tear::New => drop(contents.slots.insert(key(slot), *sealed)),
                }
            }
            _ => drop(contents.slots.insert(key(slot), *sealed)),
        }
    }

    fn begin_read(&mut self, slot: Slot) {
        self.doing = Some(slot);
    }

    fn poll(&mut self, to: &mut Sealed) -> Progress {
        let contents = self.flash.0.borrow();
        if contents.dead {
            return Progress::Busy;
        }
        match self.doing.map(|slot| contents.slots.get(&key(slot))) {
            None => Progress::Done,
            Some(None) => Progress::Empty,
            Some(Some(sealed)) => {
                *to = *sealed;
                Progress::Done
            }
        }
    }
}
