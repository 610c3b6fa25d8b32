//! The keystore domain on seL4. Until a store domain exists its records live in its own memory.
#![no_std]
#![no_main]

use node::keystore::{RamStore, shell::Shell, wires};
use platform::{Handler, start};
use sel4_microkit::protection_domain;

#[protection_domain]
fn init() -> impl Handler {
    start(Shell::new(wires!(), RamStore::new()))
}
