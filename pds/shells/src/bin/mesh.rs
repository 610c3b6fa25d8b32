//! The mesh domain on seL4. What it works in has a region of its own: a static would be in the image, zeros and all.
#![no_std]
#![no_main]

use node::mesh::{Memory, shell::Shell, wires};
use platform::{Handler, place, start, watched};
use sel4_microkit::protection_domain;

#[protection_domain]
fn init() -> impl Handler {
    start(watched!(wires!(), |wires| Shell::new(wires, place!(memory, Memory::new))))
}
