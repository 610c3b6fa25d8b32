//! The flash of a simulated node: it outlives the node's power, and can lose it at any word.

use std::{
    cell::{RefCell, RefMut},
    rc::Rc,
};

use crate::nor::{Chip, Cut, Nor};

/// Bytes of an erase block, as on the boards.
pub const BLOCK: usize = 256 << 10;

/// A flash; copies of the handle are the same one.
#[derive(Clone)]
pub struct Flash(Chip);

impl Default for Flash {
    fn default() -> Self {
        Self::of(Nor::new(BLOCK))
    }
}

impl Flash {
    pub fn new() -> Self {
        Self::default()
    }

    fn of(nor: Nor) -> Self {
        Self(Chip(Rc::new(RefCell::new(nor))))
    }

    /// The same contents, in another flash.
    pub fn copy(&self) -> Self {
        Self::of(self.nor().clone())
    }

    /// The chip itself.
    pub fn nor(&self) -> RefMut<'_, Nor> {
        self.0.0.borrow_mut()
    }

    /// What `store` has.
    pub fn chip(&self) -> Chip {
        self.0.clone()
    }

    /// Cuts the power there: from then on nothing is answered, until [`Self::restore`].
    pub fn cut_at(&self, cut: Cut) {
        self.nor().cut_at(cut);
    }

    /// Whether a cut has happened.
    pub fn is_cut(&self) -> bool {
        self.nor().is_dead()
    }

    /// Power is back.
    pub fn restore(&self) {
        self.nor().restore();
    }
}
