//! A tenant as a platform runs it: its ports, made of what `system.xml` gives the domain in this place.

use calls::{alarm::Alarm, params::Params};
use pd::{Domain, Platform, Wake, fits};
use shm::{
    Micros,
    cell::{Reader, Writer},
    ring::Duplex,
};

use crate::{Channel, Memory, Ports, Workload};

pd::wires! { $crate
    read { params, mesh_tenancy, mesh_in }
    write { mesh_beat, console_beat, mesh_out, timer_out }
    channels { mesh_id, console_id, timer_id, lifecycle_id }
}

/// Whoever lives in the workload's place: the sample in this crate, or somebody else's program.
pub trait Tenant {
    /// Does a bounded piece of work; true while there is more to do at once.
    fn step(&mut self, now: Micros, ports: &mut Ports<'_>) -> bool;
}

pub struct Shell<'a, C, T> {
    core: T,
    ports: Ports<'a>,
    mesh: C,
    console: C,
    timer: C,
}

impl<'a, C, T> Shell<'a, C, T> {
    pub fn new(wires: Wires<'a, C>, tenant: impl FnOnce(&Params) -> T) -> Self {
        Self {
            core: tenant(&Params::read(&wires.params)),
            ports: Ports {
                mesh: fits(Duplex::new(wires.mesh_out, wires.mesh_in)),
                tenancy: fits(Reader::new(wires.mesh_tenancy)),
                mesh_beat: fits(Writer::new(wires.mesh_beat)),
                console_beat: fits(Writer::new(wires.console_beat)),
                alarm: fits(Alarm::new(wires.timer_out)),
            },
            mesh: wires.mesh_id,
            console: wires.console_id,
            timer: wires.timer_id,
        }
    }
}

/// The sample on a platform that looks up by name.
pub fn start<'a, P: Platform<'a>>(on: &mut P) -> Shell<'a, P::Channel, Workload<'a>> {
    let memory = on.memory(Memory::new);
    Shell::new(Wires::bind(on), |params| Workload::new(memory, params))
}

impl<C: pd::Channel, T: Tenant> Domain for Shell<'_, C, T> {
    fn step(&mut self, wake: &Wake) -> bool {
        let more = self.core.step(wake.now, &mut self.ports);
        self.ports.signals(|channel| match channel {
            Channel::Mesh => self.mesh.notify(),
            Channel::Console => self.console.notify(),
            Channel::Timer => self.timer.notify(),
        });
        more
    }
}
