//! What the owners of a node do with it together: orders, and records by which one set follows another. All of it is for a node
//! whose claim is final.

use calls::{
    keystore::{AnchorKind, OrderRequest, Refusal},
    store::Record,
};
use wire::{
    anchor::{AnchorFile, AnchorIn},
    order::{Isolation, Kind, Order, Release},
    receipt::{self, Receipt},
    record::{AuthorityRecord, Wrong},
    title::{Title, Warrant},
};
use zerocopy::{FromBytes, FromZeros, IntoBytes};

use super::{
    At, Node, Reply,
    commit::{Waiter, Work},
};
use crate::{record::Ownership, vault::Closed};

/// What an order that holds asks for.
pub enum Ordered {
    /// It has been carried out.
    Done,
    Configuration,
    Rejoin,
    Release,
}

impl Node {
    /// The anchor is gone by now: what counts is the set that is in force.
    pub fn check_order(&self, request: &OrderRequest) -> Result<Ordered, Refusal> {
        let (owner, order) = (&self.owner, &request.order);
        if order.fleet != owner.title.warrant.fleet || !order.is_for(&self.keys.public.fiduciary) {
            return Err(Refusal::NotMine);
        }
        let kind = order.kind().ok_or(Refusal::Forged)?;
        let shows = match kind {
            Kind::Configuration => order.body == owner.configuration,
            Kind::Rejoin => owner.isolated == 0,
            Kind::Release => false,
        };
        let done = shows && order.counter == owner.counter;
        if !order.is_of_epoch(owner.epoch) || (order.counter.get() <= owner.counter.get() && !done) {
            return Err(Refusal::Stale);
        }
        order.verify(&owner.title.set).ok_or(Refusal::Forged)?;
        match kind {
            _ if done => Ok(Ordered::Done),
            Kind::Configuration => Ok(Ordered::Configuration),
            // It ends the isolation that its signers know of, and no later one.
            Kind::Rejoin => match body::<Isolation>(request)? {
                isolation if owner.isolated == 1 && isolation == owner.isolation => Ok(Ordered::Rejoin),
                _ => Err(Refusal::Stale),
            },
            Kind::Release => match body::<Release>(request)?.next(&owner.title.set, &owner.anchor) {
                Some(_) => Ok(Ordered::Release),
                None => Err(Refusal::Forged),
            },
        }
    }

    pub fn order(&mut self, request: &OrderRequest, at: &mut At<'_, '_>) -> Reply<()> {
        let Order { counter, body: hash, .. } = request.order;
        let next = match self.check_order(request)? {
            Ordered::Done => return Ok(Some(())),
            Ordered::Configuration => Ownership { counter, configuration: hash, ..self.owner },
            Ordered::Rejoin => Ownership { counter, isolated: 0, isolation: Isolation::default(), ..self.owner },
            Ordered::Release => return self.release(&body::<Release>(request)?, at),
        };
        self.commit_owner(next, Work::Order, at)
    }

    /// First there is a ticket for whoever comes, if one is wanted; then the owners are none any more, by one commit. A ticket
    /// that is there while they still are is erased by the next boot.
    fn release(&mut self, Release { anchor, .. }: &Release, at: &mut At<'_, '_>) -> Reply<()> {
        let (anchor, by_ticket) = match anchor.read() {
            AnchorIn::Some(anchor) => (AnchorFile::new(&anchor), false),
            AnchorIn::None | AnchorIn::Damaged => (AnchorFile::new_zeroed(), true),
        };
        if by_ticket {
            let seed = self.source.draw();
            self.identity.set_ticket(&seed);
        }
        let (named, source) = match self.identity.stored_anchor() {
            Some((ticket, source)) if by_ticket => (AnchorFile::new(&ticket), source),
            _ => (anchor, AnchorKind::Release as u8),
        };
        let (fleet, epoch) = (self.owner.title.warrant.fleet, self.owner.epoch.get());
        let fiduciary = &self.keys.public.fiduciary;
        let kind = receipt::Kind::Release;
        let receipt = Receipt::sign(&self.keys.fiduciary, fiduciary, kind, &fleet, epoch, &named.hash());
        let next = self.owner.let_go(anchor, source, receipt);
        if !by_ticket {
            return self.commit_owner(next, Work::Release(Waiter(true)), at);
        }
        match at.vault.commit(Record::Identity, self.identity.as_bytes(), self.source.bytes(), at.store) {
            Ok(()) => {
                self.next = next;
                self.work = Some(Work::Ticket(Waiter(true)));
                Ok(None)
            }
            Err(Closed) => {
                self.identity.erase_ticket();
                Err(Refusal::Store)
            }
        }
    }

    pub fn adopt_set(&mut self, record: &AuthorityRecord, at: &mut At<'_, '_>) -> Reply<()> {
        let Title { warrant, set, .. } = &self.owner.title;
        if (record.fleet, record.sequence, record.hash()) == (warrant.fleet, warrant.sequence, warrant.record) {
            return Ok(Some(()));
        }
        let verified = record.verify(set, &warrant.fleet, warrant.sequence.get(), &warrant.record);
        verified.map_err(|wrong| match wrong {
            Wrong::Fleet => Refusal::NotMine,
            Wrong::Sequence => Refusal::Stale,
            _ => Refusal::Forged,
        })?;
        self.commit_owner(Ownership { title: self.owner.title.under(record), ..self.owner }, Work::Adopt, at)
    }

    /// Ed25519 signs the same bytes the same way, so this is the same receipt each time.
    pub fn receipt(&self) -> Reply<Receipt> {
        let owner = &self.owner;
        let Warrant { fleet, sequence, record, .. } = &owner.title.warrant;
        if owner.claimed() && sequence.get() > 0 {
            let (seed, fiduciary) = (&self.keys.fiduciary, &self.keys.public.fiduciary);
            let kind = receipt::Kind::Record;
            return Ok(Some(Receipt::sign(seed, fiduciary, kind, fleet, sequence.get(), record)));
        }
        if !owner.committed() && owner.was_released() { Ok(Some(owner.released)) } else { Err(Refusal::NotReady) }
    }
}

/// What stands in the body, which is all of it.
fn body<B: FromBytes>(request: &OrderRequest) -> Result<B, Refusal> {
    let bytes = request.body.get(..size_of::<B>()).ok_or(Refusal::Forged)?;
    if request.order.carries(bytes) {
        B::read_from_bytes(bytes).map_err(|_| Refusal::Forged)
    } else {
        Err(Refusal::Forged)
    }
}
