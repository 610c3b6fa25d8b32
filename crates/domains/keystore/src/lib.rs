//! The keystore: makes, keeps and uses every long-term secret of the node.
//!
//! What it never does:
//! - call another domain but the store, which sees only sealed bytes, or go by a clock. It answers, and it has no deadline;
//! - parse anything of variable size. Every request and every reply has one size;
//! - put a secret, or the raw result of a Diffie-Hellman exchange, into a reply. The ticket is the one
//!   secret that leaves, by name, to the console alone ([`calls::keystore::TicketValue`]);
//! - sign bytes that a caller supplies. F signs what is laid out here, each kind under its own label;
//! - derive, show or use F before its record is committed;
//! - use a sample that has not passed the tests, or one twice, or go on with the source after a test has failed;
//! - do for one channel what `access` gives to another;
//! - take a request while a record is being committed, or while it is not known whether one was, so that nothing is ever
//!   decided by half a state: only what the node's status is can be asked then;
//! - leave a copy of what it has worked with: behind each step its stack is wiped, and a key stands in one place;
//! - come back: it is nobody's child, and what stops it stops the node until the next power-up.
//!
//! Read in this order: `access` (who may ask for what), `node` (what is answered), `record` and `vault` (what is
//! kept), `source` (where randomness comes from: docs/entropy.md), `identity`.
#![no_std]
#![forbid(unsafe_code)]

#[cfg(test)]
extern crate std;

mod access;
mod block;
mod boot;
mod identity;
mod node;
mod record;
pub mod shell;
mod source;
#[cfg(test)]
mod tests;
mod vault;

use core::mem::MaybeUninit;

use calls::keystore::{
    HealthTest, Ownership, Refusal, State, StatusReply, Store, TicketShown, TicketValue,
    for_beacon::{self, BeaconRandom, CheckFind, CheckOpen, MakeHello},
    for_claim::{self, Acknowledge, ClaimKey, ClaimRandom, Commit, Identify, ReadInitiation},
    for_lifecycle::{
        self, Adopt, CheckBinding, CheckOrder, CloseGate, Fork, OpenBlock, Order, Owner, SealBlock, Settle, Status,
        StoreDown,
    },
    for_mesh::{
        self, CheckCommand, FinishMeshHandshake, MeshKey, MeshRandom, Prove, ReadMeshHandshake, StartMeshHandshake,
    },
};
use crypto::Secret;
use shm::{
    ReadOnly, cell,
    mailbox::{Client, Incoming, Operation, Server},
};
use wire::anchor::{AnchorFile, AnchorIn};
use zerocopy::FromZeros;

use access::{Asked, Needs, admit};
use boot::{BadAnchor, Make, Next, Start};
use node::{At, Node, Reply};
use source::Failure;
pub use source::Feed;
use vault::{Failed, Outcome, Vault};

/// Its channels, by who is at the other end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Channel {
    Entropy,
    Lifecycle,
    Beacon,
    Claim,
    Mesh,
    Console,
    Store,
}

pub type LifecycleServer<'a> = Server<'a, { for_lifecycle::MAX_REQUEST }>;
pub type BeaconServer<'a> = Server<'a, { for_beacon::MAX_REQUEST }>;
pub type ClaimServer<'a> = Server<'a, { for_claim::MAX_REQUEST }>;
pub type MeshServer<'a> = Server<'a, { for_mesh::MAX_REQUEST }>;

pub struct Ports<'a> {
    pub entropy: Feed<'a>,
    pub ticket: cell::Writer<'a, TicketValue>,
    pub ticket_shown: cell::Reader<'a, TicketShown>,
    pub store: Client<'a>,
    pub lifecycle: LifecycleServer<'a>,
    pub beacon: BeaconServer<'a>,
    pub claim: ClaimServer<'a>,
    pub mesh: MeshServer<'a>,
}

impl Ports<'_> {
    pub fn signals(&mut self, mut notify: impl FnMut(Channel)) {
        let peers = [
            (Channel::Entropy, self.entropy.take_signal()),
            (Channel::Lifecycle, self.lifecycle.take_signal()),
            (Channel::Beacon, self.beacon.take_signal()),
            (Channel::Claim, self.claim.take_signal()),
            (Channel::Mesh, self.mesh.take_signal()),
            (Channel::Console, self.ticket.take_signal()),
            (Channel::Store, self.store.take_signal()),
        ];
        for (peer, signal) in peers {
            if signal {
                notify(peer);
            }
        }
    }
}

fn answer<O: Operation, const MAX: usize>(
    server: &mut Server<'_, MAX>,
    incoming: &Incoming<MAX>,
    handle: impl FnOnce(O::Request) -> Reply<O::Reply>,
) {
    let Some(request) = incoming.parse::<O>() else {
        return server.refuse(Refusal::NotAllowed.code());
    };
    match handle(request) {
        Ok(Some(reply)) => server.reply::<O>(&reply),
        // Answered when the record is committed.
        Ok(None) => {}
        Err(refusal) => server.refuse(refusal.code()),
    }
}

/// Whether a request is there for which it matters what is committed.
fn is_awaited(ports: &mut Ports<'_>) -> bool {
    fn waits<A: Asked, const MAX: usize>(server: &mut Server<'_, MAX>) -> bool {
        let asked = server.waiting().and_then(|(op, _)| A::of(op));
        asked.is_some_and(|asked| asked.access().0 != Needs::Nothing)
    }
    waits::<for_lifecycle::Op, _>(&mut ports.lifecycle)
        || waits::<for_beacon::Op, _>(&mut ports.beacon)
        || waits::<for_claim::Op, _>(&mut ports.claim)
        || waits::<for_mesh::Op, _>(&mut ports.mesh)
}

// --- the core

/// How far the node has come. There are no keys but in `Ready`.
// There is one of these, in one place, and no heap to put its parts on.
#[allow(clippy::large_enum_variant)]
enum Stage {
    /// Records are being looked for, samples are being collected.
    Start(Start),
    /// The identity is being committed.
    Make(Make),
    Ready(Node),
    /// Nothing until the next power-up.
    Off {
        state: State,
        failed_test: HealthTest,
    },
}

/// Stands in for a stage while one becomes the next.
const OFF: Stage = Stage::Off { state: State::Testing, failed_test: HealthTest::None };

/// Bytes of the stack that are wiped behind each step: more than any takes, and what `stack_size` in `system.xml` leaves room
/// for.
pub const WIPED: usize = 52 << 10;

/// Words that are wiped at once.
const LINE: usize = 4;

/// Overwrites what lies below the caller's frame: keys, and what primitives make of them, in the frames of all that it
/// has called.
#[inline(never)]
fn wipe_stack() {
    // Line by line, in its place: a call that fills memory takes three times as long, and each step pays for it.
    let mut stack = [const { MaybeUninit::<[u64; LINE]>::uninit() }; WIPED / size_of::<[u64; LINE]>()];
    for line in &mut stack {
        core::hint::black_box(line.write([0; LINE]));
    }
}

/// The core.
pub struct Keystore {
    stage: Stage,
    vault: Vault,
    /// It has been asked what came of the commit that is in doubt, for the requests that are there, and nobody could say.
    rechecked: bool,
    image: AnchorIn,
    /// What lifecycle has been told of.
    told: StatusReply,
}

impl Keystore {
    /// `device_secret` is 32 bytes at the front of its region; all zero on a board that supplies none, whose
    /// keys then come from samples alone and whose records any holder of the store can open. `anchor` holds a
    /// [`wire::anchor::AnchorFile`] or zeros.
    pub fn new(device_secret: ReadOnly<'_>, anchor: ReadOnly<'_>) -> Self {
        let device_secret = Secret::new(cell::read_static(&device_secret));
        let image = cell::read_static::<AnchorFile>(&anchor).read();
        let vault = Vault::new(&device_secret);
        let stage = Stage::Start(Start::new(device_secret));
        Self { stage, vault, rechecked: false, image, told: StatusReply::new_zeroed() }
    }

    /// Handles what has arrived; true if there is more to do at once. Whoever waits for nothing needs no time.
    pub fn step(&mut self, ports: &mut Ports<'_>) -> bool {
        let more = self.work(ports);
        wipe_stack();
        more
    }

    // Its frame has to lie below that of `step`, where it is wiped.
    #[inline(never)]
    fn work(&mut self, ports: &mut Ports<'_>) -> bool {
        if let Some(TicketShown { number }) = ports.ticket_shown.poll()
            && let Stage::Ready(node) = &mut self.stage
        {
            node.ticket_shown(number, ports);
        }
        self.take_samples(&mut ports.entropy);
        let mut more = self.advance(ports);
        self.serve(ports);
        more |= self.advance(ports);
        // A block that came for a request was not used up if that request has not been looked at.
        if let Stage::Ready(node) = &mut self.stage
            && !self.vault.busy()
        {
            node.source_mut().replenish(&mut ports.entropy);
        }
        let status = self.status(&ports.store);
        if status != self.told {
            self.told = status;
            ports.lifecycle.nudge();
        }
        more
    }

    /// A request that has to be committed leaves those after it where they are.
    fn serve(&mut self, ports: &mut Ports<'_>) {
        if !self.vault.busy() && !self.rechecked && is_awaited(ports) {
            self.vault.recheck(&mut ports.store);
        }
        if self.vault.busy() {
            return self.serve_meanwhile(ports);
        }
        self.rechecked = false;
        self.serve_lifecycle(ports);
        if !self.vault.busy() {
            self.serve_beacon(ports);
        }
        if !self.vault.busy() {
            self.serve_claim(ports);
        }
        if !self.vault.busy() {
            self.serve_mesh(ports);
        }
    }

    /// While the store is at work, lifecycle may ask what is committed, and say that it waits in vain. What it asked before
    /// it does not wait for any more.
    fn serve_meanwhile(&mut self, ports: &mut Ports<'_>) {
        use for_lifecycle::Op;
        let op = ports.lifecycle.waiting().and_then(|(op, _)| Op::of(op));
        if matches!(op, Some(Op::Status | Op::StoreDown)) {
            if let Stage::Ready(node) = &mut self.stage {
                node.forsake();
            }
            self.serve_lifecycle(ports);
        }
    }

    // --- samples

    /// While something is committed before there are keys, and when the node is off, a block that comes waits where it is.
    fn take_samples(&mut self, feed: &mut Feed<'_>) {
        match &mut self.stage {
            Stage::Start(start) => {
                if let Err(failure) = start.samples.take(feed) {
                    self.switch_off(State::NoEntropy, Some(failure));
                }
            }
            Stage::Ready(node) => node.source_mut().take(feed),
            Stage::Make(_) | Stage::Off { .. } => {}
        }
    }

    // --- records and stages

    /// Goes on with what the store has finished. True if it had.
    fn advance(&mut self, ports: &mut Ports<'_>) -> bool {
        let outcome = self.vault.poll(&mut ports.store);
        if let Some(outcome) = outcome {
            self.rechecked = matches!(outcome, Outcome::Doubtful(_));
            match &mut self.stage {
                Stage::Off { .. } => {}
                Stage::Ready(node) => node.finish(outcome, &mut self.vault, ports),
                Stage::Start(start) => {
                    if let Err(failed) = start.found(outcome, &mut self.vault, &mut ports.store) {
                        self.lose(failed);
                    }
                }
                Stage::Make(make) => {
                    let next = make.go_on(outcome, &mut self.vault, &mut ports.store);
                    self.follow(next, ports);
                }
            }
        }
        if let Stage::Start(start) = &mut self.stage {
            start.begin(&mut self.vault, &mut ports.store);
            match start.finish(&self.image) {
                None => {}
                Some(Err(BadAnchor)) => self.switch_off(State::BadAnchor, None),
                Some(Ok(mut make)) => {
                    let next = make.begin(&mut self.vault, &mut ports.store);
                    self.stage = Stage::Make(make);
                    self.follow(next, ports);
                }
            }
        }
        outcome.is_some()
    }

    fn follow(&mut self, next: Next, ports: &mut Ports<'_>) {
        match next {
            Next::Wait => {}
            Next::Lost(failed) => self.lose(failed),
            Next::Ready => {
                if let Stage::Make(make) = core::mem::replace(&mut self.stage, OFF) {
                    self.make_ready(make, ports);
                }
            }
        }
    }

    /// The identity is committed: only now are there keys.
    fn make_ready(&mut self, make: Make, ports: &mut Ports<'_>) {
        match Node::new(make, &self.image) {
            Some(mut node) => {
                node.show_ticket(ports);
                self.stage = Stage::Ready(node);
            }
            None => self.switch_off(State::BadAnchor, None),
        }
    }

    /// The store is of no use, or what is in it is not to be touched.
    fn lose(&mut self, failed: Failed) {
        let state = match failed {
            Failed::Store => State::NoStore,
            Failed::Damaged => State::StoreDamaged,
            Failed::Foreign => State::StoreForeign,
            Failed::Format => State::UnknownFormat,
        };
        self.switch_off(state, None);
    }

    fn switch_off(&mut self, state: State, failed: Option<Failure>) {
        self.vault.forget();
        self.stage = Stage::Off { state, failed_test: failed.map_or(HealthTest::None, Failure::test) };
    }

    // --- requests

    fn status(&self, store: &Client<'_>) -> StatusReply {
        let mut status = StatusReply::new_zeroed();
        match &self.stage {
            Stage::Start(_) | Stage::Make(_) => status.state = State::Testing as u8,
            Stage::Off { state, failed_test } => {
                (status.state, status.failed_test) = (*state as u8, *failed_test as u8)
            }
            Stage::Ready(node) => {
                let owner = node.owner();
                status.state = match node.source() {
                    source if source.lost().is_some() => State::EntropyLost,
                    source if source.is_silent() => State::EntropySilent,
                    _ => State::Ready,
                } as u8;
                status.failed_test = node.source().lost().map_or(HealthTest::None, Failure::test) as u8;
                status.anchor = node.anchor_kind();
                status.ownership = match (owner.committed(), owner.claimed()) {
                    (false, _) => Ownership::Unclaimed,
                    (true, false) => Ownership::Committed,
                    (true, true) => Ownership::Claimed,
                } as u8;
                status.forked = owner.forked;
                status.store = match self.vault.doubt() {
                    Some(_) => Store::Doubtful,
                    None if self.vault.is_down(store) => Store::Down,
                    None => Store::Good,
                } as u8;
                status.first = node.is_new().into();
                status.command_floors = node.floors();
                status.boots = node.boots();
                status.ticket_waiting = node.ticket_waiting().into();
                status.fiduciary = node.public().fiduciary;
                status.address = node.public().address;
                status.fleet = owner.title.warrant.fleet;
                status.epoch = owner.epoch.get();
                status.isolated = owner.isolated;
                status.isolation = [owner.isolation.authority.get(), owner.isolation.counter.get()];
                status.sequence = owner.title.warrant.sequence.get();
                status.configuration = owner.configuration;
            }
        }
        status
    }

    fn serve_lifecycle(&mut self, ports: &mut Ports<'_>) {
        use for_lifecycle::Op;
        let status = self.status(&ports.store);
        let (server, at) = (&mut ports.lifecycle, &mut At { vault: &mut self.vault, store: &mut ports.store });
        let Some((asked, request, node)) = admit(server, &mut self.stage) else { return };
        match asked {
            Op::Status => answer::<Status, _>(server, &request, |()| Ok(Some(status))),
            Op::Fork => answer::<Fork, _>(server, &request, |()| node?.fork(at)),
            Op::CloseGate => answer::<CloseGate, _>(server, &request, |()| {
                // Without keys there is no nonce to void.
                node.into_iter().for_each(Node::close_gate);
                Ok(Some(()))
            }),
            Op::Settle => answer::<Settle, _>(server, &request, |()| node?.settle(at)),
            Op::Order => answer::<Order, _>(server, &request, |order| node?.order(&order, at)),
            Op::CheckOrder => {
                answer::<CheckOrder, _>(server, &request, |order| node?.check_order(&order).map(drop).map(Some));
            }
            Op::Adopt => answer::<Adopt, _>(server, &request, |record| node?.adopt_set(&record, at)),
            Op::Owner => answer::<Owner, _>(server, &request, |()| node?.owner_reply()),
            Op::CheckBinding => answer::<CheckBinding, _>(server, &request, |binding| node?.check_binding(&binding)),
            Op::SealBlock => answer::<SealBlock, _>(server, &request, |block| node?.seal_block(&block)),
            Op::OpenBlock => answer::<OpenBlock, _>(server, &request, |block| node?.open_block(&block)),
            Op::StoreDown => answer::<StoreDown, _>(server, &request, |()| {
                at.vault.store_down(at.store);
                Ok(Some(()))
            }),
        }
    }

    fn serve_beacon(&mut self, ports: &mut Ports<'_>) {
        use for_beacon::Op;
        let (server, at) = (&mut ports.beacon, &mut At { vault: &mut self.vault, store: &mut ports.store });
        let Some((asked, request, node)) = admit(server, &mut self.stage) else { return };
        match asked {
            Op::CheckFind => answer::<CheckFind, _>(server, &request, |find| node?.check_find(&find, at)),
            Op::MakeHello => answer::<MakeHello, _>(server, &request, |()| node?.make_hello()),
            Op::CheckOpen => answer::<CheckOpen, _>(server, &request, |open| node?.check_open(&open)),
            Op::BeaconRandom => answer::<BeaconRandom, _>(server, &request, |()| node?.random()),
        }
    }

    fn serve_claim(&mut self, ports: &mut Ports<'_>) {
        use for_claim::Op;
        let (server, at) = (&mut ports.claim, &mut At { vault: &mut self.vault, store: &mut ports.store });
        let Some((asked, request, node)) = admit(server, &mut self.stage) else { return };
        match asked {
            Op::ReadInitiation => {
                answer::<ReadInitiation, _>(server, &request, |message| node?.read_initiation(&message));
            }
            Op::ClaimKey => answer::<ClaimKey, _>(server, &request, |()| Ok(Some(node?.public().claim))),
            Op::Identify => answer::<Identify, _>(server, &request, |handshake| node?.identify(&handshake)),
            Op::Commit => answer::<Commit, _>(server, &request, |title| node?.commit(&title, at)),
            Op::Acknowledge => answer::<Acknowledge, _>(server, &request, |hash| node?.acknowledge(&hash, at)),
            Op::ClaimRandom => answer::<ClaimRandom, _>(server, &request, |()| node?.random()),
        }
    }

    fn serve_mesh(&mut self, ports: &mut Ports<'_>) {
        use for_mesh::Op;
        let (server, at) = (&mut ports.mesh, &mut At { vault: &mut self.vault, store: &mut ports.store });
        let Some((asked, request, node)) = admit(server, &mut self.stage) else { return };
        match asked {
            Op::MeshKey => answer::<MeshKey, _>(server, &request, |()| Ok(Some(node?.public().mesh))),
            Op::StartMeshHandshake => {
                answer::<StartMeshHandshake, _>(server, &request, |handshake| node?.start_handshake(&handshake, at));
            }
            Op::FinishMeshHandshake => {
                answer::<FinishMeshHandshake, _>(server, &request, |handshake| node?.finish_handshake(&handshake));
            }
            Op::ReadMeshHandshake => {
                answer::<ReadMeshHandshake, _>(server, &request, |handshake| node?.read_handshake(&handshake));
            }
            Op::MeshRandom => answer::<MeshRandom, _>(server, &request, |()| node?.random()),
            Op::Prove => answer::<Prove, _>(server, &request, |()| node?.receipt()),
            Op::CheckCommand => {
                answer::<CheckCommand, _>(server, &request, |command| node?.check_command(&command, at));
            }
        }
    }
}
