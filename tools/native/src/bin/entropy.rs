//! The entropy domain on native.

use entropy::{Entropy, Peer, Ports, Source};
use native::pd::{self, Device, Domain, Heap, fits};
use shm::cell::Writer;

#[global_allocator]
static HEAP: Heap = Heap;

/// The pipe that the runner feeds.
struct Pipe(Device);

impl Source for Pipe {
    fn read(&mut self, to: &mut [u8]) -> usize {
        self.0.read(to).unwrap_or(0)
    }

    fn counter(&mut self) -> u64 {
        pd::counter()
    }
}

fn main() -> ! {
    let mut domain = Domain::start();
    let mut ports = Ports { keystore: fits(Writer::new(domain.write("keystore_out"))) };
    let keystore = domain.channel("keystore_id");
    let mut entropy = Box::new(Entropy::new(Pipe(domain.device("source"))));
    domain.run(move |wake| {
        let more = entropy.step(wake.by(keystore), &mut ports);
        ports.signals(|peer| match peer {
            Peer::Keystore => keystore.notify(),
        });
        more
    })
}
