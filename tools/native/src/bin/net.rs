//! The net domain on native.

use native::pd::{Device, Domain, Heap, fits};
use net::{Net, Peer, Ports};
use shm::{cell::Writer, ring::Duplex};

#[global_allocator]
static HEAP: Heap = Heap;

/// A port of the switch: a datagram is a frame.
struct Port(Device);

impl net::Device for Port {
    fn mac(&self) -> [u8; 6] {
        self.0.mac()
    }

    fn recv(&mut self, frame: &mut [u8]) -> Option<usize> {
        self.0.read(frame)
    }

    fn send(&mut self, frame: &[u8]) -> bool {
        self.0.send(frame)
    }
}

fn main() -> ! {
    let mut domain = Domain::start();
    let mut ports = Ports {
        nic: fits(Writer::new(domain.write("perimeter_nic"))),
        perimeter: fits(Duplex::new(domain.write("perimeter_out"), domain.read("perimeter_in"))),
    };
    let perimeter = domain.channel("perimeter_id");
    let mut port = Port(domain.device("nic"));
    let mut net = Box::new(Net::new());
    domain.run(move |_| {
        let more = net.step(&mut ports, &mut port);
        ports.signals(|peer| match peer {
            Peer::Perimeter => perimeter.notify(),
        });
        more
    })
}
