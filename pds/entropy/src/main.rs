//! The entropy domain on seL4.
#![no_std]
#![no_main]

use drivers::virtio_rng::VirtioRng;
use entropy::{Entropy, Peer, Ports};
use platform::{Domain, Handler, channel, fits, read_write};
use sel4_microkit::protection_domain;
use shm::cell::Writer;

#[protection_domain]
fn init() -> impl Handler {
    let mut ports = Ports { keystore: fits(Writer::new(read_write!(keystore_out))) };
    let (keystore, interrupt) = (channel!(keystore_id), channel!(device_irq));
    let mut entropy = Entropy::new(VirtioRng::bind());
    Domain::start(move |notified| {
        let more = entropy.step(notified.by(keystore), &mut ports);
        ports.signals(|peer| match peer {
            Peer::Keystore => keystore.notify(),
        });
        // The source has acknowledged to the device, and was drained.
        if notified.by(interrupt) {
            platform::done(interrupt);
        }
        more
    })
}
