//! Three authorities, two of whom must sign, and one of them is up to no good: what it can spend or block is its own.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    time::Duration,
};

use crypto::{AnchorSecret, Secret};
use os_network_admin::{
    fleet::delivery::{Lane, News},
    registry::{AUTHORITY, Member, between},
};
use policy::{Configuration, Direction, Peer, Prefix, Protocol, Role, Rule};
use sim::{
    Administrator, World,
    admin::{pass, run as within, simulate},
    authority::{Authority, Mesh},
    scenario::WAIT,
};
use tokio::time::{Instant, sleep, timeout, timeout_at};
use wire::{
    Key, U16, U32, U64,
    command::{self, Command, Operation},
    order::{Isolation, Kind, Order},
    record::AuthorityRecord,
    set::{Authority as Place, AuthoritySet},
    staged::{self, CHUNK, ChunkHead},
    telemetry::{CommandResult, Telemetry},
    title::Title,
};
use zerocopy::{FromBytes, IntoBytes};

const SOON: Duration = Duration::from_secs(10);
/// How often the one who is up to no good says something.
const OFTEN: Duration = Duration::from_millis(20);

/// One of the three.
struct Person {
    secret: AnchorSecret,
    place: usize,
    end: Rc<RefCell<Authority>>,
    /// Of its last command.
    counter: Cell<u32>,
}

struct Rig<'w> {
    world: &'w RefCell<World>,
    admin: Administrator<'w>,
    member: Member,
    title: Title,
    /// The two who are honest, and the third.
    people: [Person; 3],
}

fn chunks(staged: &[u8]) -> Vec<Vec<u8>> {
    let short = staged::parse(staged).expect("an order or a record").short();
    let chunk = |(part, number): (&[u8], u8)| {
        let head = ChunkHead { short: U32::new(short), length: U16::new(staged.len() as u16), number, zero: [0; 17] };
        [head.as_bytes(), part].concat()
    };
    staged.chunks(CHUNK).zip(0..).map(chunk).collect()
}

fn secret(number: u8) -> AnchorSecret {
    AnchorSecret::from_seed(&Secret::new([number; 32]))
}

impl<'w> Rig<'w> {
    async fn new(world: &'w RefCell<World>) -> Self {
        let mut admin = Administrator::new(world, 0, 1).expect("an administrator");
        admin.anchor = secret(1);
        let node = world.borrow_mut().add(&admin.plan_without_scan());
        world.borrow_mut().power_on(node);
        pass(world, SOON).await;
        let ends = [(2, "bob"), (3, "eve")].map(|(number, name)| admin.export(name, 0, number).expect("a member"));
        let others = [0, 1].map(|at| {
            let mut member = admin.view().unwrap().find(["bob", "eve"][at]).unwrap();
            // Where an authority is in the mesh no member is.
            member.host = 201 + at as u32;
            (member, secret(2 + at as u8), ends[at].clone())
        });
        // Where they are in the mesh.
        let view = admin.view().unwrap();
        let places = [
            (AUTHORITY, admin.anchor.public(), admin.mesh.borrow().public()),
            (others[0].0.host, others[0].1.public(), others[0].0.key),
            (others[1].0.host, others[1].1.public(), others[1].0.key),
        ];
        let places = places.map(|(host, keys, mesh)| {
            let inner = view.fleet.addresses(host).1.octets();
            Place { mesh, inner, ..Place::signer(&keys) }
        });
        admin.terms.set = AuthoritySet::new(2, &places).expect("a set");
        admin.claim(None, WAIT).await.expect("nothing stands in the way of a claim");
        let (member, title) = {
            let view = admin.view().expect("a view");
            let live = view.live().expect("members");
            let node = live.iter().find(|node| node.member.fiduciary().is_some()).expect("a node");
            (node.member.clone(), view.paired(&node.member).expect("a pairing").title)
        };
        let [bob, eve] = others;
        for (member, _, end) in [&bob, &eve] {
            end.borrow_mut().set_members(&admin.view().unwrap(), Some(member)).unwrap();
        }
        let ends = [admin.mesh.clone(), bob.2.clone(), eve.2.clone()];
        let mut keys = [secret(1), bob.1, eve.1].into_iter();
        let mut place = 0..;
        let people = ends.map(|end| {
            let (secret, place) = (keys.next().expect("three"), place.next().expect("three"));
            Person { secret, place, end, counter: Cell::new(0) }
        });
        let rig = Self { world, admin, member, title, people };
        // All three are authorities of its mesh.
        let mut configuration = rig.configuration();
        for member in [&bob.0, &eve.0] {
            assert!(configuration.peers.push(rig.peer(member)).is_ok());
        }
        let update = rig.order(Kind::Configuration, &write(&configuration), 1);
        let work = rig.people[0].apply(&rig, &update);
        assert_eq!(within(world, timeout(WAIT, work)).await, Ok(CommandResult::Done));
        rig
    }

    fn configuration(&self) -> Configuration {
        let view = self.admin.view().expect("a view");
        Configuration::parse(&view.configuration(&self.member).expect("a configuration")).expect("it makes sense")
    }

    fn peer(&self, member: &Member) -> Peer {
        let inner = self.admin.view().unwrap().fleet.addresses(member.host).1.octets();
        let preshared = between((member.id, &member.preshared), (self.member.id, &self.member.preshared));
        Peer {
            key: member.key,
            role: Role::Authority,
            preshared: Some(preshared),
            endpoint: None,
            allowed: [Prefix { ip: inner, length: 128 }].into_iter().collect(),
            keepalive_s: 0,
        }
    }

    /// What the two sign who are honest.
    fn order(&self, kind: Kind, body: &[u8], counter: u64) -> Vec<u8> {
        let mut order = Order::new(kind, body);
        let warrant = &self.title.warrant;
        (order.fleet, order.fiduciary, order.epoch) = (warrant.fleet, warrant.fiduciary, warrant.epoch);
        order.set = self.title.set.hash();
        order.counter = U64::new(self.title.binding.counter.get() + counter);
        let [one, two, _] = &self.people;
        [order.sign(&one.secret, 0).sign(&two.secret, 1).as_bytes(), body].concat()
    }

    /// They go on with this while the third does that, all the time.
    async fn while_eve<T>(&self, work: impl Future<Output = T>, eve: impl AsyncFn(&Person)) -> T {
        let malice = async {
            loop {
                eve(&self.people[2]).await;
                sleep(OFTEN).await;
            }
        };
        let both = async {
            tokio::select! {
                done = work => done,
                () = malice => unreachable!("it never ends"),
            }
        };
        within(self.world, timeout(WAIT, both)).await.expect("in time")
    }
}

fn write(configuration: &Configuration) -> Vec<u8> {
    configuration.write(&mut [0; 4096]).expect("it fits").to_vec()
}

impl Person {
    fn make(&self, rig: &Rig<'_>, operation: Operation, argument: u32, counter: u32) -> Command {
        let key = command::key(&self.secret.dh, &rig.member.claim_key.unwrap(), &rig.title).unwrap();
        Command::new(&key, &rig.title.warrant.fiduciary, operation, argument, counter)
    }

    async fn say(&self, rig: &Rig<'_>, datagram: &[u8]) {
        let at = rig.admin.view().unwrap().fleet.addresses(rig.member.host).1;
        Mesh(self.end.clone()).send(&rig.member, at, datagram).await.expect("a lane");
    }

    /// Says it every second, with a counter above the last, until telemetry shows that it was carried out.
    async fn until_done(&self, rig: &Rig<'_>, chunks: &[Vec<u8>], operation: Operation, argument: u32) -> Telemetry {
        // Whoever has spent its burst is answered a second later, when the next has been said already.
        let first = self.counter.get() + 1;
        loop {
            let counter = self.counter.get().saturating_add(1);
            self.counter.set(counter);
            for chunk in chunks {
                self.say(rig, chunk).await;
                // What the third says comes between two.
                sleep(OFTEN * 2).await;
            }
            self.say(rig, self.make(rig, operation, argument, counter).as_bytes()).await;
            let until = Instant::now() + Duration::from_secs(1);
            let mut lane = Mesh(self.end.clone());
            while let Ok(Ok((_, news))) = timeout_at(until, lane.next()).await {
                let News::Record(record) = news else { continue };
                let ours = usize::from(record.authority) == self.place
                    && (first..=counter).contains(&record.counter.get())
                    && record.operation() == Some(operation);
                if ours && record.result() != Some(CommandResult::NotStaged) {
                    return *record;
                }
            }
        }
    }

    async fn apply(&self, rig: &Rig<'_>, staged: &[u8]) -> CommandResult {
        let short = staged::parse(staged).expect("an order or a record").short();
        let record = self.until_done(rig, &chunks(staged), Operation::Apply, short).await;
        record.result().expect("a result")
    }

    async fn status(&self, rig: &Rig<'_>) -> Telemetry {
        self.until_done(rig, &[], Operation::Status, 0).await
    }

    /// The others' order begun anew by its short hash, with other bytes and as something else; an `apply` of it; noise.
    async fn junk(&self, rig: &Rig<'_>, staged: &[u8], counter: u32) {
        for mut chunk in chunks(staged) {
            chunk[30..].fill(0x5a);
            self.say(rig, &chunk).await;
            chunk[0] ^= 1;
            self.say(rig, &chunk).await;
        }
        let short = staged::parse(staged).expect("an order or a record").short();
        self.say(rig, self.make(rig, Operation::Apply, short, counter).as_bytes()).await;
        let forged = Command::read_from_bytes(&[counter as u8; 16]).expect("16 bytes");
        self.say(rig, forged.as_bytes()).await;
    }
}

#[test]
fn one_of_three_who_is_malicious_stops_the_others_from_nothing() {
    let world = RefCell::new(World::new(71));
    simulate(async {
        let rig = Rig::new(&world).await;
        let [ada, bob, eve] = &rig.people;
        let counter = RefCell::new(0);
        let next = || {
            *counter.borrow_mut() += 1;
            *counter.borrow()
        };
        // They command.
        let order = rig.order(Kind::Configuration, &write(&rig.configuration()), 99);
        let junk = async |eve: &Person| eve.junk(&rig, &order, next()).await;
        rig.while_eve(ada.status(&rig), junk).await;
        rig.while_eve(bob.status(&rig), junk).await;
        // They update, whoever of them brings it.
        for (number, person) in [(2, ada), (3, bob)] {
            let mut configuration = rig.configuration();
            for at in ["bob", "eve"] {
                let member = rig.admin.view().unwrap().find(at).unwrap();
                assert!(configuration.peers.push(rig.peer(&member)).is_ok());
            }
            let rule = Rule { direction: Direction::In, role: Role::Authority, protocol: Protocol::Tcp, port: number };
            configuration.rules.push(rule).expect("there is room");
            let bytes = write(&configuration);
            let update = rig.order(Kind::Configuration, &bytes, number.into());
            let malice = async |eve: &Person| eve.junk(&rig, &update, next()).await;
            assert_eq!(rig.while_eve(person.apply(&rig, &update), malice).await, CommandResult::Done);
            let record = rig.while_eve(person.status(&rig), malice).await;
            assert_eq!(record.configuration, wire::binding::configuration_hash(&bytes)[..8]);
        }
        // She isolates the node again and again: they end the one that is, and she can only begin another.
        eve.counter.set(next());
        let own = within(&world, timeout(WAIT, eve.status(&rig))).await.expect("she has a place too");
        assert_eq!(own.authority, 2);
        *counter.borrow_mut() = eve.counter.get();
        let isolates = async |eve: &Person| {
            eve.say(&rig, eve.make(&rig, Operation::Isolate, 0, next()).as_bytes()).await;
        };
        for number in 4..7 {
            let isolated = async {
                loop {
                    let record = ada.status(&rig).await;
                    if record.isolated != 0 {
                        return record.isolation;
                    }
                }
            };
            let isolation: Isolation = rig.while_eve(isolated, isolates).await;
            assert_eq!(isolation.authority.get(), 2);
            let rejoin = rig.order(Kind::Rejoin, isolation.as_bytes(), number);
            assert_eq!(rig.while_eve(bob.apply(&rig, &rejoin), isolates).await, CommandResult::Done);
        }
        // She spends her counter, which is hers alone, and so can command no more.
        eve.counter.set(u32::MAX - 1);
        let work = eve.until_done(&rig, &[], Operation::Isolate, 0);
        let record = within(&world, timeout(WAIT, work)).await.expect("she has a place too");
        assert_eq!((record.authority, record.counter.get()), (2, u32::MAX));
        let spent = eve.make(&rig, Operation::Isolate, 0, u32::MAX);
        let spends = async |eve: &Person| eve.say(&rig, spent.as_bytes()).await;
        let record = rig.while_eve(bob.status(&rig), spends).await;
        assert_ne!(record.isolated, 0);
        let rejoin = rig.order(Kind::Rejoin, record.isolation.as_bytes(), 7);
        assert_eq!(rig.while_eve(ada.apply(&rig, &rejoin), spends).await, CommandResult::Done);
        assert_eq!(rig.while_eve(bob.status(&rig), junk).await.isolated, 0);
        // They remove her.
        let places = rig.title.set.places();
        let set = AuthoritySet::new(2, &places[..2]).expect("a set");
        let record = AuthorityRecord::new(&rig.title.warrant.fleet, 1, &[0; 32], &set);
        let record = record.sign_as_old(&ada.secret, 0).sign_as_old(&bob.secret, 1);
        let record = record.sign_as_new(&ada.secret, 0).sign_as_new(&bob.secret, 1).as_bytes().to_vec();
        let malice = async |eve: &Person| eve.junk(&rig, &record, next()).await;
        assert_eq!(rig.while_eve(ada.apply(&rig, &record), malice).await, CommandResult::Done);
        let mut after = rig.title;
        (after.set, after.warrant.sequence) = (set, U64::new(1));
        let key: Key = rig.member.claim_key.unwrap();
        let key = command::key(&ada.secret.dh, &key, &after).unwrap();
        let status = Command::new(&key, &after.warrant.fiduciary, Operation::Status, 0, 1);
        let shown = async {
            let mut lane = Mesh(ada.end.clone());
            loop {
                ada.say(&rig, status.as_bytes()).await;
                if let Ok(Ok((_, News::Record(record)))) = timeout(Duration::from_secs(1), lane.next()).await
                    && record.set.get() == 1
                {
                    return record;
                }
            }
        };
        assert_eq!(rig.while_eve(shown, malice).await.isolated, 0);
    });
}
