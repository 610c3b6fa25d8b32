//! The keystore in beacon's tests.

#[path = "../../../crates/domains/beacon/src/tests/keystore.rs"]
mod fake;

use calls::keystore::{Refusal, for_beacon::*, for_claim};
use crypto::{AnchorSecret, Secret};
use node::keystore::Channel;
use proptest::prelude::*;
use shm::mailbox::{Client, Server};
use wire::link::{Find, HelloBody, Open, OpenFor};
use zerocopy::IntoBytes;

use super::{
    Facts, Keystore, anchor, bind,
    real::{Real, mailbox},
    stranger,
};

/// A keystore whose node can be claimed.
trait Claimable: Keystore {
    fn new() -> Self;
    fn claim(&mut self);
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

impl Claimable for Fake {
    fn new() -> Self {
        let (client, server) = mailbox();
        Self { keystore: fake::Keystore::new(anchor().public()), client, server }
    }

    fn claim(&mut self) {
        self.keystore.claimed = true;
    }
}

impl Claimable for Real {
    fn new() -> Self {
        Self::forked(&anchor(), Channel::Beacon)
    }

    fn claim(&mut self) {
        let claim = Channel::Claim;
        let identity = self.ask_from::<for_claim::Identify>(claim, &[0; 32]).expect("an identity");
        let mut title = bind(&identity);
        title.binding.counter = u64::MAX.into();
        let record = self.ask_from::<for_claim::Commit>(claim, &title.sign(&anchor())).expect("a pairing record");
        self.ask_from::<for_claim::Acknowledge>(claim, &record.hash()).expect("an end of the claim");
    }
}

#[derive(Debug, Clone, Copy)]
enum Flaw {
    Header,
    Signer,
    Signature,
    /// What the signature covers was changed afterwards.
    Body,
    /// An open of another node's hello.
    Target,
    /// An open without the key of the cheap check.
    Mac,
}

#[derive(Debug, Clone, Copy)]
enum Call {
    Random,
    /// A find whose counter is so far from the last good one's.
    Find(i8, Option<Flaw>),
    Hello,
    /// An open of the last hello.
    Open(Option<Flaw>),
}

const SENDER: ([u8; 16], [u8; 6]) = ([0xfe; 16], [2; 6]);

struct Side<K> {
    keystore: K,
    hello: HelloBody,
    drawn: Vec<Vec<u8>>,
    counter: u64,
}

impl<K: Claimable> Side<K> {
    fn new() -> Self {
        let hello = K::new().ask::<MakeHello>(&()).expect("a hello").hello.open(&anchor()).expect("an own hello");
        Self { keystore: K::new(), hello, drawn: Vec::new(), counter: 100 }
    }

    fn fresh(&mut self, random: &[u8]) -> bool {
        let fresh = !self.drawn.iter().any(|drawn| drawn == random);
        self.drawn.push(random.to_vec());
        fresh
    }

    fn make(&mut self, call: Call) -> Result<Facts, Refusal> {
        match call {
            Call::Random => {
                let random = self.keystore.ask::<BeaconRandom>(&())?;
                Ok(vec![("fresh", self.fresh(&random))])
            }
            Call::Find(ahead, flaw) => {
                let counter = self.counter.saturating_add_signed(ahead.into());
                let mut find = Find::sign(&signer(flaw), counter, SENDER.0, SENDER.1);
                match flaw {
                    Some(Flaw::Header) => find.as_mut_bytes()[5] ^= 1,
                    Some(Flaw::Signature) => find.signature[40] ^= 1,
                    Some(Flaw::Body) => find.sender_mac[5] ^= 1,
                    _ => {}
                }
                let random = self.keystore.ask::<CheckFind>(&find)?;
                self.counter = counter;
                Ok(vec![("fresh", self.fresh(&random))])
            }
            Call::Hello => {
                let reply = self.keystore.ask::<MakeHello>(&())?;
                let hello = reply.hello.open(&anchor()).expect("a hello for the anchor");
                let before = std::mem::replace(&mut self.hello, hello);
                Ok(vec![
                    ("its nonce", hello.nonce == reply.nonce),
                    ("a fresh nonce", self.fresh(&reply.nonce)),
                    ("the same node", (hello.fiduciary, hello.claim_key) == (before.fiduciary, before.claim_key)),
                    ("nobody's but the anchor's", reply.hello.open(&stranger()).is_none()),
                ])
            }
            Call::Open(flaw) => {
                let open = self.open(flaw);
                let reply = self.keystore.ask::<CheckOpen>(&open)?;
                let told = reply.answer.open(&self.hello.claim_key, &ephemeral(), &open);
                Ok(vec![("an answer for the peer", told == Some(reply.token))])
            }
        }
    }

    fn open(&self, flaw: Option<Flaw>) -> Open {
        let mut hello = self.hello;
        match flaw {
            Some(Flaw::Target) => hello.fiduciary[0] ^= 1,
            Some(Flaw::Mac) => hello.claim_key = crypto::dh_public(&Secret::new([9; 32])),
            _ => {}
        }
        let about = OpenFor { hello: &hello, sender_ip: SENDER.0, sender_mac: SENDER.1 };
        let mut open = Open::sign(&signer(flaw), &ephemeral(), &about).expect("good keys");
        match flaw {
            Some(Flaw::Header) => open.as_mut_bytes()[5] ^= 1,
            Some(Flaw::Signature) => open.signature[40] ^= 1,
            Some(Flaw::Body) => open.sender_mac[5] ^= 1,
            _ => {}
        }
        open
    }
}

fn ephemeral() -> Secret {
    Secret::new([6; 32])
}

fn signer(flaw: Option<Flaw>) -> AnchorSecret {
    if matches!(flaw, Some(Flaw::Signer)) { stranger() } else { anchor() }
}

/// Makes the same calls at both, with a claim after some of them, and compares what comes of each.
fn compare(calls: &[Call], claimed_after: usize) -> Vec<Result<Facts, Refusal>> {
    let (mut real, mut fake) = (Side::<Real>::new(), Side::<Fake>::new());
    let mut outcomes = Vec::new();
    for (at, call) in calls.iter().enumerate() {
        if at == claimed_after {
            real.keystore.claim();
            fake.keystore.claim();
        }
        let (wanted, got) = (real.make(*call), fake.make(*call));
        assert_eq!(got, wanted, "the fake and the keystore, claimed after {claimed_after} calls: {:?}", &calls[..=at]);
        outcomes.push(wanted);
    }
    outcomes
}

const FLAWS: [Flaw; 6] = [Flaw::Header, Flaw::Signer, Flaw::Signature, Flaw::Body, Flaw::Target, Flaw::Mac];

#[test]
fn the_keystore_of_beacons_tests_is_the_keystore_before_and_after_a_claim() {
    let mut calls = vec![Call::Random, Call::Open(None), Call::Random, Call::Hello, Call::Hello, Call::Open(None)];
    for flaw in [None].into_iter().chain(FLAWS.map(Some)) {
        calls.extend([1, 0, -1].map(|ahead| Call::Find(ahead, flaw)));
        calls.extend([Call::Open(flaw), Call::Hello]);
    }
    let number = calls.len();
    calls.extend(calls.clone());
    let outcomes = compare(&calls, number);
    for refusal in [Refusal::Forged, Refusal::Stale, Refusal::NotMine, Refusal::Taken] {
        assert!(outcomes.contains(&Err(refusal)), "nothing was refused as {refusal:?}");
    }
}

fn call() -> impl Strategy<Value = Call> {
    let flaw = || proptest::option::of(proptest::sample::select(&FLAWS));
    prop_oneof![
        1 => Just(Call::Random),
        3 => (-2i8..4, flaw()).prop_map(|(ahead, flaw)| Call::Find(ahead, flaw)),
        2 => Just(Call::Hello),
        3 => flaw().prop_map(Call::Open),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn the_keystore_of_beacons_tests_is_the_keystore(
        calls in proptest::collection::vec(call(), 0..40),
        claimed_after in 0usize..40,
    ) {
        compare(&calls, claimed_after);
    }
}
