//! What lifecycle does for a child that dies or hangs: it closes what that one served, says so, and has it started anew.

use calls::{
    Domain,
    console::{Code, Event},
    keystore::Ownership,
    lifecycle::{Closed, Refusal},
};
use heapless::Vec;
use shm::Micros;
use wire::{Phase, telemetry::Cause};

use crate::{
    Blind, Lifecycle, Ports,
    children::{Fault, Verdict, needed},
};

/// Those that the platform is to start anew, each once.
pub type Anew = Vec<Domain, { Domain::CHILDREN.len() }>;

const SECOND: Micros = 1_000_000;

impl Lifecycle {
    /// The platform says that a child has faulted and is stopped. A child can lie about its own death, and about no other's:
    /// then it is ended and started anew. Call [`Self::step`] afterwards.
    pub fn died(&mut self, child: Domain, now: Micros, ports: &mut Ports<'_>) {
        self.fell(child, Cause::Died, now, ports);
    }

    /// Those that the platform is to end, if they run, and to start anew. To be asked after each step, once what the step has
    /// published is there.
    pub fn take_restarts(&mut self) -> Anew {
        core::mem::take(&mut self.anew)
    }

    /// A child has notified: it may hang soon. Call [`Self::step`] afterwards.
    pub fn stirred(&mut self, now: Micros) {
        if self.watch.stirred(now) {
            // What it is to be watched by is an alarm, and nobody else would wake lifecycle if the timer hangs of that.
            self.keystore.want_status();
        }
    }

    /// The timer has notified: of an alarm, or of a step of its own, which may hang. Call [`Self::step`] afterwards.
    pub fn ticked(&mut self) {
        self.watch.doubt();
    }

    /// Those that are in one step for too long.
    pub(crate) fn end_hung(&mut self, now: Micros, ports: &mut Ports<'_>) {
        let words = ports.watches.each_ref().map(|(child, word)| (*child, word.load(0)));
        let children = &self.children;
        let lives = words.into_iter().filter(|(child, _)| !children.is_down(*child));
        for child in self.watch.look(now, lives) {
            self.fell(child, Cause::Hung, now, ports);
        }
        let timer = words.iter().find(|(child, _)| *child == Domain::Timer).map_or(0, |(_, word)| *word);
        if self.watch.is_open(now, timer) && !self.children.is_down(Domain::Timer) {
            // The keystore runs once the timer has, or has used up its budget, and its answer is a look more.
            self.keystore.want_status();
        }
    }

    /// A child does not answer, although its steps end.
    pub(crate) fn end_silent(&mut self, child: Domain, now: Micros, ports: &mut Ports<'_>) {
        self.fell(child, Cause::Silent, now, ports);
        self.start_anew(now, ports);
    }

    fn fell(&mut self, child: Domain, cause: Cause, now: Micros, ports: &mut Ports<'_>) {
        let since = *self.since.get_or_insert(now);
        let Some((verdict, fault)) = self.children.fell(child, cause, now) else { return };
        let word = ports.watches.iter().find(|(of, _)| *of == child).map_or(0, |(_, word)| word.load(0));
        self.watch.ended(child, word);
        self.events.say(event(&fault, verdict, now.saturating_sub(since)));
        self.accounts.fault(&fault, now.saturating_sub(since));
        self.close_for(child, ports);
        if verdict == Verdict::Out {
            if child == Domain::Store {
                self.keystore.store_down();
            }
            if needed(child, self.phase) {
                // What was final stays so.
                self.suspended |= self.phase != Phase::Sealed;
                self.close_down(ports);
            }
        }
    }

    /// What a child served is closed before another is in its place.
    fn close_for(&mut self, child: Domain, ports: &mut Ports<'_>) {
        match child {
            Domain::Net | Domain::Perimeter if self.gate.is_open() => self.close_gate(Closed::Fault, ports),
            Domain::Beacon => {
                // Nobody is there to be answered.
                let _ = ports.beacon.take();
                if self.gate.is_open() {
                    self.close_gate(Closed::Fault, ports);
                }
            }
            Domain::Claim => {
                let _ = ports.claim.take();
                if self.gate.is_open() {
                    self.close_gate(Closed::Fault, ports);
                }
                self.refuse_claim(Refusal::Gate, ports);
            }
            Domain::Mesh => {
                let _ = ports.mesh.take();
                self.mesh.left();
                self.publish(ports);
            }
            _ => {}
        }
    }

    /// Those whose pause is over.
    pub(crate) fn start_anew(&mut self, now: Micros, ports: &mut Ports<'_>) {
        self.since.get_or_insert(now);
        while let Some(child) = self.children.take_due(now) {
            // Before it runs: whoever tells a restarted mesh from two nodes goes by it.
            self.accounts.restarted(child);
            if !self.anew.contains(&child) {
                // There is room for each once.
                let _ = self.anew.push(child);
            }
            if child == Domain::Mesh {
                // It may be a member again.
                self.publish(ports);
            }
            let owner = self.status.map_or(Ownership::Unclaimed, |status| status.ownership());
            let phase = if owner == Ownership::Claimed { Phase::Claimed } else { Phase::Hold };
            if self.suspended && self.children.suffice(phase) {
                self.resume(ports);
            }
        }
    }

    /// The node has all that it needs again: it goes on as after a power-up.
    fn resume(&mut self, ports: &mut Ports<'_>) {
        self.suspended = false;
        self.status = None;
        self.blind = Blind::Started;
        self.keystore.want_status();
        self.enter(Phase::Blind, ports);
    }
}

fn event(fault: &Fault, verdict: Verdict, age: Micros) -> Event {
    let (out, pause) = match verdict {
        Verdict::Again(pause) => (0, pause / SECOND),
        Verdict::Out => (1, 0),
    };
    let kind = [fault.cause as u8, out, 0, 0, 0, 0, 0, 0];
    let parts = [&kind, &pause.to_be_bytes(), &u64::from(fault.count).to_be_bytes(), &(age / SECOND).to_be_bytes()];
    Event::new(Code::Died, fault.domain as u32, &parts.map(|part| &part[..]))
}
