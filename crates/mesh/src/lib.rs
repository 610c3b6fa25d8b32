//! `mesh`: WireGuard and the inner network of a claimed node: commands in, telemetry out, the workload's flows as the
//! policy names them. It holds session keys; the static key is the keystore's, and so is the decision about a command.
#![no_std]
#![forbid(unsafe_code)]

#[cfg(test)]
extern crate std;

use calls::{
    alarm::Alarm,
    mesh::{Heartbeat, Membership, Stations, Tenancy},
    params::Params,
};
use shm::{Micros, cell, mailbox, ring};

/// Those that it talks to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Peer {
    Keystore,
    Lifecycle,
    Perimeter,
    Workload,
    Timer,
}

pub struct Ports<'a> {
    pub keystore: mailbox::Client<'a>,
    pub lifecycle: mailbox::Client<'a>,
    pub membership: cell::Reader<'a, Membership>,
    /// Ethernet frames.
    pub perimeter: ring::Duplex<'a, { ring::FRAME_SLOT }>,
    pub stations: cell::Writer<'a, Stations>,
    /// Inner IP packets.
    pub workload: ring::Duplex<'a, { ring::FRAME_SLOT }>,
    pub tenancy: cell::Writer<'a, Tenancy>,
    pub heartbeat: cell::Reader<'a, Heartbeat>,
    pub alarm: Alarm<'a>,
}

impl Ports<'_> {
    pub fn signals(&mut self, mut notify: impl FnMut(Peer)) {
        let signals = [
            (Peer::Keystore, self.keystore.take_signal()),
            (Peer::Lifecycle, self.lifecycle.take_signal()),
            // Not short-circuited: both are to be taken.
            (Peer::Perimeter, self.perimeter.take_signal() | self.stations.take_signal()),
            (Peer::Workload, self.workload.take_signal() | self.tenancy.take_signal()),
            (Peer::Timer, self.alarm.take_signal()),
        ];
        signals.into_iter().filter(|(_, signal)| *signal).for_each(|(peer, _)| notify(peer));
    }
}

/// What a [`Mesh`] works in, too large for the stack of a small domain: the shell keeps it, in a static that it lends once.
pub struct Memory {
    frame: [u8; ring::capacity(ring::FRAME_SLOT)],
}

impl Memory {
    pub const fn new() -> Self {
        Self { frame: [0; _] }
    }
}

impl Default for Memory {
    fn default() -> Self {
        Self::new()
    }
}

pub struct Mesh<'a> {
    memory: &'a mut Memory,
}

impl<'a> Mesh<'a> {
    pub fn new(memory: &'a mut Memory, _params: &Params) -> Self {
        Self { memory }
    }

    /// Returns true if more is to be done at once.
    pub fn step(&mut self, _now: Micros, ports: &mut Ports<'_>) -> bool {
        ports.perimeter.recv(&mut self.memory.frame).is_err()
    }
}
