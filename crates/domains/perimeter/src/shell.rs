//! The domain as a platform runs it: its ports, made of what `system.xml` gives it.

use pd::{Domain, Platform, Wake, fits};
use shm::{
    cell::{Reader, Writer},
    ring::Duplex,
};

use crate::{Channel, Perimeter, Ports};

pd::wires! { $crate
    read { net_nic, net_drops, lifecycle_in, mesh_stations, net_in, beacon_in, claim_in, mesh_in }
    write { lifecycle_out, mesh_drops, net_out, beacon_out, claim_out, mesh_out }
    channels { net_id, beacon_id, claim_id, mesh_id, lifecycle_id }
}

pub struct Shell<'a, C> {
    core: Perimeter,
    ports: Ports<'a>,
    net: C,
    beacon: C,
    claim: C,
    mesh: C,
    lifecycle: C,
}

impl<'a, C> Shell<'a, C> {
    pub fn new(wires: Wires<'a, C>) -> Self {
        Self {
            core: Perimeter::new(),
            ports: Ports {
                nic: fits(Reader::new(wires.net_nic)),
                net_drops: fits(Reader::new(wires.net_drops)),
                rules: fits(Reader::new(wires.lifecycle_in)),
                stations: fits(Reader::new(wires.mesh_stations)),
                report: fits(Writer::new(wires.lifecycle_out)),
                drops: fits(Writer::new(wires.mesh_drops)),
                net: fits(Duplex::new(wires.net_out, wires.net_in)),
                beacon: fits(Duplex::new(wires.beacon_out, wires.beacon_in)),
                claim: fits(Duplex::new(wires.claim_out, wires.claim_in)),
                mesh: fits(Duplex::new(wires.mesh_out, wires.mesh_in)),
            },
            net: wires.net_id,
            beacon: wires.beacon_id,
            claim: wires.claim_id,
            mesh: wires.mesh_id,
            lifecycle: wires.lifecycle_id,
        }
    }
}

/// The domain on a platform that looks up by name.
pub fn start<'a, P: Platform<'a>>(on: &mut P) -> Shell<'a, P::Channel> {
    Shell::new(Wires::bind(on))
}

impl<C: pd::Channel> Domain for Shell<'_, C> {
    fn step(&mut self, wake: &Wake) -> bool {
        let more = self.core.step(wake.now, &mut self.ports);
        self.ports.signals(|channel| match channel {
            Channel::Net => self.net.notify(),
            Channel::Beacon => self.beacon.notify(),
            Channel::Claim => self.claim.notify(),
            Channel::Mesh => self.mesh.notify(),
            Channel::Lifecycle => self.lifecycle.notify(),
        });
        more
    }
}
