//! The net domain on seL4.
#![no_std]
#![no_main]

use drivers::virtio_net::VirtioNet;
use node::net::{shell::Shell, wires};
use pd::{Domain, Wake};
use platform::{Handler, Watch, channel, done, read_write, start};
use sel4_microkit::protection_domain;

#[protection_domain]
fn init() -> impl Handler {
    let wires = wires!();
    let parent = wires.lifecycle_id;
    let mut shell = Shell::new(wires, VirtioNet::bind());
    let interrupt = channel!(device_irq);
    // One that came before a restart was never acknowledged.
    done(interrupt);
    let mut interrupted = false;
    let watch = Watch::new(read_write!(watch), parent);
    start(watch.over(move |wake: &Wake| {
        if wake.by(interrupt) {
            shell.device.acknowledge();
            interrupted = true;
        }
        let more = shell.step(wake);
        let blocked = shell.blocked();
        let room = shell.device.wake_when_room(blocked);
        if !(more || room) && core::mem::take(&mut interrupted) {
            done(interrupt);
        }
        more || room
    }))
}
