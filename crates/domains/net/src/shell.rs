//! The domain as a platform runs it: its ports, made of what `system.xml` gives it, and the device.

use pd::{Domain, Platform, Wake, fits};
use shm::{cell::Writer, ring::Duplex};

use crate::{Channel, Device, Net, Ports};

pd::wires! { $crate
    read { perimeter_in }
    write { perimeter_nic, perimeter_drops, perimeter_out }
    channels { perimeter_id, lifecycle_id }
}

pub struct Shell<'a, C, D> {
    core: Net,
    ports: Ports<'a>,
    /// A platform that takes the device's interrupts does that around [`Domain::step`].
    pub device: D,
    perimeter: C,
}

impl<'a, C, D> Shell<'a, C, D> {
    pub fn new(wires: Wires<'a, C>, device: D) -> Self {
        Self {
            core: Net::new(),
            ports: Ports {
                nic: fits(Writer::new(wires.perimeter_nic)),
                drops: fits(Writer::new(wires.perimeter_drops)),
                perimeter: fits(Duplex::new(wires.perimeter_out, wires.perimeter_in)),
            },
            device,
            perimeter: wires.perimeter_id,
        }
    }

    /// See [`Net::blocked`].
    pub fn blocked(&self) -> bool {
        self.core.blocked()
    }
}

/// A platform that has the network card.
pub trait Machine<'a>: Platform<'a> {
    type Nic: Device + 'a;

    fn nic(&mut self) -> Self::Nic;
}

/// The domain on a platform that looks up by name.
pub fn start<'a, M: Machine<'a>>(on: &mut M) -> Shell<'a, M::Channel, M::Nic> {
    let nic = on.nic();
    Shell::new(Wires::bind(on), nic)
}

impl<C: pd::Channel, D: Device> Domain for Shell<'_, C, D> {
    fn step(&mut self, _: &Wake) -> bool {
        let more = self.core.step(&mut self.ports, &mut self.device);
        self.ports.signals(|channel| match channel {
            Channel::Perimeter => self.perimeter.notify(),
        });
        more
    }
}
