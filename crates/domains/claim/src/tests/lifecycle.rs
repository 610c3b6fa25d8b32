//! What lifecycle decides for claim. It answers and refuses what the real one does: `sim/tests/fakes` compares the two. Two
//! things are left to the real one: it reads configurations, which are any bytes in these tests, and it closes a gate
//! whose time is over, when claim ends by itself.

use std::vec::Vec;

use calls::{
    keystore::{Ownership, Refusal as KeystoreRefusal},
    lifecycle::{Closed, Refusal, StageRequest, for_claim::*},
    rules::ClaimGate,
};
use shm::{
    Micros, cell,
    mailbox::{Incoming, Operation, Server},
};
use wire::{Hash, Phase, binding::configuration_hash, title::Title};

/// What claim told lifecycle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Told {
    Started,
    Staged(Vec<u8>),
    Committed,
    Acknowledged,
    Ended(Closed),
}

/// What the keystore says when it is asked: the configuration is the committed one's, or zeros.
pub type Status = (Ownership, Hash);

pub struct Lifecycle {
    pub server: Server<'static, MAX_REQUEST>,
    pub cell: cell::Writer<'static, ClaimGate>,
    pub gate: ClaimGate,
    pub told: Vec<Told>,
    pub rivals: u32,
    /// How long a claim may take.
    pub time: Micros,
    /// The gate whose claim runs.
    pub started: u64,
    pub staged: Option<Hash>,
    /// The last two that were brought to rest.
    pub at_rest: Vec<Hash>,
    /// The keystore's last word.
    pub status: Status,
}

impl Lifecycle {
    pub fn publish(&mut self, gate: ClaimGate) {
        self.gate = gate;
        self.cell.publish(&gate);
        self.cell.take_signal();
    }

    /// `check` is what the keystore says of a binding.
    pub fn answer(
        &mut self,
        now: Micros,
        call: &Incoming<MAX_REQUEST>,
        status: Status,
        check: impl FnOnce(&Title) -> Result<(), KeystoreRefusal>,
    ) {
        let told = if let Some(gate) = call.parse::<Started>() {
            self.start(gate, now)
        } else if let Some(stage) = call.parse::<Stage>() {
            self.stage(&stage, status, check)
        } else if let Some(gate) = call.parse::<Committed>() {
            self.commit(gate, status)
        } else if let Some(gate) = call.parse::<Acknowledged>() {
            self.acknowledge(gate, status)
        } else if let Some(end) = call.parse::<Ended>() {
            self.check(end.gate).map(|()| {
                self.close();
                self.erase(status);
                Told::Ended(end.reason())
            })
        } else {
            Err(Refusal::NotAllowed)
        };
        match (call.op, &told) {
            (_, Err(refusal)) => self.server.refuse(refusal.code()),
            (Started::OP, _) => self.server.reply::<Started>(&()),
            (Stage::OP, _) => self.server.reply::<Stage>(&()),
            (Committed::OP, _) => self.server.reply::<Committed>(&self.rivals),
            (Acknowledged::OP, _) => self.server.reply::<Acknowledged>(&()),
            _ => self.server.reply::<Ended>(&()),
        }
        self.told.extend(told);
        // What is committed and at rest is looked for, whatever was staged since.
        let (owner, committed) = self.status;
        if owner != Ownership::Unclaimed && self.at_rest.contains(&committed) {
            self.staged = Some(committed);
        }
    }

    fn check(&self, gate: u64) -> Result<(), Refusal> {
        if gate != 0 && gate == self.gate.rules.gate { Ok(()) } else { Err(Refusal::Gate) }
    }

    fn start(&mut self, gate: u64, now: Micros) -> Result<Told, Refusal> {
        self.check(gate)?;
        // Saying it again does not lengthen the time.
        if core::mem::replace(&mut self.started, gate) != gate {
            let mut next = self.gate;
            next.rules.until = now + self.time;
            self.publish(next);
        }
        Ok(Told::Started)
    }

    fn stage(
        &mut self,
        stage: &StageRequest,
        status: Status,
        check: impl FnOnce(&Title) -> Result<(), KeystoreRefusal>,
    ) -> Result<Told, Refusal> {
        self.check(stage.gate)?;
        let length = usize::try_from(stage.length).unwrap_or(usize::MAX);
        let configuration = stage.configuration.get(..length).ok_or(Refusal::Configuration)?;
        let (owner, committed) = self.status;
        let hash = stage.title.warrant.configuration;
        let good = configuration_hash(configuration) == hash;
        if !good || (owner != Ownership::Unclaimed && committed != hash) {
            return Err(Refusal::Configuration);
        }
        if let Err(refusal) = check(&stage.title) {
            self.learn(status);
            return Err(match refusal {
                KeystoreRefusal::NotReady | KeystoreRefusal::Store => Refusal::Store,
                _ => Refusal::Binding,
            });
        }
        if !self.at_rest.contains(&hash) {
            self.at_rest.push(hash);
            self.at_rest = self.at_rest.split_off(self.at_rest.len().saturating_sub(2));
            // The keystore is asked what is committed before anything is erased.
            self.learn(status);
        }
        self.staged = Some(hash);
        Ok(Told::Staged(configuration.to_vec()))
    }

    /// What a claim that was given up has left at rest goes; the keystore is asked what is committed before.
    fn erase(&mut self, status: Status) {
        if self.status.0 == Ownership::Unclaimed && !self.at_rest.is_empty() {
            self.learn(status);
            if status.0 == Ownership::Unclaimed {
                self.at_rest.clear();
            }
        }
    }

    /// What is committed; lifecycle follows the keystore's word.
    fn learn(&mut self, status: Status) {
        self.status = status;
        match status.0 {
            Ownership::Unclaimed => {}
            Ownership::Committed => {
                let mut next = self.gate;
                next.rules.phase = Phase::Committed as u64;
                self.publish(next);
            }
            Ownership::Claimed => {
                self.gate.rules.phase = Phase::Claimed as u64;
                self.close();
            }
        }
    }

    fn commit(&mut self, gate: u64, status: Status) -> Result<Told, Refusal> {
        self.check(gate)?;
        self.status = status;
        let (owner, committed) = status;
        if owner != Ownership::Committed || self.staged != Some(committed) {
            return Err(Refusal::Phase);
        }
        let mut next = self.gate;
        next.rules.phase = Phase::Committed as u64;
        self.publish(next);
        Ok(Told::Committed)
    }

    fn acknowledge(&mut self, gate: u64, status: Status) -> Result<Told, Refusal> {
        // The claim that is final may be told so again, gate or not.
        if self.gate.rules.phase != Phase::Claimed as u64 {
            self.check(gate)?;
        }
        self.status = status;
        if status.0 != Ownership::Claimed {
            return Err(Refusal::Phase);
        }
        self.gate.rules.phase = Phase::Claimed as u64;
        self.close();
        Ok(Told::Acknowledged)
    }

    fn close(&mut self) {
        let mut next = self.gate;
        next.rules.gate = 0;
        self.publish(next);
    }
}
