//! What a node whose keys are committed does for its clients. Who may ask is decided before (lib.rs);
//! what is answered is decided here.
//!
//! An operation that changes a record answers nothing until the record is committed and read back:
//! its handler returns `Ok(None)`, and [`Node::finish`] answers.

use calls::keystore::{
    CheckOpenReply, Initiation, InitiationReply, MakeHelloReply, Refusal, TicketValue, anchor, for_beacon, for_claim,
    for_lifecycle,
};
use crypto::{dh, noise};
use wire::{
    Hash,
    anchor::AnchorIn,
    binding::{Binding, ForkRecord, Identity, PairingRecord},
    link::{Answer, Datagram, Find, Hello, HelloBody, Open, open_target},
};
use zerocopy::{FromZeros, IntoBytes};
use zeroize::Zeroize;

use crate::{
    Ports,
    drbg::Drbg,
    health::Failure,
    identity::{Anchor, Keys},
    record::{self, Ownership, ticket},
    store::{Record, Store, Vault},
};

/// A reply, or none until a record is committed, or a refusal.
pub type Reply<T> = Result<Option<T>, Refusal>;

/// What waits for the record that is being committed.
enum Work {
    Fork,
    Find([u8; 16]),
    Commit,
    Acknowledge,
    /// The claim is final; its ticket is being overwritten.
    EraseTicket,
}

/// A node with its keys.
pub struct Node {
    identity: record::Identity,
    keys: Keys,
    /// `None` once the node is claimed.
    anchor: Option<Anchor>,
    owner: Ownership,
    /// What `owner` becomes when it is committed.
    next: Ownership,
    work: Option<Work>,
    /// The live claim nonce.
    nonce: Option<[u8; 32]>,
    ticket_waiting: bool,
    pub drbg: Drbg,
    /// A block was asked for and has not come.
    pub asked: bool,
    /// The test that the source has failed since.
    pub lost: Option<Failure>,
}

impl Node {
    /// `identity` and `owner` are committed. `None` if there is no usable anchor for a node that needs one.
    pub fn new(identity: record::Identity, owner: Ownership, drbg: Drbg, image: &AnchorIn) -> Option<Self> {
        let keys = Keys::derive(&identity.root_seed);
        let anchor = if owner.claimed() {
            None
        } else {
            let (public, kind) = owner.stored_anchor().or_else(|| identity.stored_anchor()).or(match image {
                AnchorIn::Some(public) => Some((*public, anchor::IMAGE)),
                AnchorIn::None | AnchorIn::Damaged => None,
            })?;
            Some(Anchor::new(public, kind, &keys)?)
        };
        Some(Self {
            identity,
            keys,
            anchor,
            owner,
            next: owner,
            work: None,
            nonce: None,
            ticket_waiting: false,
            drbg,
            asked: false,
            lost: None,
        })
    }

    pub fn keys(&self) -> &Keys {
        &self.keys
    }

    pub fn owner(&self) -> &Ownership {
        &self.owner
    }

    pub fn anchor_kind(&self) -> u8 {
        self.anchor.as_ref().map_or(anchor::NONE, |anchor| anchor.kind)
    }

    pub fn ticket_waiting(&self) -> bool {
        self.ticket_waiting
    }

    fn anchor(&self) -> Result<&Anchor, Refusal> {
        self.anchor.as_ref().ok_or(Refusal::Taken)
    }

    // --- ticket

    /// Once per boot while unclaimed: the one secret that leaves, to the console alone.
    pub fn show_ticket(&mut self, ports: &mut Ports<'_>) {
        if self.identity.ticket == ticket::HELD && !self.owner.committed() {
            let value =
                TicketValue { present: 1, secret: self.identity.ticket_seed, fiduciary: self.keys.fiduciary_public };
            ports.ticket.publish(&value);
            self.ticket_waiting = true;
        }
        // Only the sealed record has it from here on.
        self.identity.ticket_seed.zeroize();
    }

    /// The console has shown it.
    pub fn hide_ticket(&mut self, ports: &mut Ports<'_>) {
        if self.ticket_waiting {
            ports.ticket.wipe();
            self.ticket_waiting = false;
        }
    }

    // --- for lifecycle

    pub fn fork<S: Store>(&mut self, vault: &mut Vault<S>) -> Reply<()> {
        if self.owner.fork().is_some() {
            return Ok(Some(()));
        }
        if self.owner.committed() {
            // The binding says that there is no record.
            return Err(Refusal::Taken);
        }
        let Keys { fiduciary, fiduciary_public, claim_public, mesh_public, address, .. } = &self.keys;
        let mut next = self.owner;
        next.fork = ForkRecord::sign(fiduciary, *fiduciary_public, *claim_public, *mesh_public, *address);
        next.forked = 1;
        self.commit_owner(next, Work::Fork, vault);
        Ok(None)
    }

    pub fn close_gate(&mut self) {
        self.nonce = None;
    }

    // --- for beacon

    pub fn check_find<S: Store>(&mut self, find: &Find, vault: &mut Vault<S>) -> Reply<[u8; 16]> {
        let find = Find::parse(find.as_bytes()).ok_or(Refusal::Forged)?;
        if find.counter.get() <= self.owner.counter.get() {
            return Err(Refusal::Stale);
        }
        find.verify(&self.anchor()?.public).ok_or(Refusal::Forged)?;
        let random = self.drbg.bytes();
        self.commit_owner(Ownership { counter: find.counter, ..self.owner }, Work::Find(random), vault);
        Ok(None)
    }

    pub fn make_hello(&mut self) -> Reply<MakeHelloReply> {
        let (nonce, ephemeral) = (self.drbg.bytes(), self.drbg.draw());
        let body = HelloBody {
            fiduciary: self.keys.fiduciary_public,
            claim_key: self.keys.claim_public,
            address: self.keys.address,
            nonce,
            committed: self.owner.committed,
            zero: [0; 7],
        };
        // An anchor of small order is none, so this seals.
        let hello = Hello::seal(&self.anchor()?.public, &ephemeral, &body).ok_or(Refusal::NotReady)?;
        Ok(Some(MakeHelloReply { hello, nonce }))
    }

    pub fn check_open(&mut self, open: &Open) -> Reply<CheckOpenReply> {
        let open = Open::parse(open.as_bytes()).ok_or(Refusal::Forged)?;
        if open.target != open_target(&self.keys.fiduciary_public) {
            return Err(Refusal::NotMine);
        }
        let anchor = self.anchor()?;
        // Only the holder of A gets past this to the signature.
        if !open.check_mac(&anchor.open_key) {
            return Err(Refusal::Forged);
        }
        open.verify(&anchor.public).ok_or(Refusal::Forged)?;
        let (token, ephemeral) = (self.drbg.bytes(), self.drbg.draw());
        let answer = Answer::seal(&self.keys.claim, &ephemeral, open, &token).ok_or(Refusal::Forged)?;
        Ok(Some(CheckOpenReply { answer, token }))
    }

    // --- for claim

    /// The steps `es`, `s` and `ss` of Noise IK, as the responder.
    pub fn read_initiation(&self, message: &Initiation) -> Reply<InitiationReply> {
        let anchor = self.anchor()?;
        let mut state = noise::Symmetric { chaining_key: message.chaining_key, hash: message.hash };
        let (from, tag) = message.encrypted_static.split_first_chunk::<32>().ok_or(Refusal::Forged)?;
        let tag = tag.first_chunk::<{ noise::TAG }>().ok_or(Refusal::Forged)?;
        let mut peer = *from;
        let key = state.mix_key(&*dh(&self.keys.claim, &message.ephemeral).ok_or(Refusal::Forged)?);
        if !state.decrypt_and_hash(&key, &mut peer, tag) || !crypto::equal(&peer, &anchor.public.dh) {
            return Err(Refusal::Forged);
        }
        let key = state.mix_key(&*dh(&self.keys.claim, &anchor.public.dh).ok_or(Refusal::Forged)?);
        Ok(Some(InitiationReply { chaining_key: state.chaining_key, hash: state.hash, key: *key, peer }))
    }

    pub fn identify(&mut self, handshake: &Hash) -> Reply<Identity> {
        let mut identity = Identity::new_zeroed();
        identity.fiduciary = self.keys.fiduciary_public;
        identity.mesh_key = self.keys.mesh_public;
        identity.fork = self.owner.fork;
        identity.forked = self.owner.forked;
        identity.epoch = self.owner.epoch;
        identity.committed = self.owner.committed;
        identity.nonce =
            if self.owner.committed() { self.owner.binding.nonce } else { *self.nonce.insert(self.drbg.bytes()) };
        Ok(Some(identity.sign(&self.keys.fiduciary, handshake)))
    }

    pub fn commit<S: Store>(&mut self, binding: &Binding, vault: &mut Vault<S>) -> Reply<PairingRecord> {
        if self.owner.committed() {
            let same = *binding == self.owner.binding;
            return if same { Ok(Some(self.pairing_record())) } else { Err(Refusal::Taken) };
        }
        // One nonce, one attempt: it is void whatever comes of this.
        self.nonce.take_if(|live| crypto::equal(live, &binding.nonce)).ok_or(Refusal::Nonce)?;
        if binding.fiduciary != self.keys.fiduciary_public
            || binding.mesh_key != self.keys.mesh_public
            || binding.fork != self.owner.fork_hash()
        {
            return Err(Refusal::NotMine);
        }
        if Some(binding.epoch.get()) != self.owner.epoch.get().checked_add(1)
            || binding.counter.get() <= self.owner.counter.get()
        {
            return Err(Refusal::Stale);
        }
        let anchor = self.anchor()?;
        binding.verify(&anchor.public).ok_or(Refusal::Forged)?;
        let next = Ownership {
            binding: *binding,
            anchor_sign: anchor.public.sign,
            anchor_dh: anchor.public.dh,
            anchor: anchor.kind,
            epoch: binding.epoch,
            counter: binding.counter,
            committed: 1,
            ..self.owner
        };
        self.commit_owner(next, Work::Commit, vault);
        Ok(None)
    }

    pub fn acknowledge<S: Store>(&mut self, record: &Hash, vault: &mut Vault<S>) -> Reply<()> {
        if !self.owner.committed() {
            return Err(Refusal::NotMine);
        }
        if !crypto::equal(record, &self.pairing_record().hash()) {
            return Err(Refusal::Forged);
        }
        if self.owner.claimed() {
            return Ok(Some(()));
        }
        self.commit_owner(Ownership { acknowledged: 1, ..self.owner }, Work::Acknowledge, vault);
        Ok(None)
    }

    /// Ed25519 signs the same bytes the same way, so this is the same record each time.
    fn pairing_record(&self) -> PairingRecord {
        PairingRecord::sign(&self.keys.fiduciary, &self.owner.binding)
    }

    // --- records

    fn commit_owner<S: Store>(&mut self, next: Ownership, work: Work, vault: &mut Vault<S>) {
        self.next = next;
        self.work = Some(work);
        vault.commit(Record::Ownership, self.next.as_bytes(), self.drbg.bytes());
    }

    /// The record that was being committed is, or could not be: the one who waits for it is answered.
    pub fn finish<S: Store>(&mut self, committed: bool, vault: &mut Vault<S>, ports: &mut Ports<'_>) {
        let Some(work) = self.work.take() else { return };
        let refused = Refusal::Store.code();
        match work {
            Work::EraseTicket if committed => return self.erase_ticket(vault, ports),
            // The claim is final all the same. The next boot tries again.
            Work::EraseTicket => return ports.claim.reply::<for_claim::Acknowledge>(&()),
            _ if committed => self.owner = self.next,
            Work::Fork => return ports.lifecycle.refuse(refused),
            Work::Find(_) => return ports.beacon.refuse(refused),
            Work::Commit | Work::Acknowledge => return ports.claim.refuse(refused),
        }
        match work {
            Work::Fork => ports.lifecycle.reply::<for_lifecycle::Fork>(&()),
            Work::Find(random) => ports.beacon.reply::<for_beacon::CheckFind>(&random),
            Work::Commit => ports.claim.reply::<for_claim::Commit>(&self.pairing_record()),
            Work::Acknowledge | Work::EraseTicket => {
                self.anchor = None;
                self.nonce = None;
                self.hide_ticket(ports);
                self.erase_ticket(vault, ports);
            }
        }
    }

    /// Overwrites the record until no slot has the ticket; then the claim is acknowledged.
    fn erase_ticket<S: Store>(&mut self, vault: &mut Vault<S>, ports: &mut Ports<'_>) {
        if self.identity.ticket == ticket::NONE {
            return ports.claim.reply::<for_claim::Acknowledge>(&());
        }
        self.identity.erase_ticket();
        self.work = Some(Work::EraseTicket);
        vault.commit(Record::Identity, self.identity.as_bytes(), self.drbg.bytes());
    }
}
