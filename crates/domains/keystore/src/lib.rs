//! The keystore: makes, keeps and uses every long-term secret of the node.
//!
//! What it never does:
//! - call another domain, wait for one, or go by a clock. It answers, and it has no deadline;
//! - parse anything of variable size. Every request and every reply has one size;
//! - put a secret, or the raw result of a Diffie-Hellman exchange, into a reply. The ticket is the one
//!   secret that leaves, by name, to the console alone ([`calls::keystore::TicketValue`]);
//! - sign bytes that a caller supplies. F signs what is laid out here, each kind under its own label;
//! - derive, show or use F before its record is committed and read back;
//! - use a sample that has not passed the tests, or one twice, or go on with the source after a test has failed;
//! - do for one channel what the table below gives to another;
//! - take a request while a record is being committed, so that nothing is ever decided by half a state;
//! - come back: it is nobody's child, and what stops it stops the node until the next power-up.
//!
//! Read in this order: the table here, `node` (what is answered), `record` and `store` (what is
//! kept), `health` and `drbg` (where randomness comes from: docs/entropy.md), `identity`.
#![no_std]
#![forbid(unsafe_code)]

#[cfg(test)]
extern crate std;

mod boot;
mod drbg;
mod health;
mod identity;
mod node;
mod record;
pub mod shell;
mod store;
#[cfg(test)]
mod tests;

use calls::{
    entropy::Samples,
    keystore::{
        HealthTest, Ownership, Refusal, State, StatusReply, TicketValue,
        for_beacon::{self, BeaconRandom, CheckFind, CheckOpen, MakeHello},
        for_claim::{self, Acknowledge, ClaimKey, ClaimRandom, Commit, Identify, ReadInitiation},
        for_lifecycle::{self, CloseGate, Fork, Settle, Status, Update},
        for_mesh::{
            self, CheckCommand, FinishMeshHandshake, MeshKey, MeshRandom, ReadMeshHandshake, StartMeshHandshake,
        },
    },
};
use crypto::Secret;
use shm::{
    ReadOnly, TooSmall, cell,
    mailbox::{Incoming, Operation, Server},
};
use wire::anchor::{AnchorFile, AnchorIn};
use zerocopy::FromZeros;

use boot::{BadAnchor, Make, Start};
use health::{Failure, Health};
use node::{Node, Reply};
use store::{Finished, Vault};
pub use store::{Progress, RamStore, Record, SEALED, Sealed, Slot, Store};

/// Its channels, by who is at the other end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Channel {
    Entropy,
    Lifecycle,
    Beacon,
    Claim,
    Mesh,
    Console,
}

pub type LifecycleServer<'a> = Server<'a, { for_lifecycle::MAX_REQUEST }>;
pub type BeaconServer<'a> = Server<'a, { for_beacon::MAX_REQUEST }>;
pub type ClaimServer<'a> = Server<'a, { for_claim::MAX_REQUEST }>;
pub type MeshServer<'a> = Server<'a, { for_mesh::MAX_REQUEST }>;

pub struct Ports<'a> {
    pub entropy: Feed<'a>,
    pub ticket: cell::Writer<'a, TicketValue>,
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
        ];
        for (peer, signal) in peers {
            if signal {
                notify(peer);
            }
        }
    }
}

/// The blocks of samples, and the notification back that another is wanted.
pub struct Feed<'a> {
    cell: cell::Reader<'a, Samples>,
    signal: bool,
}

impl<'a> Feed<'a> {
    pub fn new(region: ReadOnly<'a>) -> Result<Self, TooSmall> {
        Ok(Self { cell: cell::Reader::new(region)?, signal: false })
    }

    fn want(&mut self) {
        self.signal = true;
    }

    /// Whether the source's domain is to be notified since this was last asked.
    pub fn take_signal(&mut self) -> bool {
        core::mem::take(&mut self.signal)
    }
}

// --- who may ask for what

/// What must be there for an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Needs {
    Nothing,
    /// Committed keys.
    Keys,
    /// Committed keys, and a source that has failed no test.
    Fresh,
}

/// For a node of which owner an operation is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum While {
    Always,
    /// Until the claim is final.
    Unclaimed,
    /// From the committed binding on: a node without one has no mesh.
    Owned,
}

/// Everything that is ever done for anybody. What is not here is refused.
const ACCESS: [(Channel, u32, Needs, While); 21] = [
    (Channel::Lifecycle, Status::OP, Needs::Nothing, While::Always),
    (Channel::Lifecycle, Fork::OP, Needs::Fresh, While::Unclaimed),
    (Channel::Lifecycle, CloseGate::OP, Needs::Nothing, While::Always),
    (Channel::Lifecycle, Settle::OP, Needs::Fresh, While::Owned),
    (Channel::Lifecycle, Update::OP, Needs::Fresh, While::Owned),
    (Channel::Beacon, CheckFind::OP, Needs::Fresh, While::Unclaimed),
    (Channel::Beacon, MakeHello::OP, Needs::Fresh, While::Unclaimed),
    (Channel::Beacon, CheckOpen::OP, Needs::Fresh, While::Unclaimed),
    (Channel::Beacon, BeaconRandom::OP, Needs::Fresh, While::Always),
    (Channel::Claim, ReadInitiation::OP, Needs::Keys, While::Unclaimed),
    (Channel::Claim, ClaimKey::OP, Needs::Keys, While::Always),
    (Channel::Claim, Identify::OP, Needs::Fresh, While::Unclaimed),
    (Channel::Claim, Commit::OP, Needs::Fresh, While::Unclaimed),
    (Channel::Claim, Acknowledge::OP, Needs::Fresh, While::Always),
    (Channel::Claim, ClaimRandom::OP, Needs::Fresh, While::Always),
    (Channel::Mesh, MeshKey::OP, Needs::Keys, While::Owned),
    (Channel::Mesh, StartMeshHandshake::OP, Needs::Fresh, While::Owned),
    (Channel::Mesh, FinishMeshHandshake::OP, Needs::Keys, While::Owned),
    (Channel::Mesh, ReadMeshHandshake::OP, Needs::Keys, While::Owned),
    (Channel::Mesh, MeshRandom::OP, Needs::Fresh, While::Owned),
    (Channel::Mesh, CheckCommand::OP, Needs::Fresh, While::Owned),
];

/// The next request on a channel, if the table gives it to that channel, and the node if it may be done
/// now. What is not the channel's is refused here.
fn admit<'s, const MAX: usize>(
    peer: Channel,
    server: &mut Server<'_, MAX>,
    stage: &'s mut Stage,
) -> Option<(Incoming<MAX>, Result<&'s mut Node, Refusal>)> {
    let access = match server.take() {
        Ok(None) => return None,
        Ok(Some(incoming)) => {
            let row = ACCESS.iter().find(|(of, op, ..)| (*of, *op) == (peer, incoming.op));
            row.map(|(_, _, needs, owner)| (incoming, *needs, *owner))
        }
        Err(shm::Misbehaved) => None,
    };
    let Some((incoming, needs, owner)) = access else {
        server.refuse(Refusal::NotAllowed.code());
        return None;
    };
    let node = match stage {
        Stage::Ready(node) if needs == Needs::Fresh && (node.lost.is_some() || node.drbg.spent()) => {
            Err(Refusal::NotReady)
        }
        Stage::Ready(node) if owner == While::Unclaimed && node.owner().claimed() => Err(Refusal::Taken),
        Stage::Ready(node) if owner == While::Owned && !node.owner().committed() => Err(Refusal::NotReady),
        Stage::Ready(node) => Ok(node),
        Stage::Start(_) | Stage::Make(_) | Stage::Off { .. } => Err(Refusal::NotReady),
    };
    Some((incoming, node))
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

/// The core.
pub struct Keystore<S> {
    stage: Stage,
    vault: Vault<S>,
    health: Health,
    image: AnchorIn,
    /// What lifecycle has been told of.
    told: StatusReply,
}

impl<S: Store> Keystore<S> {
    /// `device_secret` is 32 bytes at the front of its region; all zero on a board that supplies none, whose
    /// keys then come from samples alone and whose records any holder of the store can open. `anchor` holds a
    /// [`wire::anchor::AnchorFile`] or zeros.
    pub fn new(device_secret: ReadOnly<'_>, anchor: ReadOnly<'_>, store: S) -> Self {
        let device_secret = Secret::new(cell::read_static(&device_secret));
        let image = match cell::read_static::<AnchorFile>(&anchor).read() {
            AnchorIn::Some(public) if !identity::usable(&public) => AnchorIn::Damaged,
            image => image,
        };
        let mut vault = Vault::new(store, &device_secret);
        let start = Start::new(device_secret, &mut vault);
        Self { stage: Stage::Start(start), vault, health: Health::default(), image, told: StatusReply::new_zeroed() }
    }

    /// Handles what has arrived; true if there is more to do at once. Whoever waits for nothing needs no time.
    ///
    /// `ticket_shown`: the console has notified this domain since the last step. Without a ticket that was
    /// published before, it means nothing.
    pub fn step(&mut self, ticket_shown: bool, ports: &mut Ports<'_>) -> bool {
        if let Stage::Ready(node) = &mut self.stage
            && ticket_shown
        {
            node.hide_ticket(ports);
        }
        self.take_samples(&mut ports.entropy);
        let mut more = self.advance(ports);
        // A request that has to be committed leaves those after it where they are.
        if !self.vault.busy() {
            self.serve_lifecycle(ports);
        }
        if !self.vault.busy() {
            self.serve_beacon(ports);
        }
        if !self.vault.busy() {
            self.serve_claim(ports);
        }
        if !self.vault.busy() {
            self.serve_mesh(ports);
        }
        more |= self.advance(ports);
        self.replenish(&mut ports.entropy);
        let status = self.status();
        if status != self.told {
            self.told = status;
            ports.lifecycle.nudge();
        }
        more
    }

    // --- samples

    fn take_samples(&mut self, feed: &mut Feed<'_>) {
        match &self.stage {
            Stage::Start(_) => {}
            Stage::Ready(node) if node.lost.is_none() => {}
            // A block that comes meanwhile waits where it is, and after a failure for ever.
            Stage::Make(_) | Stage::Ready(_) | Stage::Off { .. } => return,
        }
        let Some(block) = feed.cell.poll() else { return };
        match (self.health.test(block), &mut self.stage) {
            (Ok(None), _) => {}
            (Ok(Some(block)), Stage::Start(start)) => {
                start.pool.add(block);
                if !start.pool.full() {
                    feed.want();
                }
            }
            (Ok(Some(block)), Stage::Ready(node)) => {
                node.drbg.reseed(block);
                node.asked = false;
            }
            (Err(failure), Stage::Ready(node)) => node.lost = Some(failure),
            (Err(failure), _) => self.switch_off(State::NoEntropy, Some(failure)),
            (Ok(Some(_)), Stage::Make(_) | Stage::Off { .. }) => {}
        }
    }

    /// Asks for a block when the generator wants one, once.
    fn replenish(&mut self, feed: &mut Feed<'_>) {
        if let Stage::Ready(node) = &mut self.stage
            && node.lost.is_none()
            && node.drbg.due()
            && !node.asked
        {
            node.asked = true;
            feed.want();
        }
    }

    // --- records and stages

    /// Goes on with what the store has finished. True if it had.
    fn advance(&mut self, ports: &mut Ports<'_>) -> bool {
        let finished = self.vault.poll();
        let more = finished.is_some();
        match (finished, &mut self.stage) {
            (None, _) | (Some(_), Stage::Off { .. }) => {}
            (Some(finished), Stage::Ready(node)) => node.finish(finished.is_ok(), &mut self.vault, ports),
            (Some(Ok(Finished::Loaded(record))), Stage::Start(start)) => {
                if start.found(record, &mut self.vault).is_err() {
                    self.switch_off(State::NoStore, None);
                }
            }
            (Some(Ok(Finished::Committed)), stage @ Stage::Make(_)) => {
                if let Stage::Make(make) = stage
                    && make.committed(&mut self.vault)
                    && let Stage::Make(make) = core::mem::replace(stage, OFF)
                {
                    self.make_ready(make, ports);
                }
            }
            (Some(_), Stage::Start(_) | Stage::Make(_)) => self.switch_off(State::NoStore, None),
        }
        if let Stage::Start(start) = &mut self.stage {
            match start.finish(&self.image) {
                None => {}
                Some(Err(BadAnchor)) => self.switch_off(State::BadAnchor, None),
                Some(Ok(make)) if !make.changed => self.make_ready(make, ports),
                Some(Ok(mut make)) => {
                    make.commit(&mut self.vault);
                    self.stage = Stage::Make(make);
                }
            }
        }
        more
    }

    /// The identity is committed and read back: only now are there keys.
    fn make_ready(&mut self, make: Make, ports: &mut Ports<'_>) {
        match Node::new(make.identity, make.owner, make.drbg, &self.image) {
            Some(mut node) => {
                node.show_ticket(ports);
                self.stage = Stage::Ready(node);
            }
            None => self.switch_off(State::BadAnchor, None),
        }
    }

    fn switch_off(&mut self, state: State, failed: Option<Failure>) {
        self.vault.forget();
        self.stage = Stage::Off { state, failed_test: failed.map_or(HealthTest::None, Failure::test) };
    }

    // --- requests

    fn status(&self) -> StatusReply {
        let mut status = StatusReply::new_zeroed();
        match &self.stage {
            Stage::Start(_) | Stage::Make(_) => status.state = State::Testing as u8,
            Stage::Off { state, failed_test } => {
                (status.state, status.failed_test) = (*state as u8, *failed_test as u8)
            }
            Stage::Ready(node) => {
                let owner = node.owner();
                status.state = if node.lost.is_some() { State::EntropyLost } else { State::Ready } as u8;
                status.failed_test = node.lost.map_or(HealthTest::None, Failure::test) as u8;
                status.anchor = node.anchor_kind();
                status.ownership = match (owner.committed(), owner.claimed()) {
                    (false, _) => Ownership::Unclaimed,
                    (true, false) => Ownership::Committed,
                    (true, true) => Ownership::Claimed,
                } as u8;
                status.forked = owner.forked;
                status.ticket_waiting = node.ticket_waiting().into();
                status.fiduciary = node.keys().fiduciary_public;
                status.address = node.keys().address;
                status.fleet = owner.binding.fleet;
                status.epoch = owner.epoch.get();
                status.isolated = owner.isolated;
                status.configuration = owner.configuration;
            }
        }
        status
    }

    fn serve_lifecycle(&mut self, ports: &mut Ports<'_>) {
        let status = self.status();
        let (server, vault) = (&mut ports.lifecycle, &mut self.vault);
        let Some((request, node)) = admit(Channel::Lifecycle, server, &mut self.stage) else { return };
        match request.op {
            Status::OP => answer::<Status, _>(server, &request, |()| Ok(Some(status))),
            Fork::OP => answer::<Fork, _>(server, &request, |()| node?.fork(vault)),
            CloseGate::OP => answer::<CloseGate, _>(server, &request, |()| {
                // Without keys there is no nonce to void.
                node.into_iter().for_each(Node::close_gate);
                Ok(Some(()))
            }),
            Settle::OP => answer::<Settle, _>(server, &request, |()| node?.settle(vault)),
            Update::OP => answer::<Update, _>(server, &request, |head| node?.update(&head, vault)),
            _ => server.refuse(Refusal::NotAllowed.code()),
        }
    }

    fn serve_beacon(&mut self, ports: &mut Ports<'_>) {
        let (server, vault) = (&mut ports.beacon, &mut self.vault);
        let Some((request, node)) = admit(Channel::Beacon, server, &mut self.stage) else { return };
        match request.op {
            CheckFind::OP => answer::<CheckFind, _>(server, &request, |find| node?.check_find(&find, vault)),
            MakeHello::OP => answer::<MakeHello, _>(server, &request, |()| node?.make_hello()),
            CheckOpen::OP => answer::<CheckOpen, _>(server, &request, |open| node?.check_open(&open)),
            BeaconRandom::OP => answer::<BeaconRandom, _>(server, &request, |()| Ok(Some(node?.drbg.bytes()))),
            _ => server.refuse(Refusal::NotAllowed.code()),
        }
    }

    fn serve_claim(&mut self, ports: &mut Ports<'_>) {
        let (server, vault) = (&mut ports.claim, &mut self.vault);
        let Some((request, node)) = admit(Channel::Claim, server, &mut self.stage) else { return };
        match request.op {
            ReadInitiation::OP => {
                answer::<ReadInitiation, _>(server, &request, |message| node?.read_initiation(&message));
            }
            ClaimKey::OP => answer::<ClaimKey, _>(server, &request, |()| Ok(Some(node?.keys().claim_public))),
            Identify::OP => answer::<Identify, _>(server, &request, |handshake| node?.identify(&handshake)),
            Commit::OP => answer::<Commit, _>(server, &request, |binding| node?.commit(&binding, vault)),
            Acknowledge::OP => answer::<Acknowledge, _>(server, &request, |hash| node?.acknowledge(&hash, vault)),
            ClaimRandom::OP => answer::<ClaimRandom, _>(server, &request, |()| Ok(Some(node?.drbg.bytes()))),
            _ => server.refuse(Refusal::NotAllowed.code()),
        }
    }
    fn serve_mesh(&mut self, ports: &mut Ports<'_>) {
        let (server, vault) = (&mut ports.mesh, &mut self.vault);
        let Some((request, node)) = admit(Channel::Mesh, server, &mut self.stage) else { return };
        match request.op {
            MeshKey::OP => answer::<MeshKey, _>(server, &request, |()| Ok(Some(node?.keys().mesh_public))),
            StartMeshHandshake::OP => {
                answer::<StartMeshHandshake, _>(server, &request, |handshake| node?.start_handshake(&handshake, vault))
            }
            FinishMeshHandshake::OP => {
                answer::<FinishMeshHandshake, _>(server, &request, |handshake| node?.finish_handshake(&handshake));
            }
            ReadMeshHandshake::OP => {
                answer::<ReadMeshHandshake, _>(server, &request, |handshake| node?.read_handshake(&handshake));
            }
            MeshRandom::OP => answer::<MeshRandom, _>(server, &request, |()| Ok(Some(node?.drbg.bytes()))),
            CheckCommand::OP => {
                answer::<CheckCommand, _>(server, &request, |command| node?.check_command(&command, vault));
            }
            _ => server.refuse(Refusal::NotAllowed.code()),
        }
    }
}
