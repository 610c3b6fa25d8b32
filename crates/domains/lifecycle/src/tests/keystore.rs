//! What the keystore decides for lifecycle, beside what a test makes of its status. It answers and refuses what the real
//! one does: `sim/tests/fakes` compares the two.

use calls::{
    keystore::{Ownership, Refusal, State, StatusReply, for_lifecycle::*},
    store::{BLOCK, MAX_BLOCKS, SEALED_BLOCK},
};
use crypto::AnchorSecret;
use shm::mailbox::{Incoming, Operation, Server};
use wire::{
    Hash,
    binding::{ForkRecord, Identity},
    set::{Authority, AuthoritySet},
    title::Title,
    update::UpdateHead,
};
use zerocopy::FromZeros;

pub struct Keystore {
    /// What it says of itself. Fleet and epoch are those of the binding.
    pub status: StatusReply,
    /// Of the binding, or the last update.
    pub counter: u64,
    /// What it has shown to `claim` last, whose nonce is live while it has no owner.
    pub identity: Option<Identity>,
    /// What is committed. Of a binding that a test only says to be, the configuration is all that is known.
    pub bound: Option<Title>,
}

/// Alone in the set of every binding.
pub fn authority() -> AnchorSecret {
    AnchorSecret::from_seed(&[1; 32])
}

impl Keystore {
    pub fn answer(&mut self, server: &mut Server<'static, MAX_REQUEST>, call: &Incoming<MAX_REQUEST>) {
        let done = match call.op {
            Status::OP => return server.reply::<Status>(&self.status),
            CloseGate::OP => {
                self.identity = None;
                Ok(())
            }
            Fork::OP | Settle::OP | CheckBinding::OP | CheckUpdate::OP | Update::OP
                if self.status.state() != Some(State::Ready) =>
            {
                Err(Refusal::NotReady)
            }
            Fork::OP => self.fork(),
            CheckBinding::OP => self.check_binding(&call.parse::<CheckBinding>().unwrap()),
            Settle::OP | CheckUpdate::OP | Update::OP if self.status.ownership() == Ownership::Unclaimed => {
                Err(Refusal::NotReady)
            }
            Settle::OP => {
                self.status.ownership = Ownership::Claimed as u8;
                Ok(())
            }
            CheckUpdate::OP => self.check(&call.parse::<CheckUpdate>().unwrap()),
            Update::OP => self.update(&call.parse::<Update>().unwrap()),
            OpenBlock::OP if self.status.ownership() == Ownership::Unclaimed => Err(Refusal::NotReady),
            SealBlock::OP | OpenBlock::OP if !self.status.has_keys() => Err(Refusal::NotReady),
            SealBlock::OP => {
                let request = call.parse::<SealBlock>().unwrap();
                if request.index >= MAX_BLOCKS as u64 {
                    return server.refuse(Refusal::NotMine.code());
                }
                return server.reply::<SealBlock>(&seal(&request.configuration, request.index, &request.plain));
            }
            OpenBlock::OP => {
                let request = call.parse::<OpenBlock>().unwrap();
                let plain = request.sealed[SEALED_BLOCK - BLOCK..].try_into().unwrap();
                if seal(&request.configuration, request.index, &plain) == request.sealed {
                    return server.reply::<OpenBlock>(&plain);
                }
                Err(Refusal::Forged)
            }
            _ => Err(Refusal::NotAllowed),
        };
        match (done, call.op) {
            (Err(refusal), _) => server.refuse(refusal.code()),
            (Ok(()), Fork::OP) => server.reply::<Fork>(&()),
            (Ok(()), Settle::OP) => server.reply::<Settle>(&()),
            (Ok(()), CheckBinding::OP) => server.reply::<CheckBinding>(&()),
            (Ok(()), CheckUpdate::OP) => server.reply::<CheckUpdate>(&()),
            (Ok(()), Update::OP) => server.reply::<Update>(&()),
            (Ok(()), _) => server.reply::<CloseGate>(&()),
        }
    }

    fn fork(&mut self) -> Result<(), Refusal> {
        match self.status.ownership() {
            Ownership::Claimed => Err(Refusal::Taken),
            _ if self.status.forked == 1 => Ok(()),
            Ownership::Committed => Err(Refusal::Taken),
            Ownership::Unclaimed => {
                self.status.forked = 1;
                Ok(())
            }
        }
    }

    /// What `claim` could have committed now.
    pub fn check_binding(&self, title: &Title) -> Result<(), Refusal> {
        match (self.status.ownership(), self.bound) {
            (Ownership::Claimed, _) => return Err(Refusal::Taken),
            (Ownership::Committed, Some(bound)) if bound == *title => return Ok(()),
            (Ownership::Committed, None) if title.warrant.configuration == self.status.configuration => return Ok(()),
            (Ownership::Committed, _) => return Err(Refusal::Taken),
            (Ownership::Unclaimed, _) => {}
        }
        let identity = self.identity.filter(|identity| identity.nonce == title.binding.nonce).ok_or(Refusal::Nonce)?;
        // It has not shown a fork that it has made since. A warrant need not know of one.
        let known = identity.forked == self.status.forked && title.warrant.fork == ForkRecord::hash(identity.fork());
        if title.warrant.fiduciary != self.status.fiduciary
            || title.binding.mesh_key != identity.mesh_key
            || (title.warrant.fork != [0; 32] && !known)
        {
            return Err(Refusal::NotMine);
        }
        if title.warrant.epoch.get() != self.status.epoch + 1 || title.binding.counter.get() <= self.counter {
            return Err(Refusal::Stale);
        }
        title.verify(&wire::anchor::Anchor::alone(&authority().public())).map(drop).ok_or(Refusal::Forged)
    }

    /// One that the anchor has signed for it.
    pub fn bind(&mut self, configuration: Hash) -> Title {
        if let Some(bound) = self.bound.filter(|_| self.status.ownership() != Ownership::Unclaimed) {
            return bound;
        }
        let mut identity = Identity::new_zeroed();
        (identity.fiduciary, identity.nonce, identity.mesh_key) = (self.status.fiduciary, [3; 32], [4; 32]);
        identity.forked = self.status.forked;
        self.identity = Some(identity);
        let mut title = Title::new_zeroed();
        (title.warrant.fiduciary, title.binding.nonce, title.binding.mesh_key) =
            (self.status.fiduciary, [3; 32], [4; 32]);
        (title.warrant.epoch, title.binding.counter) = ((self.status.epoch + 1).into(), (self.counter + 1).into());
        title.warrant.fork = ForkRecord::hash(identity.fork());
        title.warrant.configuration = configuration;
        title.set = AuthoritySet::alone(Authority::signer(&authority().public()));
        title.sign(&authority())
    }

    fn check(&self, head: &UpdateHead) -> Result<(), Refusal> {
        if head.fleet != self.status.fleet || head.fiduciary != self.status.fiduciary {
            return Err(Refusal::NotMine);
        }
        let in_force = head.counter.get() == self.counter && head.configuration == self.status.configuration;
        if head.epoch.get() != self.status.epoch || (head.counter.get() <= self.counter && !in_force) {
            return Err(Refusal::Stale);
        }
        let set = AuthoritySet::alone(Authority::signer(&authority().public()));
        head.verify(&set).map(drop).ok_or(Refusal::Forged)
    }

    fn update(&mut self, head: &UpdateHead) -> Result<(), Refusal> {
        self.check(head)?;
        self.counter = head.counter.get();
        self.status.configuration = head.configuration;
        Ok(())
    }
}

/// Of what it is, in the place of the nonce, and the tag.
fn seal(configuration: &Hash, index: u64, plain: &[u8; BLOCK]) -> [u8; SEALED_BLOCK] {
    let tag = wire::binding::configuration_hash(&[&configuration[..], &index.to_ne_bytes(), plain].concat());
    let mut sealed = [0; SEALED_BLOCK];
    sealed[..24].copy_from_slice(&configuration[..24]);
    sealed[24..40].copy_from_slice(&tag[..16]);
    sealed[SEALED_BLOCK - BLOCK..].copy_from_slice(plain);
    sealed
}
