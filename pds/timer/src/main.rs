//! The timer domain on seL4: a tick. It has a budget that is a small part of its period (`system.xml`), and while a
//! deadline is armed it gives the rest of each budget away and so runs once per period. While none is, it blocks.
//!
//! No device: the generic timer of AArch64 is not isolated on this SDK, and the boards' clocks are too coarse.
#![no_std]
#![no_main]

use calls::alarm::AlarmOf;
use platform::{Domain, Handler, channel, fits, now, read_only};
use sel4_microkit::protection_domain;
use timer::{Peer, Ports};

#[protection_domain]
fn init() -> impl Handler {
    let mut ports = Ports {
        beacon: fits(AlarmOf::new(read_only!(beacon_in))),
        claim: fits(AlarmOf::new(read_only!(claim_in))),
        lifecycle: fits(AlarmOf::new(read_only!(lifecycle_in))),
        mesh: fits(AlarmOf::new(read_only!(mesh_in))),
        workload: fits(AlarmOf::new(read_only!(workload_in))),
    };
    let (beacon, claim, lifecycle) = (channel!(beacon_id), channel!(claim_id), channel!(lifecycle_id));
    let (mesh, workload) = (channel!(mesh_id), channel!(workload_id));
    Domain::start(move |_| {
        let next = timer::step(now(), &mut ports);
        ports.signals(|peer| match peer {
            Peer::Beacon => beacon.notify(),
            Peer::Claim => claim.notify(),
            Peer::Lifecycle => lifecycle.notify(),
            Peer::Mesh => mesh.notify(),
            Peer::Workload => workload.notify(),
        });
        if next.is_some() {
            platform::rest();
        }
        next.is_some()
    })
}
