//! The heartbeat: a number that rises. It starts with the first place in a mesh and never ends.

use calls::{
    mesh::Heartbeat,
    params::{Params, micros},
};
use shm::{Micros, cell::Writer};

use crate::stack::Addresses;

/// The shortest time between two beats, whatever the parameters say.
const SHORTEST: Micros = 1_000;

pub struct Pulse {
    every: Micros,
    heartbeat: Heartbeat,
    /// `None` before the first step.
    since: Option<Micros>,
    /// `None` before the first place in a mesh.
    next: Option<Micros>,
}

/// What the page says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Report {
    pub heartbeat: Heartbeat,
    /// Whole seconds since this domain started.
    pub uptime: u64,
    pub addresses: Addresses,
}

impl Pulse {
    pub fn new(params: &Params) -> Self {
        let every = micros(params.heartbeat_ms).max(SHORTEST);
        Self { every, heartbeat: Heartbeat { beats: 0, served: 0 }, since: None, next: None }
    }

    /// Beats if it is time. After a restart it goes on from what the predecessor has published.
    pub fn step(
        &mut self,
        now: Micros,
        placed: bool,
        mesh: &mut Writer<'_, Heartbeat>,
        console: &mut Writer<'_, Heartbeat>,
    ) {
        if self.since.is_none() {
            self.since = Some(now);
            self.heartbeat = mesh.latest();
        }
        if self.next.is_none() && (placed || self.heartbeat.beats != 0) {
            self.next = Some(now);
        }
        if self.next.is_some_and(|next| next <= now) {
            self.heartbeat.beats = self.heartbeat.beats.saturating_add(1);
            self.next = Some(now.saturating_add(self.every));
            mesh.publish(&self.heartbeat);
            console.publish(&self.heartbeat);
        }
    }

    /// When the next beat is due.
    pub fn next(&self) -> Option<Micros> {
        self.next
    }

    /// Published with the next beat.
    pub fn count_page(&mut self) {
        self.heartbeat.served = self.heartbeat.served.saturating_add(1);
    }

    pub fn report(&self, now: Micros, addresses: Addresses) -> Report {
        let uptime = now.saturating_sub(self.since.unwrap_or(now)) / 1_000_000;
        Report { heartbeat: self.heartbeat, uptime, addresses }
    }
}
