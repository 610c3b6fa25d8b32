//! The lifecycle in claim's tests: the gate and what becomes of it.

#[path = "../../../crates/domains/claim/src/tests/lifecycle.rs"]
mod fake;

use calls::{
    Domain,
    alarm::Alarm,
    console::SLOT,
    keystore::{Ownership, State, StatusReply},
    lifecycle::{Closed, EndRequest, GateRequest, Refusal, StageRequest, for_beacon, for_claim::*},
    params::{Params, micros},
    rules::{ClaimGate, Report, Rules},
};
use link::Station;
use node::lifecycle::{Lifecycle, Ports};
use proptest::prelude::*;
use shm::{
    Micros, ReadOnly, ReadWrite, cell,
    mailbox::{CallError, Client, Operation, Patience, Server},
    ring::Duplex,
};
use wire::{Hash, Phase, binding::configuration_hash};
use zerocopy::FromZeros;

use super::{
    lifecycle::fake::Keystore,
    real::{Words, mailbox, region},
    store::fake::Store,
};

pub const NOW: Micros = 1_000_000;
/// Between two actions; all together take less than any gate has.
const PAUSE: Micros = 1_000;

/// A lifecycle, real or not, that claim asks.
trait Gatekeeper {
    fn client(&mut self) -> &mut Client<'static>;
    fn serve(&mut self, now: Micros);
    /// What claim sees.
    fn gate(&mut self) -> ClaimGate;
    fn keystore(&mut self) -> &mut Keystore;

    fn ask<O: Operation>(&mut self, request: &O::Request, now: Micros) -> Result<O::Reply, Refusal> {
        self.client().call::<O>(request, now, Patience::ENDLESS);
        self.serve(now);
        outcome(self.client().poll::<O>(now).expect("an answer"))
    }
}

pub fn outcome<T>(outcome: Result<T, CallError>) -> Result<T, Refusal> {
    outcome.map_err(|error| match error {
        CallError::Refused(code) => Refusal::from_number(code.into()).expect("a known refusal"),
        other => panic!("{other:?}"),
    })
}

struct Fake {
    lifecycle: fake::Lifecycle,
    client: Client<'static>,
    keystore: Keystore,
}

impl Gatekeeper for Fake {
    fn client(&mut self) -> &mut Client<'static> {
        &mut self.client
    }

    fn serve(&mut self, now: Micros) {
        if let Some(call) = self.lifecycle.server.take().expect("a call") {
            let status = (self.keystore.status.ownership(), self.keystore.status.configuration);
            self.lifecycle.answer(now, &call, status, |binding| self.keystore.check_binding(binding));
        }
    }

    fn gate(&mut self) -> ClaimGate {
        self.lifecycle.gate
    }

    fn keystore(&mut self) -> &mut Keystore {
        &mut self.keystore
    }
}

impl Fake {
    fn new() -> Self {
        let (client, server) = mailbox();
        let rules = Rules { phase: Phase::Hold as u64, ..Rules::CLOSED };
        let lifecycle = fake::Lifecycle {
            server,
            cell: cell::Writer::new(ReadWrite::new(region())).expect("room"),
            gate: ClaimGate { rules, token: [0; 16], nonce: [0; 16], fiduciary: [0; 32] },
            told: Vec::new(),
            rivals: 0,
            time: micros(Params::DEFAULT.claim_ms),
            started: 0,
            staged: None,
            at_rest: Vec::new(),
            status: (Ownership::Unclaimed, [0; 32]),
        };
        Self { lifecycle, client, keystore: keystore() }
    }

    /// As a test of claim opens the next gate.
    fn open(&mut self, number: u64, until: Micros) {
        let mut gate = self.lifecycle.gate;
        (gate.rules.gate, gate.rules.until) = (number, until);
        self.lifecycle.publish(gate);
    }
}

pub struct Real {
    core: Lifecycle,
    ports: Ports<'static>,
    beacon: Client<'static>,
    claim: Client<'static>,
    mesh: Client<'static>,
    keystore: Keystore,
    server: Server<'static, { calls::keystore::for_lifecycle::MAX_REQUEST }>,
    flash: Store,
    store: Server<'static, { calls::store::for_lifecycle::MAX_REQUEST }>,
    cell: cell::Reader<'static, ClaimGate>,
    gate: ClaimGate,
}

/// Of a node that has forked.
fn keystore() -> Keystore {
    let mut status = StatusReply::new_zeroed();
    (status.state, status.forked) = (State::Ready as u8, 1);
    Keystore { status, counter: 0, record: [0; 32], identity: None, bound: None, adopted: None }
}

fn duplex() -> Duplex<'static, SLOT> {
    Duplex::new(ReadWrite::new(region()), ReadOnly::new(region())).expect("room")
}

fn writer<T: shm::Plain>(words: Words) -> cell::Writer<'static, T> {
    cell::Writer::new(ReadWrite::new(words)).expect("room")
}

impl Real {
    /// In hold, without a gate.
    pub fn new() -> Self {
        let ((to_keystore, server), (to_store, store)) = (mailbox(), mailbox());
        let ((beacon, from_beacon), (claim, from_claim), (mesh, from_mesh)) = (mailbox(), mailbox(), mailbox());
        let (gates, reports) = (region(), region());
        writer(reports).publish(&Report { mac: [2; 6], up: 1, zero: 0 });
        let mut real = Self {
            core: Lifecycle::new(Params { scan_ms: 0.into(), ..Params::DEFAULT }),
            ports: Ports {
                keystore: to_keystore,
                perimeter: writer(region()),
                report: cell::Reader::new(ReadOnly::new(reports)).expect("room"),
                beacon_rules: writer(region()),
                beacon: from_beacon,
                claim_gate: writer(gates),
                claim: from_claim,
                membership: writer(region()),
                account: writer(region()),
                mesh: from_mesh,
                console: duplex(),
                alarm: Alarm::new(ReadWrite::new(region())).expect("room"),
                store: to_store,
                watches: core::array::from_fn(|at| (Domain::CHILDREN[at], ReadOnly::new(region()))),
            },
            beacon,
            claim,
            mesh,
            keystore: keystore(),
            server,
            flash: Store::new(),
            store,
            cell: cell::Reader::new(ReadOnly::new(gates)).expect("room"),
            gate: ClaimGate { rules: Rules::CLOSED, token: [0; 16], nonce: [0; 16], fiduciary: [0; 32] },
        };
        real.serve(NOW);
        assert_eq!(real.core.phase(), Phase::Hold);
        real
    }

    /// Beacon asks.
    pub fn open(&mut self, request: &GateRequest, now: Micros) -> Result<(), Refusal> {
        self.beacon.call::<for_beacon::OpenGate>(request, now, Patience::ENDLESS);
        self.serve(now);
        outcome(self.beacon.poll::<for_beacon::OpenGate>(now).expect("an answer"))
    }

    /// Mesh asks.
    pub fn ask_from_mesh<O: Operation>(&mut self, request: &O::Request) -> Result<O::Reply, Refusal> {
        self.mesh.call::<O>(request, NOW, Patience::ENDLESS);
        self.serve(NOW);
        outcome(self.mesh.poll::<O>(NOW).expect("an answer"))
    }

    /// The keystore says of itself what has changed; an owner is never lost.
    pub fn show(&mut self, owner: Ownership, now: Micros) {
        let status = &mut self.keystore.status;
        status.ownership = status.ownership.max(owner as u8);
        self.server.nudge();
        self.serve(now);
    }

    pub fn rules(&mut self) -> Rules {
        self.gate().rules
    }
}

impl Gatekeeper for Real {
    fn client(&mut self) -> &mut Client<'static> {
        &mut self.claim
    }

    fn serve(&mut self, now: Micros) {
        for _ in 0..24 {
            self.core.step(now, &mut self.ports);
            if let Some(call) = self.store.take().expect("a call") {
                self.flash.answer(&mut self.store, &call);
            }
            if let Some(call) = self.server.take().expect("a call") {
                self.keystore.answer(&mut self.server, &call);
            }
        }
    }

    fn gate(&mut self) -> ClaimGate {
        if let Some(gate) = self.cell.poll() {
            self.gate = gate;
        }
        self.gate
    }

    fn keystore(&mut self) -> &mut Keystore {
        &mut self.keystore
    }
}

#[derive(Debug, Clone, Copy)]
enum Action {
    /// Beacon opens the gate, if it may.
    Open,
    /// The keystore commits a binding with this configuration, if it has none.
    Commit(u8),
    /// The keystore's claim becomes final, if a binding is committed.
    Claim,
    /// The calls of claim; true is for the gate that is open.
    Started(bool),
    Staged {
        mine: bool,
        configuration: u8,
        flaw: Option<Flaw>,
    },
    Committed(bool),
    Acknowledged(bool),
    Ended(bool),
    Foreign,
}

#[derive(Debug, Clone, Copy)]
enum Flaw {
    Hash,
    Signature,
    Length,
    Endless,
}

const FLAWS: [Flaw; 4] = [Flaw::Hash, Flaw::Signature, Flaw::Length, Flaw::Endless];

/// One that can be read.
fn configuration(n: u8) -> Vec<u8> {
    let mut configuration = policy::Configuration::default();
    configuration.addresses.push(policy::Prefix::v4([10, 8, 0, n], 24)).expect("room");
    configuration.write(&mut [0; 4096]).expect("room").to_vec()
}

fn call(at: &mut impl Gatekeeper, action: Action, now: Micros) -> Result<u32, Refusal> {
    let open = at.gate().rules.gate;
    let number = |mine: bool| if mine { open } else { open + 1 };
    match action {
        Action::Started(mine) => at.ask::<Started>(&number(mine), now).map(|()| 0),
        Action::Staged { mine, configuration: n, flaw } => {
            let bytes = configuration(n);
            let mut request = StageRequest::new_zeroed();
            (request.gate, request.length) = (number(mine), bytes.len() as u64);
            request.title = at.keystore().bind(configuration_hash(&bytes));
            request.configuration[..bytes.len()].copy_from_slice(&bytes);
            match flaw {
                None => {}
                Some(Flaw::Hash) => request.title.warrant.configuration[0] ^= 1,
                Some(Flaw::Signature) => request.title.binding.signature[0] ^= 1,
                Some(Flaw::Length) => request.length -= 1,
                Some(Flaw::Endless) => request.length = u64::MAX,
            }
            at.ask::<Stage>(&request, now).map(|()| 0)
        }
        Action::Committed(mine) => at.ask::<Committed>(&number(mine), now),
        Action::Acknowledged(mine) => at.ask::<Acknowledged>(&number(mine), now).map(|()| 0),
        Action::Ended(mine) => at.ask::<Ended>(&EndRequest::new(number(mine), Closed::PeerLeft), now).map(|()| 0),
        _ => at.ask::<for_beacon::OpenGate>(&GateRequest::new_zeroed(), now).map(|()| 0),
    }
}

/// What claim goes by.
fn seen(at: &mut impl Gatekeeper) -> (u64, u64, Option<Micros>) {
    let Rules { phase, gate, until, .. } = at.gate().rules;
    (phase, gate, (gate != 0).then_some(until))
}

/// Makes the same calls at both, to which the same happens, and compares what comes of each and what claim sees then.
fn compare(actions: &[Action]) -> Vec<Result<u32, Refusal>> {
    let (mut real, mut fake) = (Real::new(), Fake::new());
    let mut outcomes = Vec::new();
    for (at, action) in actions.iter().enumerate() {
        let now = NOW + PAUSE * at as Micros;
        let owner = fake.keystore.status.ownership();
        match *action {
            Action::Open => {
                let peer = Station::new([0xfe; 16], [4; 6]);
                if real.open(&GateRequest { peer, token: [7; 16], nonce: [8; 16] }, now).is_ok() {
                    let rules = real.gate().rules;
                    fake.open(rules.gate, rules.until);
                }
            }
            Action::Commit(n) if owner == Ownership::Unclaimed => {
                let hash: Hash = configuration_hash(&configuration(n));
                for keystore in [&mut real.keystore, &mut fake.keystore] {
                    (keystore.status.ownership, keystore.status.configuration) = (Ownership::Committed as u8, hash);
                }
            }
            Action::Claim if owner == Ownership::Committed => {
                for keystore in [&mut real.keystore, &mut fake.keystore] {
                    keystore.status.ownership = Ownership::Claimed as u8;
                }
            }
            Action::Commit(_) | Action::Claim => {}
            action => {
                let (wanted, got) = (call(&mut real, action, now), call(&mut fake, action, now));
                assert_eq!(got, wanted, "the fake and lifecycle: {:?}", &actions[..=at]);
                outcomes.push(wanted);
            }
        }
        assert_eq!(seen(&mut fake), seen(&mut real), "what the fake and lifecycle say: {:?}", &actions[..=at]);
    }
    outcomes
}

#[test]
fn the_lifecycle_of_claims_tests_is_lifecycle_at_every_step_of_a_claim() {
    let good = |configuration| Action::Staged { mine: true, configuration, flaw: None };
    let mut calls = vec![Action::Foreign, good(1), good(2)];
    calls.extend(FLAWS.map(|flaw| Action::Staged { mine: true, configuration: 1, flaw: Some(flaw) }));
    calls.push(Action::Staged { mine: false, configuration: 1, flaw: None });
    for mine in [false, true] {
        calls.extend([Action::Started(mine), Action::Committed(mine), Action::Acknowledged(mine)]);
    }
    calls.extend([good(1), Action::Ended(false), Action::Started(true)]);
    let mut actions = calls.clone();
    for event in [Action::Open, Action::Open, Action::Commit(1), Action::Ended(true), Action::Open, Action::Claim] {
        actions.push(event);
        actions.extend(&calls);
    }
    actions.extend([Action::Open, Action::Acknowledged(true)]);
    let outcomes = compare(&actions);
    for refusal in [Refusal::Gate, Refusal::Phase, Refusal::Configuration, Refusal::Binding, Refusal::NotAllowed] {
        assert!(outcomes.contains(&Err(refusal)), "nothing was refused as {refusal:?}");
    }
    assert_eq!(outcomes.last(), Some(&Ok(0)), "the claim did not become final");
}

fn action() -> impl Strategy<Value = Action> {
    let mine = || proptest::bool::weighted(0.8);
    let flaw = proptest::option::weighted(0.2, proptest::sample::select(&FLAWS));
    let staged =
        (mine(), 1u8..3, flaw).prop_map(|(mine, configuration, flaw)| Action::Staged { mine, configuration, flaw });
    prop_oneof![
        3 => Just(Action::Open),
        2 => (1u8..3).prop_map(Action::Commit),
        2 => Just(Action::Claim),
        2 => mine().prop_map(Action::Started),
        3 => staged,
        2 => mine().prop_map(Action::Committed),
        2 => mine().prop_map(Action::Acknowledged),
        1 => mine().prop_map(Action::Ended),
        1 => Just(Action::Foreign),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn the_lifecycle_of_claims_tests_is_lifecycle(actions in proptest::collection::vec(action(), 0..40)) {
        compare(&actions);
    }
}
