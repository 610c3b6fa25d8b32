//! `lifecycle`: the phase machine, blind to claimed, and the owner of the gate and of the
//! configuration. It holds no secret but the gate's token, which it passes from `beacon` to `claim`, and preshared keys of
//! the configuration, which it passes to `mesh`. It believes none of them about ownership or updates: it asks the keystore.
//!
//! What it decides goes out as cells ([`calls::rules`]) before the call that caused it is answered,
//! so that whoever hears the answer acts under the new rules.
#![no_std]
#![forbid(unsafe_code)]

#[cfg(test)]
extern crate std;

mod child;
mod configuration;
mod events;
mod gate;
mod mesh;
pub mod shell;
#[cfg(test)]
mod tests;

use calls::{
    Domain,
    alarm::Alarm,
    console::{Code, Event, SLOT},
    keystore::{Ownership, State, StatusReply, for_lifecycle as keystore},
    lifecycle::{Closed, EndRequest, GateRequest, Refusal, StageRequest, for_beacon, for_claim, for_mesh},
    mesh::Membership,
    params::{Params, micros},
    rules::{Gate, Report, Rules},
};
use shm::{
    Micros, cell,
    mailbox::{self, CallError, Patience},
    ring,
};

use configuration::Kept;
use events::Events;
use gate::OpenGate;
use mesh::Pending;
use wire::Phase;

/// Its channels, by who is at the other end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Channel {
    Keystore,
    Perimeter,
    Beacon,
    Claim,
    Mesh,
    Console,
    Timer,
}

pub type BeaconServer<'a> = mailbox::Server<'a, { for_beacon::MAX_REQUEST }>;
pub type ClaimServer<'a> = mailbox::Server<'a, { for_claim::MAX_REQUEST }>;
pub type MeshServer<'a> = mailbox::Server<'a, { for_mesh::MAX_REQUEST }>;

pub struct Ports<'a> {
    pub keystore: mailbox::Client<'a>,
    pub perimeter: cell::Writer<'a, Rules>,
    pub report: cell::Reader<'a, Report>,
    pub beacon_rules: cell::Writer<'a, Rules>,
    pub beacon: BeaconServer<'a>,
    pub claim_gate: cell::Writer<'a, Gate>,
    pub claim: ClaimServer<'a>,
    pub membership: cell::Writer<'a, Membership>,
    pub mesh: MeshServer<'a>,
    pub console: ring::Duplex<'a, SLOT>,
    pub alarm: Alarm<'a>,
}

impl Ports<'_> {
    pub fn signals(&mut self, mut notify: impl FnMut(Channel)) {
        // Both ends of a channel are asked: a cell and a mailbox share it.
        let beacon = self.beacon_rules.take_signal() | self.beacon.take_signal();
        let claim = self.claim_gate.take_signal() | self.claim.take_signal();
        let mesh = self.membership.take_signal() | self.mesh.take_signal();
        let signals = [
            (Channel::Keystore, self.keystore.take_signal()),
            (Channel::Perimeter, self.perimeter.take_signal()),
            (Channel::Beacon, beacon),
            (Channel::Claim, claim),
            (Channel::Mesh, mesh),
            (Channel::Console, self.console.take_signal()),
            (Channel::Timer, self.alarm.take_signal()),
        ];
        signals.into_iter().filter(|(_, signal)| *signal).for_each(|(peer, _)| notify(peer));
    }
}

/// How long the keystore may take to answer, and how often it is asked again.
const PATIENCE: Patience = Patience { each: 5_000_000, tries: 3 };

/// What is to be asked of the keystore, the most urgent first.
#[derive(Default)]
struct Wanted {
    close_gate: bool,
    fork: bool,
    settle: bool,
    update: bool,
    status: bool,
}

/// A call of `claim` that is answered when the keystore has confirmed it.
struct Unconfirmed {
    what: Confirm,
    /// The keystore was asked after the call came; an older answer says nothing.
    asked: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Confirm {
    Committed,
    Acknowledged,
}

pub struct Lifecycle {
    params: Params,
    phase: Phase,
    status: Option<StatusReply>,
    link: link::Station,
    scan_until: Micros,
    gate: Option<OpenGate>,
    gates: u64,
    rivals: u32,
    wanted: Wanted,
    unconfirmed: Option<Unconfirmed>,
    /// What claim has staged; in force once the keystore says that it is committed.
    staged: Kept,
    /// A call of mesh that waits for the keystore.
    pending: Option<Pending>,
    /// Mesh knows this: link, phase, isolation, epoch, configuration.
    told: Option<mesh::Told>,
    joined: bool,
    events: Events,
    /// A bit for each [`Domain`] that has died.
    dead: u32,
}

impl Lifecycle {
    pub fn new(params: Params) -> Self {
        let mut events = Events::new();
        events.say(Event::new(Code::Phase, Phase::Blind as u32, &[]));
        Self {
            params,
            phase: Phase::Blind,
            status: None,
            link: Rules::CLOSED.link,
            scan_until: 0,
            gate: None,
            gates: 0,
            rivals: 0,
            wanted: Wanted { status: true, ..Wanted::default() },
            unconfirmed: None,
            staged: Kept::nothing(),
            pending: None,
            told: None,
            joined: false,
            events,
            dead: 0,
        }
    }

    pub fn phase(&self) -> Phase {
        self.phase
    }

    /// The configuration of the committed binding, once there is one.
    pub fn configuration(&self) -> Option<&[u8]> {
        self.in_force().map(Kept::bytes)
    }

    pub fn step(&mut self, now: Micros, ports: &mut Ports<'_>) -> bool {
        if let Some(report) = ports.report.poll() {
            self.link.mac = if report.up == 1 { report.mac } else { [0; 6] };
        }
        self.hear_keystore(now, ports);
        // After the reply: a nudge may be younger than it.
        self.wanted.status |= ports.keystore.nudged();
        self.advance(now, ports);
        self.serve_beacon(now, ports);
        self.serve_claim(now, ports);
        self.serve_mesh(ports);
        self.ask_keystore(now, ports);
        self.events.flush(&mut ports.console);
        ports.alarm.set(self.next_deadline(ports));
        false
    }

    /// The platform says that a child has faulted and is stopped. Only the first word about each child counts: a
    /// child can lie about its own death, and about no other's. Call [`Self::step`] afterwards.
    pub fn died(&mut self, child: Domain, ports: &mut Ports<'_>) {
        if self.is_dead(child) {
            return;
        }
        self.dead |= 1 << child as u32;
        self.events.say(Event::new(Code::Died, child as u32, &[]));
        if child::needed(child, self.phase) {
            self.seal(ports);
        }
        if child == Domain::Mesh {
            self.pending = None;
            self.publish(ports);
        }
    }

    fn is_dead(&self, child: Domain) -> bool {
        self.dead & (1 << child as u32) != 0
    }

    fn next_deadline(&self, ports: &Ports<'_>) -> Option<Micros> {
        let scan = (self.phase == Phase::Scan && self.gate.is_none()).then_some(self.scan_until);
        let gate = self.gate.as_ref().map(|gate| gate.until);
        [scan, gate, ports.keystore.deadline()].into_iter().flatten().min()
    }

    // --- the keystore

    fn ask_keystore(&mut self, now: Micros, ports: &mut Ports<'_>) {
        // A sealed node asks nothing more.
        if self.phase == Phase::Sealed || ports.keystore.busy().is_some() {
            return;
        }
        if self.wanted.close_gate {
            ports.keystore.call::<keystore::CloseGate>(&(), now, PATIENCE);
        } else if self.wanted.fork {
            ports.keystore.call::<keystore::Fork>(&(), now, PATIENCE);
        } else if self.wanted.settle {
            ports.keystore.call::<keystore::Settle>(&(), now, PATIENCE);
        } else if let Some(head) = self.pending.as_ref().and_then(Pending::head).filter(|_| self.wanted.update) {
            ports.keystore.call::<keystore::Update>(head, now, PATIENCE);
        } else if self.wanted.status {
            ports.keystore.call::<keystore::Status>(&(), now, PATIENCE);
            if let Some(unconfirmed) = &mut self.unconfirmed {
                unconfirmed.asked = true;
            }
        }
    }

    fn hear_keystore(&mut self, now: Micros, ports: &mut Ports<'_>) {
        if let Some(outcome) = ports.keystore.poll::<keystore::CloseGate>(now) {
            self.wanted.close_gate = false;
            self.said(outcome, ports);
        }
        if let Some(outcome) = ports.keystore.poll::<keystore::Fork>(now) {
            self.wanted.fork = false;
            match self.said(outcome, ports) {
                Some(()) if self.phase == Phase::Fork => self.enter(Phase::Hold, ports),
                Some(()) => {}
                // A binding may have been committed first.
                None => self.wanted.status = true,
            }
        }
        self.hear_about_mesh(now, ports);
        if let Some(outcome) = ports.keystore.poll::<keystore::Status>(now) {
            self.wanted.status = false;
            if let Some(status) = self.said(outcome, ports) {
                self.take_status(status, ports);
            }
        }
    }

    /// The reply. A keystore that does not answer, or breaks the rules of its channel, seals the node.
    fn said<T>(&mut self, outcome: Result<T, CallError>, ports: &mut Ports<'_>) -> Option<T> {
        let event = match outcome {
            Ok(reply) => return Some(reply),
            Err(CallError::Misbehaved) => Event::new(Code::Misbehaved, Domain::Keystore as u32, &[]),
            Err(CallError::Timeout | CallError::Restarted) => Event::new(Code::KeystoreSilent, 0, &[]),
            // This is an answer: what holds instead, the next status says.
            Err(CallError::Refused(_)) => return None,
        };
        self.events.say(event);
        self.seal(ports);
        None
    }

    fn take_status(&mut self, status: StatusReply, ports: &mut Ports<'_>) {
        let before = self.status.replace(status);
        match status.state() {
            Some(State::Testing) => {}
            Some(State::Ready) => {
                self.link.ip = status.address;
                if before.is_none_or(|before| before.state() != Some(State::Ready)) {
                    let number = u32::from(status.anchor);
                    self.events.say(Event::new(Code::Identity, number, &[&status.fiduciary]));
                }
            }
            // A number that is no state is a fault too.
            _ => {
                if before.is_none_or(|before| before.state != status.state) {
                    let failed = [status.failed_test];
                    self.events.say(Event::new(Code::Fault, status.state.into(), &[&failed]));
                }
                self.seal(ports);
            }
        }
        self.confirm(status, ports);
        self.confirm_mesh(status, ports);
        if status.isolated != before.map_or(0, |before| before.isolated) {
            self.events.say(Event::new(Code::Isolated, u32::from(status.isolated), &[]));
        }
        self.tell_mesh(ports);
    }

    // --- phases

    /// What follows from time and from what is known, whoever caused it.
    fn advance(&mut self, now: Micros, ports: &mut Ports<'_>) {
        if let Some(gate) = self.gate.as_ref().filter(|gate| now >= gate.until) {
            let reason = if gate.started { Closed::Deadline } else { Closed::Expired };
            self.close_gate(reason, ports);
        }
        match self.phase {
            Phase::Blind => self.leave_blind(now, ports),
            Phase::Scan if self.gate.is_none() && now >= self.scan_until => self.fork(ports),
            _ => {}
        }
    }

    fn leave_blind(&mut self, now: Micros, ports: &mut Ports<'_>) {
        let Some(status) = self.status else { return };
        let ready = status.state() == Some(State::Ready) && status.ticket_waiting == 0 && self.link.mac != [0; 6];
        if !ready {
            return;
        }
        self.events.say(Event::new(Code::Link, 0, &[&self.link.ip, &self.link.mac]));
        match (status.ownership(), status.forked) {
            (Ownership::Claimed, _) => self.enter(Phase::Claimed, ports),
            (Ownership::Committed, _) => self.enter(Phase::Committed, ports),
            (_, 1) => self.enter(Phase::Hold, ports),
            _ if self.params.scan_ms.get() == 0 => self.fork(ports),
            _ => {
                self.scan_until = now.saturating_add(micros(self.params.scan_ms));
                self.enter(Phase::Scan, ports);
            }
        }
    }

    fn fork(&mut self, ports: &mut Ports<'_>) {
        self.enter(Phase::Fork, ports);
        self.wanted.fork = true;
    }

    /// Closed both ways until the next power-up.
    fn seal(&mut self, ports: &mut Ports<'_>) {
        if self.phase == Phase::Sealed {
            return;
        }
        if self.gate.is_some() {
            self.close_gate(Closed::Sealed, ports);
        }
        self.enter(Phase::Sealed, ports);
        self.drop_pending(ports);
    }

    fn enter(&mut self, phase: Phase, ports: &mut Ports<'_>) {
        if self.phase != phase {
            self.phase = phase;
            self.events.say(Event::new(Code::Phase, phase as u32, &[]));
            self.publish(ports);
        }
    }

    /// Tells everyone on the network path what holds now.
    fn publish(&mut self, ports: &mut Ports<'_>) {
        let mut rules = Rules { phase: self.phase as u64, link: self.link, mesh: self.mesh_link(), ..Rules::CLOSED };
        let mut gate = Gate { rules, token: [0; 16], nonce: [0; 16], fiduciary: [0; 32] };
        if let Some(open) = &self.gate {
            rules = Rules { gate: open.number, peer: open.peer, until: open.until, ..rules };
            let fiduciary = self.status.map_or([0; 32], |status| status.fiduciary);
            gate = Gate { rules, token: open.token, nonce: open.nonce, fiduciary };
        }
        ports.perimeter.publish(&rules);
        ports.beacon_rules.publish(&rules);
        ports.claim_gate.publish(&gate);
        self.tell_mesh(ports);
    }

    // --- the gate

    fn serve_beacon(&mut self, now: Micros, ports: &mut Ports<'_>) {
        match ports.beacon.take() {
            Ok(None) => {}
            Err(_) => self.events.say(Event::new(Code::Misbehaved, Domain::Beacon as u32, &[])),
            Ok(Some(call)) => match call.parse::<for_beacon::OpenGate>() {
                None => ports.beacon.refuse(Refusal::NotAllowed.code()),
                Some(request) => match self.open_gate(now, &request, ports) {
                    Ok(()) => ports.beacon.reply::<for_beacon::OpenGate>(&()),
                    Err(refusal) => ports.beacon.refuse(refusal.code()),
                },
            },
        }
    }

    fn open_gate(&mut self, now: Micros, request: &GateRequest, ports: &mut Ports<'_>) -> Result<(), Refusal> {
        if !self.phase.listens() {
            return Err(Refusal::Phase);
        }
        if let Some(gate) = &self.gate {
            if gate.peer != request.peer {
                self.rivals = self.rivals.saturating_add(1);
                self.events.say(Event::new(Code::Rival, self.rivals, &[]));
                return Err(Refusal::Busy);
            }
            // What is not confirmed yet belongs to the old gate.
            self.drop_gate(Closed::Replaced, ports);
        }
        self.gates += 1;
        let until = now.saturating_add(micros(self.params.token_ms));
        self.gate = Some(OpenGate::new(self.gates, request, until));
        self.events.say(Event::new(Code::GateOpen, 0, &[&request.peer.ip, &request.peer.mac]));
        self.publish(ports);
        Ok(())
    }

    /// Closes the gate and publishes it. A scan that led to no claim ends in the fork.
    fn close_gate(&mut self, reason: Closed, ports: &mut Ports<'_>) {
        self.drop_gate(reason, ports);
        if self.phase == Phase::Scan { self.fork(ports) } else { self.publish(ports) }
    }

    fn drop_gate(&mut self, reason: Closed, ports: &mut Ports<'_>) {
        self.gate = None;
        self.wanted.close_gate = true;
        self.events.say(Event::new(Code::GateClosed, reason as u32, &[]));
        if self.unconfirmed.take().is_some() {
            ports.claim.refuse(Refusal::Gate.code());
        }
    }

    // --- the claim

    fn serve_claim(&mut self, now: Micros, ports: &mut Ports<'_>) {
        if self.unconfirmed.is_some() {
            return;
        }
        let call = match ports.claim.take() {
            Ok(None) => return,
            Err(_) => return self.events.say(Event::new(Code::Misbehaved, Domain::Claim as u32, &[])),
            Ok(Some(call)) => call,
        };
        if let Some(gate) = call.parse::<for_claim::Started>() {
            let answer = self.started(now, gate, ports);
            answer_claim::<for_claim::Started>(ports, answer);
        } else if let Some(request) = call.parse::<for_claim::Stage>() {
            let answer = self.stage(&request);
            answer_claim::<for_claim::Stage>(ports, answer);
        } else if let Some(request) = call.parse::<for_claim::Ended>() {
            let answer = self.ended(&request, ports);
            answer_claim::<for_claim::Ended>(ports, answer);
        } else if let Some(gate) = call.parse::<for_claim::Committed>() {
            self.await_keystore(Confirm::Committed, gate, ports);
        } else if let Some(gate) = call.parse::<for_claim::Acknowledged>() {
            self.await_keystore(Confirm::Acknowledged, gate, ports);
        } else {
            ports.claim.refuse(Refusal::NotAllowed.code());
        }
    }

    fn current(&mut self, gate: u64) -> Result<&mut OpenGate, Refusal> {
        self.gate.as_mut().filter(|open| open.number == gate).ok_or(Refusal::Gate)
    }

    fn started(&mut self, now: Micros, gate: u64, ports: &mut Ports<'_>) -> Result<(), Refusal> {
        let until = now.saturating_add(micros(self.params.claim_ms));
        let open = self.current(gate)?;
        // Once: saying it again does not lengthen the claim.
        if !open.started {
            open.started = true;
            open.until = until;
            self.publish(ports);
        }
        Ok(())
    }

    fn stage(&mut self, request: &StageRequest) -> Result<(), Refusal> {
        self.current(request.gate)?;
        let length = usize::try_from(request.length).ok();
        let bytes = length.and_then(|length| request.configuration.get(..length)).ok_or(Refusal::Configuration)?;
        let kept = Kept::read(bytes).ok_or(Refusal::Configuration)?;
        let committed = self.status.filter(|status| status.ownership() != Ownership::Unclaimed);
        if kept.hash != request.hash || committed.is_some_and(|status| status.configuration != kept.hash) {
            return Err(Refusal::Configuration);
        }
        self.staged = kept;
        Ok(())
    }

    fn ended(&mut self, request: &EndRequest, ports: &mut Ports<'_>) -> Result<(), Refusal> {
        self.current(request.gate)?;
        self.close_gate(request.reason(), ports);
        Ok(())
    }

    /// Asks the keystore whether it is so; [`Self::confirm`] answers.
    fn await_keystore(&mut self, what: Confirm, gate: u64, ports: &mut Ports<'_>) {
        // The claim that is final already may be told so again, gate or not.
        let again = what == Confirm::Acknowledged && self.phase == Phase::Claimed;
        match self.current(gate) {
            Err(refusal) if !again => ports.claim.refuse(refusal.code()),
            _ => {
                self.unconfirmed = Some(Unconfirmed { what, asked: false });
                self.wanted.status = true;
            }
        }
    }

    fn confirm(&mut self, status: StatusReply, ports: &mut Ports<'_>) {
        match self.unconfirmed.take() {
            Some(waiting) if !waiting.asked => {
                self.unconfirmed = Some(waiting);
                self.wanted.status = true;
            }
            Some(Unconfirmed { what: Confirm::Committed, .. })
                if status.ownership() == Ownership::Committed && status.configuration == self.staged.hash =>
            {
                self.become_committed(status, ports);
                ports.claim.reply::<for_claim::Committed>(&self.rivals);
            }
            Some(Unconfirmed { what: Confirm::Acknowledged, .. }) if status.ownership() == Ownership::Claimed => {
                self.become_claimed(ports);
                ports.claim.reply::<for_claim::Acknowledged>(&());
            }
            Some(_) => ports.claim.refuse(Refusal::Phase.code()),
            // The keystore is ahead of claim, which has not said so yet or has died in between.
            None if status.ownership() == Ownership::Claimed && self.follows() => self.become_claimed(ports),
            None if status.ownership() == Ownership::Committed && self.follows() => {
                self.become_committed(status, ports);
            }
            None => {}
        }
    }

    /// Whether the phase is one that a binding can be committed in, whatever lifecycle is told.
    fn follows(&self) -> bool {
        self.phase.listens() || self.phase == Phase::Fork
    }

    fn become_committed(&mut self, status: StatusReply, ports: &mut Ports<'_>) {
        if self.phase != Phase::Committed {
            let epoch = status.epoch.to_be_bytes();
            self.events.say(Event::new(Code::Committed, self.rivals, &[&status.fleet, &epoch]));
            self.enter(Phase::Committed, ports);
        }
    }

    fn become_claimed(&mut self, ports: &mut Ports<'_>) {
        if self.phase == Phase::Claimed {
            return;
        }
        if self.gate.is_some() {
            self.drop_gate(Closed::Done, ports);
        }
        self.events.say(Event::new(Code::Claimed, 0, &[]));
        self.enter(Phase::Claimed, ports);
    }
}

fn answer_claim<O: mailbox::Operation<Reply = ()>>(ports: &mut Ports<'_>, answer: Result<(), Refusal>) {
    match answer {
        Ok(()) => ports.claim.reply::<O>(&()),
        Err(refusal) => ports.claim.refuse(refusal.code()),
    }
}
