//! The timer domain on native.

use calls::alarm::AlarmOf;
use native::pd::{Domain, Heap, fits};
use timer::{Peer, Ports, step};

#[global_allocator]
static HEAP: Heap = Heap;

fn main() -> ! {
    let domain = Domain::start();
    let mut ports = Ports {
        beacon: fits(AlarmOf::new(domain.read("beacon_in"))),
        claim: fits(AlarmOf::new(domain.read("claim_in"))),
        lifecycle: fits(AlarmOf::new(domain.read("lifecycle_in"))),
        mesh: fits(AlarmOf::new(domain.read("mesh_in"))),
        workload: fits(AlarmOf::new(domain.read("workload_in"))),
    };
    let (beacon, claim, lifecycle) =
        (domain.channel("beacon_id"), domain.channel("claim_id"), domain.channel("lifecycle_id"));
    let (mesh, workload) = (domain.channel("mesh_id"), domain.channel("workload_id"));
    let clock = domain.device("clock");
    domain.run(move |wake| {
        clock.arm(step(wake.now, &mut ports));
        ports.signals(|peer| match peer {
            Peer::Beacon => beacon.notify(),
            Peer::Claim => claim.notify(),
            Peer::Lifecycle => lifecycle.notify(),
            Peer::Mesh => mesh.notify(),
            Peer::Workload => workload.notify(),
        });
        false
    })
}
