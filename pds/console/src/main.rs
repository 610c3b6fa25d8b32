//! The console domain on seL4.
#![no_std]
#![no_main]

use console::{Console, Peer, Ports};
use drivers::uart::Uart;
use platform::{Domain, Handler, channel, fits, read_only, read_write};
use sel4_microkit::protection_domain;
use shm::{cell::Reader, ring::Duplex};

#[protection_domain]
fn init() -> impl Handler {
    let mut ports = Ports::new(
        fits(Reader::new(read_only!(ticket_in))),
        fits(Duplex::new(read_write!(lifecycle_out), read_only!(lifecycle_in))),
        fits(Reader::new(read_only!(workload_beat))),
    );
    let (keystore, lifecycle) = (channel!(keystore_id), channel!(lifecycle_id));
    let mut serial = Uart::bind();
    let mut console = Console::new();
    Domain::start(move |_| {
        let more = console.step(&mut ports, &mut serial);
        ports.signals(|peer| match peer {
            Peer::Keystore => keystore.notify(),
            Peer::Lifecycle => lifecycle.notify(),
        });
        more
    })
}
