//! The workload domain on native.

use calls::{alarm::Alarm, params::Params};
use native::pd::{Domain, Heap, fits};
use shm::{
    cell::{Reader, Writer},
    ring::Duplex,
};
use workload::{Memory, Peer, Ports, Workload};

#[global_allocator]
static HEAP: Heap = Heap;

fn main() -> ! {
    let mut domain = Domain::start();
    let mut ports = Ports {
        mesh: fits(Duplex::new(domain.write("mesh_out"), domain.read("mesh_in"))),
        tenancy: fits(Reader::new(domain.read("mesh_tenancy"))),
        mesh_beat: fits(Writer::new(domain.write("mesh_beat"))),
        console_beat: fits(Writer::new(domain.write("console_beat"))),
        alarm: fits(Alarm::new(domain.write("timer_out"))),
    };
    let (mesh, console, timer) = (domain.channel("mesh_id"), domain.channel("console_id"), domain.channel("timer_id"));
    let memory = Box::leak(Box::new(Memory::new()));
    let mut workload = Box::new(Workload::new(memory, &Params::read(&domain.read("params"))));
    domain.run(move |wake| {
        let more = workload.step(wake.now, &mut ports);
        ports.signals(|peer| match peer {
            Peer::Mesh => mesh.notify(),
            Peer::Console => console.notify(),
            Peer::Timer => timer.notify(),
        });
        more
    })
}
