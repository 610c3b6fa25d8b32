//! What lifecycle decides for beacon. It answers and refuses what the real one does: `sim/tests/fakes` compares the two.

use calls::{
    lifecycle::{GateRequest, Refusal},
    rules::Rules,
};
use shm::Micros;

/// How long a gate waits for its token.
const WAITS: Micros = 30_000_000;

/// How many gates have been opened, and how many opens turned away.
#[derive(Default)]
pub struct Gates {
    pub opened: u64,
    pub rivals: u32,
}

impl Gates {
    pub fn open(&mut self, rules: &mut Rules, now: Micros, request: &GateRequest) -> Result<(), Refusal> {
        if !rules.phase().listens() {
            return Err(Refusal::Phase);
        }
        if rules.open_to(now).is_some_and(|peer| *peer != request.peer) {
            self.rivals += 1;
            return Err(Refusal::Busy);
        }
        self.opened += 1;
        *rules = Rules { gate: self.opened, peer: request.peer, until: now + WAITS, ..*rules };
        Ok(())
    }
}
