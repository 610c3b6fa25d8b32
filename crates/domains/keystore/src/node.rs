//! What a node whose keys are committed does for its clients. Who may ask is decided before (lib.rs);
//! what is answered is decided here.
//!
//! An operation that changes a record answers nothing until the record is committed and read back:
//! its handler returns `Ok(None)`, and [`Node::finish`] answers.

use calls::{
    keystore::{
        AnchorKind, CheckOpenReply, CommandReply, Initiation, InitiationReply, MakeHelloReply, Refusal, TicketValue,
        for_beacon, for_claim, for_lifecycle, for_mesh,
    },
    store::{Record, Store},
};
use crypto::{Secret, dh, noise};
use wire::{
    Hash, U64,
    anchor::AnchorIn,
    binding::{Binding, ForkRecord, Identity, PairingRecord},
    command::{self, Command, Operation},
    handshake::{
        self, FinishHandshake, ReadHandshake, ReadHandshakeReply, StartHandshake, StartHandshakeReply, Started,
        Timestamps,
    },
    link::{Answer, Datagram, Find, Hello, HelloBody, Open, open_target},
    update::UpdateHead,
};
use zerocopy::{FromZeros, IntoBytes};
use zeroize::Zeroize;

use crate::{
    Ports,
    identity::{Anchor, CommandKeys, Keys, PublicKeys, mesh_key},
    record::{self, Ownership, ticket},
    source::Source,
    vault::Vault,
};

/// A reply, or none until a record is committed, or a refusal.
pub type Reply<T> = Result<Option<T>, Refusal>;

/// What waits for the record that is being committed.
enum Work {
    Fork,
    Find([u8; 16]),
    Commit,
    Settle(Settler),
    /// The claim is final; its ticket is being overwritten.
    EraseTicket(Settler),
    Update,
    /// A block of timestamps, for this handshake first.
    Timestamps(Started),
    Command(CommandReply),
}

/// Who has made the claim final.
#[derive(Clone, Copy)]
enum Settler {
    /// By the administrator's acknowledgement.
    Claim,
    /// By the authority's first handshake in the mesh.
    Lifecycle,
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
    /// There are none without a binding.
    command_keys: CommandKeys,
    timestamps: Timestamps,
    work: Option<Work>,
    /// The live claim nonce.
    nonce: Option<[u8; 32]>,
    ticket_waiting: bool,
    source: Source,
}

impl Node {
    /// `identity` and `owner` are committed. `None` if there is no usable anchor for a node that needs one.
    pub fn new(identity: record::Identity, owner: Ownership, source: Source, image: &AnchorIn) -> Option<Self> {
        let keys = Keys::derive(&identity.root_seed);
        let anchor = if owner.claimed() {
            None
        } else {
            let (public, kind) = owner.stored_anchor().or_else(|| identity.stored_anchor()).or(match image {
                AnchorIn::Some(public) => Some((*public, AnchorKind::Image as u8)),
                AnchorIn::None | AnchorIn::Damaged => None,
            })?;
            Some(Anchor::new(public, kind, &keys)?)
        };
        let command_keys =
            if owner.committed() { CommandKeys::new(&owner.binding, &keys) } else { CommandKeys::default() };
        Some(Self {
            identity,
            keys,
            anchor,
            owner,
            next: owner,
            command_keys,
            timestamps: Timestamps::none(),
            work: None,
            nonce: None,
            ticket_waiting: false,
            source,
        })
    }

    pub fn public(&self) -> &PublicKeys {
        &self.keys.public
    }

    pub fn source(&self) -> &Source {
        &self.source
    }

    pub fn source_mut(&mut self) -> &mut Source {
        &mut self.source
    }

    pub fn owner(&self) -> &Ownership {
        &self.owner
    }

    pub fn anchor_kind(&self) -> u8 {
        self.anchor.as_ref().map_or(AnchorKind::None as u8, |anchor| anchor.kind)
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
                TicketValue { present: 1, secret: self.identity.ticket_seed, fiduciary: self.keys.public.fiduciary };
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
        let Keys { fiduciary, public, .. } = &self.keys;
        let mut next = self.owner;
        next.fork = ForkRecord::sign(fiduciary, public.fiduciary, public.claim, public.mesh, public.address);
        next.forked = 1;
        self.commit_owner(next, Work::Fork, vault);
        Ok(None)
    }

    pub fn close_gate(&mut self) {
        self.nonce = None;
    }

    pub fn settle<S: Store>(&mut self, vault: &mut Vault<S>) -> Reply<()> {
        self.make_final(Settler::Lifecycle, vault)
    }

    /// The anchor is gone by now: what counts is the authority set of the binding.
    pub fn update<S: Store>(&mut self, head: &UpdateHead, vault: &mut Vault<S>) -> Reply<()> {
        let owner = &self.owner;
        if head.fleet != owner.binding.fleet || head.fiduciary != self.keys.public.fiduciary {
            return Err(Refusal::NotMine);
        }
        let in_force = head.counter == owner.counter && head.configuration == owner.configuration;
        if head.epoch != owner.epoch || (head.counter.get() <= owner.counter.get() && !in_force) {
            return Err(Refusal::Stale);
        }
        head.verify(&owner.binding).ok_or(Refusal::Forged)?;
        if in_force {
            return Ok(Some(()));
        }
        let next = Ownership { counter: head.counter, configuration: head.configuration, ..self.owner };
        self.commit_owner(next, Work::Update, vault);
        Ok(None)
    }

    // --- for beacon

    pub fn check_find<S: Store>(&mut self, find: &Find, vault: &mut Vault<S>) -> Reply<[u8; 16]> {
        let find = Find::parse(find.as_bytes()).ok_or(Refusal::Forged)?;
        if find.counter.get() <= self.owner.counter.get() {
            return Err(Refusal::Stale);
        }
        find.verify(&self.anchor()?.public).ok_or(Refusal::Forged)?;
        let random = self.source.bytes();
        self.commit_owner(Ownership { counter: find.counter, ..self.owner }, Work::Find(random), vault);
        Ok(None)
    }

    pub fn make_hello(&mut self) -> Reply<MakeHelloReply> {
        let (nonce, ephemeral) = (self.source.bytes(), self.source.draw());
        let body = HelloBody {
            fiduciary: self.keys.public.fiduciary,
            claim_key: self.keys.public.claim,
            address: self.keys.public.address,
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
        if open.target != open_target(&self.keys.public.fiduciary) {
            return Err(Refusal::NotMine);
        }
        let anchor = self.anchor()?;
        // Only the holder of A gets past this to the signature.
        if !open.check_mac(&anchor.open_key) {
            return Err(Refusal::Forged);
        }
        open.verify(&anchor.public).ok_or(Refusal::Forged)?;
        let (token, ephemeral) = (self.source.bytes(), self.source.draw());
        let answer = Answer::seal(&self.keys.claim, &ephemeral, open, &token).ok_or(Refusal::Forged)?;
        Ok(Some(CheckOpenReply { answer, token }))
    }

    pub fn random<const N: usize>(&mut self) -> Reply<[u8; N]> {
        Ok(Some(self.source.bytes()))
    }

    // --- for claim

    /// The steps `es`, `s` and `ss` of Noise IK, as the responder.
    pub fn read_initiation(&self, message: &Initiation) -> Reply<InitiationReply> {
        let anchor = self.anchor()?;
        let mut state = noise::Symmetric { chaining_key: message.chaining_key, hash: message.hash };
        let peer = handshake::read_static(&self.keys.claim, &mut state, &message.ephemeral, &message.encrypted_static)
            .filter(|peer| crypto::equal(peer, &anchor.public.dh))
            .ok_or(Refusal::Forged)?;
        let key = state.mix_key(&*dh(&self.keys.claim, &anchor.public.dh).ok_or(Refusal::Forged)?);
        Ok(Some(InitiationReply { chaining_key: state.chaining_key, hash: state.hash, key: *key, peer }))
    }

    pub fn identify(&mut self, handshake: &Hash) -> Reply<Identity> {
        let mut identity = Identity::new_zeroed();
        identity.fiduciary = self.keys.public.fiduciary;
        identity.mesh_key = self.keys.public.mesh;
        identity.fork = self.owner.fork;
        identity.forked = self.owner.forked;
        identity.epoch = self.owner.epoch;
        identity.committed = self.owner.committed;
        identity.nonce =
            if self.owner.committed() { self.owner.binding.nonce } else { *self.nonce.insert(self.source.bytes()) };
        Ok(Some(identity.sign(&self.keys.fiduciary, handshake)))
    }

    pub fn commit<S: Store>(&mut self, binding: &Binding, vault: &mut Vault<S>) -> Reply<PairingRecord> {
        if self.owner.committed() {
            let same = *binding == self.owner.binding;
            return if same { Ok(Some(self.pairing_record())) } else { Err(Refusal::Taken) };
        }
        // One nonce, one attempt: it is void whatever comes of this.
        self.nonce.take_if(|live| crypto::equal(live, &binding.nonce)).ok_or(Refusal::Nonce)?;
        if binding.fiduciary != self.keys.public.fiduciary
            || binding.mesh_key != self.keys.public.mesh
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
            configuration: binding.configuration,
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
        self.make_final(Settler::Claim, vault)
    }

    fn make_final<S: Store>(&mut self, settler: Settler, vault: &mut Vault<S>) -> Reply<()> {
        if self.owner.claimed() {
            return Ok(Some(()));
        }
        self.commit_owner(Ownership { acknowledged: 1, ..self.owner }, Work::Settle(settler), vault);
        Ok(None)
    }

    /// Ed25519 signs the same bytes the same way, so this is the same record each time.
    fn pairing_record(&self) -> PairingRecord {
        PairingRecord::sign(&self.keys.fiduciary, &self.owner.binding)
    }

    // --- for mesh

    /// W.
    fn mesh_key(&self) -> Secret {
        mesh_key(&self.identity.root_seed)
    }

    pub fn start_handshake<S: Store>(
        &mut self,
        request: &StartHandshake,
        vault: &mut Vault<S>,
    ) -> Reply<StartHandshakeReply> {
        let started = Started::new(&self.mesh_key(), request).ok_or(Refusal::Forged)?;
        if let Some(timestamp) = self.timestamps.next() {
            return Ok(Some(started.seal(timestamp)));
        }
        let block = self.owner.timestamps.get().checked_add(1).ok_or(Refusal::NotReady)?;
        let next = Ownership { timestamps: U64::new(block), ..self.owner };
        self.commit_owner(next, Work::Timestamps(started), vault);
        Ok(None)
    }

    pub fn finish_handshake(&self, request: &FinishHandshake) -> Reply<[u8; 32]> {
        handshake::finish(&self.mesh_key(), request).map(Some).ok_or(Refusal::Forged)
    }

    pub fn read_handshake(&self, request: &ReadHandshake) -> Reply<ReadHandshakeReply> {
        handshake::read(&self.mesh_key(), request).map(Some).ok_or(Refusal::Forged)
    }

    pub fn check_command<S: Store>(&mut self, command: &Command, vault: &mut Vault<S>) -> Reply<CommandReply> {
        if command.target != command::target(&self.keys.public.fiduciary) {
            return Err(Refusal::NotMine);
        }
        let authority = self.command_keys.author(command).ok_or(Refusal::Forged)?;
        let mut command_counters = self.owner.command_counters;
        let last = command_counters.get_mut(authority).ok_or(Refusal::Forged)?;
        if command.counter.get() <= last.get() {
            return Err(Refusal::Stale);
        }
        *last = command.counter;
        // One that this version does not know has used its counter up all the same.
        let isolated = match command.operation() {
            Some(Operation::Isolate) => 1,
            Some(Operation::Rejoin) => 0,
            _ => self.owner.isolated,
        };
        let reply = CommandReply {
            operation: command.operation.into(),
            argument: command.argument.get(),
            counter: command.counter.get(),
            authority: authority as u32,
        };
        let next = Ownership { command_counters, isolated, ..self.owner };
        self.commit_owner(next, Work::Command(reply), vault);
        Ok(None)
    }

    // --- records

    fn commit_owner<S: Store>(&mut self, next: Ownership, work: Work, vault: &mut Vault<S>) {
        self.next = next;
        self.work = Some(work);
        vault.commit(Record::Ownership, self.next.as_bytes(), self.source.bytes());
    }

    /// The record that was being committed is, or could not be: the one who waits for it is answered.
    pub fn finish<S: Store>(&mut self, committed: bool, vault: &mut Vault<S>, ports: &mut Ports<'_>) {
        let Some(work) = self.work.take() else { return };
        let refused = Refusal::Store.code();
        match work {
            Work::EraseTicket(settler) if committed => return self.erase_ticket(settler, vault, ports),
            // The claim is final all the same. The next boot tries again.
            Work::EraseTicket(settler) => return settler.answer(ports),
            _ if committed => self.owner = self.next,
            Work::Fork | Work::Update | Work::Settle(Settler::Lifecycle) => return ports.lifecycle.refuse(refused),
            Work::Find(_) => return ports.beacon.refuse(refused),
            Work::Commit | Work::Settle(Settler::Claim) => return ports.claim.refuse(refused),
            Work::Timestamps(_) | Work::Command(_) => return ports.mesh.refuse(refused),
        }
        match work {
            Work::Fork => ports.lifecycle.reply::<for_lifecycle::Fork>(&()),
            Work::Find(random) => ports.beacon.reply::<for_beacon::CheckFind>(&random),
            Work::Commit => {
                self.command_keys = CommandKeys::new(&self.owner.binding, &self.keys);
                ports.claim.reply::<for_claim::Commit>(&self.pairing_record());
            }
            Work::Settle(settler) | Work::EraseTicket(settler) => {
                self.anchor = None;
                self.nonce = None;
                self.hide_ticket(ports);
                self.erase_ticket(settler, vault, ports);
            }
            Work::Update => ports.lifecycle.reply::<for_lifecycle::Update>(&()),
            Work::Timestamps(started) => {
                self.timestamps = Timestamps::of(self.owner.timestamps.get());
                match self.timestamps.next() {
                    Some(timestamp) => ports.mesh.reply::<for_mesh::StartMeshHandshake>(&started.seal(timestamp)),
                    None => ports.mesh.refuse(Refusal::NotReady.code()),
                }
            }
            Work::Command(reply) => ports.mesh.reply::<for_mesh::CheckCommand>(&reply),
        }
    }

    /// Overwrites the record until no slot has the ticket; then the one who made the claim final is answered.
    fn erase_ticket<S: Store>(&mut self, settler: Settler, vault: &mut Vault<S>, ports: &mut Ports<'_>) {
        if self.identity.ticket == ticket::NONE {
            return settler.answer(ports);
        }
        self.identity.erase_ticket();
        self.work = Some(Work::EraseTicket(settler));
        vault.commit(Record::Identity, self.identity.as_bytes(), self.source.bytes());
    }
}

impl Settler {
    fn answer(self, ports: &mut Ports<'_>) {
        match self {
            Self::Claim => ports.claim.reply::<for_claim::Acknowledge>(&()),
            Self::Lifecycle => ports.lifecycle.reply::<for_lifecycle::Settle>(&()),
        }
    }
}

#[cfg(test)]
impl Node {
    /// So many timestamps of the block that is reserved are given away.
    pub fn use_timestamps(&mut self, used: u32) {
        self.timestamps.used = used;
    }
}
