//! Seven authorities of whom four must sign and up to three lie, in a fleet whose nodes come and go and whose set changes,
//! against a model of who may do what.

use proptest::{
    prelude::RngExt,
    test_runner::{RngAlgorithm, TestRng},
};
use wire::{
    command::Operation as Commanded,
    order::{Kind, Release},
};

use super::{
    command::key_of,
    orders::{configure, let_go, rejoin},
    *,
};

const STEPS: usize = 2000;
const NODES: usize = 3;
const PEOPLE: usize = 18;
const COUNT: usize = 7;
const NEEDED: usize = 4;

fn key(person: usize) -> AnchorSecret {
    AnchorSecret::from_seed(&[person as u8 + 1; 32])
}

fn lies(person: usize) -> bool {
    person % 2 == 1
}

/// Who sits at which place.
type Seats = [usize; COUNT];

fn set_of(seats: &Seats) -> AuthoritySet {
    AuthoritySet::new(NEEDED as u8, &seats.map(|person| place_of(&key(person)))).unwrap()
}

/// What people have signed, and everybody can send to every node, whenever he likes.
#[derive(Clone)]
enum Paper {
    Order(Box<Order>, Vec<u8>),
    Record(Box<AuthorityRecord>),
}

struct Said {
    paper: Paper,
    /// Enough have signed it, one of whom does not lie.
    meant: bool,
}

/// A node, and what the model has of it.
struct Member {
    rig: Rig,
    anchor: AnchorSecret,
    title: Title,
    /// How far it has followed the chain.
    at: usize,
    counter: u64,
    configuration: [u8; 32],
    isolation: Option<[u32; 2]>,
    last: [u32; COUNT],
}

struct Fleet {
    rng: TestRng,
    nodes: Vec<Member>,
    /// The sets that were in force one after the other, and the records between them.
    seats: Vec<Seats>,
    records: Vec<AuthorityRecord>,
    said: Vec<Said>,
    counter: u64,
    /// How often something meant, and something forged, was decided.
    done: usize,
    refused: usize,
}

impl Member {
    fn claim(rig: Rig, anchor: AnchorSecret, fleet: &[Seats], records: &[AuthorityRecord]) -> Self {
        let at = records.len();
        let mut member = Self {
            rig,
            anchor,
            title: Title::new_zeroed(),
            at,
            counter: 10,
            configuration: CONFIGURATION,
            isolation: None,
            last: [0; COUNT],
        };
        let mut title = unsigned(&member.rig.identify().unwrap(), member.counter);
        title.set = set_of(&fleet[at]);
        title.warrant.sequence = U64::new(at as u64);
        title.warrant.record = records.last().map_or([0; 32], AuthorityRecord::hash);
        member.title = title.sign(&member.anchor);
        let record = member.rig.commit(&member.title).unwrap();
        assert_eq!(member.rig.acknowledge(&record.hash()), Ok(()));
        member.check();
        member
    }

    /// The node is as the model says.
    fn check(&mut self) {
        let status = self.rig.status();
        assert_eq!(status.ownership(), Ownership::Claimed);
        assert_eq!((status.sequence, status.epoch), (self.at as u64, self.title.warrant.epoch.get()));
        assert_eq!(status.configuration, self.configuration);
        assert_eq!((status.isolated == 1).then_some(status.isolation), self.isolation);
    }

    /// Whether an order that enough have signed is for this node as it is, and is news.
    fn awaits(&self, order: &Order, body: &[u8]) -> bool {
        let warrant = &self.title.warrant;
        let addressed = (order.fiduciary, order.epoch) == (warrant.fiduciary, warrant.epoch)
            || (order.fiduciary == [0; 32] && order.epoch.get() == 0);
        addressed
            && order.set == self.title.set.hash()
            && order.counter.get() > self.counter
            && match order.kind().unwrap() {
                Kind::Rejoin => self.isolation.is_some_and(|[authority, counter]| {
                    body == [authority.to_be_bytes(), counter.to_be_bytes()].concat()
                }),
                Kind::Configuration | Kind::Release => true,
            }
    }

    /// It is in force already.
    fn has(&self, order: &Order) -> bool {
        let shows = match order.kind().unwrap() {
            Kind::Configuration => order.body == self.configuration,
            Kind::Rejoin => self.isolation.is_none(),
            Kind::Release => false,
        };
        shows && order.counter.get() == self.counter && order.set == self.title.set.hash()
    }
}

impl Fleet {
    fn new(seed: u8) -> Self {
        let seats = vec![core::array::from_fn(|person| person)];
        let nodes = (0..NODES).map(|number| {
            let mut rig = Rig::new(Board { seed: 1000 * number as u64 + 1, ..Board::anchored() });
            rig.search = false;
            Member::claim(rig, admin(), &seats, &[])
        });
        Self {
            rng: TestRng::from_seed(RngAlgorithm::ChaCha, &[seed; 32]),
            nodes: nodes.collect(),
            seats,
            records: vec![],
            said: vec![],
            counter: 100,
            done: 0,
            refused: 0,
        }
    }

    fn any(&mut self, below: usize) -> usize {
        self.rng.random_range(0..below)
    }

    fn one_of<T: Copy>(&mut self, all: &[T]) -> Option<T> {
        (!all.is_empty()).then(|| all[self.any(all.len())])
    }

    /// Places of a set, enough of them, one of whom does not lie; or liars only, all of them or some.
    fn signers(&mut self, seats: &Seats, meant: bool) -> Vec<usize> {
        let mut places: Vec<usize> = (0..COUNT).collect();
        (1..COUNT).for_each(|at| places.swap(at, self.any(at + 1)));
        if meant {
            places.truncate(self.rng.random_range(NEEDED..=COUNT));
            return places;
        }
        places.retain(|place| lies(seats[*place]));
        places.truncate(self.rng.random_range(0..=NEEDED));
        places
    }

    fn sign(&mut self, order: Order, seats: &Seats, meant: bool) -> Order {
        let signers = self.signers(seats, meant);
        let mut order = signers.iter().fold(order, |order, place| order.sign(&key(seats[*place]), *place));
        if meant {
            return order;
        }
        // One hand at several places, or what others have signed at theirs.
        for place in 0..COUNT {
            if order.signatures[place] != [0; 64] {
                continue;
            }
            let (at, liar) = (self.any(self.said.len() + 1), self.one_of(&signers));
            let lent = self.said.get(at).map(|said| &said.paper);
            order.signatures[place] = match (self.rng.random(), lent, liar) {
                (0u8..=80, Some(Paper::Order(lent, _)), _) => lent.signatures[place],
                (81..=160, _, Some(liar)) => order.sign(&key(seats[liar]), place).signatures[place],
                _ => [0; 64],
            };
        }
        order
    }

    /// For one node as it is, or for all that have the newest set.
    fn order(&mut self, meant: bool) -> Said {
        let number = self.any(NODES);
        let node = &self.nodes[number];
        let (mut title, isolation, own) = (node.title, node.isolation, node.anchor.public());
        let seats = self.seats[node.at];
        self.counter += 1;
        let counter = if meant || self.rng.random() { self.counter } else { u64::MAX };
        let configuration = [self.counter as u8 ^ u8::from(!meant); 32];
        let (mut order, body) = match self.any(8) {
            0 => {
                // Not the one that it was claimed by: that would be its owners again.
                let after = (PEOPLE..PEOPLE + 3).position(|person| key(person).public() == own).map_or(0, |at| at + 1);
                let next = key(PEOPLE + after % 3);
                let_go(&title, counter, &Release::to_anchor(&Anchor::alone(&next.public()), false))
            }
            1..=3 => rejoin(&title, counter, isolation.unwrap_or([0, 7])),
            _ => {
                if self.rng.random() {
                    (title.warrant.fiduciary, title.warrant.epoch) = ([0; 32], U64::new(0));
                }
                (Order { body: configuration, ..configure(&title, counter, 0) }, vec![])
            }
        };
        if !meant && self.any(4) == 0 {
            order.fleet = [0xf2; 32];
        }
        Said { paper: Paper::Order(Box::new(self.sign(order, &seats, meant)), body), meant }
    }

    /// One of the set gives way to somebody else: never so that more than three lie.
    fn record(&mut self, meant: bool) -> Said {
        let number = self.any(NODES);
        let at = if meant { self.records.len() } else { self.nodes[number].at };
        let mut new = self.seats[at];
        let place = self.any(COUNT);
        let outside: Vec<usize> = (0..PEOPLE).filter(|person| !new.contains(person)).collect();
        new[place] = self.one_of(&outside).unwrap();
        if meant && new.iter().filter(|person| lies(**person)).count() >= NEEDED {
            new[place] = *outside.iter().find(|person| !lies(**person)).unwrap();
        }
        self.succeed(at, new, meant)
    }

    /// A liar gives way to somebody who does not lie.
    fn expel(&mut self) -> Option<Said> {
        let at = self.records.len();
        let mut new = self.seats[at];
        let place = new.iter().position(|person| lies(*person))?;
        new[place] = (0..PEOPLE).find(|person| !lies(*person) && !new.contains(person)).unwrap();
        Some(self.succeed(at, new, true))
    }

    /// The record by which others follow those of this number.
    fn succeed(&mut self, at: usize, new: Seats, meant: bool) -> Said {
        let old = self.seats[at];
        let previous = at.checked_sub(1).map_or([0; 32], |before| self.records[before].hash());
        let step = if meant { 1 } else { self.rng.random_range(0..3) };
        let record = AuthorityRecord::new(&[0xf1; 32], at as u64 + step, &previous, &set_of(&new));
        let olds = self.signers(&old, meant);
        let record = olds.iter().fold(record, |record, place| record.sign_as_old(&key(old[*place]), *place));
        let willing = (0..COUNT).filter(|place| meant || lies(new[*place]));
        let record = willing.fold(record, |record, place| record.sign_as_new(&key(new[place]), place));
        if meant {
            self.seats.push(new);
            self.records.push(record);
        }
        Said { paper: Paper::Record(Box::new(record)), meant }
    }

    /// Somebody sends it to a node.
    fn deliver(&mut self, number: usize, Said { paper, meant }: &Said) {
        let node = &mut self.nodes[number];
        let title = node.title;
        let writes = node.rig.disk.writes();
        let (result, expected, news) = match paper {
            Paper::Order(order, body) => {
                let news = *meant && node.awaits(order, body);
                let addressed = order.fiduciary == [0; 32] || order.fiduciary == title.warrant.fiduciary;
                let again = *meant && addressed && node.has(order);
                (node.rig.order(order, body), news || again, news)
            }
            Paper::Record(record) => {
                let next = *meant && self.records.get(node.at) == Some(&**record);
                // What is in force already is, whoever has signed it now.
                let again = node.at > 0 && self.records[node.at - 1].hash() == record.hash();
                (node.rig.adopt(record), next || again, next)
            }
        };
        assert_eq!(result.is_ok(), expected, "node {number}, meant {meant}: {result:?}");
        if !news {
            assert_eq!(node.rig.disk.writes(), writes, "what changes nothing is written");
            self.refused += usize::from(!meant);
            return node.check();
        }
        self.done += 1;
        match paper {
            Paper::Record(record) => {
                node.at += 1;
                node.title = title.under(record);
                node.last = [0; COUNT];
            }
            Paper::Order(order, body) => match order.kind().unwrap() {
                Kind::Configuration => (node.counter, node.configuration) = (order.counter.get(), order.body),
                Kind::Rejoin => (node.counter, node.isolation) = (order.counter.get(), None),
                Kind::Release => {
                    let next = (PEOPLE..PEOPLE + 3).map(key);
                    let is_next = |next: &AnchorSecret| {
                        body == Release::to_anchor(&Anchor::alone(&next.public()), false).as_bytes()
                    };
                    return self.claim_anew(number, next.into_iter().find(is_next).unwrap());
                }
            },
        }
        node.check();
    }

    /// The next owner is of the same fleet, whose newest set it is told of.
    fn claim_anew(&mut self, number: usize, anchor: AnchorSecret) {
        let node = self.nodes.remove(number);
        let mut rig = node.rig;
        assert_eq!(rig.status().ownership(), Ownership::Unclaimed);
        // Those who owned it have no say.
        for said in self.said.iter().rev().take(20) {
            match &said.paper {
                Paper::Order(order, body) => assert!(rig.order(order, body).is_err()),
                Paper::Record(record) => assert!(rig.adopt(record).is_err()),
            }
        }
        self.nodes.insert(number, Member::claim(rig, anchor, &self.seats, &self.records));
    }

    /// Anybody who ever had a seat commands, with the key of this set or of one before.
    fn command(&mut self) {
        let (number, place, now) = (self.any(NODES), self.any(COUNT), self.rng.random_bool(0.8));
        let (reached, mut title) = (self.nodes[number].at, self.nodes[number].title);
        let at = if now { reached } else { self.any(reached + 1) };
        let person = self.seats[at][place];
        if at != reached {
            // As the set of then had it.
            title.set = set_of(&self.seats[at]);
            title.warrant.sequence = U64::new(at as u64);
        }
        let node = &self.nodes[number];
        let last = node.last[place];
        let counter = match self.rng.random_range(0..20) {
            0 if lies(person) => u32::MAX,
            1 => last,
            2 => self.rng.random_range(0..=last),
            _ => last.saturating_add(self.rng.random_range(1..5)),
        };
        let isolates = lies(person) && self.rng.random();
        let operation = if isolates { Commanded::Isolate } else { Commanded::Status };
        let node = &mut self.nodes[number];
        let key = key_of(&key(person), &title, &node.rig);
        let command = Command::new(&key, &title.warrant.fiduciary, operation, 0, counter);
        let result = node.rig.command(&command);
        let expected = at == node.at && counter > last;
        assert_eq!(result.is_ok(), expected, "node {number}, place {place}, set {at}: {result:?}");
        if expected {
            assert_eq!(result.unwrap().authority, place as u32);
            node.last[place] = counter;
            if isolates && node.isolation.is_none() {
                node.isolation = Some([place as u32, counter]);
            }
        }
        node.check();
    }

    /// Off and on: what was stored ahead of the last commands is gone, and no more than that.
    fn power_cycle(&mut self) {
        let number = self.any(NODES);
        let node = &mut self.nodes[number];
        node.rig.power_cycle();
        node.rig.search = false;
        let floors = node.rig.whole_status().command_floors;
        for (last, floor) in node.last.iter_mut().zip(floors) {
            assert!(floor >= *last && floor - *last <= 64, "{floor} after {last}");
            *last = floor;
        }
        node.check();
    }

    fn step(&mut self) {
        match self.any(20) {
            0..=4 => {
                let meant = self.rng.random();
                let said = self.order(meant);
                self.spread(said);
            }
            5..=6 => {
                // Who is away hears of it later, or never before the one after it.
                let meant = self.rng.random_bool(0.4);
                let said = self.record(meant);
                self.spread(said);
            }
            7 => {
                let number = self.any(NODES);
                self.catch_up(number);
            }
            8..=11 => {
                // Somebody has kept it.
                if !self.said.is_empty() {
                    let (number, at) = (self.any(NODES), self.any(self.said.len()));
                    let Said { paper, meant } = &self.said[at];
                    let said = Said { paper: paper.clone(), meant: *meant };
                    self.deliver(number, &said);
                }
            }
            12 => self.power_cycle(),
            _ => self.command(),
        }
    }

    fn spread(&mut self, said: Said) {
        for number in 0..NODES {
            if self.rng.random() {
                self.deliver(number, &said);
            }
        }
        self.said.push(said);
    }

    /// It walks every step that it has missed.
    fn catch_up(&mut self, number: usize) {
        while let Some(record) = self.records.get(self.nodes[number].at) {
            let said = Said { paper: Paper::Record(Box::new(*record)), meant: true };
            self.deliver(number, &said);
        }
    }
}

#[test]
fn of_seven_authorities_three_who_lie_decide_nothing_and_hinder_nobody() {
    for seed in 0..2 {
        let mut fleet = Fleet::new(seed);
        for _ in 0..STEPS {
            fleet.step();
        }
        assert!(fleet.records.len() > 10 && fleet.done > 50 && fleet.refused > 200, "{} {}", fleet.done, fleet.refused);
        // Whatever they did, those who do not lie are enough to be without them.
        for number in 0..NODES {
            fleet.catch_up(number);
        }
        while let Some(said) = fleet.expel() {
            for number in 0..NODES {
                fleet.deliver(number, &said);
            }
        }
        for number in 0..NODES {
            let (title, isolation) = (fleet.nodes[number].title, fleet.nodes[number].isolation);
            let seats = fleet.seats[fleet.nodes[number].at];
            for (order, body) in
                [(configure(&title, u64::MAX - 1, 1), vec![]), rejoin(&title, u64::MAX, isolation.unwrap_or([0, 0]))]
            {
                let order = fleet.sign(order, &seats, true);
                if order.kind() == Some(Kind::Configuration) || isolation.is_some() {
                    fleet.deliver(number, &Said { paper: Paper::Order(Box::new(order), body), meant: true });
                }
            }
            assert_eq!((fleet.nodes[number].configuration, fleet.nodes[number].isolation), ([1; 32], None));
        }
    }
}
