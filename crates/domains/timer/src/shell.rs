//! The domain as a platform runs it: its ports, made of what `system.xml` gives it, and the clock.

use calls::alarm::AlarmOf;
use pd::{Domain, Platform, Wake, fits};

use crate::{Channel, Clock, Ports};

pd::wires! { $crate
    read { beacon_in, claim_in, lifecycle_in, mesh_in, workload_in }
    write {}
    channels { beacon_id, claim_id, lifecycle_id, mesh_id, workload_id }
}

pub struct Shell<'a, C, K> {
    ports: Ports<'a>,
    clock: K,
    beacon: C,
    claim: C,
    lifecycle: C,
    mesh: C,
    workload: C,
}

impl<'a, C, K> Shell<'a, C, K> {
    pub fn new(wires: Wires<'a, C>, clock: K) -> Self {
        Self {
            ports: Ports {
                beacon: fits(AlarmOf::new(wires.beacon_in)),
                claim: fits(AlarmOf::new(wires.claim_in)),
                lifecycle: fits(AlarmOf::new(wires.lifecycle_in)),
                mesh: fits(AlarmOf::new(wires.mesh_in)),
                workload: fits(AlarmOf::new(wires.workload_in)),
            },
            clock,
            beacon: wires.beacon_id,
            claim: wires.claim_id,
            lifecycle: wires.lifecycle_id,
            mesh: wires.mesh_id,
            workload: wires.workload_id,
        }
    }
}

/// A platform that has a clock.
pub trait Machine<'a>: Platform<'a> {
    type Clock: Clock + 'a;

    fn clock(&mut self) -> Self::Clock;
}

/// The domain on a platform that looks up by name.
pub fn start<'a, M: Machine<'a>>(on: &mut M) -> Shell<'a, M::Channel, M::Clock> {
    let clock = on.clock();
    Shell::new(Wires::bind(on), clock)
}

impl<C: pd::Channel, K: Clock> Domain for Shell<'_, C, K> {
    fn step(&mut self, wake: &Wake) -> bool {
        let next = crate::step(wake.now, &mut self.ports);
        self.ports.signals(|channel| match channel {
            Channel::Beacon => self.beacon.notify(),
            Channel::Claim => self.claim.notify(),
            Channel::Lifecycle => self.lifecycle.notify(),
            Channel::Mesh => self.mesh.notify(),
            Channel::Workload => self.workload.notify(),
        });
        self.clock.arm(next)
    }
}
