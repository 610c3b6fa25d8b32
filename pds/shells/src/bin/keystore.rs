//! The keystore domain on seL4.
#![no_std]
#![no_main]

use node::keystore::{shell::Shell, wires};
use platform::{Handler, start};
use sel4_microkit::protection_domain;

#[protection_domain]
fn init() -> impl Handler {
    start(Shell::new(wires!()))
}
