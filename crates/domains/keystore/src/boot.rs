//! From power-up to keys: the records are looked for, samples are collected, and the identity is made
//! if there is none yet. Its root seed is all there is of it until the record is committed.

use calls::store::{Record, Store};
use crypto::Secret;
use wire::anchor::AnchorIn;
use zerocopy::{FromBytes, FromZeros, IntoBytes};

use crate::{
    record::{Identity, Ownership, ticket},
    source::{Collecting, Source},
    vault::{Failed, Vault},
};

/// Records are being looked for, samples are being collected.
pub struct Start {
    device_secret: Secret,
    pub samples: Collecting,
    identity: Option<Identity>,
    /// Known once both records have been looked for.
    owner: Option<Ownership>,
}

/// The identity is being committed, or need not be.
pub struct Make {
    pub identity: Identity,
    pub owner: Ownership,
    pub source: Source,
    /// The identity differs from what is stored.
    pub changed: bool,
}

/// The node is not claimed and has no anchor to be claimed by: the image's is damaged.
#[derive(Debug)]
pub struct BadAnchor;

impl Start {
    pub fn new<S: Store>(device_secret: Secret, vault: &mut Vault<S>) -> Self {
        vault.load(Record::Identity);
        Self { device_secret, samples: Collecting::default(), identity: None, owner: None }
    }

    /// Takes what was found of a record, and has the next one looked for.
    pub fn found<S: Store>(&mut self, record: Record, vault: &mut Vault<S>) -> Result<(), Failed> {
        let body = vault.loaded();
        match record {
            Record::Identity => {
                self.identity =
                    body.and_then(|body| Identity::read_from_prefix(body).ok()).map(|(identity, _)| identity);
                vault.load(Record::Ownership);
            }
            Record::Counters => {}
            // A node that has an owner and no identity is one whose store was tampered with: it gets no new one.
            Record::Ownership if body.is_some() && self.identity.is_none() => return Err(Failed::Store),
            Record::Ownership => {
                let found = body.and_then(|body| Ownership::read_from_prefix(body).ok());
                self.owner = Some(found.map_or_else(Ownership::new_zeroed, |(owner, _)| owner));
            }
        }
        Ok(())
    }

    /// What to make, once the records are known and enough samples have passed.
    pub fn finish(&mut self, image: &AnchorIn) -> Option<Result<Make, BadAnchor>> {
        let owner = self.owner?;
        let identity = self.identity.as_ref();
        let stored = owner.stored_anchor().or_else(|| identity.and_then(Identity::stored_anchor));
        let unanchored = !owner.claimed() && stored.is_none();
        if unanchored && *image == AnchorIn::Damaged {
            return Some(Err(BadAnchor));
        }
        if !self.samples.full() {
            return None;
        }
        let mut source = self.samples.source(&self.device_secret);
        let mut changed = self.identity.is_none();
        let mut identity =
            self.identity.take().unwrap_or_else(|| Identity::new(&self.samples.root_seed(&self.device_secret)));
        if unanchored && *image == AnchorIn::None {
            identity.set_ticket(&source.draw());
            changed = true;
        }
        if owner.claimed() && identity.ticket != ticket::NONE {
            // The power went between the acknowledgement and the erasure.
            identity.erase_ticket();
            changed = true;
        }
        Some(Ok(Make { identity, owner, source, changed }))
    }
}

impl Make {
    pub fn commit<S: Store>(&mut self, vault: &mut Vault<S>) {
        vault.commit(Record::Identity, self.identity.as_bytes(), self.source.bytes());
    }

    /// Whether it is committed for good. A ticket is only out of one slot after one commit.
    pub fn committed<S: Store>(&mut self, vault: &mut Vault<S>) -> bool {
        if self.identity.ticket != ticket::ERASING {
            return true;
        }
        self.identity.erase_ticket();
        self.commit(vault);
        false
    }
}
