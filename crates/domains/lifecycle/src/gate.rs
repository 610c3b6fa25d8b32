//! The gate: open to one peer or to nobody, and it ends by itself.

use calls::{
    lifecycle::{Closed, GateRequest, Refusal},
    rules::{ClaimGate, Rules},
};
use link::Station;
use shm::Micros;
use wire::Key;

pub struct Gate {
    open: Option<Open>,
    /// How many have been opened; the number of the last one.
    count: u64,
    /// How many valid opens were turned away because the gate was another's.
    rivals: u32,
}

pub struct Open {
    number: u64,
    peer: Station,
    token: [u8; 16],
    nonce: [u8; 16],
    until: Micros,
    /// A connection presented the token.
    started: bool,
}

impl Gate {
    pub const fn closed() -> Self {
        Self { open: None, count: 0, rivals: 0 }
    }

    pub fn is_open(&self) -> bool {
        self.open.is_some()
    }

    pub fn until(&self) -> Option<Micros> {
        self.open.as_ref().map(|open| open.until)
    }

    pub fn rivals(&self) -> u32 {
        self.rivals
    }

    /// Whether the gate is this peer's already. If it is another's, the peer is counted as a rival and refused.
    pub fn is_of(&mut self, peer: &Station) -> Result<bool, Refusal> {
        match &self.open {
            Some(open) if open.peer != *peer => {
                self.rivals = self.rivals.saturating_add(1);
                Err(Refusal::Busy)
            }
            open => Ok(open.is_some()),
        }
    }

    pub fn open(&mut self, request: &GateRequest, until: Micros) {
        self.count += 1;
        let GateRequest { peer, token, nonce } = *request;
        self.open = Some(Open { number: self.count, peer, token, nonce, until, started: false });
    }

    pub fn close(&mut self) {
        self.open = None;
    }

    /// Whether this is the number of the open gate.
    pub fn check(&self, number: u64) -> Result<(), Refusal> {
        self.open.as_ref().filter(|open| open.number == number).map(drop).ok_or(Refusal::Gate)
    }

    /// The claim runs, and has until this time. Returns false if it ran already: saying it again does not lengthen it.
    pub fn start(&mut self, number: u64, until: Micros) -> Result<bool, Refusal> {
        let open = self.open.as_mut().filter(|open| open.number == number).ok_or(Refusal::Gate)?;
        let is_new = !core::mem::replace(&mut open.started, true);
        if is_new {
            open.until = until;
        }
        Ok(is_new)
    }

    /// Why the gate is to close now, if its time is over.
    pub fn expired(&self, now: Micros) -> Option<Closed> {
        let open = self.open.as_ref().filter(|open| now >= open.until)?;
        Some(if open.started { Closed::Deadline } else { Closed::Expired })
    }

    /// These rules with the gate in them, and what `claim` needs besides.
    pub fn publish(&self, rules: Rules, fiduciary: Key) -> (Rules, ClaimGate) {
        let Some(open) = &self.open else {
            return (rules, ClaimGate { rules, token: [0; 16], nonce: [0; 16], fiduciary: [0; 32] });
        };
        let rules = Rules { gate: open.number, peer: open.peer, until: open.until, ..rules };
        (rules, ClaimGate { rules, token: open.token, nonce: open.nonce, fiduciary })
    }
}
