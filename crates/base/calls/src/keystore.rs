//! What may be asked of `keystore`, by client. Requests and replies are fixed; no reply holds a secret
//! of the keystore's or a raw Diffie-Hellman result.

use wire::{
    Hash, Ip, Key,
    binding::{Identity, PairingRecord},
    command::{Command, Operation},
    link::{Answer, Find, Hello, Open},
    order::{Kind, Order, Release},
    receipt::Receipt,
    record::AuthorityRecord,
    set::{AuthoritySet, MAX_AUTHORITIES},
    title::{Prefix, Title},
};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

refusals! {
    /// Why the keystore refuses. The caller drops what it was about and goes on; nothing is repeated.
    Refusal {
        /// There is no key, or not yet, or no more fresh randomness: ask for [`for_lifecycle::Status`].
        NotReady = 1,
        /// Not an operation of this channel.
        NotAllowed = 2,
        /// The cheap check, a signature or a decryption failed.
        Forged = 3,
        /// A counter or epoch that is not above the stored one.
        Stale = 4,
        /// The request is meant for another node, or another key of this one.
        NotMine = 5,
        /// The claim nonce is not the live one.
        Nonce = 6,
        /// The node has an owner already, or has committed another binding.
        Taken = 7,
        /// The record could not be committed, or it is not known whether it was. What it was about may be tried again.
        Store = 8,
    }
}

wire::numbers! {
    /// Whether the keystore has keys, and what it can do with them.
    State {
        /// The start-up test is collecting samples.
        Testing = 0, "testing";
        /// Keys are there and committed.
        Ready = 1, "ready";
        /// The start-up test failed: no key was made and none will be until the next power-up.
        NoEntropy = 2, "no entropy";
        /// The source failed a test later: nothing that needs fresh randomness is done until the next power-up.
        EntropyLost = 3, "entropy lost";
        /// The store does not answer or fails, and what it has is not known, or a new identity could not be committed: there
        /// are no keys.
        NoStore = 4, "no store";
        /// The image's anchor is damaged: the node stays blind.
        BadAnchor = 5, "bad anchor";
        /// The store holds a record or a log of a format that this version does not know, written by a later one. It is neither
        /// used nor overwritten.
        UnknownFormat = 6, "unknown format";
        /// The source was asked for a block and has not given one for as long as one usually lasts, or as those who need it
        /// have patience. Keys are there; what needs a block of its own waits for it. It ends when a block comes.
        EntropySilent = 7, "entropy silent";
        /// A record that was confirmed cannot be read, or one is gone: no identity is made in its place.
        StoreDamaged = 8, "store damaged";
        /// The store holds what this node's keystore has not sealed. It is neither used nor overwritten.
        StoreForeign = 9, "store foreign";
    }
}

wire::numbers! {
    /// What a node that has its keys makes of its store.
    Store {
        Good = 0, "good";
        /// It is out for good: whatever has to be committed is refused until it has started again.
        Down = 1, "down";
        /// It is not known whether the last commit was done. Nothing is committed before that is, and if it was one of
        /// ownership, nothing else is answered.
        Doubtful = 2, "doubtful";
    }
}

wire::numbers! {
    /// The tests that the entropy source is held to.
    HealthTest {
        /// None has failed.
        None = 0, "none";
        /// One value came too many times in a row.
        Repetition = 1, "repetition count";
        /// One value came too often in a window.
        Proportion = 2, "adaptive proportion";
    }
}

wire::numbers! {
    /// Where the anchor comes from that a node can be claimed by.
    AnchorKind {
        None = 0, "none";
        Image = 1, "image";
        Ticket = 2, "ticket";
        /// The last owners have named it when they let the node go.
        Release = 3, "release";
    }
}

wire::numbers! {
    /// Whether the node has an owner.
    Ownership {
        Unclaimed = 0, "unclaimed";
        /// A binding is committed, its acknowledgement has not come.
        Committed = 1, "committed";
        Claimed = 2, "claimed";
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct StatusReply {
    /// [`State`] as a number.
    pub state: u8,
    /// [`HealthTest`] as a number.
    pub failed_test: u8,
    /// [`AnchorKind`] as a number.
    pub anchor: u8,
    /// [`Ownership`] as a number.
    pub ownership: u8,
    pub forked: u8,
    /// The ticket waits for the console; the perimeter stays closed until it has been shown.
    pub ticket_waiting: u8,
    /// An authority has cut the node off from all others ([`wire::command::Operation::Isolate`]).
    pub isolated: u8,
    /// [`Store`] as a number.
    pub store: u8,
    /// The identity was made since power-up: 1; or it is that of before: 0.
    pub first: u8,
    pub zero: [u8; 3],
    /// Of the command that isolated it: whose, by the place in the set, and its counter.
    pub isolation: [u32; 2],
    /// No command of the authority at a place is taken that has this number or one below: as stored when the node was
    /// switched on.
    pub command_floors: [u32; MAX_AUTHORITIES],
    /// Which of the fleet's sets is in force.
    pub sequence: u64,
    /// How often the node was switched on and got this far.
    pub boots: u64,
    pub fiduciary: Key,
    pub address: Ip,
    pub fleet: Hash,
    pub epoch: u64,
    /// The hash of the configuration that is in force: of the committed binding, or of the last committed update.
    pub configuration: Hash,
}

impl StatusReply {
    pub fn state(&self) -> Option<State> {
        State::from_number(self.state.into())
    }

    /// Whether there are keys, and the source has failed no test.
    pub fn has_keys(&self) -> bool {
        matches!(self.state(), Some(State::Ready | State::EntropySilent))
    }

    /// An unknown number is the closed state: a node that can be claimed no more.
    pub fn ownership(&self) -> Ownership {
        Ownership::from_number(self.ownership.into()).unwrap_or(Ownership::Claimed)
    }
}

/// Who owns the node, and where it is in their mesh.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct OwnerReply {
    pub epoch: u64,
    /// Which of the fleet's sets it is.
    pub sequence: u64,
    pub set: AuthoritySet,
    /// What the warrant gives the node: its addresses inside the mesh, its static address outside and its gateway there.
    pub addresses: [Prefix; 2],
    pub underlay: Prefix,
    pub gateway: Ip,
    pub zero: [u8; 5],
}

/// The longest body of an order that the keystore reads: a configuration it knows by its hash alone.
pub const MAX_BODY: usize = size_of::<Release>();

#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct OrderRequest {
    pub order: Order,
    /// As long as the order says, and zeros; of a configuration, zeros.
    pub body: [u8; MAX_BODY],
}

impl OrderRequest {
    /// `None` for a body that is longer than any that the keystore reads.
    pub fn new(order: &Order, body: &[u8]) -> Option<Self> {
        let mut request = Self { order: *order, body: [0; MAX_BODY] };
        if order.kind() != Some(Kind::Configuration) {
            request.body.get_mut(..body.len())?.copy_from_slice(body);
        }
        Some(request)
    }
}

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct SealBlockRequest {
    /// The hash of the configuration that it is a block of.
    pub configuration: Hash,
    /// Which of its blocks, below [`crate::store::MAX_BLOCKS`].
    pub index: u64,
    pub plain: [u8; crate::store::BLOCK],
}

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct OpenBlockRequest {
    pub configuration: Hash,
    pub index: u64,
    pub sealed: [u8; crate::store::SEALED_BLOCK],
}

/// What `lifecycle` may ask.
pub mod for_lifecycle {
    use super::{AuthorityRecord, OpenBlockRequest, OrderRequest, OwnerReply, SealBlockRequest, StatusReply, Title};
    use crate::store::{BLOCK, SEALED_BLOCK};

    operations! {
        /// The keystore notifies `lifecycle` when its state changes, whether or not a call is outstanding.
        Status = 1, repeatable true: () => StatusReply;
        /// Makes, signs and commits the one-member fleet record, once.
        Fork = 2, repeatable true: () => ();
        /// The gate has closed: voids the claim nonce.
        CloseGate = 3, repeatable true: () => ();
        /// The authority's first handshake in the mesh: the claim is final without an acknowledgement.
        Settle = 4, repeatable true: () => ();
        /// Verifies an order and commits what it orders. The one that was carried out last is so again, without a change; but
        /// after a release there is nobody left to order anything.
        Order = 5, repeatable true: OrderRequest => ();
        /// Seals a block of a configuration, under a key that serves nothing else.
        SealBlock = 6, repeatable true: SealBlockRequest => [u8; SEALED_BLOCK];
        /// Opens a block; what was not sealed for this configuration and place is [`super::Refusal::Forged`].
        OpenBlock = 7, repeatable true: OpenBlockRequest => [u8; BLOCK];
        /// `store` is out for good: what waits for it gets no answer from it. Until `store` has started again, whatever has
        /// to be committed is refused at once.
        StoreDown = 8, repeatable true: () => ();
        /// Says of an order what `Order` would, and commits nothing: asked before anything is written for it.
        CheckOrder = 9, repeatable true: OrderRequest => ();
        /// Says of a binding what `Commit` would, and neither commits it nor uses up the nonce: asked before anything is
        /// written for it.
        CheckBinding = 10, repeatable true: Title => ();
        /// Verifies an authority record and commits its set. The one that is in force already is committed again without a
        /// change.
        Adopt = 11, repeatable true: AuthorityRecord => ();
        /// The committed set, and what the warrant says of the mesh.
        Owner = 12, repeatable true: () => OwnerReply;
    }
}

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct CheckOpenReply {
    pub answer: Answer,
    pub token: [u8; 16],
}

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct MakeHelloReply {
    pub hello: Hello,
    /// The nonce inside it.
    pub nonce: [u8; 16],
}

/// What `beacon` may ask.
pub mod for_beacon {
    use super::{CheckOpenReply, Find, MakeHelloReply, Open};

    operations! {
        /// Signature and counter of a find; the counter is stored. Replies with random bytes for delays and choices.
        CheckFind = 16, repeatable false: Find => [u8; 16];
        /// A fresh hello.
        MakeHello = 17, repeatable true: () => MakeHelloReply;
        /// Cheap check, target and signature of an open. The caller has checked nonce and addresses.
        CheckOpen = 18, repeatable false: Open => CheckOpenReply;
        /// Random bytes for the choice among waiting messages.
        BeaconRandom = 19, repeatable true: () => [u8; 32];
    }
}

/// Noise message 1 up to the encrypted static key.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Initiation {
    /// The state after the prologue, N's public key and the ephemeral key have been mixed in.
    pub chaining_key: [u8; 32],
    pub hash: Hash,
    pub ephemeral: Key,
    pub encrypted_static: [u8; 48],
}

/// The state after `es`, `s` and `ss`.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct InitiationReply {
    pub chaining_key: [u8; 32],
    pub hash: Hash,
    /// Key of message 1's payload.
    pub key: [u8; 32],
    /// The anchor's X25519 half: any other static key is refused.
    pub peer: Key,
}

/// What `claim` may ask.
pub mod for_claim {
    use super::{Hash, Identity, Initiation, InitiationReply, Key, PairingRecord, Title};

    operations! {
        /// The static-key steps of Noise message 1. The initiator must be the anchor.
        ReadInitiation = 32, repeatable true: Initiation => InitiationReply;
        /// N's public half, for the pre-message.
        ClaimKey = 33, repeatable true: () => Key;
        /// Draws the claim nonce (the last one is void) and signs the identity for this handshake hash.
        Identify = 34, repeatable true: Hash => Identity;
        /// Verifies and commits a binding. The same bytes again bring the same record.
        Commit = 35, repeatable true: Title => PairingRecord;
        /// The hash of the pairing record came back: the claim is final.
        Acknowledge = 36, repeatable true: Hash => ();
        /// Random bytes: an ephemeral key, a seed for TCP.
        ClaimRandom = 37, repeatable true: () => [u8; 32];
    }
}

/// A command whose MAC, target and counter hold. It is committed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct CommandReply {
    /// A [`wire::command::Operation`] as a number.
    pub operation: u32,
    pub argument: u32,
    pub counter: u32,
    /// The index of the authority in the binding's set.
    pub authority: u32,
}

impl CommandReply {
    pub fn operation(&self) -> Option<Operation> {
        Operation::from_number(self.operation.into())
    }
}

/// What `mesh` may ask. The static-key steps of WireGuard's handshake (Noise_IKpsk2): what returns is the next
/// chaining key and hash, never a key that `ss`, `es` or `se` gave, nor the result of a DH.
pub mod for_mesh {
    use wire::handshake::{FinishHandshake, ReadHandshake, ReadHandshakeReply, StartHandshake, StartHandshakeReply};

    use super::{Command, CommandReply, Key, Receipt};

    operations! {
        /// W's public half.
        MeshKey = 48, repeatable true: () => Key;
        /// Initiator, message 1: `ss`, and the timestamp.
        StartMeshHandshake = 49, repeatable true: StartHandshake => StartHandshakeReply;
        /// Initiator, message 2: `se`. Replies with the next chaining key.
        FinishMeshHandshake = 50, repeatable true: FinishHandshake => [u8; 32];
        /// Responder, message 1: `es`, `s`, `ss`, the timestamp.
        ReadMeshHandshake = 51, repeatable true: ReadHandshake => ReadHandshakeReply;
        /// Random bytes, to seed ephemeral keys and cookies.
        MeshRandom = 52, repeatable true: () => [u8; 32];
        /// MAC, target and counter of a command; counter and isolation are committed before the reply.
        CheckCommand = 53, repeatable false: Command => CommandReply;
        /// Signs that the set in force was committed by its record; of a node that was let go, that. The same bytes each time.
        Prove = 54, repeatable true: () => Receipt;
    }
}

/// `keystore` to `console`: the ticket secret, the one secret that leaves by design. It is no key of the
/// node's and independent of the root seed. Wiped once the console has said by its number that it is shown.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct TicketValue {
    /// 1 if there is one.
    pub present: u64,
    /// By which the console names it.
    pub number: u64,
    pub secret: [u8; 32],
    pub fiduciary: Key,
}

/// `console` to `keystore`: the ticket of this number has been shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct TicketShown {
    pub number: u64,
}

impl Drop for TicketValue {
    fn drop(&mut self) {
        self.secret.fill(0);
        core::hint::black_box(&self.secret);
    }
}
