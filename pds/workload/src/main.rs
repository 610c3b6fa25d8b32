//! The workload domain on seL4.
#![no_std]
#![no_main]

use calls::{alarm::Alarm, params::Params};
use platform::{Domain, Handler, channel, fits, now, read_only, read_write};
use sel4_microkit::protection_domain;
use shm::{
    cell::{Reader, Writer},
    ring::Duplex,
};
use static_cell::ConstStaticCell;
use workload::{Memory, Peer, Ports, Workload};

static MEMORY: ConstStaticCell<Memory<'static>> = ConstStaticCell::new(Memory::new());

#[protection_domain]
fn init() -> impl Handler {
    let mut ports = Ports {
        mesh: fits(Duplex::new(read_write!(mesh_out), read_only!(mesh_in))),
        tenancy: fits(Reader::new(read_only!(mesh_tenancy))),
        mesh_beat: fits(Writer::new(read_write!(mesh_beat))),
        console_beat: fits(Writer::new(read_write!(console_beat))),
        alarm: fits(Alarm::new(read_write!(timer_out))),
    };
    let (mesh, console, timer) = (channel!(mesh_id), channel!(console_id), channel!(timer_id));
    let mut workload = Workload::new(MEMORY.take(), &Params::read(&read_only!(params)));
    Domain::start(move |_| {
        let more = workload.step(now(), &mut ports);
        ports.signals(|peer| match peer {
            Peer::Mesh => mesh.notify(),
            Peer::Console => console.notify(),
            Peer::Timer => timer.notify(),
        });
        more
    })
}
