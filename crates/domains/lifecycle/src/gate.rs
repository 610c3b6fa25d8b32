//! The one open gate.

use calls::lifecycle::GateRequest;
use link::Station;
use shm::Micros;

pub struct OpenGate {
    pub number: u64,
    pub peer: Station,
    pub token: [u8; 16],
    pub nonce: [u8; 16],
    pub until: Micros,
    /// A connection presented the token.
    pub started: bool,
}

impl OpenGate {
    pub fn new(number: u64, request: &GateRequest, until: Micros) -> Self {
        let GateRequest { peer, token, nonce } = *request;
        Self { number, peer, token, nonce, until, started: false }
    }
}
