//! The keystore domain on seL4. Until a store domain exists its records live in its own memory.
#![no_std]
#![no_main]

use keystore::{Feed, Keystore, Peer, Ports, RamStore};
use platform::{Domain, Handler, channel, fits, read_only, read_write};
use sel4_microkit::protection_domain;
use shm::{cell::Writer, mailbox::Server};

#[protection_domain]
fn init() -> impl Handler {
    let mut ports = Ports {
        entropy: fits(Feed::new(read_only!(entropy_in))),
        ticket: fits(Writer::new(read_write!(ticket_out))),
        lifecycle: fits(Server::new(read_only!(lifecycle_req), read_write!(lifecycle_rep))),
        beacon: fits(Server::new(read_only!(beacon_req), read_write!(beacon_rep))),
        claim: fits(Server::new(read_only!(claim_req), read_write!(claim_rep))),
        mesh: fits(Server::new(read_only!(mesh_req), read_write!(mesh_rep))),
    };
    let (entropy, lifecycle, beacon) = (channel!(entropy_id), channel!(lifecycle_id), channel!(beacon_id));
    let (claim, mesh, console) = (channel!(claim_id), channel!(mesh_id), channel!(console_id));
    let mut keystore = Keystore::new(read_only!(device_secret), read_only!(anchor), RamStore::new());
    Domain::start(move |notified| {
        // The console says nothing else than that the ticket has been shown.
        let more = keystore.step(notified.by(console), &mut ports);
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
