//! `lifecycle`: the phase machine, blind to claimed, and the owner of the gate and of the
//! configuration. It holds no secret but the gate's token, which it passes from `beacon` to `claim`, and preshared keys of
//! the configuration, which it passes to `mesh`. It believes none of them about ownership or updates: it asks the keystore.
//!
//! Each part is a value with its own state: the client of the keystore, the gate, the claim, the mesh, the children.
//! [`Lifecycle`] moves the phase, and decides what goes from one to another and what all are told.
//!
//! What it decides goes out as cells ([`calls::rules`]) before the call that caused it is answered,
//! so that whoever hears the answer acts under the new rules.
#![no_std]
#![forbid(unsafe_code)]

#[cfg(test)]
extern crate std;

mod account;
mod archive;
mod children;
mod claim;
mod configuration;
mod events;
mod gate;
mod keystore;
mod membership;
mod mesh;
mod ports;
mod release;
mod rest;
mod restart;
pub mod shell;
#[cfg(test)]
mod tests;
mod waiting;
mod watch;

use calls::{
    Domain,
    console::{Awaited, Code, Event},
    keystore::{Ownership, Refusal as KeystoreRefusal, State, StatusReply},
    lifecycle::{Closed, GateRequest, Refusal, for_beacon, for_claim},
    params::{Params, micros},
    rules::{Report, Rules},
};
use shm::Micros;
use wire::{Phase, telemetry::CommandResult};
use zerocopy::FromZeros;

use account::Accounts;
use archive::Archive;
use children::Children;
use claim::{Claim, Claimed, Staged};
use configuration::Kept;
use events::Events;
use gate::Gate;
use keystore::{Answer, Keystore, Question};
use membership::Owners;
use mesh::{Mesh, Shown};
pub use ports::{BeaconServer, Channel, ClaimServer, MeshServer, Ports};
use restart::Anew;
use watch::Watch;

/// After how long a fork is asked for again that the keystore could not make.
const FORK_MICROS: Micros = 10_000_000;
/// A node that is blind for so long says what it waits for.
const BLIND_MICROS: Micros = 10_000_000;

/// How far a node that is blind has come.
enum Blind {
    Started,
    /// It says what it waits for at this time.
    Until(Micros),
    Said,
}

pub struct Lifecycle {
    params: Params,
    phase: Phase,
    /// The keystore's last word about the node.
    status: Option<StatusReply>,
    link: link::Station,
    scan_until: Micros,
    blind: Blind,
    /// The configuration that claim has staged, or the last update: in force while the keystore says that it is committed.
    kept: Kept,
    owners: Owners,
    /// What a claim has brought, until it is at rest.
    staged: Option<Staged>,
    archive: Archive,
    accounts: Accounts,
    keystore: Keystore,
    gate: Gate,
    claim: Claim,
    mesh: Mesh,
    children: Children,
    watch: Watch,
    /// Those whose restart the platform has not been told yet.
    anew: Anew,
    /// It is sealed for want of a child: if that lives again, it goes on.
    suspended: bool,
    /// Its owners have let it go: until this time it is a member all the same, to send the receipt.
    leaving: Option<Micros>,
    /// When the first step was.
    since: Option<Micros>,
    events: Events,
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
            blind: Blind::Started,
            kept: Kept::nothing(),
            owners: Owners::nobody(),
            staged: None,
            archive: Archive::new(),
            accounts: Accounts::new(),
            keystore: Keystore::new(),
            gate: Gate::closed(),
            claim: Claim::nothing(),
            mesh: Mesh::new(),
            children: Children::alive(),
            watch: Watch::new(),
            anew: Anew::new(),
            suspended: false,
            leaving: None,
            since: None,
            events,
        }
    }

    pub fn phase(&self) -> Phase {
        self.phase
    }

    /// The configuration of the committed binding, once there is one.
    pub fn configuration(&self) -> Option<&[u8]> {
        self.in_force().filter(|kept| !kept.bare).map(Kept::bytes)
    }

    pub fn step(&mut self, now: Micros, ports: &mut Ports<'_>) -> bool {
        self.end_hung(now, ports);
        self.start_anew(now, ports);
        if let Some(report) = ports.report.poll() {
            self.take_link(&report, ports);
        }
        self.hear_keystore(now, ports);
        // After the reply: a nudge may be younger than it.
        if ports.keystore.nudged() {
            self.keystore.want_status();
        }
        self.advance(now, ports);
        self.serve_beacon(now, ports);
        self.serve_claim(now, ports);
        self.serve_mesh(ports);
        let more = self.work_archive(now, ports);
        self.ask_keystore(now, ports);
        self.events.flush(&mut ports.console);
        ports.alarm.set(self.next_deadline(ports));
        more
    }

    fn next_deadline(&self, ports: &Ports<'_>) -> Option<Micros> {
        if self.phase == Phase::Sealed {
            return [self.children.deadline(), self.watch.deadline()].into_iter().flatten().min();
        }
        let blind = match self.blind {
            Blind::Until(at) if self.phase == Phase::Blind => Some(at),
            _ => None,
        };
        let scan = (self.phase == Phase::Scan && !self.gate.is_open()).then_some(self.scan_until);
        let calls = [self.keystore.deadline(&ports.keystore), ports.store.deadline(), self.looks_again()];
        let own = [
            blind,
            scan,
            self.leaving,
            self.owners.until(),
            self.gate.until(),
            self.children.deadline(),
            self.watch.deadline(),
        ];
        own.into_iter().chain(calls).flatten().min()
    }

    // --- the keystore

    fn ask_keystore(&mut self, now: Micros, ports: &mut Ports<'_>) {
        // A sealed node asks nothing more.
        if self.phase == Phase::Sealed {
            return;
        }
        let due = self.claim.is_due() || self.mesh.is_due() || self.archive.is_due();
        let staged = self.staged.as_ref().and_then(Staged::errand);
        let errand = self.mesh.errand().or(staged).or_else(|| self.archive.errand());
        if self.keystore.ask(now, &mut ports.keystore, errand, due) {
            self.claim.asked();
            self.mesh.asked();
            self.archive.asked();
        }
    }

    fn hear_keystore(&mut self, now: Micros, ports: &mut Ports<'_>) {
        match self.keystore.hear(now, &mut ports.keystore) {
            None => {}
            Some(Answer::Status(status)) => self.take_status(status, now, ports),
            Some(Answer::Done(Question::Fork)) if self.phase == Phase::Fork => self.enter(Phase::Hold, ports),
            Some(Answer::Done(Question::CheckBinding)) => self.staged.iter_mut().for_each(Staged::checked),
            Some(Answer::Done(Question::Settle | Question::CheckOrder | Question::Order | Question::Adopt)) => {
                self.mesh.done();
            }
            Some(Answer::Done(_)) => {}
            Some(Answer::Owner(owner)) => self.take_owner(&owner, now, ports),
            Some(Answer::Sealed(sealed)) => self.archive.sealed(&sealed),
            Some(Answer::Opened(plain)) => {
                if let Some(outcome) = self.archive.opened(&plain) {
                    self.take_outcome(outcome, ports);
                }
            }
            Some(Answer::Refused(question, refusal)) => self.refused(now, question, refusal, ports),
            Some(Answer::Silent) => {
                self.events.say(Event::new(Code::KeystoreSilent, 0, &[]));
                self.seal(ports);
            }
            Some(Answer::Misbehaved) => {
                self.misbehaved(Domain::Keystore);
                self.seal(ports);
            }
        }
    }

    /// A refusal is an answer, and seals nothing. What holds instead the next status says, and lifecycle follows it.
    fn refused(&mut self, now: Micros, question: Question, refusal: Option<KeystoreRefusal>, ports: &mut Ports<'_>) {
        match question {
            // A binding has been committed first, as the status will show; or the keystore cannot make the record now.
            Question::Fork if self.phase == Phase::Fork => self.keystore.fork(Some(now.saturating_add(FORK_MICROS))),
            Question::Fork | Question::CloseGate | Question::StoreDown => {}
            Question::Settle | Question::CheckOrder | Question::Order | Question::Adopt => {
                if let Some(answer) = self.mesh.refused(refusal) {
                    self.mesh.answer(&answer, &mut ports.mesh, &mut self.events);
                }
            }
            Question::CheckBinding => self.binding_refused(refusal, ports),
            Question::Seal | Question::Open => {
                if let Some(outcome) = self.archive.refused(refusal, now) {
                    self.take_outcome(outcome, ports);
                }
                return;
            }
            // The next status says whether there is still something to ask for.
            Question::Owner => return,
            // Nothing can be confirmed. The keystore nudges when it has something to say.
            Question::Status => return self.refuse_waiting(Refusal::Phase, ports),
        }
        self.keystore.want_status();
    }

    fn take_status(&mut self, status: StatusReply, now: Micros, ports: &mut Ports<'_>) {
        let before = self.status.replace(status);
        match status.state() {
            Some(State::Testing) => {}
            Some(state @ (State::Ready | State::EntropySilent)) => {
                self.link.ip = status.address;
                if before.is_none_or(|before| !before.has_keys()) {
                    let number = u32::from(status.anchor);
                    self.events.say(Event::new(Code::Identity, number, &[&status.fiduciary]));
                    self.events.say(Event::new(Code::Origin, status.first.into(), &[&status.boots.to_be_bytes()]));
                }
                // What the node can do without fresh samples it goes on doing.
                if state == State::EntropySilent && before.is_none_or(|before| before.state != status.state) {
                    self.events.say(Event::new(Code::Fault, status.state.into(), &[]));
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
        if let Some(outcome) = self.archive.shown(&status, now) {
            self.take_outcome(outcome, ports);
        }
        self.notice_release(&status, now);
        self.notice_record(&status);
        self.fall_back(ports);
        self.confirm_claim(&status, ports);
        self.confirm_mesh(&status, ports);
        if status.store != before.map_or(0, |before| before.store) {
            self.events.say(Event::new(Code::Store, status.store.into(), &[]));
        }
        if status.isolated != before.map_or(0, |before| before.isolated) {
            self.events.say(Event::new(Code::Isolated, u32::from(status.isolated), &[]));
        }
        self.tell_mesh(ports);
    }

    // --- phases

    /// With an address of a group, or with none, a node would hold and never hear a frame that is meant for it.
    fn take_link(&mut self, report: &Report, ports: &mut Ports<'_>) {
        let is_up = report.up == 1;
        self.link.mac = if is_up { report.mac } else { [0; 6] };
        if is_up && !link::is_unicast(&report.mac) {
            self.events.say(Event::new(Code::BadLink, 0, &[&[0; 16], &report.mac]));
            self.seal(ports);
        }
    }

    /// What follows from time and from what is known, whoever caused it.
    fn advance(&mut self, now: Micros, ports: &mut Ports<'_>) {
        if let Some(reason) = self.gate.expired(now) {
            self.close_gate(reason, ports);
        }
        self.leave_mesh(now, ports);
        self.part(now, ports);
        match self.phase {
            Phase::Blind => self.leave_blind(now, ports),
            Phase::Scan if !self.gate.is_open() && now >= self.scan_until => self.enter(Phase::Fork, ports),
            _ => {}
        }
    }

    fn leave_blind(&mut self, now: Micros, ports: &mut Ports<'_>) {
        let status = self.status.unwrap_or_else(StatusReply::new_zeroed);
        let ready = status.has_keys() && status.ticket_waiting == 0 && self.link.mac != [0; 6];
        if !ready {
            return self.say_awaited(now, &status);
        }
        self.events.say(Event::new(Code::Link, 0, &[&self.link.ip, &self.link.mac]));
        let phase = match (status.ownership(), status.forked) {
            (Ownership::Claimed, _) => Phase::Claimed,
            (Ownership::Committed, _) => Phase::Committed,
            (Ownership::Unclaimed, 1) => Phase::Hold,
            (Ownership::Unclaimed, _) if self.params.scan_ms.get() == 0 => Phase::Fork,
            (Ownership::Unclaimed, _) => {
                self.scan_until = now.saturating_add(micros(self.params.scan_ms));
                Phase::Scan
            }
        };
        self.enter(phase, ports);
    }

    /// A source that gives nothing is no fault of a test's, and nobody else would say a word of it.
    fn say_awaited(&mut self, now: Micros, status: &StatusReply) {
        match self.blind {
            Blind::Started => self.blind = Blind::Until(now.saturating_add(BLIND_MICROS)),
            Blind::Until(at) if now >= at => {
                self.blind = Blind::Said;
                let awaited = match status.ticket_waiting {
                    _ if !status.has_keys() => Awaited::Samples,
                    1 => Awaited::Ticket,
                    _ => Awaited::Link,
                };
                self.events.say(Event::new(Code::Waits, awaited as u32, &[]));
            }
            Blind::Until(_) | Blind::Said => {}
        }
    }

    /// Closed both ways until the next power-up.
    fn seal(&mut self, ports: &mut Ports<'_>) {
        // Its preshared keys are of no use any more.
        self.kept = Kept::nothing();
        (self.suspended, self.leaving) = (false, None);
        self.close_down(ports);
    }

    fn close_down(&mut self, ports: &mut Ports<'_>) {
        if self.phase == Phase::Sealed {
            return;
        }
        if self.gate.is_open() {
            self.drop_gate(Closed::Sealed, ports);
        }
        self.archive.stop(&mut ports.store);
        self.enter(Phase::Sealed, ports);
        self.refuse_waiting(Refusal::Phase, ports);
    }

    fn enter(&mut self, phase: Phase, ports: &mut Ports<'_>) {
        if self.phase != phase {
            self.phase = phase;
            self.keystore.fork((phase == Phase::Fork).then_some(0));
            self.events.say(Event::new(Code::Phase, phase as u32, &[]));
            self.publish(ports);
        }
    }

    /// Tells everyone on the network path what holds now.
    fn publish(&mut self, ports: &mut Ports<'_>) {
        let rules = Rules { phase: self.phase as u64, link: self.link, mesh: self.mesh_link(), ..Rules::CLOSED };
        let fiduciary = self.status.map_or([0; 32], |status| status.fiduciary);
        let (rules, for_claim) = self.gate.publish(rules, fiduciary);
        ports.perimeter.publish(&rules);
        ports.beacon_rules.publish(&rules);
        ports.claim_gate.publish(&for_claim);
        self.tell_mesh(ports);
    }

    fn misbehaved(&mut self, domain: Domain) {
        self.events.say(Event::new(Code::Misbehaved, domain as u32, &[]));
    }

    /// No call that waits for the keystore is confirmed.
    fn refuse_waiting(&mut self, refusal: Refusal, ports: &mut Ports<'_>) {
        self.refuse_claim(refusal, ports);
        if let Some(answer) = self.mesh.give_up() {
            self.mesh.answer(&answer, &mut ports.mesh, &mut self.events);
        }
    }

    // --- the gate

    fn serve_beacon(&mut self, now: Micros, ports: &mut Ports<'_>) {
        match ports.beacon.take() {
            Ok(None) => {}
            Err(_) => self.misbehaved(Domain::Beacon),
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
        match self.gate.is_of(&request.peer) {
            Err(refusal) => {
                self.events.say(Event::new(Code::Rival, self.gate.rivals(), &[]));
                return Err(refusal);
            }
            // What is not confirmed yet belongs to the old gate.
            Ok(true) => self.drop_gate(Closed::Replaced, ports),
            Ok(false) => {}
        }
        self.gate.open(request, now.saturating_add(micros(self.params.token_ms)));
        self.events.say(Event::new(Code::GateOpen, 0, &[&request.peer.ip, &request.peer.mac]));
        self.publish(ports);
        Ok(())
    }

    /// Closes the gate and publishes it. A scan that led to no claim ends in the fork.
    fn close_gate(&mut self, reason: Closed, ports: &mut Ports<'_>) {
        self.drop_gate(reason, ports);
        if self.phase == Phase::Scan { self.enter(Phase::Fork, ports) } else { self.publish(ports) }
    }

    fn drop_gate(&mut self, reason: Closed, ports: &mut Ports<'_>) {
        self.gate.close();
        self.keystore.close_gate();
        self.events.say(Event::new(Code::GateClosed, reason as u32, &[]));
        self.refuse_claim(Refusal::Gate, ports);
    }

    fn refuse_claim(&mut self, refusal: Refusal, ports: &mut Ports<'_>) {
        if self.claim.take().is_some() | self.staged.take().is_some() {
            ports.claim.refuse(refusal.code());
        }
    }

    // --- the claim

    fn serve_claim(&mut self, now: Micros, ports: &mut Ports<'_>) {
        // The answer to what was asked for the one before would be taken for the next one's.
        if self.claim.is_some() || self.staged.is_some() || self.keystore.is_asked(Question::CheckBinding) {
            return;
        }
        let call = match ports.claim.take() {
            Ok(None) => return,
            Err(_) => return self.misbehaved(Domain::Claim),
            Ok(Some(call)) => call,
        };
        if let Some(gate) = call.parse::<for_claim::Started>() {
            let answer = self.started(now, gate, ports);
            claim::answer::<for_claim::Started>(ports, answer);
        } else if let Some(request) = call.parse::<for_claim::Stage>() {
            self.stage(&request, ports);
        } else if let Some(request) = call.parse::<for_claim::Ended>() {
            let answer = self.ended(&request, ports);
            claim::answer::<for_claim::Ended>(ports, answer);
        } else if let Some(gate) = call.parse::<for_claim::Committed>() {
            self.await_keystore(Claimed::Committed, gate, ports);
        } else if let Some(gate) = call.parse::<for_claim::Acknowledged>() {
            self.await_keystore(Claimed::Acknowledged, gate, ports);
        } else {
            ports.claim.refuse(Refusal::NotAllowed.code());
        }
    }

    /// Asks the keystore whether it is so; [`Self::confirm_claim`] answers.
    fn await_keystore(&mut self, what: Claimed, gate: u64, ports: &mut Ports<'_>) {
        // The claim that is final already may be told so again, gate or not.
        let again = what == Claimed::Acknowledged && self.phase == Phase::Claimed;
        match self.gate.check(gate) {
            Err(refusal) if !again => ports.claim.refuse(refusal.code()),
            _ => self.claim.confirm(what),
        }
    }

    fn confirm_claim(&mut self, status: &StatusReply, ports: &mut Ports<'_>) {
        let owner = status.ownership();
        match self.claim.shown() {
            Some(Claimed::Committed) if owner == Ownership::Committed && status.configuration == self.kept.hash => {
                self.become_committed(status, ports);
                ports.claim.reply::<for_claim::Committed>(&self.gate.rivals());
            }
            Some(Claimed::Acknowledged) if owner == Ownership::Claimed => {
                self.become_claimed(ports);
                ports.claim.reply::<for_claim::Acknowledged>(&());
            }
            Some(_) => ports.claim.refuse(Refusal::Phase.code()),
            // An older status than the call's: the next one answers it.
            None if self.claim.is_some() => {}
            // The keystore is ahead of claim, which has not said so yet or has died in between; or the gate closed, and
            // the fork began, while the binding was being committed.
            None if self.phase.listens() || self.phase == Phase::Fork => match owner {
                Ownership::Unclaimed => {}
                Ownership::Committed => self.become_committed(status, ports),
                Ownership::Claimed => self.become_claimed(ports),
            },
            None => {}
        }
    }

    fn become_committed(&mut self, status: &StatusReply, ports: &mut Ports<'_>) {
        if self.phase != Phase::Committed {
            let epoch = status.epoch.to_be_bytes();
            self.events.say(Event::new(Code::Committed, self.gate.rivals(), &[&status.fleet, &epoch]));
            self.enter(Phase::Committed, ports);
        }
    }

    fn become_claimed(&mut self, ports: &mut Ports<'_>) {
        if self.phase == Phase::Claimed {
            return;
        }
        if self.gate.is_open() {
            self.drop_gate(Closed::Done, ports);
        }
        self.events.say(Event::new(Code::Claimed, 0, &[]));
        self.enter(Phase::Claimed, ports);
    }

    // --- the mesh

    fn serve_mesh(&mut self, ports: &mut Ports<'_>) {
        if self.mesh.is_waiting() {
            return;
        }
        match ports.mesh.take() {
            Ok(None) => {}
            Err(_) => self.misbehaved(Domain::Mesh),
            Ok(Some(call)) => {
                if let Some(answer) = self.mesh.take(&call, self.phase) {
                    self.mesh.answer(&answer, &mut ports.mesh, &mut self.events);
                }
            }
        }
    }

    fn confirm_mesh(&mut self, status: &StatusReply, ports: &mut Ports<'_>) {
        // Lifecycle publishes before it answers.
        if self.awaits_owner() {
            return;
        }
        let answer = match self.mesh.shown(status) {
            None => return,
            Some(Shown::Answer(answer)) => {
                self.tell_mesh(ports);
                answer
            }
            Some(Shown::InForce(next)) => {
                self.kept = next;
                self.publish(ports);
                mesh::Answer::Applied(CommandResult::Done)
            }
        };
        self.mesh.answer(&answer, &mut ports.mesh, &mut self.events);
    }
}
