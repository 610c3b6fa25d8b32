//! The keystore domain on native.

use keystore::{Feed, Keystore, Peer, Ports, RamStore};
use native::pd::{Domain, Heap, fits};
use shm::{cell::Writer, mailbox::Server};

#[global_allocator]
static HEAP: Heap = Heap;

fn main() -> ! {
    let mut domain = Domain::start();
    let mut ports = Ports {
        entropy: fits(Feed::new(domain.read("entropy_in"))),
        ticket: fits(Writer::new(domain.write("ticket_out"))),
        lifecycle: fits(Server::new(domain.read("lifecycle_req"), domain.write("lifecycle_rep"))),
        beacon: fits(Server::new(domain.read("beacon_req"), domain.write("beacon_rep"))),
        claim: fits(Server::new(domain.read("claim_req"), domain.write("claim_rep"))),
        mesh: fits(Server::new(domain.read("mesh_req"), domain.write("mesh_rep"))),
    };
    let (entropy, lifecycle, beacon) =
        (domain.channel("entropy_id"), domain.channel("lifecycle_id"), domain.channel("beacon_id"));
    let (claim, mesh, console) = (domain.channel("claim_id"), domain.channel("mesh_id"), domain.channel("console_id"));
    let store = RamStore::new();
    let mut keystore = Box::new(Keystore::new(domain.read("device_secret"), domain.read("anchor"), store));
    domain.run(move |wake| {
        let more = keystore.step(wake.by(console), &mut ports);
        ports.signals(|peer| match peer {
            Peer::Entropy => entropy.notify(),
            Peer::Lifecycle => lifecycle.notify(),
            Peer::Beacon => beacon.notify(),
            Peer::Claim => claim.notify(),
            Peer::Mesh => mesh.notify(),
            Peer::Console => console.notify(),
        });
        more
    })
}
