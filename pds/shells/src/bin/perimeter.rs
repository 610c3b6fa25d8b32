//! The perimeter domain on seL4.
#![no_std]
#![no_main]

use node::perimeter::{shell::Shell, wires};
use platform::{Handler, start, watched};
use sel4_microkit::protection_domain;

#[protection_domain]
fn init() -> impl Handler {
    start(watched!(wires!(), Shell::new))
}
