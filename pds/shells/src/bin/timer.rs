//! The timer domain on seL4: a tick. It has a budget that is a small part of its period (`system.xml`), and while a
//! deadline is armed it gives the rest of each budget away and so runs once per period. While none is, it blocks.
//!
//! No device: the generic timer of AArch64 is not isolated on this SDK, and the boards' clocks are too coarse.
#![no_std]
#![no_main]

use node::timer::{Clock, shell::Shell, wires};
use pd::{Domain, Wake};
use platform::{Handler, Watch, read_write, rest, start};
use sel4_microkit::protection_domain;
use shm::Micros;

struct Tick;

impl Clock for Tick {
    fn arm(&mut self, next: Option<Micros>) -> bool {
        next.is_some()
    }
}

/// Rests after each step that leaves more to do. Outside the step, for a timer that rests does not hang.
struct Resting<D>(D);

impl<D: Domain> Domain for Resting<D> {
    fn step(&mut self, wake: &Wake) -> bool {
        let more = self.0.step(wake);
        if more {
            rest();
        }
        more
    }

    fn hang(&mut self, now: Micros) {
        self.0.hang(now);
    }
}

#[protection_domain]
fn init() -> impl Handler {
    let wires = wires!();
    let watch = Watch::new(read_write!(watch), wires.lifecycle_id).of_waker();
    start(Resting(watch.over(Shell::new(wires, Tick))))
}
