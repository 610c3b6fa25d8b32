//! What the keystore decides for lifecycle, beside what a test makes of its status. It answers and refuses what the real
//! one does: `sim/tests/fakes` compares the two.

use calls::{
    keystore::{OrderRequest, OwnerReply, Ownership, Refusal, State, StatusReply, for_lifecycle::*},
    store::{BLOCK, MAX_BLOCKS, SEALED_BLOCK},
};
use crypto::AnchorSecret;
use shm::mailbox::{Incoming, Operation, Server};
use wire::{
    Hash,
    binding::{ForkRecord, Identity},
    order::{Isolation, Kind},
    record::{AuthorityRecord, Wrong},
    set::{Authority, AuthoritySet},
    title::Title,
};
use zerocopy::{FromZeros, IntoBytes};

pub struct Keystore {
    /// What it says of itself. Fleet and epoch are those of the binding.
    pub status: StatusReply,
    /// Of the binding, or the last order.
    pub counter: u64,
    /// What it has shown to `claim` last, whose nonce is live while it has no owner.
    pub identity: Option<Identity>,
    /// The hash of the record by which its set is in force.
    pub record: Hash,
    /// What is committed. Of a binding that a test only says to be, the configuration is all that is known.
    pub bound: Option<Title>,
    /// The set of the last record.
    pub adopted: Option<AuthoritySet>,
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
            Fork::OP | Settle::OP | CheckBinding::OP | CheckOrder::OP | Order::OP | Adopt::OP
                if self.status.state() != Some(State::Ready) =>
            {
                Err(Refusal::NotReady)
            }
            Fork::OP => self.fork(),
            CheckBinding::OP => self.check_binding(&call.parse::<CheckBinding>().unwrap()),
            Settle::OP if self.status.ownership() == Ownership::Unclaimed => Err(Refusal::NotReady),
            CheckOrder::OP | Order::OP | Adopt::OP if self.status.ownership() != Ownership::Claimed => {
                Err(Refusal::NotReady)
            }
            Settle::OP => {
                self.status.ownership = Ownership::Claimed as u8;
                Ok(())
            }
            CheckOrder::OP => self.check(&call.parse::<CheckOrder>().unwrap()),
            Order::OP => self.order(&call.parse::<Order>().unwrap()),
            Adopt::OP => self.adopt(&call.parse::<Adopt>().unwrap()),
            OpenBlock::OP | Owner::OP if self.status.ownership() == Ownership::Unclaimed => Err(Refusal::NotReady),
            SealBlock::OP | OpenBlock::OP if !self.status.has_keys() => Err(Refusal::NotReady),
            Owner::OP if !self.status.has_keys() && self.status.state() != Some(State::EntropyLost) => {
                Err(Refusal::NotReady)
            }
            Owner::OP => return server.reply::<Owner>(&self.owner()),
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
            (Ok(()), CheckOrder::OP) => server.reply::<CheckOrder>(&()),
            (Ok(()), Order::OP) => server.reply::<Order>(&()),
            (Ok(()), Adopt::OP) => server.reply::<Adopt>(&()),
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

    fn set(&self) -> AuthoritySet {
        let first =
            self.bound.map_or_else(|| AuthoritySet::alone(Authority::signer(&authority().public())), |it| it.set);
        self.adopted.unwrap_or(first)
    }

    fn owner(&self) -> OwnerReply {
        let mut reply = OwnerReply::new_zeroed();
        (reply.epoch, reply.sequence, reply.set) = (self.status.epoch, self.status.sequence, self.set());
        if let Some(Title { warrant, .. }) = &self.bound {
            (reply.addresses, reply.underlay, reply.gateway) = (warrant.addresses, warrant.underlay, warrant.gateway);
        }
        reply
    }

    fn check(&self, OrderRequest { order, body }: &OrderRequest) -> Result<(), Refusal> {
        if order.fleet != self.status.fleet || !order.is_for(&self.status.fiduciary) {
            return Err(Refusal::NotMine);
        }
        let (kind, isolation) = (order.kind().ok_or(Refusal::Forged)?, self.status.isolation);
        let done = order.counter.get() == self.counter
            && match kind {
                Kind::Configuration => order.body == self.status.configuration,
                Kind::Rejoin => self.status.isolated == 0,
                Kind::Release => false,
            };
        if !order.is_of_epoch(self.status.epoch.into()) || (order.counter.get() <= self.counter && !done) {
            return Err(Refusal::Stale);
        }
        order.verify(&self.set()).ok_or(Refusal::Forged)?;
        if kind == Kind::Release && !order.carries(body) {
            return Err(Refusal::Forged);
        }
        if kind == Kind::Rejoin && !done {
            let isolation = Isolation { authority: isolation[0].into(), counter: isolation[1].into() };
            if !order.carries(&body[..8]) {
                return Err(Refusal::Forged);
            }
            if self.status.isolated == 0 || body[..8] != *isolation.as_bytes() {
                return Err(Refusal::Stale);
            }
        }
        Ok(())
    }

    fn order(&mut self, request: &OrderRequest) -> Result<(), Refusal> {
        self.check(request)?;
        self.counter = request.order.counter.get();
        if request.order.kind() == Some(Kind::Release) {
            self.let_go();
            return Ok(());
        }
        match request.order.kind() {
            Some(Kind::Configuration) => self.status.configuration = request.order.body,
            _ => (self.status.isolated, self.status.isolation) = (0, [0; 2]),
        }
        Ok(())
    }

    /// Whoever is next: lifecycle does not care.
    pub fn let_go(&mut self) {
        (self.counter, self.record, self.bound, self.adopted) = (0, [0; 32], None, None);
        let StatusReply { epoch, .. } = self.status;
        self.status = StatusReply {
            ownership: Ownership::Unclaimed as u8,
            epoch: epoch + 1,
            fleet: [0; 32],
            configuration: [0; 32],
            sequence: 0,
            isolated: 0,
            isolation: [0; 2],
            ..self.status
        };
    }

    fn adopt(&mut self, record: &AuthorityRecord) -> Result<(), Refusal> {
        let (fleet, sequence) = (self.status.fleet, self.status.sequence);
        if (record.fleet, record.sequence.get(), record.hash()) == (fleet, sequence, self.record) {
            return Ok(());
        }
        record.verify(&self.set(), &fleet, sequence, &self.record).map_err(|wrong| match wrong {
            Wrong::Fleet => Refusal::NotMine,
            Wrong::Sequence => Refusal::Stale,
            _ => Refusal::Forged,
        })?;
        (self.status.sequence, self.record, self.adopted) = (record.sequence.get(), record.hash(), Some(record.set));
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
