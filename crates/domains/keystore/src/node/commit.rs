//! What happens to a node by a commit: what waits for one, what becomes of it when it is done, is not, or nobody knows.

use calls::{
    keystore::{CommandReply, Refusal, for_beacon, for_claim, for_lifecycle, for_mesh},
    store::Record,
};
use shm::mailbox::Client;
use wire::handshake::{Started, Timestamps};
use zerocopy::IntoBytes;

use super::{Node, Reply};
use crate::{
    Ports,
    identity::{Anchor, CommandKeys},
    record::{Counters, Ownership, ticket},
    vault::{Closed, Outcome, Vault},
};

/// What waits for the record that is being committed.
pub enum Work {
    /// Nobody waits any more.
    Nothing,
    Fork,
    Find {
        random: [u8; 16],
        counter: u64,
    },
    Commit,
    Settle(Settler),
    /// The claim is final; its ticket is being taken out of the record, then of the store, and then that is noted.
    EraseTicket(Settler),
    Purge(Settler),
    Purged(Settler),
    /// What was ordered, but for a release.
    Order,
    Adopt,
    /// The next owner's ticket; then the node is let go, what the store had of its time before is purged, and that is noted.
    Ticket(Waiter),
    Release(Waiter),
    PurgeOwnership(Waiter),
    PurgedOwnership(Waiter),
    /// A block of timestamps, for this handshake first.
    Timestamps(Started),
    /// The counter of a command.
    Command(CommandReply),
    /// And that the node is isolated by it.
    Isolate(CommandReply),
}

/// Whether lifecycle still waits for the end of a release.
#[derive(Clone, Copy)]
pub struct Waiter(pub bool);

/// Who has made the claim final.
#[derive(Clone, Copy)]
pub enum Settler {
    /// Whoever it was does not wait for an answer.
    Gone,
    /// By the administrator's acknowledgement.
    Claim,
    /// By the authority's first handshake in the mesh.
    Lifecycle,
}

/// Where records are committed.
pub struct At<'a, 'r> {
    pub vault: &'a mut Vault,
    pub store: &'a mut Client<'r>,
}

impl From<Closed> for Refusal {
    fn from(_: Closed) -> Self {
        Self::Store
    }
}

impl Node {
    pub fn commit_owner<T>(&mut self, next: Ownership, work: Work, at: &mut At<'_, '_>) -> Reply<T> {
        at.vault.commit(Record::Ownership, next.as_bytes(), self.source.bytes(), at.store)?;
        self.next = next;
        self.work = Some(work);
        Ok(None)
    }

    pub fn commit_counters<T>(&mut self, next: Counters, work: Work, at: &mut At<'_, '_>) -> Reply<T> {
        at.vault.commit(Record::Counters, next.as_bytes(), self.source.bytes(), at.store)?;
        self.next_counters = next;
        self.work = Some(work);
        Ok(None)
    }

    /// What was asked for by `lifecycle` and is being committed will not be answered: it has asked something else.
    pub fn forsake(&mut self) {
        if let Some(work) = &mut self.work {
            match work {
                Work::Fork | Work::Order | Work::Adopt => *work = Work::Nothing,
                Work::Ticket(waiter)
                | Work::Release(waiter)
                | Work::PurgeOwnership(waiter)
                | Work::PurgedOwnership(waiter) => waiter.0 = false,
                Work::Settle(settler) | Work::EraseTicket(settler) | Work::Purge(settler) | Work::Purged(settler)
                    if matches!(settler, Settler::Lifecycle) =>
                {
                    *settler = Settler::Gone;
                }
                _ => {}
            }
        }
    }

    /// The record that was being committed is, or is not, or nobody knows: the one who waits for it is answered.
    pub fn finish(&mut self, outcome: Outcome, vault: &mut Vault, ports: &mut Ports<'_>) {
        let claimed = self.owner.claimed();
        match outcome {
            Outcome::Committed(Record::Ownership) => self.adopt(ports),
            Outcome::Committed(Record::Counters) => self.adopt_counters(),
            Outcome::NotCommitted(Record::Ownership) => self.doubtful = false,
            Outcome::Doubtful(Record::Ownership) => self.doubtful = true,
            // The next boot erases a ticket that is still there.
            Outcome::Doubtful(Record::Identity) => vault.leave_identity(),
            _ => {}
        }
        let done = matches!(outcome, Outcome::Committed(_) | Outcome::Purged);
        let settled = self.owner.claimed() && !claimed;
        let released = !self.owner.claimed() && claimed;
        // It was made for a release that nobody knew the end of, and that was none.
        let unused = self.owner.claimed() && self.identity.ticket == ticket::HELD && !self.doubtful;
        match self.work.take() {
            None | Some(Work::Nothing) if settled || unused => self.erase_ticket(Settler::Gone, vault, ports),
            None | Some(Work::Nothing) if released => self.purge_ownership(Waiter(false), vault, ports),
            None | Some(Work::Nothing) => {}
            Some(work) if done => self.answer(work, vault, ports),
            Some(work) => self.refuse(work, vault, ports),
        }
    }

    /// What was to be committed is: this is whose the node is now.
    fn adopt(&mut self, ports: &mut Ports<'_>) {
        let before = core::mem::replace(&mut self.owner, self.next);
        self.doubtful = false;
        if self.owner.reign() != before.reign() {
            self.command_keys = match self.owner.committed() {
                true => CommandKeys::new(&self.owner.title, &self.keys),
                false => CommandKeys::default(),
            };
            self.floors = self.counters.command_floors(&self.owner);
            self.commands = self.floors;
        }
        if self.owner.claimed() {
            (self.anchor, self.nonce) = (None, None);
            self.hide_ticket(ports);
        } else if before.claimed() {
            self.receive_next(ports);
        }
    }

    /// The node has been let go, and may be found and claimed by its next owner.
    fn receive_next(&mut self, ports: &mut Ports<'_>) {
        let stored = self.owner.stored_anchor().or_else(|| self.identity.stored_anchor());
        self.anchor = stored.and_then(|(anchor, kind)| Anchor::new(anchor, kind, &self.keys));
        self.nonce = None;
        self.find = self.counters.find_floor(&self.owner);
        self.show_ticket(ports);
    }

    fn adopt_counters(&mut self) {
        let block = self.next_counters.timestamps;
        if block != self.counters.timestamps {
            self.timestamps = Timestamps::of(block.get());
        }
        self.counters = self.next_counters;
    }

    fn answer(&mut self, work: Work, vault: &mut Vault, ports: &mut Ports<'_>) {
        match work {
            Work::Nothing => {}
            Work::Fork => ports.lifecycle.reply::<for_lifecycle::Fork>(&()),
            Work::Find { random, counter } => {
                self.find = counter;
                ports.beacon.reply::<for_beacon::CheckFind>(&random);
            }
            Work::Commit => ports.claim.reply::<for_claim::Commit>(&self.pairing_record()),
            Work::Settle(settler) => self.erase_ticket(settler, vault, ports),
            Work::EraseTicket(settler) => match vault.purge(Record::Identity, &mut ports.store) {
                Ok(()) => self.work = Some(Work::Purge(settler)),
                Err(Closed) => settler.answer(ports),
            },
            Work::Purge(settler) => {
                self.identity.ticket = ticket::NONE;
                self.commit_identity(settler, Work::Purged(settler), vault, ports);
            }
            Work::Purged(settler) => settler.answer(ports),
            Work::Order => ports.lifecycle.reply::<for_lifecycle::Order>(&()),
            Work::Adopt => ports.lifecycle.reply::<for_lifecycle::Adopt>(&()),
            Work::Ticket(waiter) => {
                let mut at = At { vault, store: &mut ports.store };
                if self.commit_owner::<()>(self.next, Work::Release(waiter), &mut at).is_err() {
                    self.refuse(Work::Release(waiter), vault, ports);
                }
            }
            Work::Release(waiter) => self.purge_ownership(waiter, vault, ports),
            Work::PurgeOwnership(waiter) => {
                let next = Ownership { purging: 0, ..self.owner };
                let mut at = At { vault, store: &mut ports.store };
                if self.commit_owner::<()>(next, Work::PurgedOwnership(waiter), &mut at).is_err() {
                    waiter.answer(ports);
                }
            }
            Work::PurgedOwnership(waiter) => waiter.answer(ports),
            Work::Timestamps(started) => match self.timestamps.next() {
                Some(timestamp) => ports.mesh.reply::<for_mesh::StartMeshHandshake>(&started.seal(timestamp)),
                None => ports.mesh.refuse(Refusal::NotReady.code()),
            },
            Work::Command(reply) => match self.obey(reply, &mut At { vault, store: &mut ports.store }) {
                Ok(Some(reply)) => ports.mesh.reply::<for_mesh::CheckCommand>(&reply),
                Ok(None) => {}
                Err(refusal) => ports.mesh.refuse(refusal.code()),
            },
            Work::Isolate(reply) => ports.mesh.reply::<for_mesh::CheckCommand>(&self.obeyed(reply)),
        }
    }

    fn refuse(&mut self, work: Work, vault: &mut Vault, ports: &mut Ports<'_>) {
        let refused = Refusal::Store.code();
        match work {
            Work::Nothing | Work::Settle(Settler::Gone) => {}
            Work::Fork | Work::Order | Work::Adopt | Work::Settle(Settler::Lifecycle) => {
                ports.lifecycle.refuse(refused);
            }
            Work::Ticket(waiter) | Work::Release(waiter) => {
                if waiter.0 {
                    ports.lifecycle.refuse(refused);
                }
                // The owners are those of before, and there is no ticket to theirs; unless nobody knows that yet.
                if !self.doubtful {
                    self.erase_ticket(Settler::Gone, vault, ports);
                }
            }
            // It is let go all the same. The next boot tries again.
            Work::PurgeOwnership(waiter) | Work::PurgedOwnership(waiter) => waiter.answer(ports),
            Work::Find { .. } => ports.beacon.refuse(refused),
            Work::Commit | Work::Settle(Settler::Claim) => ports.claim.refuse(refused),
            // The claim is final all the same. The next boot tries again.
            Work::EraseTicket(settler) | Work::Purge(settler) | Work::Purged(settler) => settler.answer(ports),
            Work::Timestamps(_) | Work::Command(_) | Work::Isolate(_) => ports.mesh.refuse(refused),
        }
    }

    /// Takes the ticket out of the record and what the store had of it away; then the one who made the claim final is
    /// answered.
    fn erase_ticket(&mut self, settler: Settler, vault: &mut Vault, ports: &mut Ports<'_>) {
        if self.identity.ticket == ticket::NONE {
            return settler.answer(ports);
        }
        self.identity.erase_ticket();
        self.commit_identity(settler, Work::EraseTicket(settler), vault, ports);
    }

    /// Takes what the store had of the time before a release away; then lifecycle is answered.
    fn purge_ownership(&mut self, waiter: Waiter, vault: &mut Vault, ports: &mut Ports<'_>) {
        match vault.purge(Record::Ownership, &mut ports.store) {
            Ok(()) => self.work = Some(Work::PurgeOwnership(waiter)),
            Err(Closed) => waiter.answer(ports),
        }
    }

    fn commit_identity(&mut self, settler: Settler, work: Work, vault: &mut Vault, ports: &mut Ports<'_>) {
        let fresh = self.source.bytes();
        match vault.commit(Record::Identity, self.identity.as_bytes(), fresh, &mut ports.store) {
            Ok(()) => self.work = Some(work),
            Err(Closed) => settler.answer(ports),
        }
    }
}

impl Waiter {
    fn answer(self, ports: &mut Ports<'_>) {
        if self.0 {
            ports.lifecycle.reply::<for_lifecycle::Order>(&());
        }
    }
}

impl Settler {
    fn answer(self, ports: &mut Ports<'_>) {
        match self {
            Self::Gone => {}
            Self::Claim => ports.claim.reply::<for_claim::Acknowledge>(&()),
            Self::Lifecycle => ports.lifecycle.reply::<for_lifecycle::Settle>(&()),
        }
    }
}
