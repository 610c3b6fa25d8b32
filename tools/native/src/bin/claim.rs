//! The claim domain on native.

use calls::{alarm::Alarm, params::Params};
use claim::{Claim, Memory, Peer, Ports};
use native::pd::{Domain, Heap, fits};
use shm::{cell::Reader, mailbox::Client, ring::Duplex};

#[global_allocator]
static HEAP: Heap = Heap;

fn main() -> ! {
    let mut domain = Domain::start();
    let mut ports = Ports {
        keystore: fits(Client::new(domain.write("keystore_req"), domain.read("keystore_rep"))),
        perimeter: fits(Duplex::new(domain.write("perimeter_out"), domain.read("perimeter_in"))),
        gate: fits(Reader::new(domain.read("lifecycle_in"))),
        lifecycle: fits(Client::new(domain.write("lifecycle_req"), domain.read("lifecycle_rep"))),
        alarm: fits(Alarm::new(domain.write("timer_out"))),
    };
    let (keystore, perimeter, lifecycle) =
        (domain.channel("keystore_id"), domain.channel("perimeter_id"), domain.channel("lifecycle_id"));
    let timer = domain.channel("timer_id");
    let memory = Box::leak(Box::new(Memory::new()));
    let mut claim = Box::new(Claim::new(memory, &Params::read(&domain.read("params"))));
    domain.run(move |wake| {
        let more = claim.step(wake.now, &mut ports);
        ports.signals(|peer| match peer {
            Peer::Keystore => keystore.notify(),
            Peer::Perimeter => perimeter.notify(),
            Peer::Lifecycle => lifecycle.notify(),
            Peer::Timer => timer.notify(),
        });
        more
    })
}
