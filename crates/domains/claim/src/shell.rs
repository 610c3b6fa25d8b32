//! The domain as a platform runs it: its ports, made of what `system.xml` gives it.

use calls::{alarm::Alarm, params::Params};
use pd::{Domain, Platform, Wake, fits};
use shm::{cell::Reader, mailbox::Client, ring::Duplex};

use crate::{Channel, Claim, Memory, Ports};

pd::wires! { $crate
    read { params, lifecycle_in, lifecycle_rep, keystore_rep, perimeter_in }
    write { lifecycle_req, keystore_req, perimeter_out, timer_out }
    channels { keystore_id, perimeter_id, lifecycle_id, timer_id }
}

pub struct Shell<'a, C> {
    core: Claim<'a>,
    ports: Ports<'a>,
    keystore: C,
    perimeter: C,
    lifecycle: C,
    timer: C,
}

impl<'a, C> Shell<'a, C> {
    pub fn new(wires: Wires<'a, C>, memory: &'a mut Memory<'a>) -> Self {
        Self {
            core: Claim::new(memory, &Params::read(&wires.params)),
            ports: Ports {
                keystore: fits(Client::new(wires.keystore_req, wires.keystore_rep)),
                perimeter: fits(Duplex::new(wires.perimeter_out, wires.perimeter_in)),
                gate: fits(Reader::new(wires.lifecycle_in)),
                lifecycle: fits(Client::new(wires.lifecycle_req, wires.lifecycle_rep)),
                alarm: fits(Alarm::new(wires.timer_out)),
            },
            keystore: wires.keystore_id,
            perimeter: wires.perimeter_id,
            lifecycle: wires.lifecycle_id,
            timer: wires.timer_id,
        }
    }
}

/// The domain on a platform that looks up by name.
pub fn start<'a, P: Platform<'a>>(on: &mut P) -> Shell<'a, P::Channel> {
    let memory = on.memory(Memory::new);
    Shell::new(Wires::bind(on), memory)
}

impl<C: pd::Channel> Domain for Shell<'_, C> {
    fn step(&mut self, wake: &Wake) -> bool {
        let more = self.core.step(wake.now, &mut self.ports);
        self.ports.signals(|channel| match channel {
            Channel::Keystore => self.keystore.notify(),
            Channel::Perimeter => self.perimeter.notify(),
            Channel::Lifecycle => self.lifecycle.notify(),
            Channel::Timer => self.timer.notify(),
        });
        more
    }
}
