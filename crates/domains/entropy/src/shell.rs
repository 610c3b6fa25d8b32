//! The domain as a platform runs it: its port, made of what `system.xml` gives it, and the source.

use pd::{Domain, Platform, Wake, fits};
use shm::cell::Writer;

use crate::{Channel, Entropy, Ports, Source};

pd::wires! { $crate
    read {}
    write { keystore_out }
    channels { keystore_id, lifecycle_id }
}

pub struct Shell<'a, C, S> {
    core: Entropy<S>,
    ports: Ports<'a>,
    keystore: C,
}

impl<'a, C, S: Source> Shell<'a, C, S> {
    pub fn new(wires: Wires<'a, C>, source: S) -> Self {
        Self {
            core: Entropy::new(source),
            ports: Ports { keystore: fits(Writer::new(wires.keystore_out)) },
            keystore: wires.keystore_id,
        }
    }
}

/// A platform that has the source.
pub trait Machine<'a>: Platform<'a> {
    type Source: Source + 'a;

    fn source(&mut self) -> Self::Source;
}

/// The domain on a platform that looks up by name.
pub fn start<'a, M: Machine<'a>>(on: &mut M) -> Shell<'a, M::Channel, M::Source> {
    let source = on.source();
    Shell::new(Wires::bind(on), source)
}

impl<C: pd::Channel, S: Source> Domain for Shell<'_, C, S> {
    fn step(&mut self, wake: &Wake) -> bool {
        // The keystore says nothing else than that it wants another block.
        let more = self.core.step(wake.by(self.keystore), &mut self.ports);
        self.ports.signals(|channel| match channel {
            Channel::Keystore => self.keystore.notify(),
        });
        more
    }
}
