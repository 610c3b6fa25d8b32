//! The keystore in lifecycle's tests.

#[path = "../../../crates/domains/lifecycle/src/tests/keystore.rs"]
pub mod fake;

use calls::{
    keystore::{
        OpenBlockRequest, OrderRequest, Ownership, Refusal, SealBlockRequest, State, StatusReply, for_claim,
        for_lifecycle::*,
    },
    store::{BLOCK, MAX_BLOCKS, SEALED_BLOCK},
};
use node::keystore::Channel;
use proptest::prelude::*;
use shm::mailbox::{Client, Server};
use wire::{
    Key, U64,
    binding::{Identity, PairingRecord},
    order::{Isolation, Kind, Order as Ordered},
    record::AuthorityRecord,
    set::{Authority, AuthoritySet},
    title::Title,
};
use zerocopy::{FromZeros, IntoBytes};

use super::{
    Facts, Keystore, anchor, bind,
    real::{Real, mailbox},
    stranger,
};

/// What happens at the keystore without lifecycle; a test of lifecycle writes it into the status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Event {
    /// There are keys.
    Ready,
    /// Claim has it show what it is, with a nonce.
    Shown,
    Committed,
    Acknowledged,
    EntropyLost,
}

/// A keystore to which these things happen.
trait Eventful: Keystore {
    fn new() -> Self;
    /// That it happens now makes sense.
    fn happens(&mut self, event: Event);
}

struct Fake {
    keystore: fake::Keystore,
    client: Client<'static>,
    server: Server<'static, MAX_REQUEST>,
}

impl Keystore for Fake {
    fn client(&mut self) -> &mut Client<'static> {
        &mut self.client
    }

    fn serve(&mut self) {
        if let Some(call) = self.server.take().expect("a call") {
            self.keystore.answer(&mut self.server, &call);
        }
    }
}

impl Eventful for Fake {
    fn new() -> Self {
        let (client, server) = mailbox();
        let status = StatusReply::new_zeroed();
        Self {
            keystore: fake::Keystore {
                status,
                counter: 0,
                record: [0; 32],
                identity: None,
                bound: None,
                adopted: None,
            },
            client,
            server,
        }
    }

    fn happens(&mut self, event: Event) {
        let status = &mut self.keystore.status;
        match event {
            Event::Ready => status.state = State::Ready as u8,
            Event::Shown => {}
            Event::Committed => {
                status.ownership = Ownership::Committed as u8;
                (status.epoch, status.fleet) = (1, [9; 32]);
                self.keystore.counter = 1;
            }
            Event::Acknowledged => status.ownership = Ownership::Claimed as u8,
            Event::EntropyLost => status.state = State::EntropyLost as u8,
        }
    }
}

struct Node {
    keystore: Real,
    identity: Option<Identity>,
    committed: Option<(Title, PairingRecord)>,
}

impl Keystore for Node {
    fn client(&mut self) -> &mut Client<'static> {
        self.keystore.client()
    }

    fn serve(&mut self) {
        self.keystore.serve();
    }
}

impl Eventful for Node {
    fn new() -> Self {
        Self { keystore: Real::cold(&anchor(), Channel::Lifecycle), identity: None, committed: None }
    }

    fn happens(&mut self, event: Event) {
        let (claim, keystore) = (Channel::Claim, &mut self.keystore);
        match event {
            Event::Ready => keystore.power_up(),
            Event::Shown => {
                self.identity = keystore.ask_from::<for_claim::Identify>(claim, &[0; 32]).ok();
            }
            Event::Committed => {
                let identity = keystore.ask_from::<for_claim::Identify>(claim, &[0; 32]).expect("an identity");
                let title = bind(&identity).sign(&anchor());
                let record = keystore.ask_from::<for_claim::Commit>(claim, &title).expect("a pairing record");
                (self.identity, self.committed) = (Some(identity), Some((title, record)));
            }
            Event::Acknowledged => {
                let (_, record) = self.committed.expect("a binding");
                keystore.ask_from::<for_claim::Acknowledge>(claim, &record.hash()).expect("an end of the claim");
            }
            Event::EntropyLost => keystore.lose_entropy(),
        }
    }
}

#[derive(Debug, Clone, Copy)]
enum Flaw {
    Fleet,
    Fiduciary,
    Set,
    Kind,
    EpochBehind,
    EpochAhead,
    Signer,
    Unsigned,
    /// What the signature covers was changed afterwards.
    Body,
}

#[derive(Debug, Clone, Copy)]
enum Unbound {
    Nonce,
    Fiduciary,
    MeshKey,
    Fork,
    Epoch,
    Counter,
    Configuration,
    Signer,
}

const UNBOUND: [Unbound; 8] = [
    Unbound::Nonce,
    Unbound::Fiduciary,
    Unbound::MeshKey,
    Unbound::Fork,
    Unbound::Epoch,
    Unbound::Counter,
    Unbound::Configuration,
    Unbound::Signer,
];

#[derive(Debug, Clone, Copy)]
enum Call {
    Status,
    Owner,
    /// A binding to what was shown last.
    Bind(Option<Unbound>),
    Fork,
    CloseGate,
    Settle,
    /// Seals a block of this index, and opens it for the configuration and as the block of this one.
    Seal {
        index: u64,
        open: (u8, u64),
        /// A bit of it has changed.
        flaw: bool,
    },
    /// With a counter so far from that in force, and this configuration.
    Configure {
        counter: i8,
        configuration: u8,
        flaw: Option<Flaw>,
    },
    /// Of an isolation by this command; there is none.
    Rejoin {
        counter: i8,
        of: u8,
        flaw: Option<Flaw>,
    },
    /// One that many steps ahead, for a set of the same one; or one whose fleet, link or signature is another's.
    Adopt {
        ahead: u8,
        flaw: u8,
    },
}

#[derive(Debug, Clone, Copy)]
enum Action {
    Call(Call),
    /// Unless it makes no sense now.
    Event(Event),
}

struct Side<K> {
    keystore: K,
    /// What the administrator counts up.
    counter: u64,
    shown: Option<Identity>,
    /// The hash of the record that is in force.
    record: wire::Hash,
    set: AuthoritySet,
}

impl<K: Eventful> Side<K> {
    fn new() -> Self {
        let set = AuthoritySet::alone(Authority::signer(&anchor().public()));
        Self { keystore: K::new(), counter: 1, shown: None, record: [0; 32], set }
    }

    fn status(&mut self) -> StatusReply {
        self.keystore.ask::<Status>(&()).expect("a status")
    }

    fn make(&mut self, call: Call) -> Result<Facts, Refusal> {
        match call {
            Call::Status => {}
            Call::Owner => {
                let owner = self.keystore.ask::<Owner>(&())?;
                let (status, warrant) = (self.status(), Title::new_zeroed().warrant);
                return Ok(vec![
                    ("the set", owner.set == self.set),
                    ("when", (owner.epoch, owner.sequence) == (status.epoch, status.sequence)),
                    ("inside", owner.addresses == warrant.addresses),
                    ("outside", (owner.underlay, owner.gateway) == (warrant.underlay, warrant.gateway)),
                ]);
            }
            Call::Bind(flaw) => self.keystore.ask::<CheckBinding>(&self.bind(flaw))?,
            Call::Fork => self.keystore.ask::<Fork>(&())?,
            Call::CloseGate => self.keystore.ask::<CloseGate>(&())?,
            Call::Settle => self.keystore.ask::<Settle>(&())?,
            Call::Seal { index, open, flaw } => {
                let request = SealBlockRequest { configuration: [1; 32], index, plain: [7; BLOCK] };
                let mut sealed = self.keystore.ask::<SealBlock>(&request)?;
                sealed[SEALED_BLOCK / 2] ^= u8::from(flaw);
                let request = OpenBlockRequest { configuration: [open.0; 32], index: open.1, sealed };
                assert_eq!(self.keystore.ask::<OpenBlock>(&request)?, [7; BLOCK]);
            }
            Call::Configure { counter, configuration, flaw } => {
                let order = Ordered { body: [configuration; 32], ..Ordered::new(Kind::Configuration, &[]) };
                self.order(order, &[], counter, flaw)?;
            }
            Call::Rejoin { counter, of, flaw } => {
                let isolation = Isolation { authority: 0.into(), counter: u32::from(of).into() };
                let body = isolation.as_bytes();
                self.order(Ordered::new(Kind::Rejoin, body), body, counter, flaw)?;
            }
            Call::Adopt { ahead, flaw } => {
                let mut set = AuthoritySet::alone(Authority::signer(&anchor().public()));
                // Where it is in the mesh is another matter.
                set.authorities[0].mesh = stranger().public().dh;
                set.authorities[0].inner = [0xfd; 16];
                let (mut fleet, mut previous) = ([9; 32], self.record);
                fleet[0] ^= u8::from(flaw == 1);
                previous[0] ^= u8::from(flaw == 2);
                let sequence = self.status().sequence + u64::from(ahead);
                let record = AuthorityRecord::new(&fleet, sequence, &previous, &set);
                let signer = if flaw == 3 { stranger() } else { anchor() };
                let record = record.sign_as_old(&signer, 0).sign_as_new(&anchor(), 0);
                self.keystore.ask::<Adopt>(&record)?;
                (self.record, self.set) = (record.hash(), set);
            }
        }
        Ok(vec![])
    }

    fn order(&mut self, order: Ordered, body: &[u8], counter: i8, flaw: Option<Flaw>) -> Result<(), Refusal> {
        let fiduciary: Key = self.status().fiduciary;
        let mut order = Ordered { fleet: [9; 32], fiduciary, epoch: U64::new(1), ..order };
        order.set = self.set.hash();
        order.counter = U64::new(self.counter.saturating_add_signed(counter.into()));
        match flaw {
            Some(Flaw::Fleet) => order.fleet[0] ^= 1,
            Some(Flaw::Fiduciary) => order.fiduciary[0] ^= 1,
            Some(Flaw::Set) => order.set[0] ^= 1,
            Some(Flaw::Kind) => order.kind = 77.into(),
            Some(Flaw::EpochBehind) => order.epoch = U64::new(0),
            Some(Flaw::EpochAhead) => order.epoch = U64::new(2),
            _ => {}
        }
        let order = match flaw {
            Some(Flaw::Unsigned) => order,
            Some(Flaw::Signer) => order.sign(&stranger(), 0),
            Some(Flaw::Body) => Ordered { length: 9.into(), ..order.sign(&anchor(), 0) },
            _ => order.sign(&anchor(), 0),
        };
        let request = OrderRequest::new(&order, body).expect("a short body");
        let said = self.keystore.ask::<CheckOrder>(&request);
        let done = self.keystore.ask::<Order>(&request);
        assert_eq!(said, done);
        self.counter = done.map(|()| order.counter.get())?;
        Ok(())
    }

    fn bind(&self, flaw: Option<Unbound>) -> Title {
        let mut title = bind(&self.shown.unwrap_or(Identity::new_zeroed()));
        match flaw {
            Some(Unbound::Nonce) => title.binding.nonce[0] ^= 1,
            Some(Unbound::Fiduciary) => title.warrant.fiduciary[0] ^= 1,
            Some(Unbound::MeshKey) => title.binding.mesh_key[0] ^= 1,
            Some(Unbound::Fork) => title.warrant.fork[0] ^= 1,
            Some(Unbound::Epoch) => title.warrant.epoch = U64::new(2),
            Some(Unbound::Counter) => title.binding.counter = U64::new(0),
            Some(Unbound::Configuration) => title.warrant.configuration[0] ^= 1,
            Some(Unbound::Signer) => return title.sign(&stranger()),
            None => {}
        }
        title.sign(&anchor())
    }

    /// What lifecycle acts by.
    fn acted_by(&mut self) -> (Option<State>, Ownership, [u8; 3], [u64; 2], wire::Hash) {
        let status = self.status();
        let flags = [status.forked, status.isolated, status.ticket_waiting];
        (status.state(), status.ownership(), flags, [status.epoch, status.sequence], status.configuration)
    }
}

/// Makes the same calls at both, to which the same happens, and compares what comes of each and what their status is then.
fn compare(actions: &[Action]) -> Vec<Result<Facts, Refusal>> {
    let (mut real, mut fake) = (Side::<Node>::new(), Side::<Fake>::new());
    let mut outcomes = Vec::new();
    for (at, action) in actions.iter().enumerate() {
        match *action {
            Action::Event(event) => {
                let now = real.status();
                let (state, owner) = (now.state(), now.ownership());
                let sense = match event {
                    Event::Ready => state == Some(State::Testing),
                    Event::Shown => state == Some(State::Ready) && owner != Ownership::Claimed,
                    Event::Committed => state == Some(State::Ready) && owner == Ownership::Unclaimed,
                    Event::Acknowledged => state == Some(State::Ready) && owner == Ownership::Committed,
                    Event::EntropyLost => state == Some(State::Ready),
                };
                if sense {
                    real.keystore.happens(event);
                    fake.keystore.happens(event);
                    let (node, fake_keystore) = (&real.keystore, &mut fake.keystore.keystore);
                    fake_keystore.bound = node.committed.map(|(binding, _)| binding);
                    if event == Event::Shown {
                        fake_keystore.identity = node.identity;
                    }
                    (real.shown, fake.shown) = (node.identity, node.identity);
                    fake.keystore.keystore.status.fiduciary = real.status().fiduciary;
                }
            }
            Action::Call(call) => {
                let (wanted, got) = (real.make(call), fake.make(call));
                assert_eq!(got, wanted, "the fake and the keystore: {:?}", &actions[..=at]);
                outcomes.push(wanted);
            }
        }
        assert_eq!(fake.acted_by(), real.acted_by(), "the status of the fake and the keystore: {:?}", &actions[..=at]);
    }
    outcomes
}

const FLAWS: [Flaw; 9] = [
    Flaw::Fleet,
    Flaw::Fiduciary,
    Flaw::Set,
    Flaw::Kind,
    Flaw::EpochBehind,
    Flaw::EpochAhead,
    Flaw::Signer,
    Flaw::Unsigned,
    Flaw::Body,
];

#[test]
fn the_keystore_of_lifecycles_tests_is_the_keystore_in_every_state() {
    let mut calls = vec![Call::Status, Call::Owner, Call::CloseGate];
    for (index, open) in [(0, (1, 0)), (1, (1, 1)), (1, (1, 0)), (0, (2, 0)), (MAX_BLOCKS as u64, (1, 0))] {
        calls.extend([false, true].map(|flaw| Call::Seal { index, open, flaw }));
    }
    for flaw in [None].into_iter().chain(FLAWS.map(Some)) {
        for (counter, configuration) in [(1, 1), (0, 1), (0, 2), (-1, 1), (1, 1)] {
            calls.push(Call::Configure { counter, configuration, flaw });
            calls.push(Call::Rejoin { counter, of: configuration, flaw });
        }
    }
    for (ahead, flaw) in [(0, 0), (2, 0), (1, 1), (1, 2), (1, 3), (1, 0), (0, 0), (1, 0)] {
        calls.extend([Call::Adopt { ahead, flaw }, Call::Owner]);
    }
    calls.extend([None].into_iter().chain(UNBOUND.map(Some)).map(Call::Bind));
    let every = || calls.iter().copied().map(Action::Call);
    let [fork, settle] = [Call::Fork, Call::Settle].map(Action::Call);
    let mut refusals = Vec::new();
    for forks_first in [true, false] {
        for settles in [true, false] {
            let mut actions: Vec<Action> = every().chain([fork, settle, Action::Event(Event::Ready), settle]).collect();
            actions.extend(every().chain([fork, fork].into_iter().filter(|_| forks_first)));
            actions.extend([Action::Event(Event::Shown)].into_iter().chain(every()));
            actions.extend([Action::Event(Event::Committed), fork].into_iter().chain(every()));
            actions.extend(if settles { [settle, settle] } else { [Action::Event(Event::Acknowledged), settle] });
            actions.extend(every().chain([fork, Action::Event(Event::EntropyLost), fork, settle]).chain(every()));
            refusals.extend(compare(&actions).into_iter().filter_map(Result::err));
        }
    }
    for refusal in
        [Refusal::NotReady, Refusal::Taken, Refusal::NotMine, Refusal::Stale, Refusal::Forged, Refusal::Nonce]
    {
        assert!(refusals.contains(&refusal), "nothing was refused as {refusal:?}");
    }
}

fn action() -> impl Strategy<Value = Action> {
    let flaw = proptest::option::weighted(0.3, proptest::sample::select(&FLAWS));
    let order = (-2i8..4, 0u8..3, flaw, any::<bool>()).prop_map(|(counter, of, flaw, rejoin)| match rejoin {
        true => Call::Rejoin { counter, of, flaw },
        false => Call::Configure { counter, configuration: of, flaw },
    });
    let adopt = (0u8..3, 0u8..8).prop_map(|(ahead, flaw)| Call::Adopt { ahead, flaw });
    let event = prop_oneof![
        4 => Just(Event::Ready),
        4 => Just(Event::Shown),
        4 => Just(Event::Committed),
        2 => Just(Event::Acknowledged),
        1 => Just(Event::EntropyLost),
    ];
    prop_oneof![
        1 => Just(Action::Call(Call::CloseGate)),
        1 => Just(Action::Call(Call::Owner)),
        2 => Just(Action::Call(Call::Fork)),
        1 => Just(Action::Call(Call::Settle)),
        4 => order.prop_map(Action::Call),
        2 => adopt.prop_map(Action::Call),
        4 => proptest::option::of(proptest::sample::select(&UNBOUND)).prop_map(|flaw| Action::Call(Call::Bind(flaw))),
        3 => event.prop_map(Action::Event),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn the_keystore_of_lifecycles_tests_is_the_keystore(actions in proptest::collection::vec(action(), 0..40)) {
        compare(&actions);
    }
}
