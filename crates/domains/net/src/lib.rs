//! `net`: moves frames between the device and `perimeter`. It looks into none, keeps no state of any
//! connection, and tells nobody anything but the device's own address.
#![no_std]
#![forbid(unsafe_code)]

#[cfg(test)]
extern crate std;

pub mod shell;
#[cfg(test)]
mod tests;

use calls::{
    drops::{Drops, Reason},
    rules::Nic,
};
use link::MAX_FRAME;
use shm::{
    cell,
    ring::{self, FRAME_SLOT, capacity},
};

const ROOM: usize = capacity(FRAME_SLOT);
const _: () = assert!(MAX_FRAME < ROOM, "a frame that is too long must be seen to be");

/// One step moves at most so many frames in each direction.
pub const BATCH: usize = 32;

/// Its channels, by who is at the other end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Channel {
    Perimeter,
}

pub struct Ports<'a> {
    pub nic: cell::Writer<'a, Nic>,
    /// Its signal is not taken: nobody is woken for it.
    pub drops: cell::Writer<'a, Drops>,
    pub perimeter: ring::Duplex<'a, FRAME_SLOT>,
}

impl Ports<'_> {
    pub fn signals(&mut self, mut notify: impl FnMut(Channel)) {
        // Both are asked: cell and ring share the channel.
        if self.nic.take_signal() | self.perimeter.take_signal() {
            notify(Channel::Perimeter);
        }
    }
}

/// The device, up and running. Neither call blocks.
pub trait Device {
    fn mac(&self) -> [u8; 6];

    /// The next frame, whole, and its length; a longer one may be cut to the buffer, it is dropped all the same.
    fn recv(&mut self, frame: &mut [u8]) -> Option<usize>;

    /// False if there is no room now: the same frame is offered again in the next step.
    fn send(&mut self, frame: &[u8]) -> bool;
}

pub struct Net {
    announced: bool,
    /// `frame[..held]` waits for room in the device.
    frame: [u8; ROOM],
    held: usize,
    drops: Drops,
    /// The counts as they were published last.
    told: Drops,
}

impl Default for Net {
    fn default() -> Self {
        Self::new()
    }
}

impl Net {
    pub const fn new() -> Self {
        Self { announced: false, frame: [0; ROOM], held: 0, drops: Drops::NONE, told: Drops::NONE }
    }

    /// Returns true while frames may be waiting that could be moved at once.
    pub fn step(&mut self, ports: &mut Ports<'_>, device: &mut impl Device) -> bool {
        if !self.announced {
            ports.nic.publish(&Nic { mac: device.mac(), up: 1, zero: 0 });
            // A predecessor's count goes on.
            self.drops = ports.drops.latest();
            self.told = self.drops;
            self.announced = true;
        }
        let more_out = self.outward(ports, device);
        let more_in = self.inward(ports, device);
        if self.drops != self.told {
            ports.drops.publish(&self.drops);
            self.told = self.drops;
        }
        more_out || more_in
    }

    /// Whether a frame waits for room in the device: the shell then wants to be woken when there is some.
    pub fn blocked(&self) -> bool {
        self.held > 0
    }

    /// The frames that were dropped since the start.
    pub fn drops(&self) -> &Drops {
        &self.drops
    }

    fn outward(&mut self, ports: &mut Ports<'_>, device: &mut impl Device) -> bool {
        for _ in 0..BATCH {
            if self.held == 0 {
                match ports.perimeter.recv(&mut self.frame) {
                    Ok(None) => return false,
                    Ok(Some(len)) if passes(len) => self.held = len,
                    Ok(Some(_)) | Err(_) => {
                        self.drops.count(Reason::Own);
                        continue;
                    }
                }
            }
            if self.frame.get(..self.held).is_some_and(|frame| !device.send(frame)) {
                return false;
            }
            self.held = 0;
        }
        true
    }

    fn inward(&mut self, ports: &mut Ports<'_>, device: &mut impl Device) -> bool {
        let mut buf = [0; ROOM];
        for _ in 0..BATCH {
            let Some(len) = device.recv(&mut buf) else { return false };
            match buf.get(..len).filter(|_| passes(len)) {
                Some(frame) if ports.perimeter.send(frame).is_ok() => {}
                // A full ring is not waited for: what is late is as good as lost.
                Some(_) => self.drops.count(Reason::Full),
                None => self.drops.count(Reason::Length),
            }
        }
        true
    }
}

fn passes(len: usize) -> bool {
    (1..=MAX_FRAME).contains(&len)
}
