//! The lifecycle domain on native.

use calls::{alarm::Alarm, params::Params};
use lifecycle::{Lifecycle, Peer, Ports};
use native::pd::{Domain, Heap, fits};
use shm::{
    cell::{Reader, Writer},
    mailbox::{Client, Server},
    ring::Duplex,
};

#[global_allocator]
static HEAP: Heap = Heap;

fn main() -> ! {
    let mut domain = Domain::start();
    let mut ports = Ports {
        keystore: fits(Client::new(domain.write("keystore_req"), domain.read("keystore_rep"))),
        perimeter: fits(Writer::new(domain.write("perimeter_out"))),
        report: fits(Reader::new(domain.read("perimeter_in"))),
        beacon_rules: fits(Writer::new(domain.write("beacon_out"))),
        beacon: fits(Server::new(domain.read("beacon_req"), domain.write("beacon_rep"))),
        claim_gate: fits(Writer::new(domain.write("claim_out"))),
        claim: fits(Server::new(domain.read("claim_req"), domain.write("claim_rep"))),
        membership: fits(Writer::new(domain.write("mesh_out"))),
        mesh: fits(Server::new(domain.read("mesh_req"), domain.write("mesh_rep"))),
        console: fits(Duplex::new(domain.write("console_out"), domain.read("console_in"))),
        alarm: fits(Alarm::new(domain.write("timer_out"))),
    };
    let (keystore, perimeter, beacon) =
        (domain.channel("keystore_id"), domain.channel("perimeter_id"), domain.channel("beacon_id"));
    let (claim, mesh) = (domain.channel("claim_id"), domain.channel("mesh_id"));
    let (console, timer) = (domain.channel("console_id"), domain.channel("timer_id"));
    let mut lifecycle = Box::new(Lifecycle::new(Params::read(&domain.read("params"))));
    let children = calls::Domain::CHILDREN.map(|child| (child, domain.child(&format!("{}_child", child.name()))));
    domain.run(move |wake| {
        for (child, number) in children {
            if wake.died(number) {
                lifecycle.died(child, &mut ports);
            }
        }
        let more = lifecycle.step(wake.now, &mut ports);
        ports.signals(|peer| match peer {
            Peer::Keystore => keystore.notify(),
            Peer::Perimeter => perimeter.notify(),
            Peer::Beacon => beacon.notify(),
            Peer::Claim => claim.notify(),
            Peer::Mesh => mesh.notify(),
            Peer::Console => console.notify(),
            Peer::Timer => timer.notify(),
        });
        more
    })
}
