//! What a node whose keys are committed does for its clients. Who may ask is decided before (lib.rs);
//! what is answered is decided here.
//!
//! An operation that changes a record answers nothing until the record is committed: its handler returns `Ok(None)`, and
//! `commit` answers.

mod commit;
mod orders;

use calls::{
    keystore::{
        AnchorKind, CheckOpenReply, CommandReply, Initiation, InitiationReply, MakeHelloReply, OpenBlockRequest,
        OwnerReply, Refusal, SealBlockRequest, TicketValue,
    },
    store::{BLOCK, MAX_BLOCKS, SEALED_BLOCK},
};
use crypto::{Secret, dh, noise};
use wire::{
    Hash,
    anchor::{AnchorFile, AnchorIn},
    binding::{ForkRecord, Identity, PairingRecord},
    command::{self, Command, Operation},
    handshake::{
        self, FinishHandshake, ReadHandshake, ReadHandshakeReply, StartHandshake, StartHandshakeReply, Started,
        Timestamps,
    },
    link::{Answer, Datagram, Find, Hello, HelloBody, Open, UNSTORED, open_target},
    order::Isolation,
    set::MAX_AUTHORITIES,
    title::Title,
};
use zerocopy::{FromZeros, IntoBytes};
use zeroize::Zeroize;

use crate::{
    Ports, block,
    boot::Make,
    identity::{Anchor, CommandKeys, Keys, PublicKeys, mesh_key},
    record::{self, Counters, Ownership, ticket},
    source::Source,
};

pub use commit::At;
use commit::{Settler, Work};

/// A reply, or none until a record is committed, or a refusal.
pub type Reply<T> = Result<Option<T>, Refusal>;

/// A node with its keys.
pub struct Node {
    identity: record::Identity,
    keys: Keys,
    /// `None` once the node is claimed.
    anchor: Option<Anchor>,
    owner: Ownership,
    /// What `owner` becomes when it is committed.
    next: Ownership,
    /// It is not known whether that has happened.
    doubtful: bool,
    /// As they are stored, and what they become.
    counters: Counters,
    next_counters: Counters,
    /// Of the last find and of the last command of each authority: below what is stored, or at it.
    find: u64,
    commands: [u32; MAX_AUTHORITIES],
    /// The same when the node was switched on.
    floors: [u32; MAX_AUTHORITIES],
    /// The identity is as old as this boot.
    first: bool,
    /// There are none without a binding.
    command_keys: CommandKeys,
    timestamps: Timestamps,
    work: Option<Work>,
    /// The live claim nonce.
    nonce: Option<[u8; 32]>,
    /// The number of the ticket that waits to be shown.
    ticket_waiting: Option<u64>,
    source: Source,
}

impl Node {
    /// Identity and ownership are committed. `None` if there is no usable anchor for a node that needs one.
    pub fn new(make: Make, image: &AnchorIn) -> Option<Self> {
        let Make { identity, owner, counters, reserved, source, first, .. } = make;
        let keys = Keys::derive(&identity.root_seed);
        let anchor = if owner.claimed() {
            None
        } else {
            let (anchor, kind) = owner.stored_anchor().or_else(|| identity.stored_anchor()).or(match image {
                AnchorIn::Some(anchor) if !owner.was_released() => Some((*anchor, AnchorKind::Image as u8)),
                _ => None,
            })?;
            Some(Anchor::new(anchor, kind, &keys)?)
        };
        let command_keys =
            if owner.committed() { CommandKeys::new(&owner.title, &keys) } else { CommandKeys::default() };
        let floors = counters.command_floors(&owner);
        Some(Self {
            identity,
            keys,
            anchor,
            owner,
            next: owner,
            doubtful: false,
            counters,
            // If it is in doubt, this is what was to be reserved.
            next_counters: counters.with_timestamps().unwrap_or(counters),
            find: counters.find_floor(&owner),
            commands: floors,
            floors,
            first,
            command_keys,
            timestamps: if reserved { Timestamps::of(counters.timestamps.get()) } else { Timestamps::none() },
            work: None,
            nonce: None,
            ticket_waiting: None,
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
        self.ticket_waiting.is_some()
    }

    pub fn is_new(&self) -> bool {
        self.first
    }

    pub fn boots(&self) -> u64 {
        self.counters.timestamps.get()
    }

    pub fn floors(&self) -> [u32; MAX_AUTHORITIES] {
        self.floors
    }

    /// It is not known whose the node is.
    pub fn is_doubtful(&self) -> bool {
        self.doubtful
    }

    fn anchor(&self) -> Result<&Anchor, Refusal> {
        self.anchor.as_ref().ok_or(Refusal::Taken)
    }

    // --- ticket

    /// Once per boot while unclaimed: the one secret that leaves, to the console alone.
    pub fn show_ticket(&mut self, ports: &mut Ports<'_>) {
        let by_ticket = self.anchor_kind() == AnchorKind::Ticket as u8;
        if self.identity.ticket == ticket::HELD && by_ticket && !self.owner.committed() {
            // The one of an earlier boot or owner has another number, and zero is what nobody has said.
            let number = self.boots().max(1) | self.owner.epoch.get() << 48;
            let (secret, fiduciary) = (self.identity.ticket_seed, self.keys.public.fiduciary);
            ports.ticket.publish(&TicketValue { present: 1, number, secret, fiduciary });
            self.ticket_waiting = Some(number);
        }
        // Only the sealed record has it from here on.
        self.identity.ticket_seed.zeroize();
    }

    /// The console has shown the one of this number.
    pub fn ticket_shown(&mut self, number: u64, ports: &mut Ports<'_>) {
        if self.ticket_waiting == Some(number) {
            self.hide_ticket(ports);
        }
    }

    fn hide_ticket(&mut self, ports: &mut Ports<'_>) {
        if self.ticket_waiting.take().is_some() {
            ports.ticket.wipe();
        }
    }

    // --- for lifecycle

    pub fn fork(&mut self, at: &mut At<'_, '_>) -> Reply<()> {
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
        self.commit_owner(next, Work::Fork, at)
    }

    pub fn close_gate(&mut self) {
        self.nonce = None;
    }

    pub fn settle(&mut self, at: &mut At<'_, '_>) -> Reply<()> {
        self.make_final(Settler::Lifecycle, at)
    }

    /// A kilobyte, which the frames of other operations are spared.
    #[inline(never)]
    pub fn owner_reply(&self) -> Reply<OwnerReply> {
        let Title { warrant, set, .. } = &self.owner.title;
        Ok(Some(OwnerReply {
            epoch: self.owner.epoch.get(),
            sequence: warrant.sequence.get(),
            set: *set,
            addresses: warrant.addresses,
            underlay: warrant.underlay,
            gateway: warrant.gateway,
            zero: [0; 5],
        }))
    }

    pub fn seal_block(&mut self, request: &SealBlockRequest) -> Reply<[u8; SEALED_BLOCK]> {
        let SealBlockRequest { configuration, index, plain } = request;
        let fresh = self.source.bytes();
        if *index >= MAX_BLOCKS as u64 {
            return Err(Refusal::NotMine);
        }
        block::seal(&self.identity.root_seed, configuration, *index, plain, &fresh).map(Some).ok_or(Refusal::NotReady)
    }

    pub fn open_block(&self, request: &OpenBlockRequest) -> Reply<[u8; BLOCK]> {
        let OpenBlockRequest { configuration, index, sealed } = request;
        block::open(&self.identity.root_seed, configuration, *index, sealed).map(Some).ok_or(Refusal::Forged)
    }

    // --- for beacon

    pub fn check_find(&mut self, find: &Find, at: &mut At<'_, '_>) -> Reply<[u8; 16]> {
        let find = Find::parse(find.as_bytes()).ok_or(Refusal::Forged)?;
        let counter = find.counter.get();
        if counter <= self.find {
            return Err(Refusal::Stale);
        }
        find.verify(&self.anchor()?.keys.reception).ok_or(Refusal::Forged)?;
        let random = self.source.bytes();
        if counter > self.counters.find_floor(&self.owner) && counter < UNSTORED {
            let next = self.counters.with_find(&self.owner, counter);
            return self.commit_counters(next, Work::Find { random, counter }, at);
        }
        self.find = counter;
        Ok(Some(random))
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
        let hello = Hello::seal(&self.anchor()?.keys.reception, &ephemeral, &body).ok_or(Refusal::NotReady)?;
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
        open.verify(&anchor.keys.reception).ok_or(Refusal::Forged)?;
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
            .filter(|peer| crypto::equal(peer, &anchor.keys.reception.dh))
            .ok_or(Refusal::Forged)?;
        let key = state.mix_key(&*dh(&self.keys.claim, &anchor.keys.reception.dh).ok_or(Refusal::Forged)?);
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
        identity.released = self.owner.released;
        identity.nonce = if self.owner.committed() {
            self.owner.title.binding.nonce
        } else {
            *self.nonce.insert(self.source.bytes())
        };
        Ok(Some(identity.sign(&self.keys.fiduciary, handshake)))
    }

    pub fn commit(&mut self, title: &Title, at: &mut At<'_, '_>) -> Reply<PairingRecord> {
        if self.owner.committed() {
            let same = *title == self.owner.title;
            return if same { Ok(Some(self.pairing_record())) } else { Err(Refusal::Taken) };
        }
        // One nonce, one attempt: it is void whatever comes of this.
        self.nonce.take_if(|live| crypto::equal(live, &title.binding.nonce)).ok_or(Refusal::Nonce)?;
        let anchor = self.examine(title)?;
        let next = Ownership {
            title: *title,
            anchor: AnchorFile::new(&anchor.keys),
            anchor_source: anchor.kind,
            epoch: title.warrant.epoch,
            counter: title.binding.counter,
            configuration: title.warrant.configuration,
            committed: 1,
            ..self.owner
        };
        self.commit_owner(next, Work::Commit, at)
    }

    pub fn check_binding(&self, title: &Title) -> Reply<()> {
        if self.owner.committed() {
            return if *title == self.owner.title { Ok(Some(())) } else { Err(Refusal::Taken) };
        }
        self.nonce.filter(|live| crypto::equal(live, &title.binding.nonce)).ok_or(Refusal::Nonce)?;
        self.examine(title).map(|_| Some(()))
    }

    /// What has signed a binding for this node, but for its nonce.
    fn examine(&self, title: &Title) -> Result<&Anchor, Refusal> {
        if title.warrant.fiduciary != self.keys.public.fiduciary
            || title.binding.mesh_key != self.keys.public.mesh
            || (title.warrant.fork != [0; 32] && title.warrant.fork != self.owner.fork_hash())
        {
            return Err(Refusal::NotMine);
        }
        if Some(title.warrant.epoch.get()) != self.owner.epoch.get().checked_add(1)
            || title.binding.counter.get() <= self.owner.counter.get()
        {
            return Err(Refusal::Stale);
        }
        let anchor = self.anchor()?;
        title.verify(&anchor.keys).ok_or(Refusal::Forged)?;
        Ok(anchor)
    }

    pub fn acknowledge(&mut self, record: &Hash, at: &mut At<'_, '_>) -> Reply<()> {
        if !self.owner.committed() {
            return Err(Refusal::NotMine);
        }
        if !crypto::equal(record, &self.pairing_record().hash()) {
            return Err(Refusal::Forged);
        }
        self.make_final(Settler::Claim, at)
    }

    fn make_final(&mut self, settler: Settler, at: &mut At<'_, '_>) -> Reply<()> {
        if self.owner.claimed() {
            return Ok(Some(()));
        }
        self.commit_owner(Ownership { acknowledged: 1, ..self.owner }, Work::Settle(settler), at)
    }

    /// Ed25519 signs the same bytes the same way, so this is the same record each time.
    fn pairing_record(&self) -> PairingRecord {
        PairingRecord::sign(&self.keys.fiduciary, &self.owner.title)
    }

    // --- for mesh

    /// W.
    fn mesh_key(&self) -> Secret {
        mesh_key(&self.identity.root_seed)
    }

    pub fn start_handshake(&mut self, request: &StartHandshake, at: &mut At<'_, '_>) -> Reply<StartHandshakeReply> {
        let started = Started::new(&self.mesh_key(), request).ok_or(Refusal::Forged)?;
        if let Some(timestamp) = self.timestamps.next() {
            return Ok(Some(started.seal(timestamp)));
        }
        let next = self.counters.with_timestamps().ok_or(Refusal::NotReady)?;
        self.commit_counters(next, Work::Timestamps(started), at)
    }

    pub fn finish_handshake(&self, request: &FinishHandshake) -> Reply<[u8; 32]> {
        handshake::finish(&self.mesh_key(), request).map(Some).ok_or(Refusal::Forged)
    }

    pub fn read_handshake(&self, request: &ReadHandshake) -> Reply<ReadHandshakeReply> {
        handshake::read(&self.mesh_key(), request).map(Some).ok_or(Refusal::Forged)
    }

    pub fn check_command(&mut self, command: &Command, at: &mut At<'_, '_>) -> Reply<CommandReply> {
        if command.target != command::target(&self.keys.public.fiduciary) {
            return Err(Refusal::NotMine);
        }
        let authority = self.command_keys.author(command).ok_or(Refusal::Forged)?;
        let counter = command.counter.get();
        if counter <= *self.commands.get(authority).ok_or(Refusal::Forged)? {
            return Err(Refusal::Stale);
        }
        // One that this version does not know has used its counter up all the same.
        let reply = CommandReply {
            operation: command.operation.into(),
            argument: command.argument.get(),
            counter,
            authority: authority as u32,
        };
        if counter > *self.counters.command_floors(&self.owner).get(authority).ok_or(Refusal::Forged)? {
            let next = self.counters.with_command(&self.owner, authority, counter);
            return self.commit_counters(next, Work::Command(reply), at);
        }
        self.obey(reply, at)
    }

    /// There is room for its counter in what is stored. Isolation is committed: the first one stands until it is ended, so
    /// that nobody's next one spoils the signatures of those who end it, or costs a write.
    fn obey(&mut self, reply: CommandReply, at: &mut At<'_, '_>) -> Reply<CommandReply> {
        if reply.operation() == Some(Operation::Isolate) && self.owner.isolated == 0 {
            let isolation = Isolation { authority: reply.authority.into(), counter: reply.counter.into() };
            let next = Ownership { isolated: 1, isolation, ..self.owner };
            return self.commit_owner(next, Work::Isolate(reply), at);
        }
        Ok(Some(self.obeyed(reply)))
    }

    fn obeyed(&mut self, reply: CommandReply) -> CommandReply {
        if let Some(last) = self.commands.get_mut(reply.authority as usize) {
            *last = reply.counter;
        }
        reply
    }
}

#[cfg(test)]
impl Node {
    /// So many timestamps of the block that is reserved are given away.
    pub fn use_timestamps(&mut self, used: u32) {
        self.timestamps.used = used;
    }
}
