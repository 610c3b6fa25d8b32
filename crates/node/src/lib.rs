//! All domains of a node in one place, for a platform that looks up by name (the native one, the simulator): it starts
//! one by [`start`]. A seL4 program takes its one shell from the domain's own crate: there is no allocator there.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

use alloc::boxed::Box;

pub use {beacon, claim, console, entropy, keystore, lifecycle, mesh, net, perimeter, timer, workload};

use pd::{Domain, Platform};

/// The domains' programs, as `system.xml` names them.
pub const PROGRAMS: [&str; 11] =
    ["beacon", "claim", "console", "entropy", "keystore", "lifecycle", "mesh", "net", "perimeter", "timer", "workload"];

/// A platform, and the devices that it has for the domains that drive one.
pub trait Machine<'a>: Platform<'a> {
    type Nic: net::Device + 'a;
    type Source: entropy::Source + 'a;
    type Serial: console::Serial + 'a;
    type Clock: timer::Clock + 'a;
    type Store: keystore::Store + 'a;

    fn nic(&mut self) -> Self::Nic;
    fn source(&mut self) -> Self::Source;
    fn serial(&mut self) -> Self::Serial;
    fn clock(&mut self) -> Self::Clock;
    fn store(&mut self) -> Self::Store;
    /// A place for what a domain works in, for as long as it runs.
    fn memory<T: 'a>(&mut self, make: fn() -> T) -> &'a mut T;
}

/// The domain of this program, bound to what the platform gives it. `None`: no domain of the node has this name.
pub fn start<'a, M: Machine<'a>>(program: &str, on: &mut M) -> Option<Box<dyn Domain + 'a>> {
    Some(match program {
        "beacon" => Box::new(beacon::shell::Shell::new(beacon::shell::Wires::bind(on))),
        "claim" => {
            let memory = on.memory(claim::Memory::new);
            Box::new(claim::shell::Shell::new(claim::shell::Wires::bind(on), memory))
        }
        "console" => {
            let serial = on.serial();
            Box::new(console::shell::Shell::new(console::shell::Wires::bind(on), serial))
        }
        "entropy" => {
            let source = on.source();
            Box::new(entropy::shell::Shell::new(entropy::shell::Wires::bind(on), source))
        }
        "keystore" => {
            let store = on.store();
            Box::new(keystore::shell::Shell::new(keystore::shell::Wires::bind(on), store))
        }
        "lifecycle" => Box::new(lifecycle::shell::Shell::new(lifecycle::shell::Wires::bind(on))),
        "mesh" => {
            let memory = on.memory(mesh::Memory::new);
            Box::new(mesh::shell::Shell::new(mesh::shell::Wires::bind(on), memory))
        }
        "net" => {
            let nic = on.nic();
            Box::new(net::shell::Shell::new(net::shell::Wires::bind(on), nic))
        }
        "perimeter" => Box::new(perimeter::shell::Shell::new(perimeter::shell::Wires::bind(on))),
        "timer" => {
            let clock = on.clock();
            Box::new(timer::shell::Shell::new(timer::shell::Wires::bind(on), clock))
        }
        "workload" => {
            let memory = on.memory(workload::Memory::new);
            let wires = workload::shell::Wires::bind(on);
            Box::new(workload::shell::Shell::new(wires, |params| workload::Workload::new(memory, params)))
        }
        _ => return None,
    })
}
