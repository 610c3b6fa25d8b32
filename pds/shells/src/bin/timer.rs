//! The timer domain on seL4: a tick. It has a budget that is a small part of its period (`system.xml`), and while a
//! deadline is armed it gives the rest of each budget away and so runs once per period. While none is, it blocks.
//!
//! No device: the generic timer of AArch64 is not isolated on this SDK, and the boards' clocks are too coarse.
#![no_std]
#![no_main]

use node::timer::{Clock, shell::Shell, wires};
use platform::{Handler, rest, start, watched};
use sel4_microkit::protection_domain;
use shm::Micros;

struct Tick;

impl Clock for Tick {
    fn arm(&mut self, next: Option<Micros>) -> bool {
        if next.is_some() {
            rest();
        }
        next.is_some()
    }
}

#[protection_domain]
fn init() -> impl Handler {
    start(watched!(alone wires!(), |wires| Shell::new(wires, Tick)))
}
