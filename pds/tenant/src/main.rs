//! The test tenant, in the place of the workload domain, on seL4.
#![no_std]
#![no_main]

use platform::{Handler, start, watched};
use sel4_microkit::protection_domain;
use static_cell::ConstStaticCell;
use tenant::{Memory, Tenant};
use workload::{shell::Shell, wires};

static MEMORY: ConstStaticCell<Memory<'static>> = ConstStaticCell::new(Memory::new());

#[protection_domain]
fn init() -> impl Handler {
    start(watched!(wires!(), |wires| Shell::new(wires, |params| Tenant::new(MEMORY.take(), params))))
}
