mod account;
mod erased;
mod keystore;
mod members;
mod phases;
mod refusals;
mod release;
mod rest;
mod restarts;
mod sets;
mod store;

use core::sync::atomic::AtomicU64;
use std::{boxed::Box, format, vec::Vec};

use calls::{
    alarm::{Alarm, AlarmOf},
    console::SLOT,
    keystore::{AnchorKind, HealthTest, for_lifecycle},
    lifecycle::{ApplyRequest, EndRequest, StageRequest, for_mesh},
    mesh::{Account, Membership},
    rules::{ClaimGate, MeshLink},
};
use shm::{
    ReadOnly, ReadWrite, cell,
    mailbox::{self, CallError, Patience},
    ring,
};
use zerocopy::FromBytes;

use members::update;

use super::*;

const MS: Micros = 1000;

/// Lifecycle between fake ends.
struct Rig {
    core: Lifecycle,
    ports: Ports<'static>,
    now: Micros,
    keystore: mailbox::Server<'static, { for_lifecycle::MAX_REQUEST }>,
    /// The operation that it refuses, and why.
    refuses: Option<(u32, KeystoreRefusal)>,
    keystore_answers: bool,
    /// The operation that it does not come to.
    holds: Option<u32>,
    kept: keystore::Keystore,
    store: mailbox::Server<'static, { calls::store::for_lifecycle::MAX_REQUEST }>,
    store_answers: bool,
    flash: store::Store,
    asked: Vec<u32>,
    report: cell::Writer<'static, Report>,
    perimeter: cell::Reader<'static, Rules>,
    rules: Rules,
    claim_gate: cell::Reader<'static, ClaimGate>,
    beacon: mailbox::Client<'static>,
    claim: mailbox::Client<'static>,
    membership: cell::Reader<'static, Membership>,
    account: cell::Reader<'static, Account>,
    member: Membership,
    /// How often mesh has been told.
    told: u32,
    mesh: mailbox::Client<'static>,
    console: ring::Duplex<'static, SLOT>,
    alarm: AlarmOf<'static>,
    said: Vec<(Code, u32)>,
    /// A word of each child, in their order.
    watch: ReadWrite<'static>,
}

fn words() -> &'static [AtomicU64] {
    Box::leak(Box::new([const { AtomicU64::new(0) }; 1024]))
}

impl Rig {
    fn new(scan_ms: u32) -> Self {
        Self::with(scan_ms, store::Store::new())
    }

    /// A node that finds this in its store.
    fn with(scan_ms: u32, flash: store::Store) -> Self {
        let mut status = StatusReply::new_zeroed();
        status.fiduciary = [0xf0; 32];
        status.address = [0xfe; 16];
        status.anchor = AnchorKind::Image as u8;
        let w: Vec<_> = (0..19).map(|_| words()).collect();
        let watch = words();
        let (ro, rw) = (|i: usize| ReadOnly::new(w[i]), |i: usize| ReadWrite::new(w[i]));
        let ports = Ports {
            keystore: mailbox::Client::new(rw(0), ro(1)).unwrap(),
            perimeter: cell::Writer::new(rw(2)).unwrap(),
            report: cell::Reader::new(ro(3)).unwrap(),
            beacon_rules: cell::Writer::new(rw(4)).unwrap(),
            beacon: mailbox::Server::new(ro(5), rw(6)).unwrap(),
            claim_gate: cell::Writer::new(rw(7)).unwrap(),
            claim: mailbox::Server::new(ro(8), rw(9)).unwrap(),
            membership: cell::Writer::new(rw(13)).unwrap(),
            account: cell::Writer::new(rw(18)).unwrap(),
            mesh: mailbox::Server::new(ro(14), rw(15)).unwrap(),
            console: ring::Duplex::new(rw(10), ro(11)).unwrap(),
            alarm: Alarm::new(rw(12)).unwrap(),
            store: mailbox::Client::new(rw(16), ro(17)).unwrap(),
            watches: core::array::from_fn(|at| (Domain::CHILDREN[at], ReadOnly::new(&watch[at..=at]))),
        };
        Self {
            core: Lifecycle::new(Params { scan_ms: scan_ms.into(), ..Params::DEFAULT }),
            ports,
            now: 1,
            keystore: mailbox::Server::new(ro(0), rw(1)).unwrap(),
            refuses: None,
            keystore_answers: true,
            holds: None,
            kept: keystore::Keystore {
                status,
                counter: 0,
                record: [0; 32],
                identity: None,
                bound: None,
                adopted: None,
            },
            store: mailbox::Server::new(ro(16), rw(17)).unwrap(),
            store_answers: true,
            flash,
            asked: Vec::new(),
            report: cell::Writer::new(rw(3)).unwrap(),
            perimeter: cell::Reader::new(ro(2)).unwrap(),
            rules: Rules::CLOSED,
            claim_gate: cell::Reader::new(ro(7)).unwrap(),
            beacon: mailbox::Client::new(rw(5), ro(6)).unwrap(),
            claim: mailbox::Client::new(rw(8), ro(9)).unwrap(),
            membership: cell::Reader::new(ro(13)).unwrap(),
            account: cell::Reader::new(ro(18)).unwrap(),
            member: Membership::new_zeroed(),
            told: 0,
            mesh: mailbox::Client::new(rw(14), ro(15)).unwrap(),
            console: ring::Duplex::new(rw(11), ro(10)).unwrap(),
            alarm: AlarmOf::new(ro(12)).unwrap(),
            said: Vec::new(),
            watch: ReadWrite::new(watch),
        }
    }

    /// A node in hold.
    fn holding() -> Self {
        let mut rig = Self::new(0);
        rig.become_ready();
        assert_eq!(rig.core.phase(), Phase::Hold);
        rig
    }

    fn become_ready(&mut self) {
        self.kept.status.state = State::Ready as u8;
        self.report.publish(&Report { mac: [2; 6], up: 1, zero: 0 });
        self.change();
    }

    /// The keystore's state has changed.
    fn change(&mut self) {
        self.keystore.nudge();
        self.run();
    }

    /// Steps until nothing more happens.
    fn run(&mut self) {
        for _ in 0..24 {
            self.core.step(self.now, &mut self.ports);
            if self.keystore_answers
                && self.keystore.waiting().is_none_or(|(op, _)| self.holds != Some(op))
                && let Some(call) = self.keystore.take().unwrap()
            {
                self.asked.push(call.op);
                if let Some((_, refusal)) = self.refuses.filter(|(op, _)| *op == call.op) {
                    self.keystore.refuse(refusal.code());
                } else {
                    self.kept.answer(&mut self.keystore, &call);
                }
            }
            if self.store_answers
                && let Some(call) = self.store.take().unwrap()
            {
                self.flash.answer(&mut self.store, &call);
            }
            if let Some(rules) = self.perimeter.poll() {
                self.rules = rules;
            }
            if let Some(member) = self.membership.poll() {
                self.member = member;
                self.told += 1;
            }
            let mut slot = [0; SLOT];
            while let Some(len) = self.console.recv(&mut slot).unwrap() {
                let event = Event::read_from_bytes(&slot[..len]).unwrap();
                self.said.push((event.code().unwrap(), event.number));
            }
        }
        assert_eq!(self.core.phase(), if self.rules.phase == 0 { Phase::Blind } else { self.rules.phase() });
    }

    fn pass(&mut self, time: Micros) {
        self.now += time;
        self.run();
    }

    fn alarm(&mut self) -> Option<Micros> {
        self.alarm.poll(0)
    }

    fn open(&mut self, peer: u8) -> Result<(), CallError> {
        let peer = link::Station::new([peer; 16], [peer; 6]);
        let request = GateRequest { peer, token: [7; 16], nonce: [8; 16] };
        self.beacon.call::<for_beacon::OpenGate>(&request, 0, Patience::ENDLESS);
        self.run();
        self.beacon.poll::<for_beacon::OpenGate>(self.now).unwrap()
    }

    fn claim<O: mailbox::Operation>(&mut self, request: &O::Request) -> Result<O::Reply, CallError> {
        self.claim.call::<O>(request, 0, Patience::ENDLESS);
        self.run();
        self.claim.poll::<O>(self.now).unwrap()
    }

    fn tell<O: mailbox::Operation>(&mut self, request: &O::Request) -> Result<O::Reply, CallError> {
        self.mesh.call::<O>(request, 0, Patience::ENDLESS);
        self.run();
        self.mesh.poll::<O>(self.now).unwrap()
    }

    /// A node whose claim is final, with this configuration.
    fn claimed(bytes: &[u8]) -> Self {
        let mut rig = Self::holding();
        rig.open(1).unwrap();
        rig.commit_to(bytes);
        rig.kept.status.ownership = Ownership::Claimed as u8;
        let gate = rig.rules.gate;
        rig.claim::<for_claim::Acknowledged>(&gate).unwrap();
        rig
    }

    fn stage(&mut self, configuration: &[u8]) -> Result<(), CallError> {
        let request = self.grant(configuration);
        self.claim::<for_claim::Stage>(&request)
    }

    /// What an administrator grants, as claim stages it.
    fn grant(&mut self, configuration: &[u8]) -> StageRequest {
        let mut request = StageRequest::new_zeroed();
        request.gate = self.rules.gate;
        request.length = configuration.len() as u64;
        request.title = self.kept.bind(wire::binding::configuration_hash(configuration));
        request.configuration[..configuration.len()].copy_from_slice(configuration);
        request
    }

    fn commit(&mut self) {
        self.commit_to(&configuration(80));
    }

    fn commit_to(&mut self, bytes: &[u8]) {
        self.stage(bytes).unwrap();
        self.kept.status.ownership = Ownership::Committed as u8;
        self.kept.status.configuration = wire::binding::configuration_hash(bytes);
        let gate = self.rules.gate;
        assert_eq!(self.claim::<for_claim::Committed>(&gate), Ok(0));
    }

    fn phases(&self) -> Vec<u32> {
        self.said.iter().filter(|(code, _)| *code == Code::Phase).map(|(_, phase)| *phase).collect()
    }
}

/// A member's, with one rule for this port.
fn configuration(port: u16) -> Vec<u8> {
    let mut configuration = policy::Configuration::default();
    configuration.addresses.push(policy::Prefix::v4([10, 8, 0, 2], 24)).unwrap();
    let address = policy::Prefix { ip: [0x20; 16], length: 64 };
    configuration.underlay = Some(policy::Underlay { address, gateway: Some([0xfe; 16]) });
    configuration.rules.push(format!("in node tcp {port}").parse().unwrap()).unwrap();
    configuration.write(&mut [0; 4096]).unwrap().to_vec()
}

fn refused(refusal: Refusal) -> CallError {
    CallError::Refused(refusal.code())
}

#[test]
fn a_first_boot_scans_forks_and_holds_with_no_alarm() {
    let mut rig = Rig::new(3000);
    rig.run();
    assert_eq!(rig.core.phase(), Phase::Blind);
    // A testing keystore is not polled: it nudges.
    assert_eq!(rig.asked.len(), 1);
    rig.become_ready();
    assert_eq!(rig.core.phase(), Phase::Scan);
    assert_eq!(rig.alarm(), Some(rig.now + 3000 * MS));
    rig.pass(2999 * MS);
    assert_eq!(rig.core.phase(), Phase::Scan);
    rig.pass(MS);
    assert_eq!(rig.phases(), [0, 1, 2, 3]);
    assert_eq!(rig.alarm(), None);
    assert!(!rig.core.step(rig.now, &mut rig.ports));
}

#[test]
fn a_card_with_an_address_that_is_no_stations_is_a_fault() {
    for mac in [[0x33, 0x33, 0, 0, 0, 1], [0xff; 6], [1, 0, 0x5e, 0, 0, 1], [0; 6]] {
        let mut rig = Rig::new(0);
        rig.kept.status.state = State::Ready as u8;
        rig.report.publish(&Report { mac, up: 1, zero: 0 });
        rig.change();
        assert_eq!(rig.core.phase(), Phase::Sealed);
        assert!(rig.said.contains(&(Code::BadLink, 0)), "{:?}", rig.said);
    }
}

#[test]
fn a_node_that_stays_blind_says_once_what_it_waits_for() {
    for (state, ticket_waiting, awaited) in
        [(State::Testing, 0, Awaited::Samples), (State::Ready, 1, Awaited::Ticket), (State::Ready, 0, Awaited::Link)]
    {
        let mut rig = Rig::new(0);
        rig.kept.status.state = state as u8;
        rig.kept.status.ticket_waiting = ticket_waiting;
        rig.run();
        rig.said.clear();
        assert_eq!(rig.alarm(), Some(rig.now + BLIND_MICROS));
        rig.pass(BLIND_MICROS - 1);
        assert!(!rig.said.iter().any(|(code, _)| *code == Code::Waits));
        rig.pass(1);
        assert_eq!(
            rig.said.iter().filter(|(code, _)| *code == Code::Waits).collect::<Vec<_>>(),
            [&(Code::Waits, awaited as u32)]
        );
        rig.said.clear();
        assert_eq!(rig.alarm(), None);
        rig.pass(100 * BLIND_MICROS);
        assert_eq!(rig.said, []);
        // It is no fault.
        rig.kept.status.ticket_waiting = 0;
        rig.become_ready();
        assert_eq!(rig.core.phase(), Phase::Hold);
    }
}

#[test]
fn a_restarted_node_goes_where_its_record_says() {
    for (forked, owner, phase) in [
        (1, Ownership::Unclaimed, Phase::Hold),
        (1, Ownership::Committed, Phase::Committed),
        (0, Ownership::Claimed, Phase::Claimed),
    ] {
        let mut rig = Rig::new(3000);
        (rig.kept.status.forked, rig.kept.status.ownership) = (forked, owner as u8);
        rig.become_ready();
        assert_eq!(rig.core.phase(), phase);
        assert!(!rig.phases().contains(&(Phase::Scan as u32)));
    }
}

#[test]
fn nothing_opens_before_link_and_ticket_are_there() {
    let mut rig = Rig::new(0);
    rig.kept.status.ticket_waiting = 1;
    rig.become_ready();
    assert_eq!(rig.core.phase(), Phase::Blind);
    assert_eq!(rig.open(1), Err(refused(Refusal::Phase)));
    rig.kept.status.ticket_waiting = 0;
    rig.change();
    assert_eq!(rig.core.phase(), Phase::Hold);
    let mut rig = Rig::new(0);
    rig.kept.status.state = State::Ready as u8;
    rig.change();
    assert_eq!(rig.core.phase(), Phase::Blind);
}

#[test]
fn a_keystore_fault_seals_the_node_at_any_time() {
    for late in [false, true] {
        let mut rig = if late { Rig::holding() } else { Rig::new(3000) };
        if late {
            rig.open(1).unwrap();
        }
        rig.kept.status.state = if late { State::EntropyLost } else { State::NoEntropy } as u8;
        rig.kept.status.failed_test = HealthTest::Repetition as u8;
        rig.change();
        assert_eq!(rig.core.phase(), Phase::Sealed);
        assert_eq!(rig.rules.open_to(rig.now), None);
        assert!(rig.said.contains(&(Code::Fault, u32::from(rig.kept.status.state))));
        // Nothing brings it back, not even a keystore that says it is well.
        rig.kept.status.state = State::Ready as u8;
        rig.change();
        assert_eq!(rig.core.phase(), Phase::Sealed);
        assert_eq!(rig.open(1), Err(refused(Refusal::Phase)));
    }
}

#[test]
fn a_silent_keystore_seals_the_node_after_a_few_tries() {
    let mut rig = Rig::new(0);
    rig.keystore_answers = false;
    rig.run();
    for _ in 0..crate::keystore::PATIENCE.tries {
        let at = rig.alarm().unwrap();
        assert_eq!(rig.core.phase(), Phase::Blind);
        rig.pass(at - rig.now);
    }
    assert_eq!(rig.core.phase(), Phase::Sealed);
    assert!(rig.said.contains(&(Code::KeystoreSilent, 0)));
    assert_eq!(rig.alarm(), None);
}

#[test]
fn the_gate_is_for_one_peer_and_ends_by_itself() {
    let mut rig = Rig::holding();
    rig.open(1).unwrap();
    assert_eq!(rig.rules.peer.mac, [1; 6]);
    let until = rig.now + micros(Params::DEFAULT.token_ms);
    assert_eq!((rig.rules.until, rig.alarm()), (until, Some(until)));
    let gate = rig.claim_gate.poll().unwrap();
    assert_eq!((gate.token, gate.nonce, gate.fiduciary), ([7; 16], [8; 16], [0xf0; 32]));
    assert_eq!(rig.open(2), Err(refused(Refusal::Busy)));
    assert_eq!(rig.rules.peer.mac, [1; 6]);
    assert!(rig.said.contains(&(Code::Rival, 1)));
    // The perimeter needs no telling: its own clock closes the gate.
    assert!(rig.rules.open_to(until).is_none());
    rig.asked.clear();
    rig.pass(until - rig.now);
    assert_eq!(rig.rules.gate, 0);
    assert!(rig.said.contains(&(Code::GateClosed, Closed::Expired as u32)));
    assert_eq!(rig.asked, [3]);
    rig.open(2).unwrap();
    assert_eq!(rig.rules.peer.mac, [2; 6]);
}

#[test]
fn a_running_claim_has_its_time_once_and_the_same_peer_may_open_anew() {
    let mut rig = Rig::holding();
    rig.open(1).unwrap();
    let first = rig.rules.gate;
    rig.pass(29_000 * MS);
    rig.claim::<for_claim::Started>(&first).unwrap();
    let until = rig.rules.until;
    assert_eq!(until, rig.now + 20_000 * MS);
    rig.pass(MS);
    rig.claim::<for_claim::Started>(&first).unwrap();
    assert_eq!(rig.rules.until, until);
    rig.open(1).unwrap();
    assert_ne!(rig.rules.gate, first);
    assert!(rig.said.contains(&(Code::GateClosed, Closed::Replaced as u32)));
    // The old gate's claim has no say any more.
    assert_eq!(rig.claim::<for_claim::Started>(&first), Err(refused(Refusal::Gate)));
    let old = EndRequest::new(first, Closed::PeerLeft);
    assert_eq!(rig.claim::<for_claim::Ended>(&old), Err(refused(Refusal::Gate)));
    assert_ne!(rig.rules.gate, 0);
}

#[test]
fn a_claim_is_final_only_when_the_keystore_says_so() {
    let mut rig = Rig::holding();
    rig.open(1).unwrap();
    let gate = rig.rules.gate;
    rig.claim::<for_claim::Started>(&gate).unwrap();
    // Claim alone is not believed.
    assert_eq!(rig.claim::<for_claim::Committed>(&gate), Err(refused(Refusal::Phase)));
    assert_eq!(rig.claim::<for_claim::Acknowledged>(&gate), Err(refused(Refusal::Phase)));
    assert_eq!(rig.core.phase(), Phase::Hold);
    assert_eq!(rig.core.configuration(), None);
    rig.commit();
    assert_eq!(rig.core.phase(), Phase::Committed);
    assert_eq!(rig.core.configuration(), Some(&*configuration(80)));
    assert_eq!(rig.claim::<for_claim::Acknowledged>(&gate), Err(refused(Refusal::Phase)));
    rig.kept.status.ownership = Ownership::Claimed as u8;
    rig.claim::<for_claim::Acknowledged>(&gate).unwrap();
    assert_eq!(rig.core.phase(), Phase::Claimed);
    assert_eq!(rig.rules.open_to(rig.now), None);
    assert_eq!(rig.alarm(), None);
    assert_eq!(rig.open(1), Err(refused(Refusal::Phase)));
    // Said again, because the reply was lost.
    rig.claim::<for_claim::Acknowledged>(&gate).unwrap();
}

#[test]
fn an_older_status_answers_no_call_of_claim() {
    for late in [false, true] {
        let mut rig = Rig::holding();
        rig.open(1).unwrap();
        let gate = rig.rules.gate;
        rig.stage(&configuration(80)).unwrap();
        rig.kept.status.configuration = wire::binding::configuration_hash(&configuration(80));
        // The keystore is asked before the call comes; it answers with what was before the commit, or with what is after.
        rig.keystore_answers = false;
        rig.change();
        rig.claim.call::<for_claim::Committed>(&gate, 0, Patience::ENDLESS);
        rig.run();
        rig.keystore.take().unwrap().unwrap().parse::<for_lifecycle::Status>().unwrap();
        rig.kept.status.ownership = if late { Ownership::Committed } else { Ownership::Unclaimed } as u8;
        rig.keystore.reply::<for_lifecycle::Status>(&rig.kept.status);
        rig.run();
        assert_eq!(rig.claim.poll::<for_claim::Committed>(0), None);
        rig.kept.status.ownership = Ownership::Committed as u8;
        rig.keystore_answers = true;
        rig.run();
        assert_eq!(rig.claim.poll::<for_claim::Committed>(0), Some(Ok(0)));
        rig.keystore_answers = false;
        rig.change();
        rig.claim.call::<for_claim::Acknowledged>(&gate, 0, Patience::ENDLESS);
        rig.run();
        rig.keystore.take().unwrap().unwrap().parse::<for_lifecycle::Status>().unwrap();
        rig.kept.status.ownership = if late { Ownership::Claimed } else { Ownership::Committed } as u8;
        rig.keystore.reply::<for_lifecycle::Status>(&rig.kept.status);
        rig.run();
        assert_eq!(rig.claim.poll::<for_claim::Acknowledged>(0), None);
        rig.kept.status.ownership = Ownership::Claimed as u8;
        rig.keystore_answers = true;
        rig.run();
        assert_eq!(rig.claim.poll::<for_claim::Acknowledged>(0), Some(Ok(())));
    }
}

#[test]
fn a_committed_node_takes_the_committed_configuration_and_no_other() {
    let mut rig = Rig::holding();
    rig.open(1).unwrap();
    rig.commit();
    let end = EndRequest::new(rig.rules.gate, Closed::PeerLeft);
    rig.claim::<for_claim::Ended>(&end).unwrap();
    assert_eq!((rig.core.phase(), rig.rules.gate), (Phase::Committed, 0));
    rig.open(2).unwrap();
    assert_eq!(rig.stage(&configuration(81)), Err(refused(Refusal::Configuration)));
    rig.commit();
    assert_eq!(rig.core.configuration(), Some(&*configuration(80)));
}

#[test]
fn a_configuration_must_have_its_length_and_hash() {
    let mut rig = Rig::holding();
    assert_eq!(rig.stage(b""), Err(refused(Refusal::Gate)));
    rig.open(1).unwrap();
    let mut request = StageRequest::new_zeroed();
    request.gate = rig.rules.gate;
    for length in [1, 4096, 4097, u64::MAX] {
        request.length = length;
        assert_eq!(rig.claim::<for_claim::Stage>(&request), Err(refused(Refusal::Configuration)));
    }
}

#[test]
fn a_claim_that_died_after_the_commit_is_followed_by_the_keystores_word() {
    let mut rig = Rig::holding();
    rig.open(1).unwrap();
    rig.kept.status.ownership = Ownership::Committed as u8;
    rig.change();
    assert_eq!(rig.core.phase(), Phase::Committed);
    rig.kept.status.ownership = Ownership::Claimed as u8;
    rig.change();
    assert_eq!((rig.core.phase(), rig.rules.gate), (Phase::Claimed, 0));
}

#[test]
fn unknown_operations_are_refused_and_lies_are_reported() {
    let mut rig = Rig::holding();
    assert_eq!(rig.claim::<for_beacon::OpenGate>(&GateRequest::new_zeroed()), Err(refused(Refusal::NotAllowed)));
    rig.beacon.call::<for_claim::Started>(&1, 0, Patience::ENDLESS);
    rig.run();
    assert_eq!(rig.beacon.poll::<for_claim::Started>(0), Some(Err(refused(Refusal::NotAllowed))));
}
