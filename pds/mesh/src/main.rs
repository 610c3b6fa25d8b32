//! The mesh domain on seL4.
#![no_std]
#![no_main]

use calls::{alarm::Alarm, params::Params};
use mesh::{Memory, Mesh, Peer, Ports};
use platform::{Domain, Handler, channel, fits, now, place, read_only, read_write};
use sel4_microkit::protection_domain;
use shm::{
    cell::{Reader, Writer},
    mailbox::Client,
    ring::Duplex,
};

#[protection_domain]
fn init() -> impl Handler {
    let mut ports = Ports {
        keystore: fits(Client::new(read_write!(keystore_req), read_only!(keystore_rep))),
        lifecycle: fits(Client::new(read_write!(lifecycle_req), read_only!(lifecycle_rep))),
        membership: fits(Reader::new(read_only!(lifecycle_in))),
        perimeter: fits(Duplex::new(read_write!(perimeter_out), read_only!(perimeter_in))),
        stations: fits(Writer::new(read_write!(perimeter_stations))),
        workload: fits(Duplex::new(read_write!(workload_out), read_only!(workload_in))),
        tenancy: fits(Writer::new(read_write!(workload_tenancy))),
        heartbeat: fits(Reader::new(read_only!(workload_beat))),
        alarm: fits(Alarm::new(read_write!(timer_out))),
    };
    let (keystore, lifecycle) = (channel!(keystore_id), channel!(lifecycle_id));
    let (perimeter, workload, timer) = (channel!(perimeter_id), channel!(workload_id), channel!(timer_id));
    let mut mesh = Mesh::new(place!(memory, Memory::new), &Params::read(&read_only!(params)));
    Domain::start(move |_| {
        let more = mesh.step(now(), &mut ports);
        ports.signals(|peer| match peer {
            Peer::Keystore => keystore.notify(),
            Peer::Lifecycle => lifecycle.notify(),
            Peer::Perimeter => perimeter.notify(),
            Peer::Workload => workload.notify(),
            Peer::Timer => timer.notify(),
        });
        more
    })
}
