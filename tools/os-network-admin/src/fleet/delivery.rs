//! Commands and orders to nodes, and how it is known that they have arrived: nothing answers them, so each is repeated until
//! a record of telemetry shows it. Several nodes at a time, over one [`Lane`].

use std::{future::Future, net::Ipv6Addr, time::Duration};

use crypto::{AnchorSecret, Secret};
use tokio::time::{Instant, timeout_at};
use wire::{
    Hash, U16, U32, U64,
    command::{self, Command, Operation},
    order::{Isolation, Kind as Ordered, Order},
    receipt::{self, Receipt},
    record::AuthorityRecord,
    set::{Authority, AuthoritySet},
    staged::{CHUNK, ChunkHead, Staged},
    telemetry::{CommandResult, Telemetry},
    title::Title,
};
use zerocopy::IntoBytes;

use super::view::View;
use crate::{
    base::error::{Error, Exit},
    registry::{Event, Kind, Member, Outcome as Ended, Registry, Tag},
};

/// How often what has not been confirmed is sent again.
const REPEAT: Duration = Duration::from_millis(500);
/// A node takes a counter once. If its record of that was lost, it takes the next one.
const SAME: u32 = 4;
/// How long what was obeyed may take to show.
const EFFECT: Duration = Duration::from_millis(100);

/// The way to nodes and back.
pub trait Lane {
    /// Sends a datagram to the command port of a member, at its inner address. It may be lost.
    fn send(&mut self, to: &Member, at: Ipv6Addr, datagram: &[u8]) -> impl Future<Output = Result<(), Error>>;
    /// What is heard next, and of whom. May be dropped at any await.
    fn next(&mut self) -> impl Future<Output = Result<(i64, News), Error>>;
}

/// What a node says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum News {
    Record(Box<Telemetry>),
    /// Unverified.
    Receipt(Receipt),
}

/// What one node is to do.
#[derive(Clone)]
pub enum Task {
    Command(Operation),
    /// The order that ends the isolation that the node tells of.
    Rejoin,
    /// The order, signed, and the configuration.
    Update {
        signed: Signed,
        hash: Hash,
    },
    /// The order that ends an isolation, signed.
    Ended(Signed),
    /// Something that the node gives a receipt for, signed.
    Receipted {
        signed: Signed,
        awaited: Awaited,
    },
    /// To show the receipt that it has.
    Prove(Awaited),
}

/// The receipt that is waited for: of this number, or, of records, of a later one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Awaited {
    pub kind: receipt::Kind,
    pub number: u64,
    /// Of the record, or of the next anchor if it is known.
    pub hash: Option<Hash>,
}

/// An order with its body, as it is delivered.
#[derive(Clone)]
pub struct Signed {
    bytes: Vec<u8>,
    short: u32,
}

impl Task {
    /// The configuration of an update.
    pub fn configuration(&self) -> &[u8] {
        match wire::staged::parse(self.bytes()) {
            Some(Staged::Order(_, configuration)) => configuration,
            Some(Staged::Record(_)) | None => &[],
        }
    }

    /// The bytes of an update.
    pub fn bytes(&self) -> &[u8] {
        match self {
            Self::Update { signed, .. } | Self::Receipted { signed, .. } | Self::Ended(signed) => &signed.bytes,
            Self::Command(_) | Self::Rejoin | Self::Prove(_) => &[],
        }
    }

    fn awaited(&self) -> Option<&Awaited> {
        match self {
            Self::Receipted { awaited, .. } | Self::Prove(awaited) => Some(awaited),
            Self::Command(_) | Self::Rejoin | Self::Ended(_) | Self::Update { .. } => None,
        }
    }

    /// What the log calls it, if it is a command.
    pub fn name(&self) -> Option<&'static str> {
        match self {
            Self::Command(operation) => Some(operation.name()),
            Self::Rejoin => Some(Ordered::Rejoin.name()),
            Self::Update { .. } | Self::Ended(_) | Self::Receipted { .. } | Self::Prove(_) => None,
        }
    }
}

/// How it went with one node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    Done {
        record: Box<Telemetry>,
        after: Duration,
    },
    /// It has signed that it did it.
    Proved {
        receipt: Box<Receipt>,
        after: Duration,
    },
    /// It had it already.
    Current,
    /// It has signed that it did something else in its place.
    Otherwise(Box<Receipt>),
    /// The node says why not; `None` is a number that is no result.
    Refused(Option<CommandResult>),
    /// It did not show in time that it did it.
    NoAnswer,
    /// Nothing could be sent to it, or no more.
    NotReached(Error),
    /// There is nothing that could be sent to it.
    NotComputable(Error),
}

impl Outcome {
    /// The same in the log.
    pub fn logged(&self, event: Event) -> Event {
        let (ended, reason) = match self {
            Self::Done { .. } | Self::Proved { .. } | Self::Current => return event,
            Self::Otherwise(_) => (Ended::Refused, OTHERWISE),
            Self::Refused(result) => (Ended::Refused, why(*result)),
            Self::NoAnswer => return event.ended(Ended::NotShown),
            Self::NotReached(error) => (Ended::NotReached, error.message.as_str()),
            Self::NotComputable(error) => (Ended::NotComputable, error.message.as_str()),
        };
        event.ended(ended).text(Tag::Why, reason)
    }

    /// What a command ends with for it, if not well.
    pub fn exit(&self) -> Option<Exit> {
        match self {
            Self::Done { .. } | Self::Proved { .. } | Self::Current => None,
            Self::Refused(_) | Self::Otherwise(_) => Some(Exit::Refused),
            Self::NoAnswer => Some(Exit::NotShown),
            Self::NotReached(why) => Some(why.exit),
            Self::NotComputable(_) => Some(Exit::NotComputable),
        }
    }
}

/// Why a node that has signed something else is not done.
pub const OTHERWISE: &str = "it has a receipt for something else: another order or record was first";

struct Job<'a> {
    member: Member,
    at: Ipv6Addr,
    key: Secret,
    fiduciary: wire::Key,
    title: Title,
    authority: &'a AnchorSecret,
    /// Our place among its authorities.
    place: usize,
    task: Task,
    /// The order to rejoin, once it is known what isolates the node.
    rejoin: Option<(Isolation, Signed)>,
    /// All counters used so far, from the first to the last.
    counters: (u32, u32),
    sent: u32,
    due: Instant,
    start: Instant,
    end: Instant,
    outcome: Option<Outcome>,
}

/// Carries out tasks, and what came of each, in their order. What fails for one member holds up no other.
pub async fn run<L: Lane>(
    lane: &mut L,
    registry: &Registry,
    view: &View<'_>,
    authority: &AnchorSecret,
    tasks: Vec<(&Member, Task)>,
    wait: Duration,
) -> Vec<Outcome> {
    let tasks = tasks.into_iter().map(|(member, task)| (member.clone(), task)).collect();
    walk(lane, registry, view, authority, tasks, wait, |_, outcome| Err(outcome)).await
}

/// The same, step by step: whoever has ended a task is given the next one at once, with all the time for it, until nothing
/// follows (`Err`). Nobody waits for those who are not there.
pub async fn walk<L: Lane>(
    lane: &mut L,
    registry: &Registry,
    view: &View<'_>,
    authority: &AnchorSecret,
    tasks: Vec<(Member, Task)>,
    wait: Duration,
    mut next: impl FnMut(usize, Outcome) -> Result<(Member, Task), Outcome>,
) -> Vec<Outcome> {
    let mut begin = |at, mut task: Result<(Member, Task), Outcome>| loop {
        let (member, what) = match task {
            Ok(task) => task,
            Err(outcome) => match next(at, outcome) {
                Ok(task) => task,
                Err(last) => return Err(last),
            },
        };
        match Job::new(registry, view, authority, member, what, wait) {
            Ok(job) => return Ok(job),
            Err(error) => task = Err(Outcome::NotComputable(error)),
        }
    };
    let mut jobs: Vec<Result<Job<'_>, Outcome>> = Vec::new();
    for (at, task) in tasks.into_iter().enumerate() {
        jobs.push(begin(at, Ok(task)));
    }
    loop {
        for (at, place) in jobs.iter_mut().enumerate() {
            while let Ok(job) = place
                && let Some(outcome) = job.outcome.take().or_else(|| job.is_late().then_some(Outcome::NoAnswer))
            {
                *place = begin(at, Err(outcome));
            }
        }
        let Some(end) = open(&mut jobs).map(|job| job.end).min() else { break };
        let mut until = end;
        for job in open(&mut jobs) {
            if Instant::now() >= job.due
                && let Err(outcome) = job.send(lane, registry).await
            {
                job.outcome = Some(outcome);
                until = Instant::now();
            }
            until = until.min(job.due);
        }
        let Ok(heard) = timeout_at(until, lane.next()).await else { continue };
        match heard {
            Ok((member, news)) => {
                for job in open(&mut jobs).filter(|job| job.member.id == member) {
                    match &news {
                        News::Record(record) => job.hear(record, registry),
                        News::Receipt(receipt) => job.see(receipt),
                    }
                }
            }
            Err(error) => open(&mut jobs).for_each(|job| job.outcome = Some(Outcome::NotReached(error.clone()))),
        }
    }
    jobs.into_iter().map(|job| job.err().unwrap_or(Outcome::NoAnswer)).collect()
}

/// Those of which nothing has come yet.
fn open<'j, 'a>(jobs: &'j mut [Result<Job<'a>, Outcome>]) -> impl Iterator<Item = &'j mut Job<'a>> {
    jobs.iter_mut().filter_map(|job| job.as_mut().ok()).filter(|job| job.outcome.is_none())
}

impl<'a> Job<'a> {
    fn new(
        registry: &Registry,
        view: &View<'_>,
        authority: &'a AnchorSecret,
        member: Member,
        task: Task,
        wait: Duration,
    ) -> Result<Self, Error> {
        let node = view.paired(&member)?;
        if matches!(task, Task::Rejoin) {
            alone(&node.title, &member, "the order to rejoin")?;
        }
        let place = place_of(&node.title.set, authority, &member)?;
        let claim_key = member.claim_key.unwrap_or_default();
        let key = command::key(&authority.dh, &claim_key, &node.title);
        let key = key.ok_or_else(|| Error::input(format!("there is no key for commands to {}", member.who)))?;
        // A node that was switched off remembers its counters rounded up: what it says of them may be ahead of every clock.
        let floor = member.telemetry.as_ref().map_or(0, |(record, _)| floor(record, place));
        let fiduciary = node.title.warrant.fiduciary;
        let counter = registry.whole(|registry| {
            let counter = registry.next_command_counter(member.id, floor)?;
            if let Some(name) = task.name() {
                let event = command_event(&fiduciary, name).number(Tag::Counter, counter.into());
                registry.log(event.ended(Ended::Begun))?;
            }
            Ok(counter)
        })?;
        let start = Instant::now();
        Ok(Self {
            at: view.fleet.addresses(member.host).1,
            member,
            key,
            fiduciary,
            title: node.title,
            authority,
            place,
            task,
            rejoin: None,
            counters: (counter, counter),
            sent: 0,
            due: start,
            start,
            end: start + wait,
            outcome: None,
        })
    }

    fn is_late(&self) -> bool {
        Instant::now() >= self.end
    }

    async fn send<L: Lane>(&mut self, lane: &mut L, registry: &Registry) -> Result<(), Outcome> {
        if self.sent == SAME {
            let next = registry.next_command_counter(self.member.id, self.counters.1);
            self.counters.1 = next.map_err(Outcome::NotComputable)?;
            self.sent = 0;
        }
        self.sent += 1;
        self.due = Instant::now() + REPEAT;
        let signed = match (&self.task, &self.rejoin) {
            (Task::Update { signed, .. } | Task::Receipted { signed, .. } | Task::Ended(signed), _)
            | (Task::Rejoin, Some((_, signed))) => Some(signed),
            (Task::Command(_) | Task::Rejoin | Task::Prove(_), _) => None,
        };
        let (operation, argument) = match (&self.task, signed) {
            (_, Some(Signed { bytes, short })) => {
                for chunk in chunks(bytes, *short) {
                    lane.send(&self.member, self.at, &chunk).await.map_err(Outcome::NotReached)?;
                }
                (Operation::Apply, *short)
            }
            (Task::Command(operation), None) => (*operation, 0),
            (Task::Prove(_), None) => (Operation::Status, 1),
            (Task::Rejoin | Task::Update { .. } | Task::Receipted { .. } | Task::Ended(_), None) => {
                (Operation::Status, 0)
            }
        };
        let command = Command::new(&self.key, &self.fiduciary, operation, argument, self.counters.1);
        lane.send(&self.member, self.at, command.as_bytes()).await.map_err(Outcome::NotReached)
    }

    fn hear(&mut self, record: &Telemetry, registry: &Registry) {
        // With the same counter another authority may have commanded something else.
        let counter = if usize::from(record.authority) == self.place { record.counter.get() } else { 0 };
        let ahead = counter.max(floor(record, self.place));
        let ours = (self.counters.0..=self.counters.1).contains(&counter);
        let done = Outcome::Done { record: Box::new(*record), after: self.start.elapsed() };
        match &self.task {
            Task::Update { hash, .. } if hash.starts_with(&record.configuration) => self.outcome = Some(done),
            // It has said so after we asked it, or it has done it.
            Task::Rejoin | Task::Ended(_) if ours && record.isolated == 0 => self.outcome = Some(done),
            Task::Rejoin
                if record.isolated != 0 && self.rejoin.as_ref().is_none_or(|(of, _)| *of != record.isolation) =>
            {
                match self.order_rejoin(record.isolation, registry) {
                    Ok(signed) => self.rejoin = Some((record.isolation, signed)),
                    Err(error) => self.outcome = Some(Outcome::NotComputable(error)),
                }
                self.again();
            }
            Task::Update { .. } | Task::Rejoin | Task::Receipted { .. }
                if ours && record.operation() == Some(Operation::Apply) =>
            {
                match record.result() {
                    // A chunk was lost: all of it again, with the next counter.
                    Some(CommandResult::NotStaged) => self.again(),
                    // In force, but another's came after it; or not yet shown.
                    Some(CommandResult::Done | CommandResult::None) => {}
                    why => self.outcome = Some(Outcome::Refused(why)),
                }
            }
            Task::Command(operation) if ours && record.operation() == Some(*operation) => match record.result() {
                Some(CommandResult::Done) if shows(*operation, record) => self.outcome = Some(done),
                // Obeyed, but the record was made before it took effect: the next one shows it.
                Some(CommandResult::Done) => {
                    self.sent = SAME;
                    self.due = Instant::now() + EFFECT;
                }
                Some(CommandResult::None) => {}
                why => self.outcome = Some(Outcome::Refused(why)),
            },
            // Another authority, or another registry of ours, is ahead: it would not take a lower counter.
            _ if ahead > self.counters.1 && registry.is_likely(ahead) => {
                self.counters = (ahead, ahead);
                self.again();
            }
            _ => {}
        }
    }

    /// A receipt counts for itself, however it came.
    fn see(&mut self, receipt: &Receipt) {
        let Some(Awaited { kind, number, hash }) = self.task.awaited() else { return };
        let its = receipt.number.get();
        let is_later = *kind == receipt::Kind::Record && its > *number;
        let ours = receipt.fiduciary == self.fiduciary
            && receipt.fleet == self.title.warrant.fleet
            && receipt.kind() == Some(*kind)
            && (is_later || its == *number);
        if !ours || receipt.verify().is_none() {
            return;
        }
        let receipt = Box::new(*receipt);
        // By the chain a later record proves all before it.
        let same = is_later || hash.is_none_or(|hash| hash == receipt.hash);
        self.outcome = Some(if same {
            Outcome::Proved { receipt, after: self.start.elapsed() }
        } else {
            Outcome::Otherwise(receipt)
        });
    }

    fn order_rejoin(&self, isolation: Isolation, registry: &Registry) -> Result<Signed, Error> {
        let mut order = order_for(&self.title, Ordered::Rejoin, isolation.as_bytes());
        order.counter = U64::new(registry.next_counter(0)?);
        Ok(Signed::new(&order.sign(self.authority, self.place), isolation.as_bytes()))
    }

    fn again(&mut self) {
        self.sent = SAME;
        self.due = Instant::now();
    }
}

/// What the next command of the authority at this place must be above.
fn floor(record: &Telemetry, place: usize) -> u32 {
    record.command_floors.get(place).map_or(0, |floor| floor.get())
}

/// Whether a record shows what a command is for.
fn shows(operation: Operation, record: &Telemetry) -> bool {
    match operation {
        Operation::Isolate => record.isolated != 0,
        _ => true,
    }
}

/// The update that gives a node what it should have.
pub fn update(
    registry: &Registry,
    view: &View<'_>,
    authority: &AnchorSecret,
    member: &Member,
    configuration: &[u8],
) -> Result<Task, Error> {
    let title = view.paired(member)?.title;
    let place = place_of(&title.set, authority, member)?;
    alone(&title, member, "an update")?;
    let mut order = order_for(&title, Ordered::Configuration, configuration);
    let event = update_event(&order.fiduciary, &order.body).ended(Ended::Begun);
    let counter = registry.whole(|registry| {
        let counter = registry.next_counter(0)?;
        registry.log(event.number(Tag::Counter, counter)).map(|()| counter)
    });
    order.counter = U64::new(counter?);
    Ok(Task::Update { signed: Signed::new(&order.sign(authority, place), configuration), hash: order.body })
}

/// The place of a key in a set.
pub(super) fn place_of(set: &AuthoritySet, authority: &AnchorSecret, member: &Member) -> Result<usize, Error> {
    let own = authority.public();
    let is_own = |one: &Authority| one.sign == own.sign && one.dh == own.dh;
    set.places()
        .iter()
        .position(is_own)
        .ok_or_else(|| Error::input(format!("your key is no authority of {}: others own it", member.who)))
}

/// An order for a node, without counter and signatures.
pub(super) fn order_for(title: &Title, kind: Ordered, body: &[u8]) -> Order {
    let mut order = Order::new(kind, body);
    (order.fleet, order.fiduciary, order.epoch) = (title.warrant.fleet, title.warrant.fiduciary, title.warrant.epoch);
    order.set = title.set.hash();
    order
}

/// That one signature is enough.
pub(super) fn alone(title: &Title, member: &Member, what: &str) -> Result<(), Error> {
    match title.set.needed {
        ..=1 => Ok(()),
        needed => Err(Error::input(format!(
            "{what} of {} needs the signatures of {needed} authorities: have it written as a proposal, with --out FILE, which each of \
             them signs with `os-network-admin order sign`",
            member.who
        ))),
    }
}

impl Signed {
    pub(super) fn new(order: &Order, body: &[u8]) -> Self {
        Self { bytes: [order.as_bytes(), body].concat(), short: order.short() }
    }

    pub(super) fn record(record: &AuthorityRecord) -> Self {
        Self { bytes: record.as_bytes().to_vec(), short: Staged::Record(record).short() }
    }
}

/// What the log has of a command, and of an update.
pub fn command_event(fiduciary: &wire::Key, name: &str) -> Event {
    Event::new(Kind::Command).node(fiduciary).text(Tag::Operation, name)
}

pub fn update_event(fiduciary: &wire::Key, configuration: &Hash) -> Event {
    Event::new(Kind::Update).node(fiduciary).bytes(Tag::Configuration, configuration)
}

fn chunks(bytes: &[u8], short: u32) -> impl Iterator<Item = Vec<u8>> {
    let length = U16::new(u16::try_from(bytes.len()).unwrap_or(u16::MAX));
    bytes.chunks(CHUNK).zip(0..).map(move |(part, number)| {
        let head = ChunkHead { short: U32::new(short), length, number, zero: [0; 17] };
        [head.as_bytes(), part].concat()
    })
}

/// What a node says of a command, for people.
pub fn why(result: Option<CommandResult>) -> &'static str {
    result.map_or("it gives no known reason", CommandResult::explained)
}
