//! The mesh domain on native.

use calls::{alarm::Alarm, params::Params};
use mesh::{Memory, Mesh, Peer, Ports};
use native::pd::{Domain, Heap, fits};
use shm::{
    cell::{Reader, Writer},
    mailbox::Client,
    ring::Duplex,
};

#[global_allocator]
static HEAP: Heap = Heap;

fn main() -> ! {
    let mut domain = Domain::start();
    let mut ports = Ports {
        keystore: fits(Client::new(domain.write("keystore_req"), domain.read("keystore_rep"))),
        lifecycle: fits(Client::new(domain.write("lifecycle_req"), domain.read("lifecycle_rep"))),
        membership: fits(Reader::new(domain.read("lifecycle_in"))),
        perimeter: fits(Duplex::new(domain.write("perimeter_out"), domain.read("perimeter_in"))),
        stations: fits(Writer::new(domain.write("perimeter_stations"))),
        workload: fits(Duplex::new(domain.write("workload_out"), domain.read("workload_in"))),
        tenancy: fits(Writer::new(domain.write("workload_tenancy"))),
        heartbeat: fits(Reader::new(domain.read("workload_beat"))),
        alarm: fits(Alarm::new(domain.write("timer_out"))),
    };
    let (keystore, lifecycle) = (domain.channel("keystore_id"), domain.channel("lifecycle_id"));
    let (perimeter, workload) = (domain.channel("perimeter_id"), domain.channel("workload_id"));
    let timer = domain.channel("timer_id");
    let memory = Box::leak(Box::new(Memory::new()));
    let mut mesh = Box::new(Mesh::new(memory, &Params::read(&domain.read("params"))));
    domain.run(move |wake| {
        let more = mesh.step(wake.now, &mut ports);
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
