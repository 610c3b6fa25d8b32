//! The keystore in claim's tests.

#[path = "../../../crates/domains/claim/src/tests/keystore.rs"]
#[expect(dead_code, reason = "what claim's tests have it do wrong, and what they look at")]
mod fake;

use calls::keystore::{Initiation, Refusal, for_claim::*};
use crypto::{Secret, noise::Symmetric};
use node::keystore::Channel;
use proptest::prelude::*;
use shm::mailbox::Client;
use wire::{
    Key, U64,
    binding::{Identity, PairingRecord},
    title::Title,
};

use super::{
    Facts, Keystore, anchor, bind,
    real::{Real, mailbox},
    stranger,
};

struct Fake {
    keystore: fake::Keystore,
    client: Client<'static>,
}

impl Keystore for Fake {
    fn client(&mut self) -> &mut Client<'static> {
        &mut self.client
    }

    fn serve(&mut self) {
        self.keystore.serve();
    }
}

fn real() -> Real {
    Real::forked(&anchor(), Channel::Claim)
}

fn fake() -> Fake {
    let (client, server) = mailbox();
    Fake { keystore: fake::Keystore::new(server, &anchor()), client }
}

/// Who begins a handshake.
#[derive(Debug, Clone, Copy)]
enum Initiator {
    Anchor,
    Stranger,
    /// The anchor, but a bit of the encrypted key has changed.
    Broken,
    /// The anchor, with an ephemeral key of small order.
    SmallOrder,
}

/// What is wrong with a binding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flaw {
    Nonce,
    /// The nonce before the last one.
    OldNonce,
    Fiduciary,
    MeshKey,
    Fork,
    EpochBehind,
    EpochAhead,
    Counter,
    Authorities,
    Signer,
    Signature,
}

#[derive(Debug, Clone)]
enum Call {
    ReadInitiation(Initiator),
    ClaimKey,
    Random,
    Identify,
    /// A binding as the last identity wants it, but for these flaws.
    Commit(Vec<Flaw>),
    /// The bytes that were committed, or those of the last attempt.
    CommitAgain,
    /// Acknowledges the last pairing record, or no record.
    Acknowledge(bool),
    /// What is for another channel.
    Foreign,
}

struct Side<K> {
    keystore: K,
    claim_key: Key,
    /// The last one; before the first, what does not change in it, with a nonce of zeros.
    identity: Identity,
    nonces: Vec<[u8; 32]>,
    drawn: Vec<[u8; 32]>,
    title: Option<Title>,
    record: Option<PairingRecord>,
    handshakes: u8,
}

impl<K: Keystore> Side<K> {
    fn new(make: fn() -> K) -> Self {
        // Another one of the same keys tells what an administrator learns before this one is asked anything.
        let mut twin = make();
        let mut identity = twin.ask::<Identify>(&[0; 32]).expect("an identity");
        identity.nonce = [0; 32];
        Self {
            keystore: make(),
            claim_key: twin.ask::<ClaimKey>(&()).expect("a key"),
            identity,
            nonces: Vec::new(),
            drawn: Vec::new(),
            title: None,
            record: None,
            handshakes: 0,
        }
    }

    fn make(&mut self, call: &Call) -> Result<Facts, Refusal> {
        match call {
            Call::ReadInitiation(initiator) => self.read_initiation(*initiator),
            Call::ClaimKey => Ok(vec![("the key", self.keystore.ask::<ClaimKey>(&())? == self.claim_key)]),
            Call::Random => {
                let random = self.keystore.ask::<ClaimRandom>(&())?;
                let fresh = !self.drawn.contains(&random);
                self.drawn.push(random);
                Ok(vec![("fresh", fresh)])
            }
            Call::Identify => self.identify(),
            Call::Commit(flaws) => {
                let title = self.bind(flaws);
                self.commit(title)
            }
            Call::CommitAgain => {
                let title = self.title.unwrap_or_else(|| self.bind(&[]));
                self.commit(title)
            }
            Call::Acknowledge(right) => {
                let hash = self.record.filter(|_| *right).map_or([9; 32], |record| record.hash());
                self.keystore.ask::<Acknowledge>(&hash)?;
                Ok(vec![])
            }
            Call::Foreign => {
                self.keystore.ask::<calls::keystore::for_lifecycle::Settle>(&())?;
                Ok(vec![])
            }
        }
    }

    fn read_initiation(&mut self, initiator: Initiator) -> Result<Facts, Refusal> {
        let who = if matches!(initiator, Initiator::Stranger) { stranger() } else { anchor() };
        let secret = Secret::new([5; 32]);
        let mut ephemeral = crypto::dh_public(&secret);
        let mut state = Symmetric::new(&[b"prologue", &self.claim_key, &ephemeral]);
        state.mix_chaining_key(&ephemeral);
        let (chaining_key, hash) = (state.chaining_key, state.hash);
        let key = state.mix_key(&*crypto::dh(&secret, &self.claim_key).expect("a good key"));
        let mut sealed = who.public().dh;
        let tag = state.encrypt_and_hash(&key, &mut sealed);
        let mut encrypted_static: [u8; 48] = [&sealed[..], &tag].concat().try_into().expect("48 bytes");
        let key = state.mix_key(&*crypto::dh(&who.dh, &self.claim_key).expect("a good key"));
        match initiator {
            Initiator::Broken => encrypted_static[7] ^= 1,
            Initiator::SmallOrder => ephemeral = [0; 32],
            Initiator::Anchor | Initiator::Stranger => {}
        }
        let request = Initiation { chaining_key, hash, ephemeral, encrypted_static };
        let reply = self.keystore.ask::<ReadInitiation>(&request)?;
        Ok(vec![
            ("the initiator's state", (reply.chaining_key, reply.hash) == (state.chaining_key, state.hash)),
            ("the initiator's key", reply.key == *key),
            ("the anchor", reply.peer == anchor().public().dh),
        ])
    }

    fn identify(&mut self) -> Result<Facts, Refusal> {
        self.handshakes += 1;
        let handshake = [self.handshakes; 32];
        let identity = self.keystore.ask::<Identify>(&handshake)?;
        let before = std::mem::replace(&mut self.identity, identity);
        let facts = vec![
            ("signed", identity.verify(&handshake).is_some()),
            ("the same keys", (identity.fiduciary, identity.mesh_key) == (before.fiduciary, before.mesh_key)),
            ("the same fork", identity.fork == before.fork && identity.forked == before.forked),
            ("a fork record", identity.fork().is_some_and(|fork| fork.verify().is_some())),
            ("committed", identity.committed == 1),
            ("the first epoch", identity.epoch == U64::new(0)),
            ("the committed epoch", self.title.is_some_and(|title| identity.epoch == title.warrant.epoch)),
            ("the committed nonce", self.title.is_some_and(|title| identity.nonce == title.binding.nonce)),
            ("a fresh nonce", !self.nonces.contains(&identity.nonce)),
        ];
        self.nonces.push(identity.nonce);
        Ok(facts)
    }

    fn bind(&self, flaws: &[Flaw]) -> Title {
        let mut title = bind(&self.identity);
        for flaw in flaws {
            match flaw {
                Flaw::Nonce => title.binding.nonce[0] ^= 1,
                Flaw::OldNonce => {
                    title.binding.nonce = self.nonces.iter().rev().nth(1).copied().unwrap_or([3; 32]);
                }
                Flaw::Fiduciary => title.warrant.fiduciary[0] ^= 1,
                Flaw::MeshKey => title.binding.mesh_key[0] ^= 1,
                Flaw::Fork => title.warrant.fork[0] ^= 1,
                Flaw::EpochBehind => title.warrant.epoch = U64::new(0),
                Flaw::EpochAhead => title.warrant.epoch = U64::new(2),
                Flaw::Counter => title.binding.counter = U64::new(0),
                Flaw::Authorities => title.set.needed = 2,
                Flaw::Signer | Flaw::Signature => {}
            }
        }
        let signer = if flaws.contains(&Flaw::Signer) { stranger() } else { anchor() };
        let mut title = title.sign(&signer);
        if flaws.contains(&Flaw::Signature) {
            title.binding.signature[40] ^= 1;
        }
        title
    }

    fn commit(&mut self, title: Title) -> Result<Facts, Refusal> {
        if self.record.is_none() {
            self.title = Some(title);
        }
        let record = self.keystore.ask::<Commit>(&title)?;
        let before = self.record.replace(record);
        Ok(vec![
            ("signed", record.verify(&title).is_some()),
            ("the same record", before.is_some_and(|before| before == record)),
        ])
    }
}

/// Makes the same calls at both and compares what comes of each; tells what came.
fn compare(calls: &[Call]) -> Vec<Result<Facts, Refusal>> {
    let (mut real, mut fake) = (Side::new(real), Side::new(fake));
    let mut outcomes = Vec::new();
    for (at, call) in calls.iter().enumerate() {
        let (wanted, got) = (real.make(call), fake.make(call));
        assert_eq!(got, wanted, "the fake and the keystore, asked for {:?}", &calls[..=at]);
        outcomes.push(wanted);
    }
    outcomes
}

/// Each way that a call can go, at least once: at a free node, at one that is committed, at one whose claim is final.
#[test]
fn the_keystore_of_claims_tests_is_the_keystore_at_every_step_of_a_claim() {
    use Call::*;
    let initiators = [Initiator::Anchor, Initiator::Stranger, Initiator::Broken, Initiator::SmallOrder];
    let harmless = || initiators.map(ReadInitiation).into_iter().chain([ClaimKey, Random, Random, Foreign]);
    let mut calls: Vec<Call> = harmless().collect();
    calls.extend([CommitAgain, Acknowledge(false), Identify, Identify]);
    for flaw in FLAWS {
        // The nonce is void after an attempt that named it, and alive after one that did not.
        calls.extend([Commit(vec![flaw]), Commit(vec![flaw]), Identify]);
        let others = FLAWS.into_iter().filter(|other| *other != flaw);
        calls.extend(others.flat_map(|other| [Commit(vec![flaw, other]), Identify]));
    }
    calls.extend([Acknowledge(false), Commit(vec![]), CommitAgain, Commit(vec![]), Commit(vec![Flaw::Nonce])]);
    calls.extend(harmless().chain([Identify, CommitAgain, Acknowledge(false), Acknowledge(true)]));
    calls.extend(harmless().chain([Identify, CommitAgain, Commit(vec![]), Acknowledge(false), Acknowledge(true)]));

    let outcomes = compare(&calls);
    let refusals =
        [Refusal::NotAllowed, Refusal::Forged, Refusal::Stale, Refusal::NotMine, Refusal::Nonce, Refusal::Taken];
    for refusal in refusals {
        assert!(outcomes.contains(&Err(refusal)), "nothing was refused as {refusal:?}");
    }
    assert_eq!(outcomes.last(), Some(&Ok(vec![])), "the claim did not become final");
}

const FLAWS: [Flaw; 11] = [
    Flaw::Nonce,
    Flaw::OldNonce,
    Flaw::Fiduciary,
    Flaw::MeshKey,
    Flaw::Fork,
    Flaw::EpochBehind,
    Flaw::EpochAhead,
    Flaw::Counter,
    Flaw::Authorities,
    Flaw::Signer,
    Flaw::Signature,
];

fn call() -> impl Strategy<Value = Call> {
    let initiator = prop_oneof![
        Just(Initiator::Anchor),
        Just(Initiator::Stranger),
        Just(Initiator::Broken),
        Just(Initiator::SmallOrder)
    ];
    prop_oneof![
        2 => initiator.prop_map(Call::ReadInitiation),
        1 => Just(Call::ClaimKey),
        1 => Just(Call::Random),
        4 => Just(Call::Identify),
        3 => proptest::sample::subsequence(&FLAWS, 0..=3).prop_map(Call::Commit),
        2 => Just(Call::Commit(vec![])),
        2 => Just(Call::CommitAgain),
        2 => any::<bool>().prop_map(Call::Acknowledge),
        1 => Just(Call::Foreign),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn the_keystore_of_claims_tests_is_the_keystore(calls in proptest::collection::vec(call(), 0..40)) {
        compare(&calls);
    }
}
