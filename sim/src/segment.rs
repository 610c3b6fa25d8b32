//! Ethernet segments: who is on which, and what becomes of a frame on its way.

use shm::Micros;
use wire::Mac;

/// How long a frame takes, if nobody meddles with it.
pub const LATENCY: Micros = 100;

/// A node or a host of the world.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Port {
    Node(usize),
    Host(usize),
    /// Whoever forges frames: on the segment, but nowhere in particular.
    Nobody,
}

/// A frame that has been sent.
#[derive(Debug, Clone)]
pub struct Frame {
    /// Counts the frames of the world, from 0.
    pub number: u64,
    pub segment: usize,
    pub from: Port,
    pub at: Micros,
    pub bytes: Vec<u8>,
}

/// A frame that will arrive: so long after it was sent, with these bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Arrival {
    pub after: Micros,
    pub bytes: Vec<u8>,
}

impl Frame {
    /// The destination address; a frame too short for one goes to nobody.
    pub fn to(&self) -> Mac {
        self.bytes.first_chunk().copied().unwrap_or_default()
    }

    /// As it arrives untouched.
    pub fn passes(&self) -> Vec<Arrival> {
        vec![Arrival { after: LATENCY, bytes: self.bytes.clone() }]
    }

    /// At this time, whenever that is.
    pub fn arrives_at(&self, at: Micros) -> Vec<Arrival> {
        vec![Arrival { after: at.saturating_sub(self.at), bytes: self.bytes.clone() }]
    }

    pub fn lost(&self) -> Vec<Arrival> {
        Vec::new()
    }

    pub fn doubled(&self) -> Vec<Arrival> {
        [self.passes(), self.passes()].concat()
    }

    /// Late by so much; frames sent after it may arrive before it.
    pub fn delayed(&self, by: Micros) -> Vec<Arrival> {
        vec![Arrival { after: LATENCY + by, bytes: self.bytes.clone() }]
    }
}

/// Whether a device with this address takes a frame to that one: its own, or a group's (IEEE 802.3, 3.2.3).
pub fn takes(own: Mac, to: Mac) -> bool {
    own == to || to[0] & 1 == 1
}
