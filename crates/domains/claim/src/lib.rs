//! `claim`: the claim endpoint. TCP 9443 to the one peer of an open gate, the WebSocket on it, the Noise
//! session in that, and the messages of one claim. It holds the session keys of that claim and nothing
//! that outlives it: the static key is the keystore's, the decision about a binding too.
//!
//! It never says no. Whatever is wrong - a path, a frame, a key, a deadline - it drops what it holds and falls
//! silent: no reset, no FIN, no HTTP error, no close frame, no ICMP error. Without a gate it hears
//! nothing, sends nothing and arms no alarm.
//!
//! How long others who use the peer's addresses can keep the peer out:
//! - who floods with SYNs, or guesses: not at all. Nothing is kept of a SYN;
//! - who sees the node's answers and completes connections, but has not the token: not at all a peer whose first
//!   segment holds its request line, as every client's does; one that sends it in pieces needs a free place, of
//!   which there are four of `pending_ms` each;
//! - who reads the token off the link and is quicker, or breaks into the connection: for `claim_ms` at most,
//!   and no longer than until the peer's next open, which replaces the gate at once. Whoever can do that on
//!   the link can also keep the peer's frames away.
#![no_std]
#![forbid(unsafe_code)]

#[cfg(test)]
extern crate std;

mod device;
mod exchange;
mod noise;
pub mod shell;
mod tcp;
#[cfg(test)]
mod tests;
// The parsers of hostile bytes are open to fuzz targets.
pub mod upgrade;
pub mod ws;

use calls::{
    alarm::Alarm,
    keystore::for_claim as keystore,
    lifecycle::{Closed, EndRequest, for_claim as lifecycle},
    params::{Params, micros},
    rules::{ClaimGate, Rules},
};
use crypto::Secret;
use shm::{Micros, cell, mailbox, ring};
use wire::{Key, claim::prologue};
use zeroize::{Zeroize, Zeroizing};

use exchange::{Exchange, MESSAGE, Means, PATIENCE, Progress, Slot, blame};
use tcp::{Buffers, PENDING, Stack};
use upgrade::{Arrived, Head, RequestLine};

/// Its channels, by who is at the other end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Channel {
    Keystore,
    Perimeter,
    Lifecycle,
    Timer,
}

pub struct Ports<'a> {
    pub keystore: mailbox::Client<'a>,
    pub perimeter: ring::Duplex<'a, { ring::FRAME_SLOT }>,
    pub gate: cell::Reader<'a, ClaimGate>,
    pub lifecycle: mailbox::Client<'a>,
    pub alarm: Alarm<'a>,
}

impl Ports<'_> {
    pub fn signals(&mut self, mut notify: impl FnMut(Channel)) {
        let signals = [
            (Channel::Keystore, self.keystore.take_signal()),
            (Channel::Perimeter, self.perimeter.take_signal()),
            (Channel::Lifecycle, self.lifecycle.take_signal()),
            (Channel::Timer, self.alarm.take_signal()),
        ];
        signals.into_iter().filter(|(_, signal)| *signal).for_each(|(peer, _)| notify(peer));
    }
}

/// The buffers that a [`Claim`] works in. smoltcp wants them to outlive it, so the shell keeps them: in a
/// static that it lends once. Too large for the stack of a small domain.
pub struct Memory<'a> {
    buffers: Buffers<'a>,
    frame: [u8; ring::capacity(ring::FRAME_SLOT)],
    heads: [Head; PENDING],
    message: [u8; MESSAGE],
}

impl Memory<'_> {
    pub const fn new() -> Self {
        Self { buffers: Buffers::new(), frame: [0; _], heads: [const { Head::new() }; PENDING], message: [0; MESSAGE] }
    }
}

impl Default for Memory<'_> {
    fn default() -> Self {
        Self::new()
    }
}

/// Frames taken in one step.
const FRAMES: usize = 16;
/// Steps of a claim taken in one step of the domain.
const ADVANCES: usize = 8;
/// Frames sent per connection in one go; more wait for the alarm.
const EGRESS: usize = 4;
/// The soonest that the alarm is set for smoltcp's sake.
const SOON: Micros = 1_000;

pub struct Claim<'a> {
    pending: Micros,
    whole: Micros,
    stack: Stack<'a>,
    frame: &'a mut [u8; ring::capacity(ring::FRAME_SLOT)],
    heads: &'a mut [Head; PENDING],
    message: &'a mut [u8; MESSAGE],
    gate: Option<OpenGate>,
}

/// The gate that lifecycle has opened.
struct OpenGate {
    rules: Rules,
    token: Zeroizing<[u8; 16]>,
    line: RequestLine,
    nonce: [u8; 16],
    fiduciary: Key,
    stage: Stage,
}

/// How far the node is with this gate.
#[expect(clippy::large_enum_variant, reason = "there is one of it, and no heap")]
enum Stage {
    /// Waits for random bytes.
    Seeding,
    /// Waits for N's public half.
    Keying(Secret),
    /// Listens for connections.
    Listening(Key),
    /// The connection in this place has the slot.
    Running(usize, Exchange),
    /// Waits for lifecycle to know that the claim has ended.
    Ending(Closed),
    /// Nothing more happens behind this gate.
    Over,
}

impl<'a> Claim<'a> {
    pub fn new(memory: &'a mut Memory<'a>, params: &Params) -> Self {
        let Memory { buffers, frame, heads, message } = memory;
        Self {
            pending: micros(params.pending_ms),
            whole: micros(params.claim_ms),
            stack: Stack::new(buffers),
            frame,
            heads,
            message,
            gate: None,
        }
    }

    /// Returns true if more is to be done at once.
    pub fn step(&mut self, now: Micros, ports: &mut Ports<'_>) -> bool {
        if let Some(gate) = ports.gate.poll() {
            self.hear_gate(gate, ports);
        }
        self.heed_time(now, ports);
        // The peer may be quicker than the keystore: its frames wait in the ring.
        let early = self.is_preparing();
        let frames = !early && self.hear_frames(now, ports);
        let onward = self.advance(now, ports);
        ports.alarm.set(self.next_deadline(now, ports));
        frames || onward || early && !self.is_preparing() || self.is_settling()
    }

    /// The perimeter does not say when it has taken a frame, so that is asked until it has. It has been notified.
    fn is_settling(&self) -> bool {
        matches!(&self.gate, Some(OpenGate { stage: Stage::Running(_, exchange), .. }) if exchange.settling())
    }

    fn is_preparing(&self) -> bool {
        matches!(&self.gate, Some(OpenGate { stage: Stage::Seeding | Stage::Keying(_), .. }))
    }

    fn hear_gate(&mut self, mut gate: ClaimGate, ports: &mut Ports<'_>) {
        match &mut self.gate {
            // The same gate for longer: the claim has started, or its binding is committed.
            Some(open) if open.rules.gate == gate.rules.gate => open.rules = gate.rules,
            _ => {
                self.hang_up(ports);
                ports.lifecycle.abandon();
                self.gate = (gate.rules.gate != 0).then(|| OpenGate {
                    rules: gate.rules,
                    token: Zeroizing::new(gate.token),
                    line: RequestLine::new(&gate.token),
                    nonce: gate.nonce,
                    fiduciary: gate.fiduciary,
                    stage: Stage::Seeding,
                });
            }
        }
        gate.token.zeroize();
    }

    /// Drops connections, session keys and what the keystore is asked for them.
    fn hang_up(&mut self, ports: &mut Ports<'_>) {
        self.stack.close();
        ports.keystore.abandon();
        self.heads.iter_mut().for_each(Head::clear);
        self.message.zeroize();
    }

    /// Ends the claim. Whether lifecycle hears of it or not, nothing more happens behind this gate.
    fn fail(&mut self, reason: Closed, ports: &mut Ports<'_>) {
        self.hang_up(ports);
        ports.lifecycle.abandon();
        if let Some(gate) = &mut self.gate {
            gate.stage = Stage::Ending(reason);
        }
    }

    fn heed_time(&mut self, now: Micros, ports: &mut Ports<'_>) {
        let Some(gate) = &mut self.gate else { return };
        let closed = gate.rules.open_to(now).is_none();
        match &gate.stage {
            Stage::Running(_, exchange) if closed || now >= exchange.deadline() => self.fail(Closed::Deadline, ports),
            Stage::Seeding | Stage::Keying(_) | Stage::Listening(_) if closed => {
                gate.stage = Stage::Over;
                self.hang_up(ports);
            }
            _ => {}
        }
    }

    /// Takes frames in, or drops them where nobody listens. Returns true if more may wait.
    fn hear_frames(&mut self, now: Micros, ports: &mut Ports<'_>) -> bool {
        for _ in 0..FRAMES {
            match ports.perimeter.recv(&mut self.frame[..]) {
                Ok(None) => return false,
                // What the perimeter broke is dropped; the next frame may be whole.
                Err(shm::Misbehaved) => {}
                Ok(Some(len)) => {
                    let (Some(gate), Some(frame)) = (&self.gate, self.frame.get_mut(..len)) else { continue };
                    let presents = |bytes: &[u8]| gate.line.begins(bytes);
                    let place = self.stack.ingest(frame, now, &mut ports.perimeter, presents);
                    if let Some(head) = place.and_then(|place| self.heads.get_mut(place)) {
                        head.clear();
                    }
                }
            }
        }
        true
    }

    /// Does what can be done behind the gate. Returns true if more may be possible at once.
    fn advance(&mut self, now: Micros, ports: &mut Ports<'_>) -> bool {
        for _ in 0..ADVANCES {
            let onward = self.advance_once(now, ports);
            for _ in 0..EGRESS {
                self.stack.egress(now, &mut ports.perimeter);
            }
            if !onward {
                return false;
            }
        }
        true
    }

    fn advance_once(&mut self, now: Micros, ports: &mut Ports<'_>) -> bool {
        let Some(gate) = &mut self.gate else { return false };
        match &mut gate.stage {
            Stage::Seeding => match ports.keystore.ask::<keystore::ClaimRandom>(now, PATIENCE, || ()) {
                Ok(None) => return false,
                Ok(Some(random)) => gate.stage = Stage::Keying(Secret::new(random)),
                Err(error) => self.fail(blame(error), ports),
            },
            Stage::Keying(random) => match ports.keystore.ask::<keystore::ClaimKey>(now, PATIENCE, || ()) {
                Ok(None) => return false,
                Ok(Some(key)) => {
                    self.stack.open(&gate.rules, random.clone(), now, &mut ports.perimeter);
                    gate.stage = Stage::Listening(key);
                }
                Err(error) => self.fail(blame(error), ports),
            },
            Stage::Listening(claim_key) => {
                let Some((place, accept)) = find_token(&mut self.stack, self.heads, &gate.line, now, self.pending)
                else {
                    return false;
                };
                self.stack.take(place);
                let slot = Slot {
                    gate: gate.rules.gate,
                    prologue: prologue(&gate.fiduciary, &gate.nonce, &gate.token),
                    claim_key: *claim_key,
                    deadline: now.saturating_add(self.whole),
                };
                gate.stage = Stage::Running(place, Exchange::new(slot, accept));
            }
            Stage::Running(place, exchange) => {
                let Some((socket, _)) = self.stack.connection(*place) else {
                    self.fail(Closed::PeerLeft, ports);
                    return true;
                };
                let drained = ports.perimeter.drained();
                let (keystore, lifecycle) = (&mut ports.keystore, &mut ports.lifecycle);
                match exchange.step(now, &mut Means { socket, message: self.message, keystore, lifecycle, drained }) {
                    Ok(Progress::Waiting) => return false,
                    Ok(Progress::Onward) => {}
                    Ok(Progress::Done) => {
                        gate.stage = Stage::Over;
                        self.hang_up(ports);
                    }
                    Err(reason) => self.fail(reason, ports),
                }
            }
            Stage::Ending(reason) => {
                let request = || EndRequest::new(gate.rules.gate, *reason);
                match ports.lifecycle.ask::<lifecycle::Ended>(now, PATIENCE, request) {
                    Ok(None) => return false,
                    // If lifecycle cannot be told, the gate closes by its own time.
                    Ok(Some(())) | Err(_) => gate.stage = Stage::Over,
                }
            }
            Stage::Over => return false,
        }
        true
    }

    fn next_deadline(&mut self, now: Micros, ports: &Ports<'_>) -> Option<Micros> {
        let gate = self.gate.as_ref()?;
        let until = (!matches!(gate.stage, Stage::Ending(..) | Stage::Over)).then_some(gate.rules.until);
        let stage = match &gate.stage {
            Stage::Listening(_) => self.stack.ages().min().map(|since| since.saturating_add(self.pending)),
            Stage::Running(_, exchange) => Some(exchange.deadline()),
            _ => None,
        };
        let egress = self.stack.poll_at(now).map(|at| at.max(now.saturating_add(SOON)));
        [until, stage, egress, ports.keystore.deadline(), ports.lifecycle.deadline()].into_iter().flatten().min()
    }
}

/// Reads the heads that are arriving, drops those that are wrong or late, and returns the place of the
/// first that presents the token.
fn find_token(
    stack: &mut Stack<'_>,
    heads: &mut [Head; PENDING],
    line: &RequestLine,
    now: Micros,
    pending: Micros,
) -> Option<(usize, [u8; upgrade::ACCEPT])> {
    for (place, head) in heads.iter_mut().enumerate() {
        let Some((socket, since)) = stack.connection(place) else { continue };
        let mut arrived = Arrived::Part;
        while arrived == Arrived::Part && socket.can_recv() {
            arrived = socket.recv(|bytes| head.feed(bytes)).unwrap_or(Arrived::TooLong);
        }
        let accept = match arrived {
            Arrived::Whole => head.accept(line),
            Arrived::Part if socket.may_recv() && now < since.saturating_add(pending) => continue,
            Arrived::Part | Arrived::TooLong => None,
        };
        match accept {
            Some(accept) => return Some((place, accept)),
            None => stack.forget(place),
        }
    }
    None
}
