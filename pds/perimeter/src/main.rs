//! The perimeter domain on seL4.
#![no_std]
#![no_main]

use perimeter::{Peer, Perimeter, Ports};
use platform::{Domain, Handler, channel, fits, now, read_only, read_write};
use sel4_microkit::protection_domain;
use shm::{
    cell::{Reader, Writer},
    ring::Duplex,
};

#[protection_domain]
fn init() -> impl Handler {
    let mut ports = Ports {
        nic: fits(Reader::new(read_only!(net_nic))),
        rules: fits(Reader::new(read_only!(lifecycle_in))),
        stations: fits(Reader::new(read_only!(mesh_stations))),
        report: fits(Writer::new(read_write!(lifecycle_out))),
        net: fits(Duplex::new(read_write!(net_out), read_only!(net_in))),
        beacon: fits(Duplex::new(read_write!(beacon_out), read_only!(beacon_in))),
        claim: fits(Duplex::new(read_write!(claim_out), read_only!(claim_in))),
        mesh: fits(Duplex::new(read_write!(mesh_out), read_only!(mesh_in))),
    };
    let (net, beacon, claim) = (channel!(net_id), channel!(beacon_id), channel!(claim_id));
    let (mesh, lifecycle) = (channel!(mesh_id), channel!(lifecycle_id));
    let mut perimeter = Perimeter::new();
    Domain::start(move |_| {
        let more = perimeter.step(now(), &mut ports);
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
