//! The whole core, between fake ends. After every step all reply regions are searched for every secret.

mod boot;
mod claim;
mod command;
mod disk;
mod hostile;
mod memory;
mod mesh;
mod model;
mod orders;
mod records;
mod release;
mod renewal;
mod seven;
mod source_loss;
mod store;
mod warrant;

pub mod source;

use core::sync::atomic::AtomicU64;
use std::{boxed::Box, vec::Vec};

use calls::{
    entropy::{BLOCK, Samples},
    keystore::{CommandReply, OrderRequest, StatusReply, for_beacon, for_claim, for_lifecycle, for_mesh},
    store::Record,
};
use crypto::{AnchorSecret, Secret, label};
use shm::{
    ReadWrite,
    mailbox::{Client, Patience},
};
use wire::{
    U64,
    anchor::Anchor,
    binding::Identity,
    claim::prologue,
    command::Command,
    link::{Find, HelloBody, Open, OpenFor},
    order::Order,
    record::AuthorityRecord,
    set::{Authority, AuthoritySet},
    title::Title,
};

pub use std::{format, vec};
pub use zerocopy::{FromZeros, IntoBytes};

pub use super::*;
use crate::{
    identity::{Keys, mesh_key},
    source::{Drbg, Health, Pool, STARTUP},
};
use disk::Disk;
use source::{Good, Source};

pub type Region = &'static [AtomicU64];

pub fn region() -> Region {
    (0..512).map(|_| AtomicU64::new(0)).collect::<Vec<_>>().leak()
}

/// Whether either half of a secret stands anywhere in a region.
fn holds(region: Region, secret: &[u8; 32]) -> bool {
    let mut bytes = [0; 4096];
    ReadOnly::new(region).read(0, &mut bytes);
    let used = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    secret.chunks(16).any(|half| bytes[..used].windows(16).any(|window| window == half))
}

#[test]
fn the_search_for_secrets_finds_one() {
    for at in [0, 8, 2000, 4064] {
        let region = region();
        let mut secret = [7; 32];
        secret[31] = 9;
        assert!(!holds(region, &secret));
        ReadWrite::new(region).write(at, &secret[16..]);
        assert!(holds(region, &secret));
    }
}

pub const BLOCKS: u64 = (STARTUP / BLOCK) as u64;
pub const SENDER: ([u8; 16], [u8; 6]) = ([0xfe; 16], [2; 6]);
pub const CONFIGURATION: [u8; 32] = [0xcc; 32];

/// What a board and an image give.
#[derive(Clone, Copy)]
pub struct Board {
    pub device_secret: [u8; 32],
    pub image: AnchorFile,
    pub seed: u64,
}

impl Board {
    /// An image with the anchor of [`admin`].
    pub fn anchored() -> Self {
        Self { device_secret: [0xd5; 32], image: AnchorFile::new(&Anchor::alone(&admin().public())), seed: 1 }
    }

    /// An image without an anchor.
    pub fn ticket() -> Self {
        Self { image: AnchorFile::new_zeroed(), ..Self::anchored() }
    }
}

pub fn admin() -> AnchorSecret {
    AnchorSecret::from_seed(&[0xaa; 32])
}

/// Of the fleet that [`bind`] binds a node to.
pub fn authority() -> AnchorSecret {
    AnchorSecret::from_seed(&[0xa1; 32])
}

pub fn stranger() -> AnchorSecret {
    AnchorSecret::from_seed(&[0x66; 32])
}

pub struct Rig {
    pub board: Board,
    pub disk: Disk,
    pub store: disk::Store,
    pub keystore: Keystore,
    pub ports: Ports<'static>,
    pub entropy: cell::Writer<'static, Samples>,
    pub ticket: cell::Reader<'static, TicketValue>,
    pub ticket_region: Region,
    /// What the console says of it.
    pub shown: cell::Writer<'static, TicketShown>,
    pub lifecycle: Client<'static>,
    pub beacon: Client<'static>,
    pub claim: Client<'static>,
    pub mesh: Client<'static>,
    /// Request and reply region of lifecycle, beacon, claim, mesh.
    pub mailboxes: [(Region, Region); 4],
    pub source: Box<dyn Source>,
    pub number: u64,
    /// The source's domain is there: credit brings a block.
    pub source_lives: bool,
    /// Replies are searched for secrets after every step.
    pub search: bool,
    /// Whom the core has notified since [`Self::run`] was last called.
    pub told: Vec<Channel>,
    /// Of the first boot.
    pub root: [u8; 32],
    /// Those of this boot and of all before it.
    pub secrets: Vec<[u8; 32]>,
    /// The ticket's secret, if the first boot made one.
    pub tickets: Vec<[u8; 32]>,
}

impl Rig {
    /// Powered on, and nothing done yet.
    pub fn cold(board: Board, disk: Disk) -> Self {
        let makes_ticket = board.image.read() == AnchorIn::None && disk.is_empty();
        let tickets = if makes_ticket { vec![ticket_seed(&board)] } else { vec![] };
        let (secret, anchor, samples) = (region(), region(), region());
        let (ticket, shown) = (region(), region());
        let store = disk::Store::new(disk.clone());
        let to_store = store.regions();
        ReadWrite::new(secret).write(0, &board.device_secret);
        ReadWrite::new(anchor).write(0, board.image.as_bytes());
        let mailboxes = [(); 4].map(|()| (region(), region()));
        fn server<const MAX: usize>((request, reply): (Region, Region)) -> Server<'static, MAX> {
            Server::new(ReadOnly::new(request), ReadWrite::new(reply)).unwrap()
        }
        let client = |(request, reply)| Client::new(ReadWrite::new(request), ReadOnly::new(reply)).unwrap();
        Self {
            board,
            keystore: Keystore::new(ReadOnly::new(secret), ReadOnly::new(anchor)),
            disk,
            store,
            ports: Ports {
                entropy: Feed::new(ReadOnly::new(samples)).unwrap(),
                ticket: cell::Writer::new(ReadWrite::new(ticket)).unwrap(),
                ticket_shown: cell::Reader::new(ReadOnly::new(shown)).unwrap(),
                store: client(to_store),
                lifecycle: server(mailboxes[0]),
                beacon: server(mailboxes[1]),
                claim: server(mailboxes[2]),
                mesh: server(mailboxes[3]),
            },
            entropy: cell::Writer::new(ReadWrite::new(samples)).unwrap(),
            ticket: cell::Reader::new(ReadOnly::new(ticket)).unwrap(),
            ticket_region: ticket,
            shown: cell::Writer::new(ReadWrite::new(shown)).unwrap(),
            lifecycle: client(mailboxes[0]),
            beacon: client(mailboxes[1]),
            claim: client(mailboxes[2]),
            mesh: client(mailboxes[3]),
            mailboxes,
            source: Box::new(Good::new(board.seed)),
            number: 0,
            source_lives: true,
            search: true,
            told: Vec::new(),
            root: board.root_seed(),
            secrets: board.secrets(),
            tickets,
        }
    }

    /// Powered on, tests passed.
    pub fn boot(board: Board, disk: Disk) -> Self {
        let mut rig = Self::cold(board, disk);
        rig.feed();
        rig.run();
        rig
    }

    pub fn new(board: Board) -> Self {
        Self::boot(board, Disk::default())
    }

    /// Power off and on: the store keeps what it has, the source says something else.
    pub fn power_cycle(&mut self) {
        let (root, secrets) = (self.root, core::mem::take(&mut self.secrets));
        let tickets = core::mem::take(&mut self.tickets);
        self.disk.power_on();
        let board = Board { seed: self.board.seed + 1, ..self.board };
        *self = Self::boot(board, self.disk.clone());
        self.root = root;
        self.secrets.extend(secrets);
        self.tickets.extend(tickets);
    }

    /// The source's domain publishes a block.
    pub fn feed(&mut self) {
        self.number += 1;
        let block = source::block(self.number, &mut *self.source);
        self.entropy.publish(&block);
    }

    /// The console says that it has shown the ticket that stands there, or one of number 0.
    pub fn show(&mut self) {
        let number = ReadOnly::new(self.ticket_region).load(16);
        self.shown.publish(&TicketShown { number });
    }

    /// One step of the core, and then one of the store. True if there is more to do.
    pub fn step(&mut self) -> bool {
        let more = self.keystore.step(&mut self.ports);
        let told = &mut self.told;
        self.ports.signals(|peer| told.push(peer));
        if self.search {
            self.search_replies();
        }
        self.store.serve() || more
    }

    /// Steps until so many appends were asked for; the source answers credit.
    pub fn run_to_write(&mut self, writes: usize) {
        for _ in 0..200 {
            if self.disk.writes() >= writes {
                return;
            }
            let before = self.told.len();
            self.step();
            if self.told[before..].contains(&Channel::Entropy) && self.source_lives {
                self.feed();
            }
        }
        panic!("there are not that many");
    }

    /// Steps until nothing is left to do; the source answers credit.
    pub fn run(&mut self) {
        self.told.clear();
        for _ in 0..200 {
            let before = self.told.len();
            let more = self.step();
            let credit = self.told[before..].contains(&Channel::Entropy) && self.source_lives;
            if credit {
                self.feed();
            }
            if !more && !credit {
                return;
            }
        }
        panic!("the core does not come to rest");
    }

    /// No secret is in any reply region; nor in the ticket's, but the ticket.
    fn search_replies(&self) {
        let (to_store, _) = self.store.regions();
        for region in self.mailboxes.map(|(_, reply)| reply).into_iter().chain([to_store]) {
            for secret in self.secrets.iter().chain(&self.tickets) {
                assert!(!holds(region, secret), "what another domain reads has a secret");
            }
        }
        for secret in &self.secrets {
            assert!(!holds(self.ticket_region, secret), "the ticket's region has another secret");
        }
    }

    /// The outcome of a call, if there is one yet.
    pub fn outcome<O: Operation>(&mut self, peer: Channel) -> Option<Result<O::Reply, Refusal>> {
        let outcome = self.client(peer).poll::<O>(0)?;
        Some(outcome.map_err(|error| match error {
            shm::mailbox::CallError::Refused(code) => Refusal::from_number(code.into()).expect("a known refusal"),
            other => panic!("{other:?}"),
        }))
    }

    pub fn client(&mut self, peer: Channel) -> &mut Client<'static> {
        match peer {
            Channel::Lifecycle => &mut self.lifecycle,
            Channel::Beacon => &mut self.beacon,
            Channel::Claim => &mut self.claim,
            Channel::Mesh => &mut self.mesh,
            Channel::Entropy | Channel::Console | Channel::Store => panic!("no client"),
        }
    }

    /// A call that is answered before the core rests.
    pub fn ask<O: Operation>(&mut self, peer: Channel, request: &O::Request) -> Result<O::Reply, Refusal> {
        self.client(peer).call::<O>(request, 0, Patience::ENDLESS);
        self.run();
        self.outcome::<O>(peer).expect("an answer")
    }

    /// Without what differs from boot to boot.
    pub fn status(&mut self) -> StatusReply {
        StatusReply { boots: 0, first: 0, command_floors: [0; _], ..self.whole_status() }
    }

    pub fn whole_status(&mut self) -> StatusReply {
        self.ask::<for_lifecycle::Status>(Channel::Lifecycle, &()).unwrap()
    }

    pub fn fork(&mut self) -> Result<(), Refusal> {
        self.ask::<for_lifecycle::Fork>(Channel::Lifecycle, &())
    }

    pub fn identify(&mut self) -> Result<Identity, Refusal> {
        self.ask::<for_claim::Identify>(Channel::Claim, &[7; 32])
    }

    /// As claim does it, after lifecycle has asked, who hears what becomes of it, but for the store; nothing is used up by that.
    pub fn commit(&mut self, title: &Title) -> Result<wire::binding::PairingRecord, Refusal> {
        let (writes, before) = (self.disk.writes(), self.status());
        let said = self.ask::<for_lifecycle::CheckBinding>(Channel::Lifecycle, title);
        assert_eq!((self.disk.writes(), self.status()), (writes, before));
        let record = self.ask::<for_claim::Commit>(Channel::Claim, title);
        let done = record.map(drop);
        assert!(said == done || (said, done) == (Ok(()), Err(Refusal::Store)), "{said:?}, then {done:?}");
        record
    }

    pub fn acknowledge(&mut self, hash: &[u8; 32]) -> Result<(), Refusal> {
        self.ask::<for_claim::Acknowledge>(Channel::Claim, hash)
    }

    pub fn settle(&mut self) -> Result<(), Refusal> {
        self.ask::<for_lifecycle::Settle>(Channel::Lifecycle, &())
    }

    /// As lifecycle does it: what is said of an order before is what becomes of it, but for the store, and commits nothing.
    pub fn order(&mut self, order: &Order, body: &[u8]) -> Result<(), Refusal> {
        let request = OrderRequest::new(order, body).unwrap();
        let (writes, before) = (self.disk.writes(), self.status());
        let said = self.ask::<for_lifecycle::CheckOrder>(Channel::Lifecycle, &request);
        assert_eq!((self.disk.writes(), self.status()), (writes, before));
        let done = self.ask::<for_lifecycle::Order>(Channel::Lifecycle, &request);
        assert!(said == done || (said, done) == (Ok(()), Err(Refusal::Store)), "{said:?}, then {done:?}");
        done
    }

    pub fn adopt(&mut self, record: &AuthorityRecord) -> Result<(), Refusal> {
        self.ask::<for_lifecycle::Adopt>(Channel::Lifecycle, record)
    }

    pub fn receipt(&mut self) -> Result<wire::receipt::Receipt, Refusal> {
        self.ask::<for_mesh::Prove>(Channel::Mesh, &())
    }

    pub fn command(&mut self, command: &Command) -> Result<CommandReply, Refusal> {
        self.ask::<for_mesh::CheckCommand>(Channel::Mesh, command)
    }

    pub fn find(&mut self, counter: u64) -> Result<[u8; 16], Refusal> {
        self.ask::<for_beacon::CheckFind>(Channel::Beacon, &Find::sign(&admin(), counter, SENDER.0, SENDER.1))
    }

    pub fn hello(&mut self, anchor: &AnchorSecret) -> HelloBody {
        let reply = self.ask::<for_beacon::MakeHello>(Channel::Beacon, &()).unwrap();
        let body = reply.hello.open(anchor).unwrap();
        assert_eq!(reply.nonce, body.nonce);
        body
    }

    /// The whole claim, to the end.
    pub fn claim_with(&mut self, anchor: &AnchorSecret, counter: u64) {
        let title = bind(&self.identify().unwrap(), anchor, counter);
        let record = self.commit(&title).unwrap();
        assert!(record.verify(&title).is_some());
        assert_eq!(self.acknowledge(&record.hash()), Ok(()));
        assert_eq!(self.status().ownership, Ownership::Claimed as u8);
    }

    /// The ticket that waits for the console.
    pub fn shown_ticket(&mut self) -> Option<TicketValue> {
        self.ticket.poll().filter(|value| value.present == 1)
    }
}

impl Board {
    /// The pool of the first samples of this boot, as the core must fill it.
    fn pool(&self) -> Pool {
        let (mut health, mut source, mut pool) = (Health::default(), Good::new(self.seed), Pool::default());
        for number in 1..=BLOCKS {
            let tested = health.test(source::block(number, &mut source)).ok().flatten();
            pool.add(tested.expect("a good source"));
        }
        pool
    }

    fn seed(&self, label: crypto::Label) -> [u8; 32] {
        *self.pool().seed(&Secret::new(self.device_secret), label)
    }

    /// Of a first boot.
    pub fn root_seed(&self) -> [u8; 32] {
        self.seed(label::ROOT_SEED)
    }

    /// Every lasting secret but the ticket that this boot can make, computed here once more.
    pub fn secrets(&self) -> Vec<[u8; 32]> {
        let root = self.root_seed();
        let keys = Keys::derive(&root);
        let store_key = crypto::derive(&[], &self.device_secret, label::STORE_KEY, &[]);
        let static_static = crypto::dh(&keys.claim, &admin().public().dh).unwrap();
        let open_key = wire::link::open_mac_key(&static_static);
        let mut secrets = vec![root, *keys.fiduciary, *keys.claim, *mesh_key(&root), *store_key];
        secrets.extend([*static_static, *open_key, self.seed(label::DRBG)]);
        if self.device_secret != [0; 32] {
            secrets.push(self.device_secret);
        }
        secrets
    }
}

/// The first output of the generator is the ticket, if a first boot makes one.
pub fn ticket_seed(board: &Board) -> [u8; 32] {
    *Drbg::new(Secret::new(board.seed(label::DRBG))).draw()
}

/// What an administrator answers to an identity: the binding that the node may accept.
pub fn unsigned(identity: &Identity, counter: u64) -> Title {
    let mut title = Title::new_zeroed();
    title.warrant.fiduciary = identity.fiduciary;
    title.binding.nonce = identity.nonce;
    title.binding.mesh_key = identity.mesh_key;
    title.warrant.fork = wire::binding::ForkRecord::hash(identity.fork());
    title.warrant.fleet = [0xf1; 32];
    title.warrant.epoch = U64::new(identity.epoch.get() + 1);
    title.binding.counter = U64::new(counter);
    title.warrant.configuration = CONFIGURATION;
    title.set = AuthoritySet::alone(place_of(&authority()));
    title
}

pub fn place_of(authority: &AnchorSecret) -> Authority {
    Authority::signer(&authority.public())
}

pub fn bind(identity: &Identity, anchor: &AnchorSecret, counter: u64) -> Title {
    unsigned(identity, counter).sign(anchor)
}

pub fn open_for(hello: &HelloBody, anchor: &AnchorSecret, ephemeral: u8) -> Open {
    let about = OpenFor { hello, sender_ip: SENDER.0, sender_mac: SENDER.1 };
    Open::sign(anchor, &Secret::new([ephemeral; 32]), &about).unwrap()
}

pub fn prologue_of(body: &HelloBody) -> [u8; 80] {
    prologue(&body.fiduciary, &body.nonce, &[9; 16])
}
