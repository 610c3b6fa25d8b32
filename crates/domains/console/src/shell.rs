//! The domain as a platform runs it: its ports, made of what `system.xml` gives it, and the device.

use pd::{Domain, Wake, fits};
use shm::{cell::Reader, ring::Duplex};

use crate::{Channel, Console, Ports, Serial};

pd::wires! { $crate
    read { ticket_in, lifecycle_in, workload_beat }
    write { lifecycle_out }
    channels { keystore_id, lifecycle_id }
}

pub struct Shell<'a, C, S> {
    core: Console,
    ports: Ports<'a>,
    serial: S,
    keystore: C,
    lifecycle: C,
}

impl<'a, C, S> Shell<'a, C, S> {
    pub fn new(wires: Wires<'a, C>, serial: S) -> Self {
        Self {
            core: Console::new(),
            ports: Ports::new(
                fits(Reader::new(wires.ticket_in)),
                fits(Duplex::new(wires.lifecycle_out, wires.lifecycle_in)),
                fits(Reader::new(wires.workload_beat)),
            ),
            serial,
            keystore: wires.keystore_id,
            lifecycle: wires.lifecycle_id,
        }
    }
}

impl<C: pd::Channel, S: Serial> Domain for Shell<'_, C, S> {
    fn step(&mut self, _: &Wake) -> bool {
        let more = self.core.step(&mut self.ports, &mut self.serial);
        self.ports.signals(|channel| match channel {
            Channel::Keystore => self.keystore.notify(),
            Channel::Lifecycle => self.lifecycle.notify(),
        });
        more
    }
}
