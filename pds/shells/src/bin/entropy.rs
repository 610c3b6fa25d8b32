//! The entropy domain on seL4.
#![no_std]
#![no_main]

use drivers::virtio_rng::VirtioRng;
use node::entropy::{shell::Shell, wires};
use pd::{Domain, Wake};
use platform::{Handler, Watch, channel, done, read_write, start};
use sel4_microkit::protection_domain;

#[protection_domain]
fn init() -> impl Handler {
    let wires = wires!();
    let parent = wires.lifecycle_id;
    let mut shell = Shell::new(wires, VirtioRng::bind());
    let interrupt = channel!(device_irq);
    // One that came before a restart was never acknowledged.
    done(interrupt);
    let watch = Watch::new(read_write!(watch), parent);
    start(watch.over(move |wake: &Wake| {
        let more = shell.step(wake);
        // The source has acknowledged to the device, and was drained.
        if wake.by(interrupt) {
            done(interrupt);
        }
        more
    }))
}
