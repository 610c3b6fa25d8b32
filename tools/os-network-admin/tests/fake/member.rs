//! A claimed node's side of commands, updates and telemetry, written from the formats in `wire`; and a registry that has
//! claimed such nodes.

use std::time::Duration;

use crypto::{AnchorSecret, Secret};
use os_network_admin::{
    base::{error::Error, host::system, progress::Progress},
    claim::{Chooser, Claimer, Configure, Context, MeshTerms, Terms, Unlisted},
    registry::{AnchorKind, Registry},
};
use policy::Configuration;
use wire::{
    Hash, U16, U32, U64,
    anchor::{Anchor, AnchorFile, AnchorIn},
    binding::configuration_hash,
    claim::parse_grant,
    command::{self, Command, Operation},
    order::{Isolation, Kind, Release},
    receipt::{self, Receipt},
    set::AuthoritySet,
    staged::{self, CHUNK, MAX_STAGED, Staged, parse_chunk},
    telemetry::{CommandResult, SCHEMA, Telemetry},
    title::{Title, Warrant},
};
use zerocopy::{FromBytes, FromZeros, IntoBytes};

use crate::{
    fake::{Node, admin},
    segment::Segment,
};

pub const FLEET: [u8; 32] = [5; 32];

/// Claims nodes of these numbers, and returns what each was granted.
pub async fn claim(registry_path: &std::path::Path, numbers: &[u8], set: AuthoritySet) -> Vec<Vec<u8>> {
    let segment = Segment::with(numbers.iter().map(|number| Node::new(*number, admin().public())));
    let registry = Registry::open(registry_path).unwrap();
    let terms = terms(&registry, set);
    let mut grants = Vec::new();
    for at in 0..numbers.len() {
        claim_at(&segment, at, &registry, &terms).await.unwrap();
        grants.push(segment.node(at).lock().unwrap().grants.last().unwrap().clone());
    }
    grants
}

/// The same of one node, which may be granted nothing.
#[allow(dead_code, reason = "each test program uses some")]
pub async fn try_claim(registry_path: &std::path::Path, number: u8, set: AuthoritySet) -> Result<(), Error> {
    let segment = Segment::with([Node::new(number, admin().public())]);
    let registry = Registry::open(registry_path).unwrap();
    let terms = terms(&registry, set);
    claim_at(&segment, 0, &registry, &terms).await
}

async fn claim_at(segment: &Segment, at: usize, registry: &Registry, terms: &Terms) -> Result<(), Error> {
    let (progress, anchor) = (Progress::silent(), admin());
    let print = segment.node(at).lock().unwrap().print();
    let context = Context {
        net: segment,
        registry,
        anchor: &anchor,
        ahead: 0,
        past_stored: false,
        host: &system(),
        progress: &progress,
    };
    let mut chooser = Chooser::listed([print].into(), Unlisted::Refuse);
    Claimer::new(&context, terms, &mut chooser).claim(Duration::from_secs(60)).await.map(|_| ())
}

fn terms(registry: &Registry, set: AuthoritySet) -> Terms {
    let authority = registry.make_mesh_key().unwrap().public();
    Terms {
        fleet: "default".into(),
        fleet_id: FLEET,
        set,
        configuration: Configure::Mesh(MeshTerms { authority, ..MeshTerms::default() }),
        anchor: AnchorKind::Image,
        warrant: None,
    }
}

/// As the keystore, lifecycle and mesh of a node do it.
pub struct Member {
    pub seed: Secret,
    pub command_key: Secret,
    /// Whose key that is: the place in the set.
    pub commander: u8,
    pub title: Title,
    pub configuration: Vec<u8>,
    pub counter: u32,
    order_counter: u64,
    staged: Vec<u8>,
    chunks: Vec<u8>,
    short: u32,
    pub record: Telemetry,
    /// Commands and chunks that were not obeyed.
    pub dropped: u64,
    /// A record that is made with a command does not show its effect yet.
    pub late: bool,
    /// What `apply` says in place of what it should.
    pub broken: Option<CommandResult>,
    /// What it has last signed of its own doing, and whether it is yet to be sent.
    pub receipt: Option<Receipt>,
    pub sends: bool,
    /// It signs for a number so far above the true one.
    pub ahead: u64,
    /// It has left, and hears nobody.
    pub left: bool,
    /// It hears every command, whoever sends it.
    pub commands_any: bool,
}

impl Member {
    pub fn new(number: u8, grant: &[u8]) -> Self {
        let (head, configuration) = parse_grant(grant).unwrap();
        let title = head.title;
        let node = Node::new(number, admin().public());
        let command_key = command::key(&node.claim_key, &title.set.authorities[0].dh, &title).unwrap();
        let mut record = Telemetry::new_zeroed();
        (record.schema, record.phase, record.epoch) = (U16::new(SCHEMA), 5, title.warrant.epoch);
        record.node.copy_from_slice(&node.fiduciary()[..8]);
        let mut this = Self {
            seed: node.seed,
            command_key,
            commander: 0,
            title,
            configuration: Vec::new(),
            counter: 0,
            order_counter: title.binding.counter.get(),
            staged: vec![0; MAX_STAGED],
            chunks: Vec::new(),
            short: 0,
            record,
            dropped: 0,
            late: false,
            broken: None,
            receipt: None,
            ahead: 0,
            sends: false,
            left: false,
            commands_any: false,
        };
        this.adopt(configuration);
        this
    }

    fn adopt(&mut self, configuration: &[u8]) {
        self.configuration = configuration.to_vec();
        self.record.configuration.copy_from_slice(&configuration_hash(configuration)[..8]);
    }

    pub fn parsed(&self) -> Configuration {
        Configuration::parse(&self.configuration).unwrap()
    }

    /// A datagram on the command port, and the record that follows.
    pub fn hear(&mut self, datagram: &[u8]) -> Option<Telemetry> {
        if self.left {
            return None;
        }
        if let Some((head, part)) = parse_chunk(datagram) {
            if head.short.get() != self.short {
                (self.short, self.chunks) = (head.short.get(), vec![0; 4]);
            }
            let start = usize::from(head.number) * CHUNK;
            self.staged[start..start + part.len()].copy_from_slice(part);
            self.chunks[usize::from(head.number)] = 1;
            self.staged.truncate(MAX_STAGED);
            self.record.uptime_ms = U64::new(u64::from(head.length.get()));
            return None;
        }
        let command = Command::read_from_bytes(datagram).expect("neither chunk nor command");
        let fiduciary = crypto::sign_public(&self.seed);
        assert_eq!(command.target, command::target(&fiduciary));
        // Of a set that is no more.
        let is_ours = command.check(&self.command_key) || self.commands_any;
        if self.title.warrant.sequence.get() > 0 && !is_ours {
            self.dropped += 1;
            return None;
        }
        assert!(is_ours, "a command with a wrong MAC");
        if command.counter.get() <= self.counter {
            self.dropped += 1;
            return None;
        }
        self.counter = command.counter.get();
        let isolated = self.record.isolated;
        let result = match command.operation() {
            Some(Operation::Status | Operation::Rotate) => {
                self.sends |= command.argument.get() == 1 && self.receipt.is_some();
                CommandResult::Done
            }
            Some(Operation::Isolate) => {
                if self.record.isolated == 0 {
                    self.record.isolation = Isolation { authority: U32::new(0), counter: command.counter };
                }
                self.record.isolated = 1;
                CommandResult::Done
            }
            Some(Operation::Apply) => self.broken.unwrap_or_else(|| self.apply(command.argument.get())),
            None => CommandResult::Unknown,
        };
        self.record.result = result.into();
        self.record.operation = command.operation;
        (self.record.counter, self.record.authority) = (command.counter, self.commander);
        self.record.sequence = U32::new(self.record.sequence.get() + 1);
        Some(if self.late { Telemetry { isolated, ..self.record } } else { self.record })
    }

    fn apply(&mut self, short: u32) -> CommandResult {
        let length = self.record.uptime_ms.get() as usize;
        let needed = length.div_ceil(CHUNK);
        if short != self.short || self.chunks.iter().take(needed).any(|there| *there == 0) {
            return CommandResult::NotStaged;
        }
        let bytes = self.staged[..length].to_vec();
        let staged = staged::parse(&bytes).unwrap();
        assert_eq!(staged.short(), short);
        let Staged::Order(order, body) = staged else { return self.follow(&bytes) };
        let good = order.verify(&self.title.set).is_some()
            && order.fleet == self.title.warrant.fleet
            && order.fiduciary == self.title.warrant.fiduciary
            && order.epoch == self.title.warrant.epoch
            && order.counter.get() > self.order_counter
            && order.carries(body);
        if !good {
            return CommandResult::Refused;
        }
        match order.kind() {
            Some(Kind::Configuration) if Configuration::parse(body).is_err() => return CommandResult::Unreadable,
            Some(Kind::Configuration) => self.adopt(body),
            Some(Kind::Rejoin) if *body == *self.record.isolation.as_bytes() => {
                (self.record.isolated, self.record.isolation) = (0, Isolation::default());
            }
            Some(Kind::Release) => {
                let release = Release::read_from_bytes(body).unwrap();
                let Some(next) = release.next(&self.title.set, &AnchorFile::new_zeroed()) else {
                    return CommandResult::Refused;
                };
                let ticket = AnchorFile::new(&Anchor::alone(&AnchorSecret::from_seed(&[200; 32]).public()));
                let hash = if next == AnchorIn::None { ticket.hash() } else { release.anchor.hash() };
                self.sign(receipt::Kind::Release, self.title.warrant.epoch.get(), &hash);
                self.left = true;
            }
            _ => return CommandResult::Refused,
        }
        self.order_counter = order.counter.get();
        self.chunks.clear();
        self.short = 0;
        CommandResult::Done
    }

    /// Another set takes over, if it may.
    fn follow(&mut self, bytes: &[u8]) -> CommandResult {
        let Some(Staged::Record(record)) = staged::parse(bytes) else { return CommandResult::Unreadable };
        let Warrant { fleet, sequence, record: before, .. } = self.title.warrant;
        if record.verify(&self.title.set, &fleet, sequence.get(), &before).is_err() {
            return CommandResult::Refused;
        }
        self.title = self.title.under(record);
        // Another set has other command keys.
        self.command_key = Secret::new([0; 32]);
        self.record.set = record.sequence;
        self.sign(receipt::Kind::Record, record.sequence.get(), &record.hash());
        CommandResult::Done
    }

    fn sign(&mut self, kind: receipt::Kind, number: u64, hash: &Hash) {
        let fleet = self.title.warrant.fleet;
        let receipt =
            Receipt::sign(&self.seed, &crypto::sign_public(&self.seed), kind, &fleet, number + self.ahead, hash);
        (self.receipt, self.sends) = (Some(receipt), true);
    }
}
