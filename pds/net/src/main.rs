//! The net domain on seL4.
#![no_std]
#![no_main]

use drivers::virtio_net::VirtioNet;
use net::{Net, Peer, Ports};
use platform::{Domain, Handler, channel, fits, read_only, read_write};
use sel4_microkit::protection_domain;
use shm::{cell::Writer, ring::Duplex};

#[protection_domain]
fn init() -> impl Handler {
    let mut ports = Ports {
        nic: fits(Writer::new(read_write!(perimeter_nic))),
        perimeter: fits(Duplex::new(read_write!(perimeter_out), read_only!(perimeter_in))),
    };
    let (perimeter, interrupt) = (channel!(perimeter_id), channel!(device_irq));
    let mut device = VirtioNet::bind();
    let mut net = Net::new();
    let mut interrupted = false;
    Domain::start(move |notified| {
        if notified.by(interrupt) {
            device.acknowledge();
            interrupted = true;
        }
        let more = net.step(&mut ports, &mut device);
        let room = device.wake_when_room(net.blocked());
        ports.signals(|peer| match peer {
            Peer::Perimeter => perimeter.notify(),
        });
        if !(more || room) && core::mem::take(&mut interrupted) {
            platform::done(interrupt);
        }
        more || room
    })
}
