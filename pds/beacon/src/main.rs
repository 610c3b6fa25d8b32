//! The beacon domain on seL4.
#![no_std]
#![no_main]

use beacon::{Beacon, Peer, Ports};
use calls::{alarm::Alarm, params::Params};
use platform::{Domain, Handler, channel, fits, now, read_only, read_write};
use sel4_microkit::protection_domain;
use shm::{cell::Reader, mailbox::Client, ring::Duplex};

#[protection_domain]
fn init() -> impl Handler {
    let mut ports = Ports {
        rules: fits(Reader::new(read_only!(lifecycle_in))),
        lifecycle: fits(Client::new(read_write!(lifecycle_req), read_only!(lifecycle_rep))),
        keystore: fits(Client::new(read_write!(keystore_req), read_only!(keystore_rep))),
        perimeter: fits(Duplex::new(read_write!(perimeter_out), read_only!(perimeter_in))),
        alarm: fits(Alarm::new(read_write!(timer_out))),
    };
    let (keystore, perimeter) = (channel!(keystore_id), channel!(perimeter_id));
    let (lifecycle, timer) = (channel!(lifecycle_id), channel!(timer_id));
    let mut beacon = Beacon::new(Params::read(&read_only!(params)));
    Domain::start(move |_| {
        let more = beacon.step(now(), &mut ports);
        ports.signals(|peer| match peer {
            Peer::Keystore => keystore.notify(),
            Peer::Perimeter => perimeter.notify(),
            Peer::Lifecycle => lifecycle.notify(),
            Peer::Timer => timer.notify(),
        });
        more
    })
}
