//! The domain as a platform runs it: its ports, made of what `system.xml` gives it.

use calls::{alarm::Alarm, params::Params};
use pd::{Domain, Platform, Wake, fits};
use shm::{
    cell::{Reader, Writer},
    mailbox::Client,
    ring::Duplex,
};

use crate::{Channel, Memory, Mesh, Ports};

pd::wires! { $crate
    read {
        params, keystore_rep, lifecycle_in, lifecycle_rep, lifecycle_account, perimeter_in, perimeter_drops, workload_in,
        workload_beat,
    }
    write {
        keystore_req, lifecycle_req, perimeter_out, perimeter_stations, workload_out, workload_tenancy, timer_out,
    }
    channels { keystore_id, lifecycle_id, perimeter_id, workload_id, timer_id }
}

pub struct Shell<'a, C> {
    core: Mesh<'a>,
    ports: Ports<'a>,
    keystore: C,
    lifecycle: C,
    perimeter: C,
    workload: C,
    timer: C,
}

impl<'a, C> Shell<'a, C> {
    pub fn new(wires: Wires<'a, C>, memory: &'a mut Memory) -> Self {
        Self {
            core: Mesh::new(memory, &Params::read(&wires.params)),
            ports: Ports {
                keystore: fits(Client::new(wires.keystore_req, wires.keystore_rep)),
                lifecycle: fits(Client::new(wires.lifecycle_req, wires.lifecycle_rep)),
                membership: fits(Reader::new(wires.lifecycle_in)),
                perimeter: fits(Duplex::new(wires.perimeter_out, wires.perimeter_in)),
                stations: fits(Writer::new(wires.perimeter_stations)),
                drops: fits(Reader::new(wires.perimeter_drops)),
                account: fits(Reader::new(wires.lifecycle_account)),
                workload: fits(Duplex::new(wires.workload_out, wires.workload_in)),
                tenancy: fits(Writer::new(wires.workload_tenancy)),
                heartbeat: fits(Reader::new(wires.workload_beat)),
                alarm: fits(Alarm::new(wires.timer_out)),
            },
            keystore: wires.keystore_id,
            lifecycle: wires.lifecycle_id,
            perimeter: wires.perimeter_id,
            workload: wires.workload_id,
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
            Channel::Lifecycle => self.lifecycle.notify(),
            Channel::Perimeter => self.perimeter.notify(),
            Channel::Workload => self.workload.notify(),
            Channel::Timer => self.timer.notify(),
        });
        more
    }
}
