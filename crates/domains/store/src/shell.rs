//! The domain as a platform runs it: its ports, made of what `system.xml` gives it, and the flash.

use pd::{Domain, Platform, Wake, fits};
use shm::mailbox::Server;

use crate::{Channel, Flash, Ports, Store};

pd::wires! { $crate
    read { keystore_req, lifecycle_req }
    write { keystore_rep, lifecycle_rep }
    channels { keystore_id, lifecycle_id }
}

pub struct Shell<'a, C, F> {
    core: Store<F>,
    ports: Ports<'a>,
    keystore: C,
    lifecycle: C,
}

impl<'a, C, F: Flash> Shell<'a, C, F> {
    pub fn new(wires: Wires<'a, C>, flash: F) -> Self {
        Self {
            core: Store::new(flash),
            ports: Ports {
                keystore: fits(Server::new(wires.keystore_req, wires.keystore_rep)),
                lifecycle: fits(Server::new(wires.lifecycle_req, wires.lifecycle_rep)),
            },
            keystore: wires.keystore_id,
            lifecycle: wires.lifecycle_id,
        }
    }
}

/// A platform that has a flash.
pub trait Machine<'a>: Platform<'a> {
    type Flash: Flash + 'a;

    fn flash(&mut self) -> Self::Flash;
}

/// The domain on a platform that looks up by name.
pub fn start<'a, M: Machine<'a>>(on: &mut M) -> Shell<'a, M::Channel, M::Flash> {
    let flash = on.flash();
    Shell::new(Wires::bind(on), flash)
}

impl<C: pd::Channel, F: Flash> Domain for Shell<'_, C, F> {
    fn step(&mut self, wake: &Wake) -> bool {
        let more = self.core.step(wake.now, &mut self.ports);
        self.ports.signals(|channel| match channel {
            Channel::Keystore => self.keystore.notify(),
            Channel::Lifecycle => self.lifecycle.notify(),
        });
        more
    }
}
