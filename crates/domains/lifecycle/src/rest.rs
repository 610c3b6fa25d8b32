//! What lifecycle makes of the configuration at rest: what a claim or an update brings is there before it counts, and what
//! is committed is looked for there.

use calls::{
    Domain,
    console::{Code, Event, Rest},
    keystore::{Ownership, Store},
    lifecycle::{Refusal, StageRequest, for_claim},
};
use shm::Micros;
use wire::{Hash, Phase};

use crate::{Lifecycle, Ports, archive::Outcome, claim::Staged};

impl Lifecycle {
    /// Takes what a claim has brought. It is answered when that is at rest.
    pub(crate) fn stage(&mut self, request: &StageRequest, ports: &mut Ports<'_>) {
        let read = self.gate.check(request.gate).and_then(|()| Staged::read(request, self.status.as_ref()));
        match read {
            Ok(staged) => self.staged = Some(staged),
            Err(refusal) => ports.claim.refuse(refusal.code()),
        }
    }

    /// Does what is to be done for the configuration at rest. True: somebody has been answered, who may have asked again
    /// meanwhile.
    pub(crate) fn work_archive(&mut self, now: Micros, ports: &mut Ports<'_>) -> bool {
        let waited = self.waits_for_archive();
        if self.phase != Phase::Sealed {
            self.advance_archive(now, ports);
        }
        let mut answers = !self.archive.take_unanswered();
        // Only who has a mesh tells anybody.
        if !self.archive.is_idle() {
            self.accounts.give_way();
        } else if self.phase.has_mesh() {
            answers &= self.accounts.ask(now, &mut ports.store);
        }
        if !answers {
            self.end_silent(Domain::Store, now, ports);
        }
        if let Some(status) = &self.status {
            self.accounts.status(status);
        }
        self.accounts.publish(&mut ports.account);
        waited && !self.waits_for_archive()
    }

    fn waits_for_archive(&self) -> bool {
        self.staged.is_some() || self.mesh.to_keep().is_some()
    }

    fn advance_archive(&mut self, now: Micros, ports: &mut Ports<'_>) {
        if let Some(outcome) = self.archive.step(now, &mut ports.store) {
            self.take_outcome(outcome, ports);
        }
        if !self.archive.is_idle() {
            return;
        }
        if let Some(hash) = self.missing().filter(|_| now >= self.archive.again()) {
            self.archive.find(hash);
        } else if let Some(kept) = self.staged.as_ref().and_then(Staged::to_keep).or_else(|| self.mesh.to_keep())
            && let Some(outcome) = self.archive.keep(kept)
        {
            self.take_outcome(outcome, ports);
        } else if self.stale().is_some_and(|at| now >= at) {
            self.archive.purge();
        }
        // What was begun may be for the store.
        if let Some(outcome) = self.archive.step(now, &mut ports.store) {
            self.take_outcome(outcome, ports);
        }
    }

    /// When the configuration is looked for again.
    pub(crate) fn looks_again(&self) -> Option<Micros> {
        let again = self.missing().map(|_| self.archive.again());
        again.or_else(|| self.stale()).filter(|_| self.archive.is_idle())
    }

    pub(crate) fn take_outcome(&mut self, outcome: Outcome, ports: &mut Ports<'_>) {
        match outcome {
            Outcome::Found(kept) => {
                self.kept = kept;
                self.publish(ports);
            }
            Outcome::Lost | Outcome::Unknown => {
                self.say_rest(if matches!(outcome, Outcome::Lost) { Rest::Lost } else { Rest::Unreadable });
                self.fall_back(ports);
            }
            Outcome::Kept(hash) => {
                self.mesh.at_rest(&hash);
                if let Some(staged) = self.staged.take_if(|staged| staged.kept.hash == hash) {
                    self.kept = staged.kept;
                    ports.claim.reply::<for_claim::Stage>(&());
                    // A node whose committed configuration was lost has it again.
                    self.publish(ports);
                }
            }
            Outcome::NotKept(hash) => {
                self.say_rest(Rest::NotKept);
                if let Some(answer) = self.mesh.not_at_rest(&hash) {
                    self.mesh.answer(&answer, &mut ports.mesh, &mut self.events);
                }
                if self.staged.take_if(|staged| staged.kept.hash == hash).is_some() {
                    ports.claim.refuse(Refusal::Store.code());
                }
            }
        }
    }

    /// The hash of the configuration that is committed and not here, or of which it is not known whether it is at rest.
    fn missing(&self) -> Option<Hash> {
        let status = self.status.filter(|status| status.ownership() != Ownership::Unclaimed && status.has_keys())?;
        let hash = status.configuration;
        // An update that waits for a status brings it along.
        let here = self.kept.hash == hash || self.mesh.is_waiting();
        let missing = !(here && self.archive.holds(&hash)) && self.archive.may_find(&hash);
        (missing && self.phase != Phase::Sealed).then_some(hash)
    }

    /// When a slot is to be erased that has not what is committed. Not while an update or a claim has something at rest that
    /// may be committed next: a claim does until its gate is closed, and the keystore has been told so first.
    fn stale(&self) -> Option<Micros> {
        let status = self.status.filter(|status| status.has_keys() && status.store == Store::Good as u8)?;
        let committed = (status.ownership() != Ownership::Unclaimed).then_some(status.configuration);
        let calm = self.staged.is_none() && !self.claim.is_some() && !self.mesh.is_waiting();
        let sure = match committed {
            Some(_) => self.phase.has_mesh(),
            None => self.phase == Phase::Hold && !self.gate.is_open(),
        };
        self.archive.purge_due(committed.as_ref()).filter(|_| calm && sure)
    }

    fn say_rest(&mut self, rest: Rest) {
        self.events.say(Event::new(Code::Rest, rest as u32, &[]));
    }
}
