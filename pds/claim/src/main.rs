//! The claim domain on seL4.
#![no_std]
#![no_main]

use calls::{alarm::Alarm, params::Params};
use claim::{Claim, Memory, Peer, Ports};
use platform::{Domain, Handler, channel, fits, now, read_only, read_write};
use sel4_microkit::protection_domain;
use shm::{cell::Reader, mailbox::Client, ring::Duplex};
use static_cell::ConstStaticCell;

static MEMORY: ConstStaticCell<Memory<'static>> = ConstStaticCell::new(Memory::new());

#[protection_domain]
fn init() -> impl Handler {
    let mut ports = Ports {
        keystore: fits(Client::new(read_write!(keystore_req), read_only!(keystore_rep))),
        perimeter: fits(Duplex::new(read_write!(perimeter_out), read_only!(perimeter_in))),
        gate: fits(Reader::new(read_only!(lifecycle_in))),
        lifecycle: fits(Client::new(read_write!(lifecycle_req), read_only!(lifecycle_rep))),
        alarm: fits(Alarm::new(read_write!(timer_out))),
    };
    let (keystore, perimeter) = (channel!(keystore_id), channel!(perimeter_id));
    let (lifecycle, timer) = (channel!(lifecycle_id), channel!(timer_id));
    let mut claim = Claim::new(MEMORY.take(), &Params::read(&read_only!(params)));
    Domain::start(move |_| {
        let more = claim.step(now(), &mut ports);
        ports.signals(|peer| match peer {
            Peer::Keystore => keystore.notify(),
            Peer::Perimeter => perimeter.notify(),
            Peer::Lifecycle => lifecycle.notify(),
            Peer::Timer => timer.notify(),
        });
        more
    })
}
