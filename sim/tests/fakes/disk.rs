//! The store in keystore's tests.

#[path = "../../../crates/domains/keystore/src/tests/disk.rs"]
#[expect(dead_code, reason = "its troubles and what the tests see of it are not compared")]
mod fake;

use calls::store::{AppendRequest, Finding, RECORDS, Refusal, SEALED, for_keystore::*};
use node::store::{Ports, Store};
use proptest::prelude::*;
use shm::{
    ReadOnly, ReadWrite,
    mailbox::{CallError, Client, Operation, Patience, Server},
};
use sim::nor::Chip;

use super::real::{Words as Region, mailbox, region};

#[derive(Debug, Clone, Copy)]
enum Action {
    Find(u64),
    /// With a number so far from the last one that was given to this record.
    Append(u64, i8, u8),
    Purge(u64),
    /// The store starts again.
    Restart,
}

/// What came of it: what is found, and its number and first byte.
type Answer = Result<Option<(u64, u64, u8)>, Refusal>;

/// A store, real or not, that keystore asks.
trait Keeper {
    fn client(&mut self) -> &mut Client<'static>;
    fn serve(&mut self);
    fn restart(&mut self);

    fn ask<O: Operation>(&mut self, request: &O::Request) -> Result<O::Reply, Refusal> {
        self.client().call::<O>(request, 0, Patience::ENDLESS);
        self.serve();
        self.client().poll::<O>(0).expect("an answer").map_err(|error| match error {
            CallError::Refused(code) => Refusal::from_number(code.into()).expect("a known refusal"),
            other => panic!("{other:?}"),
        })
    }

    fn act(&mut self, action: Action, sequence: u64) -> Answer {
        match action {
            Action::Find(record) => {
                self.ask::<Find>(&record).map(|found| Some((found.finding, found.sequence, found.sealed[SEALED - 1])))
            }
            Action::Append(record, _, byte) => {
                let sealed = [byte; SEALED];
                self.ask::<Append>(&AppendRequest { record, sequence, sealed }).map(|()| None)
            }
            Action::Purge(record) => self.ask::<Purge>(&record).map(|()| None),
            Action::Restart => {
                self.restart();
                Ok(None)
            }
        }
    }
}

struct Fake {
    store: fake::Store,
    client: Client<'static>,
}

impl Fake {
    fn new() -> Self {
        let store = fake::Store::new(fake::Disk::default());
        let (request, reply) = store.regions();
        let client = Client::new(ReadWrite::new(request), ReadOnly::new(reply)).expect("room");
        Self { store, client }
    }
}

impl Keeper for Fake {
    fn client(&mut self) -> &mut Client<'static> {
        &mut self.client
    }

    fn serve(&mut self) {
        while self.store.serve() {}
    }

    fn restart(&mut self) {
        self.store.restart();
    }
}

struct Real {
    flash: sim::Flash,
    store: Store<Chip>,
    ports: Ports<'static>,
    regions: (Region, Region),
    client: Client<'static>,
}

fn server(regions: (Region, Region)) -> Server<'static, MAX_REQUEST> {
    Server::new(ReadOnly::new(regions.0), ReadWrite::new(regions.1)).expect("room")
}

impl Real {
    fn new() -> Self {
        let (flash, regions) = (sim::Flash::new(), (region(), region()));
        let client = Client::new(ReadWrite::new(regions.0), ReadOnly::new(regions.1)).expect("room");
        let ports = Ports { keystore: server(regions), lifecycle: mailbox().1 };
        Self { store: Store::new(flash.chip()), flash, ports, regions, client }
    }
}

impl Keeper for Real {
    fn client(&mut self) -> &mut Client<'static> {
        &mut self.client
    }

    fn serve(&mut self) {
        while self.store.step(0, &mut self.ports) {}
    }

    fn restart(&mut self) {
        self.store = Store::new(self.flash.chip());
        self.ports.keystore = server(self.regions);
    }
}

fn compare(actions: &[Action]) -> Vec<Answer> {
    let (mut real, mut fake) = (Real::new(), Fake::new());
    let mut given: [Vec<u64>; RECORDS] = Default::default();
    let mut answers = Vec::new();
    for (at, action) in actions.iter().enumerate() {
        let mut sequence = 0;
        if let Action::Append(record, ahead, _) = *action {
            let given = &mut given[usize::try_from(record).expect("a record")];
            sequence = given.last().map_or(1, |last| last.saturating_add_signed(ahead.into()));
            // Keystore gives none twice, and the fake says so if it does.
            if sequence == 0 || given.contains(&sequence) {
                continue;
            }
            given.push(sequence);
        }
        let (wanted, got) = (real.act(*action, sequence), fake.act(*action, sequence));
        assert_eq!(got, wanted, "the fake and the store: {:?}", &actions[..=at]);
        answers.push(wanted);
    }
    answers
}

#[test]
fn the_store_of_keystores_tests_is_the_store_when_a_block_is_full() {
    let mut actions = Vec::new();
    // A block has place for 83.
    for number in 0..200_u8 {
        actions.push(Action::Append(1, if number % 9 == 8 { -4 } else { 5 }, number));
        if number % 50 == 30 {
            actions.extend([Action::Find(1), Action::Restart, Action::Find(0), Action::Purge(1), Action::Find(1)]);
        }
    }
    actions.push(Action::Find(1));
    let answers = compare(&actions);
    assert!(answers.contains(&Err(Refusal::Stale)));
    assert!(matches!(answers.last(), Some(Ok(Some((found, ..)))) if *found == Finding::Found as u64));
}

fn action() -> impl Strategy<Value = Action> {
    let record = || 0..RECORDS as u64;
    prop_oneof![
        3 => record().prop_map(Action::Find),
        6 => (record(), -3i8..6, any::<u8>()).prop_map(|(record, ahead, byte)| Action::Append(record, ahead, byte)),
        1 => record().prop_map(Action::Purge),
        1 => Just(Action::Restart),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn the_store_of_keystores_tests_is_the_store(actions in proptest::collection::vec(action(), 0..40)) {
        compare(&actions);
    }
}
