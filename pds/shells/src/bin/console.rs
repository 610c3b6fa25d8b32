//! The console domain on seL4.
#![no_std]
#![no_main]

use drivers::uart::Uart;
use node::console::{shell::Shell, wires};
use platform::{Handler, start, watched};
use sel4_microkit::protection_domain;

#[protection_domain]
fn init() -> impl Handler {
    start(watched!(wires!(), |wires| Shell::new(wires, Uart::bind())))
}
