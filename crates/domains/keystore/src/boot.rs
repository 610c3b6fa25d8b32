//! From power-up to keys: the records are looked for, samples are collected, and the identity is made if there is none
//! yet. Its root seed is all there is of it until the record is committed.
//!
//! Of a first boot the order is: an ownership and counters of zeros, then the identity. So an identity without the others
//! is one whose store has lost them, and ownership without an identity is the same, unless it is still new. From then on
//! each boot reserves a block of timestamps: one commit of the counters.

use calls::store::Record;
use crypto::Secret;
use shm::mailbox::Client;
use wire::anchor::AnchorIn;
use zerocopy::{FromBytes, FromZeros, IntoBytes};

use crate::{
    record::{Counters, Identity, Ownership, ticket},
    source::{Collecting, Source},
    vault::{Closed, Failed, Outcome, Vault},
};

/// Records are being looked for, samples are being collected.
pub struct Start {
    device_secret: Secret,
    pub samples: Collecting,
    looked: Looked,
    identity: Option<Identity>,
    owner: Option<Ownership>,
    counters: Option<Counters>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Looked {
    NotYet,
    For(Record),
    /// What there is fits together.
    All,
}

/// What differs from what is stored is being committed.
pub struct Make {
    pub identity: Identity,
    pub owner: Ownership,
    pub counters: Counters,
    /// A block of timestamps has been reserved: the last of the counters.
    pub reserved: bool,
    pub source: Source,
    /// The identity is a new one.
    pub first: bool,
    doing: Option<Step>,
    todo: [bool; STEPS],
}

/// What may have to be done before a node has its keys, in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// A first boot: nobody's yet.
    Ownership,
    /// One more boot.
    Counters,
    /// It is new, has a new ticket, or has none any more.
    Identity,
    /// What the store had of the ticket goes.
    Purge,
    Purged,
    /// What it had of owners who have let the node go.
    PurgeOwnership,
    PurgedOwnership,
}

const ALL: [Step; STEPS] = [
    Step::Ownership,
    Step::Counters,
    Step::Identity,
    Step::Purge,
    Step::Purged,
    Step::PurgeOwnership,
    Step::PurgedOwnership,
];
const STEPS: usize = 7;

/// How it goes on.
pub enum Next {
    Wait,
    Ready,
    Lost(Failed),
}

/// The node is not claimed and has no anchor to be claimed by: the image's is damaged.
#[derive(Debug)]
pub struct BadAnchor;

impl Start {
    pub fn new(device_secret: Secret) -> Self {
        let samples = Collecting::default();
        Self { device_secret, samples, looked: Looked::NotYet, identity: None, owner: None, counters: None }
    }

    /// Has the first record looked for.
    pub fn begin(&mut self, vault: &mut Vault, store: &mut Client<'_>) {
        if self.looked == Looked::NotYet {
            self.look(Record::Identity, vault, store);
        }
    }

    fn look(&mut self, record: Record, vault: &mut Vault, store: &mut Client<'_>) {
        self.looked = Looked::For(record);
        vault.load(record, store);
    }

    /// Takes what was found of a record, and has the next one looked for.
    pub fn found(&mut self, outcome: Outcome, vault: &mut Vault, store: &mut Client<'_>) -> Result<(), Failed> {
        let (Outcome::Loaded(record), Looked::For(_)) = (outcome, self.looked) else {
            let Outcome::NotLoaded(failed) = outcome else { return Err(Failed::Store) };
            return Err(failed);
        };
        let body = vault.loaded(record);
        match record {
            Record::Identity => {
                self.identity = body.and_then(|body| Some(Identity::read_from_prefix(body).ok()?.0));
                self.look(Record::Ownership, vault, store);
            }
            Record::Ownership => {
                self.owner = body.and_then(|body| Some(Ownership::read_from_prefix(body).ok()?.0));
                self.look(Record::Counters, vault, store);
            }
            Record::Counters => {
                self.counters = body.and_then(|body| Some(Counters::read_from_prefix(body).ok()?.0));
                vault.forget();
                self.looked = Looked::All;
                let whole = match (&self.identity, &self.owner, &self.counters) {
                    (Some(_), Some(_), Some(_)) | (None, None, None) => true,
                    // The power went in the middle of a first boot.
                    (None, Some(owner), counters) => owner.is_new() && counters.is_none_or(|it| it.is_new()),
                    _ => false,
                };
                return if whole { Ok(()) } else { Err(Failed::Damaged) };
            }
        }
        Ok(())
    }

    /// What to make, once the records are known and enough samples have passed.
    pub fn finish(&mut self, image: &AnchorIn) -> Option<Result<Make, BadAnchor>> {
        if self.looked != Looked::All {
            return None;
        }
        let owner = self.owner.unwrap_or_else(Ownership::new_zeroed);
        let identity = self.identity.as_ref();
        let stored = owner.stored_anchor().or_else(|| identity.and_then(Identity::stored_anchor));
        let unanchored = !owner.claimed() && stored.is_none();
        // Whoever was let go has been given an anchor, or a ticket.
        let image = if owner.was_released() { &AnchorIn::None } else { image };
        if unanchored && *image == AnchorIn::Damaged {
            return Some(Err(BadAnchor));
        }
        if !self.samples.full() {
            return None;
        }
        let mut source = self.samples.source(&self.device_secret);
        let first = self.identity.is_none();
        let mut changed = first;
        let mut identity =
            self.identity.take().unwrap_or_else(|| Identity::new(&self.samples.root_seed(&self.device_secret)));
        if unanchored && *image == AnchorIn::None {
            identity.set_ticket(&source.draw());
            changed = true;
        }
        // The power went between the acknowledgement and the end of the erasure.
        let held = owner.claimed() && identity.ticket == ticket::HELD;
        let erasing = owner.claimed() && identity.ticket != ticket::NONE;
        if held {
            identity.erase_ticket();
        }
        // Power-ups of an identity that was never committed are not those of the one that is made now.
        let counters = self.counters.filter(|_| !first).unwrap_or_else(Counters::new_zeroed);
        let purging = owner.purging == 1;
        let todo = [self.owner.is_none(), true, changed || held, erasing, erasing, purging, purging];
        Some(Ok(Make { identity, owner, counters, reserved: false, source, first, doing: None, todo }))
    }
}

impl Make {
    /// Begins with what is next to be done.
    pub fn begin(&mut self, vault: &mut Vault, store: &mut Client<'_>) -> Next {
        let Some((step, todo)) = ALL.into_iter().zip(&mut self.todo).find(|(_, todo)| **todo) else {
            return Next::Ready;
        };
        *todo = false;
        self.doing = Some(step);
        let fresh = self.source.bytes();
        let begun = match step {
            Step::Ownership => vault.commit(Record::Ownership, self.owner.as_bytes(), fresh, store),
            Step::Counters => match self.counters.with_timestamps() {
                Some(next) => vault.commit(Record::Counters, next.as_bytes(), fresh, store),
                None => Err(Closed),
            },
            Step::Identity => vault.commit(Record::Identity, self.identity.as_bytes(), fresh, store),
            Step::Purge => vault.purge(Record::Identity, store),
            Step::Purged => {
                self.identity.ticket = ticket::NONE;
                vault.commit(Record::Identity, self.identity.as_bytes(), fresh, store)
            }
            Step::PurgeOwnership => vault.purge(Record::Ownership, store),
            Step::PurgedOwnership => {
                self.owner.purging = 0;
                vault.commit(Record::Ownership, self.owner.as_bytes(), fresh, store)
            }
        };
        match begun {
            Ok(()) => Next::Wait,
            Err(Closed) => self.failed(step, vault),
        }
    }

    /// Goes on after what has come of it.
    pub fn go_on(&mut self, outcome: Outcome, vault: &mut Vault, store: &mut Client<'_>) -> Next {
        match (self.doing.take(), outcome) {
            (Some(Step::Counters), Outcome::Committed(_)) => {
                self.counters = self.counters.with_timestamps().unwrap_or(self.counters);
                self.reserved = true;
                self.begin(vault, store)
            }
            (Some(Step::Purge | Step::PurgeOwnership), Outcome::Purged) | (Some(_), Outcome::Committed(_)) => {
                self.begin(vault, store)
            }
            (Some(step), _) => self.failed(step, vault),
            (None, _) => Next::Lost(Failed::Store),
        }
    }

    /// A node that was there before does without its counters, and erases its ticket at another boot. What nobody has
    /// stored is not used.
    fn failed(&mut self, step: Step, vault: &mut Vault) -> Next {
        let [_, _, identity, erasing, ..] = self.todo;
        let unneeded = match step {
            Step::Ownership => false,
            Step::Counters => !self.first && (!identity || erasing),
            Step::Identity => erasing,
            Step::Purge | Step::Purged | Step::PurgeOwnership | Step::PurgedOwnership => true,
        };
        if !unneeded {
            return Next::Lost(Failed::Store);
        }
        vault.leave_identity();
        Next::Ready
    }
}
