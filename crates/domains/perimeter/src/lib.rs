//! `perimeter`: decides about every frame, both ways, and moves those that may pass. What may pass is one
//! pure function of the frame and of lifecycle's rules ([`decide()`]); everything else is dropped, counted, and the counts
//! told to `mesh` for telemetry. It answers nothing, keeps no state of any connection, and holds no secret.
#![no_std]
#![forbid(unsafe_code)]

#[cfg(test)]
extern crate std;

pub mod decide;
mod packet;
pub mod shell;
#[cfg(test)]
mod tests;

use calls::{
    drops::Drops,
    mesh::Stations,
    rules::{Nic, Report, Rules},
};
use shm::{
    Micros, cell,
    ring::{self, FRAME_SLOT, capacity},
};

pub use decide::{Side, decide};
pub use wire::telemetry::Reason;

/// One step takes at most so many frames from each ring.
pub const BATCH: usize = 32;

/// Its channels, by who is at the other end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Channel {
    Net,
    Beacon,
    Claim,
    Mesh,
    Lifecycle,
}

type Frames<'a> = ring::Duplex<'a, FRAME_SLOT>;

pub struct Ports<'a> {
    pub nic: cell::Reader<'a, Nic>,
    /// What `net` dropped. Nobody is woken for it.
    pub net_drops: cell::Reader<'a, Drops>,
    pub rules: cell::Reader<'a, Rules>,
    pub stations: cell::Reader<'a, Stations>,
    pub report: cell::Writer<'a, Report>,
    /// Its signal is not taken: nobody is woken for it.
    pub drops: cell::Writer<'a, Drops>,
    pub net: Frames<'a>,
    pub beacon: Frames<'a>,
    pub claim: Frames<'a>,
    pub mesh: Frames<'a>,
}

impl<'a> Ports<'a> {
    pub fn signals(&mut self, mut notify: impl FnMut(Channel)) {
        let signals = [
            (Channel::Net, self.net.take_signal()),
            (Channel::Beacon, self.beacon.take_signal()),
            (Channel::Claim, self.claim.take_signal()),
            (Channel::Mesh, self.mesh.take_signal()),
            (Channel::Lifecycle, self.report.take_signal()),
        ];
        signals.into_iter().filter(|(_, signal)| *signal).for_each(|(peer, _)| notify(peer));
    }

    fn ring(&mut self, side: Side) -> &mut Frames<'a> {
        match side {
            Side::Net => &mut self.net,
            Side::Beacon => &mut self.beacon,
            Side::Claim => &mut self.claim,
            Side::Mesh => &mut self.mesh,
        }
    }
}

pub struct Perimeter {
    rules: Rules,
    stations: Stations,
    drops: Drops,
    /// What `net` dropped, as it said last.
    net_drops: Drops,
    /// The sum of both, as it was published last.
    told: Drops,
}

impl Default for Perimeter {
    fn default() -> Self {
        Self::new()
    }
}

impl Perimeter {
    /// Closed, until lifecycle says otherwise.
    pub const fn new() -> Self {
        Self {
            rules: Rules::CLOSED,
            stations: Stations::NONE,
            drops: Drops::NONE,
            net_drops: Drops::NONE,
            told: Drops::NONE,
        }
    }

    /// Returns true while frames may be waiting.
    pub fn step(&mut self, now: Micros, ports: &mut Ports<'_>) -> bool {
        if let Some(nic) = ports.nic.poll() {
            ports.report.publish(&nic);
        }
        // What the node itself sends goes first: a flood from outside does not hold it up.
        let mut more = false;
        for side in [Side::Claim, Side::Beacon, Side::Mesh, Side::Net] {
            more |= self.drain(now, side, ports);
        }
        self.tell(ports);
        more
    }

    fn drain(&mut self, now: Micros, side: Side, ports: &mut Ports<'_>) -> bool {
        let mut buf = [0; capacity(FRAME_SLOT)];
        for _ in 0..BATCH {
            let frame = match ports.ring(side).recv(&mut buf) {
                Ok(None) => return false,
                Ok(Some(len)) => buf.get(..len),
                Err(_) => None,
            };
            let Some(frame) = frame else {
                self.drops.count(Reason::Own);
                continue;
            };
            // After the frame was taken: whoever sent it under new rules heard of them after they were published.
            if let Some(rules) = ports.rules.poll() {
                self.rules = rules;
            }
            if let Some(stations) = ports.stations.poll() {
                self.stations = stations;
            }
            let to = match decide(&self.rules, &self.stations, now, side, frame) {
                Ok(to) => to,
                Err(reason) => {
                    // What the node itself sends is its own doing, whatever is wrong with it.
                    self.drops.count(if side == Side::Net { reason } else { Reason::Own });
                    continue;
                }
            };
            if ports.ring(to).send(frame).is_err() {
                self.drops.count(Reason::Full);
            }
        }
        true
    }

    /// Publishes what has been dropped so far, if that has changed.
    fn tell(&mut self, ports: &mut Ports<'_>) {
        if let Some(drops) = ports.net_drops.poll() {
            self.net_drops = drops;
        }
        let drops = self.drops.plus(&self.net_drops);
        if drops != self.told {
            ports.drops.publish(&drops);
            self.told = drops;
        }
    }
}
