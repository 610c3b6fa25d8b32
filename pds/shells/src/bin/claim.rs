//! The claim domain on seL4.
#![no_std]
#![no_main]

use node::claim::{Memory, shell::Shell, wires};
use platform::{Handler, start, watched};
use sel4_microkit::protection_domain;
use static_cell::ConstStaticCell;

static MEMORY: ConstStaticCell<Memory<'static>> = ConstStaticCell::new(Memory::new());

#[protection_domain]
fn init() -> impl Handler {
    start(watched!(wires!(), |wires| Shell::new(wires, MEMORY.take())))
}
