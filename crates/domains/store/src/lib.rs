//! `store`: keeps what must outlive the power, and nothing of it can it read. Records of `keystore` and blocks of the
//! configuration come sealed, and go back as they were written or not at all.
//!
//! What it may do: lose everything, and give back an old state of everything. What it may not: change a record, or show one.
#![no_std]
#![forbid(unsafe_code)]

#[cfg(test)]
extern crate std;

mod flash;
pub mod shell;

use calls::store::{Refusal, for_keystore, for_lifecycle};
use shm::mailbox::Server;

pub use flash::{Absent, Flash, PAGE, Progress, WORD};

/// Its channels, by who is at the other end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Channel {
    Keystore,
    Lifecycle,
}

pub type KeystoreServer<'a> = Server<'a, { for_keystore::MAX_REQUEST }>;
pub type LifecycleServer<'a> = Server<'a, { for_lifecycle::MAX_REQUEST }>;

pub struct Ports<'a> {
    pub keystore: KeystoreServer<'a>,
    pub lifecycle: LifecycleServer<'a>,
}

impl Ports<'_> {
    pub fn signals(&mut self, mut notify: impl FnMut(Channel)) {
        if self.keystore.take_signal() {
            notify(Channel::Keystore);
        }
        if self.lifecycle.take_signal() {
            notify(Channel::Lifecycle);
        }
    }
}

/// The core.
pub struct Store<F> {
    flash: F,
}

impl<F: Flash> Store<F> {
    pub fn new(flash: F) -> Self {
        Self { flash }
    }

    /// Handles what has arrived, a bounded piece of it; true if there is more to do at once.
    pub fn step(&mut self, ports: &mut Ports<'_>) -> bool {
        let _ = self.flash.poll();
        if ports.keystore.take().is_ok_and(|call| call.is_none()) {
        } else {
            ports.keystore.refuse(Refusal::Failed.code());
        }
        if ports.lifecycle.take().is_ok_and(|call| call.is_none()) {
        } else {
            ports.lifecycle.refuse(Refusal::Failed.code());
        }
        false
    }
}
