//! The perimeter domain on native.

use native::pd::{Domain, Heap, fits};
use perimeter::{Peer, Perimeter, Ports};
use shm::{
    cell::{Reader, Writer},
    ring::Duplex,
};

#[global_allocator]
static HEAP: Heap = Heap;

fn main() -> ! {
    let mut domain = Domain::start();
    let mut ports = Ports {
        nic: fits(Reader::new(domain.read("net_nic"))),
        rules: fits(Reader::new(domain.read("lifecycle_in"))),
        stations: fits(Reader::new(domain.read("mesh_stations"))),
        report: fits(Writer::new(domain.write("lifecycle_out"))),
        net: fits(Duplex::new(domain.write("net_out"), domain.read("net_in"))),
        beacon: fits(Duplex::new(domain.write("beacon_out"), domain.read("beacon_in"))),
        claim: fits(Duplex::new(domain.write("claim_out"), domain.read("claim_in"))),
        mesh: fits(Duplex::new(domain.write("mesh_out"), domain.read("mesh_in"))),
    };
    let (net, beacon, claim) = (domain.channel("net_id"), domain.channel("beacon_id"), domain.channel("claim_id"));
    let (mesh, lifecycle) = (domain.channel("mesh_id"), domain.channel("lifecycle_id"));
    let mut perimeter = Box::new(Perimeter::new());
    domain.run(move |wake| {
        let more = perimeter.step(wake.now, &mut ports);
        ports.signals(|peer| match peer {
            Peer::Net => net.notify(),
            Peer::Beacon => beacon.notify(),
            Peer::Claim => claim.notify(),
            Peer::Mesh => mesh.notify(),
            Peer::Lifecycle => lifecycle.notify(),
        });
        more
    })
}
