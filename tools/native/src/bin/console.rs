//! The console domain on native.

use console::{Console, Peer, Ports, Serial};
use native::pd::{Device, Domain, Heap, fits};
use shm::{cell::Reader, ring::Duplex};

#[global_allocator]
static HEAP: Heap = Heap;

/// A file or terminal: what it does not take is lost, so that nobody waits for it.
struct Output(Device);

impl Serial for Output {
    fn write(&mut self, bytes: &[u8]) -> usize {
        self.0.print(bytes);
        bytes.len()
    }
}

fn main() -> ! {
    let mut domain = Domain::start();
    let mut ports = Ports::new(
        fits(Reader::new(domain.read("ticket_in"))),
        fits(Duplex::new(domain.write("lifecycle_out"), domain.read("lifecycle_in"))),
        fits(Reader::new(domain.read("workload_beat"))),
    );
    let (keystore, lifecycle) = (domain.channel("keystore_id"), domain.channel("lifecycle_id"));
    let mut output = Output(domain.device("serial"));
    let mut console = Box::new(Console::new());
    domain.run(move |_| {
        let more = console.step(&mut ports, &mut output);
        ports.signals(|peer| match peer {
            Peer::Keystore => keystore.notify(),
            Peer::Lifecycle => lifecycle.notify(),
        });
        more
    })
}
