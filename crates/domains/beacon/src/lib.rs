//! `beacon`: hears find and open on UDP 8090, sends hello and answer. It holds no key and verifies no
//! signature: it compares addresses and nonces, keeps to its budgets, and asks the keystore about the rest.
//! Whatever is not valid is met with silence, and whatever fails on the way is dropped: the administrator repeats.
//!
//! It does one thing at a time, with one call outstanding, and arms its alarm only while something is
//! pending: an idle hold takes no wake-up.
#![no_std]
#![forbid(unsafe_code)]

#[cfg(test)]
extern crate std;

mod frames;
mod hellos;
mod nonces;
pub mod shell;
#[cfg(test)]
mod tests;
mod waiting;

use calls::{
    alarm::Alarm,
    keystore::{
        CheckOpenReply, MakeHelloReply,
        for_beacon::{BeaconRandom, CheckFind, CheckOpen, MakeHello},
    },
    lifecycle::{GateRequest, for_beacon::OpenGate},
    params::{Params, micros},
    rules::Rules,
};
use fair::Budget;
use link::Station;
use shm::{
    Micros, cell,
    mailbox::{self, CallError, Patience},
    ring::{self, FRAME_SLOT, capacity},
};
use wire::{
    Phase,
    link::{Answer, Find, Open},
};

use frames::Heard;
use hellos::Hellos;
use nonces::{Nonces, Now};
use waiting::{Choice, Waiting, scale};

/// One step takes at most so many frames.
const BATCH: usize = 32;
/// The keystore or lifecycle has so many microseconds to answer.
const PATIENCE: Patience = Patience { each: 2_000_000, tries: 2 };
/// An answer is repeated after so many microseconds at the soonest, however often its open comes.
const AGAIN_MICROS: Micros = 100_000;
/// Random bytes that did not come are asked for again after so many microseconds.
const SEED_MICROS: Micros = 1_000_000;

/// Its channels, by who is at the other end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Channel {
    Keystore,
    Perimeter,
    Lifecycle,
    Timer,
}

pub struct Ports<'a> {
    pub rules: cell::Reader<'a, Rules>,
    pub lifecycle: mailbox::Client<'a>,
    pub keystore: mailbox::Client<'a>,
    pub perimeter: ring::Duplex<'a, FRAME_SLOT>,
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

/// The one thing that is going on.
enum Doing {
    Nothing,
    /// Waits for a seed for choices.
    Seed,
    Find,
    Hello,
    Open(Open),
    /// The open is genuine; lifecycle has been asked to open the gate.
    Gate(Answered),
}

pub struct Beacon {
    params: Params,
    rules: Rules,
    doing: Doing,
    /// `None` until the keystore has given a seed, asked for from `seed_at` on. Nothing else is begun before.
    choice: Option<Choice>,
    seed_at: Micros,
    finds: Waiting<Find>,
    find_budget: Budget,
    opens: Waiting<Open>,
    open_budget: Budget,
    hellos: Hellos,
    nonces: Nonces,
    /// The open that the gate is open by.
    answered: Option<Answered>,
}

impl Beacon {
    pub fn new(params: Params) -> Self {
        Self {
            rules: Rules::CLOSED,
            doing: Doing::Nothing,
            choice: None,
            seed_at: 0,
            finds: Waiting::new(),
            find_budget: Budget::new(params.find_budget.get().into()),
            opens: Waiting::new(),
            open_budget: Budget::new(params.open_budget.get().into()),
            hellos: Hellos::new(),
            nonces: Nonces::new(),
            answered: None,
            params,
        }
    }

    /// Returns true while frames may be waiting.
    pub fn step(&mut self, now: Micros, ports: &mut Ports<'_>) -> bool {
        self.hear_rules(now, ports);
        self.hear_calls(now, ports);
        let more = self.hear_frames(now, ports);
        if self.rules.phase().listens() {
            self.begin(now, ports);
        }
        ports.alarm.set(self.deadline(ports));
        more
    }

    fn deadline(&self, ports: &Ports<'_>) -> Option<Micros> {
        if !matches!(self.doing, Doing::Nothing) {
            return ports.keystore.deadline().or(ports.lifecycle.deadline());
        }
        if !self.rules.phase().listens() {
            return None;
        }
        if self.choice.is_none() {
            return Some(self.seed_at);
        }
        let finds = (!self.finds.is_empty() && self.hellos.has_room()).then(|| self.find_budget.ready_at());
        let opens = (!self.opens.is_empty()).then(|| self.open_budget.ready_at());
        [self.hellos.next(), finds, opens].into_iter().flatten().min()
    }

    // --- what comes in

    fn hear_rules(&mut self, now: Micros, ports: &mut Ports<'_>) {
        let Some(rules) = ports.rules.poll() else { return };
        if rules.phase != self.rules.phase {
            // What was heard and said in one phase counts for nothing in the next.
            self.doing = Doing::Nothing;
            ports.keystore.abandon();
            ports.lifecycle.abandon();
            self.finds.clear();
            self.opens.clear();
            self.hellos = Hellos::new();
            self.nonces = Nonces::new();
            self.answered = None;
            if rules.phase() == Phase::Scan {
                self.hellos.scan(now, micros(self.params.scan_ms), self.params.scan_hellos.get());
            }
        }
        // Lifecycle publishes before it answers, so these are no older than the answer.
        self.answered.take_if(|answered| rules.gate == 0 || rules.peer != station(&answered.open));
        self.rules = rules;
    }

    fn hear_frames(&mut self, now: Micros, ports: &mut Ports<'_>) -> bool {
        let mut buf = [0; capacity(FRAME_SLOT)];
        for _ in 0..BATCH {
            let frame = match ports.perimeter.recv(&mut buf) {
                Ok(None) => return false,
                Ok(Some(len)) => buf.get(..len).unwrap_or_default(),
                // What broke the rules is lost; what comes next is looked at as ever.
                Err(_) => continue,
            };
            if !self.rules.phase().listens() {
                continue;
            }
            match frames::read(frame) {
                Some(Heard::Find(find)) => {
                    self.finds.add(find, self.choice.as_mut());
                }
                // Nobody knows a nonce who cannot read the hello or has not seen an open: no other open takes a place.
                Some(Heard::Open(open)) if self.admits(&open, now) => {
                    self.opens.add(open, self.choice.as_mut());
                }
                Some(Heard::Open(open)) => self.answer_again(&open, now, ports),
                None => {}
            }
        }
        true
    }

    // --- what is begun

    fn begin(&mut self, now: Micros, ports: &mut Ports<'_>) {
        if !matches!(self.doing, Doing::Nothing) {
            return;
        }
        let Some(choice) = &mut self.choice else {
            if now >= self.seed_at {
                ports.keystore.call::<BeaconRandom>(&(), now, PATIENCE);
                self.doing = Doing::Seed;
            }
            return;
        };
        let gate_is_open = self.rules.open_to(now).is_some();
        if self.hellos.is_due(now, gate_is_open, choice) {
            ports.keystore.call::<MakeHello>(&(), now, PATIENCE);
            self.doing = Doing::Hello;
        } else if let Some(open) = self.next_open(now) {
            ports.keystore.call::<CheckOpen>(&open, now, PATIENCE);
            self.doing = Doing::Open(open);
        } else if let Some(find) = self.next_find(now) {
            ports.keystore.call::<CheckFind>(&find, now, PATIENCE);
            self.doing = Doing::Find;
        }
    }

    fn next_find(&mut self, now: Micros) -> Option<Find> {
        if self.find_budget.ready_at() > now || !self.hellos.has_room() {
            return None;
        }
        let find = self.finds.take(self.choice.as_mut()?)?;
        self.find_budget.spend(now);
        Some(find)
    }

    fn next_open(&mut self, now: Micros) -> Option<Open> {
        if self.open_budget.ready_at() > now {
            return None;
        }
        loop {
            let open = self.opens.take(self.choice.as_mut()?)?;
            // Once more: its nonce may have been used since it came.
            if self.admits(&open, now) {
                self.open_budget.spend(now);
                return Some(open);
            }
        }
    }

    fn admits(&self, open: &Open, now: Micros) -> bool {
        self.nonces.admits(&open.nonce, &station(open), &self.look(now))
    }

    fn look(&self, now: Micros) -> Now<'_> {
        Now { time: now, lifetime: micros(self.params.nonce_ms), gate: self.rules.open_to(now) }
    }

    // --- what comes back

    fn hear_calls(&mut self, now: Micros, ports: &mut Ports<'_>) {
        let doing = core::mem::replace(&mut self.doing, Doing::Nothing);
        self.doing = match doing {
            Doing::Nothing => Doing::Nothing,
            Doing::Seed => match ports.keystore.poll::<BeaconRandom>(now) {
                None => Doing::Seed,
                Some(outcome) => {
                    self.choice = outcome.ok().map(|seed| Choice::new(&seed));
                    self.seed_at = now.saturating_add(SEED_MICROS);
                    Doing::Nothing
                }
            },
            Doing::Find => match ports.keystore.poll::<CheckFind>(now) {
                None => Doing::Find,
                Some(outcome) => {
                    if let Ok(random) = outcome {
                        self.hellos.add(now.saturating_add(self.delay(&random)));
                    }
                    Doing::Nothing
                }
            },
            Doing::Hello => match ports.keystore.poll::<MakeHello>(now) {
                None => Doing::Hello,
                Some(outcome) => {
                    if let Ok(reply) = outcome {
                        self.say_hello(&reply, now, ports);
                    }
                    Doing::Nothing
                }
            },
            Doing::Open(open) => match ports.keystore.poll::<CheckOpen>(now) {
                None => Doing::Open(open),
                Some(Ok(reply)) => self.open_gate(open, &reply, now, ports),
                Some(Err(_)) => Doing::Nothing,
            },
            Doing::Gate(answered) => match ports.lifecycle.poll::<OpenGate>(now) {
                None => Doing::Gate(answered),
                Some(outcome) => {
                    self.hear_gate(answered, outcome, now, ports);
                    Doing::Nothing
                }
            },
        };
    }

    /// Uniform over the time that a hello may wait.
    fn delay(&self, random: &[u8; 16]) -> Micros {
        let [a, b, c, d, e, f, g, h, ..] = *random;
        scale(u64::from_le_bytes([a, b, c, d, e, f, g, h]), micros(self.params.hello_delay_ms))
    }

    fn say_hello(&mut self, reply: &MakeHelloReply, now: Micros, ports: &mut Ports<'_>) {
        if send(ports, frames::to_everyone(&self.rules.link, &reply.hello).bytes()) {
            self.nonces.sent(reply.nonce, now);
        }
    }

    fn open_gate(&mut self, open: Open, reply: &CheckOpenReply, now: Micros, ports: &mut Ports<'_>) -> Doing {
        let peer = station(&open);
        self.nonces.checked(&open.nonce, &peer, self.rules.open_to(now));
        let request = GateRequest { peer, token: reply.token, nonce: open.nonce };
        ports.lifecycle.call::<OpenGate>(&request, now, PATIENCE);
        Doing::Gate(Answered { open, answer: reply.answer, until: 0, again_at: 0 })
    }

    fn hear_gate(
        &mut self,
        mut answered: Answered,
        outcome: Result<(), CallError>,
        now: Micros,
        ports: &mut Ports<'_>,
    ) {
        if matches!(outcome, Err(CallError::Refused(_))) {
            return;
        }
        // Also when the outcome is unknown: the same open must not open the gate twice.
        self.nonces.used(&answered.open.nonce, station(&answered.open));
        if outcome.is_ok() {
            answered.until = now.saturating_add(micros(self.params.token_ms));
            answered.say(&self.rules.link, now, ports);
            self.answered = Some(answered);
        }
    }

    /// The peer whose gate it is has not got the answer: the same open has the same answer, for as long as the token is
    /// good. Nothing is made for it that was not there.
    fn answer_again(&mut self, open: &Open, now: Micros, ports: &mut Ports<'_>) {
        let Some(answered) = self.answered.as_mut().filter(|answered| answered.open == *open) else { return };
        let is_its_gate = self.rules.open_to(now) == Some(&station(open));
        if is_its_gate && now < answered.until && now >= answered.again_at {
            answered.say(&self.rules.link, now, ports);
        }
    }
}

/// An open, and what is said to it when the gate is open.
struct Answered {
    open: Open,
    answer: Answer,
    /// The token is good until then.
    until: Micros,
    /// It is not said again before.
    again_at: Micros,
}

impl Answered {
    fn say(&mut self, link: &Station, now: Micros, ports: &mut Ports<'_>) {
        self.again_at = now.saturating_add(AGAIN_MICROS);
        let sender = station(&self.open);
        if send(ports, frames::to_peer(link, &sender, &self.answer).bytes()) {
            // It leaves the node's addresses in the sender's neighbour cache.
            send(ports, &link::solicitation(link, &sender, &sender.ip));
        }
    }
}

fn station(open: &Open) -> Station {
    Station::new(open.sender_ip, open.sender_mac)
}

/// False if there is no room: the frame is lost, and the administrator repeats.
fn send(ports: &mut Ports<'_>, frame: &[u8]) -> bool {
    ports.perimeter.send(frame).is_ok()
}
