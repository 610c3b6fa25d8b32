//! The lifecycle domain on seL4, and the parent of all but the keystore: the kernel tells it when one of them faults.
#![no_std]
#![no_main]

use node::lifecycle::{shell::Shell, wires};
use platform::{Handler, Parent, start};
use sel4_microkit::protection_domain;

#[protection_domain]
fn init() -> impl Handler {
    let wires = wires!();
    let parent = Parent::new(wires.children().map(|(_, child)| child));
    start(Shell::new(wires, parent))
}
