//! The keystore in mesh's tests, and in which phases their lifecycle refuses.

#[path = "../../../crates/domains/mesh/src/tests/domains.rs"]
#[expect(dead_code, reason = "what mesh's tests have them do wrong, and what they look at")]
mod fake;

use calls::{
    keystore::{Ownership, Refusal, for_claim, for_mesh::*},
    lifecycle::{
        ApplyRequest,
        for_mesh::{Apply, Joined},
    },
    mesh::Membership,
};
use crypto::{Secret, noise::Symmetric};
use node::keystore::Channel;
use proptest::prelude::*;
use shm::{
    ReadWrite, cell,
    mailbox::{Client, Patience},
};
use wire::{
    Key,
    command::{self, Command},
    handshake::{FinishHandshake, ReadHandshake, StartHandshake},
    order::{Kind, Order},
    set::{Authority, AuthoritySet},
    telemetry::CommandResult,
};
use zerocopy::{FromZeros, IntoBytes};

use super::{
    Facts, Keystore, anchor, bind, gate,
    real::{Real, mailbox, region},
};

/// A keystore that can get an owner.
trait Owned: Keystore {
    fn new() -> Self;
    /// Commits a binding.
    fn commit(&mut self);
    fn fiduciary(&self) -> Key;
    /// Of the authority's commands to the owned node.
    fn command_key(&self) -> Secret;
}

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

impl Owned for Fake {
    fn new() -> Self {
        let (client, server) = mailbox();
        Self { keystore: fake::Keystore::new(server, 2), client }
    }

    fn commit(&mut self) {
        self.keystore.owned = true;
    }

    fn fiduciary(&self) -> Key {
        self.keystore.fiduciary
    }

    fn command_key(&self) -> Secret {
        self.keystore.command_key.clone()
    }
}

struct Claimable {
    keystore: Real,
    fiduciary: Key,
    command_key: Secret,
}

impl Keystore for Claimable {
    fn client(&mut self) -> &mut Client<'static> {
        self.keystore.client()
    }

    fn serve(&mut self) {
        self.keystore.serve();
    }
}

impl Owned for Claimable {
    fn new() -> Self {
        let keystore = Real::forked(&anchor(), Channel::Mesh);
        Self { keystore, fiduciary: [0; 32], command_key: Secret::new([0; 32]) }
    }

    fn commit(&mut self) {
        let claim = Channel::Claim;
        let identity = self.keystore.ask_from::<for_claim::Identify>(claim, &[0; 32]).expect("an identity");
        let title = bind(&identity).sign(&anchor());
        let claim_key = self.keystore.ask_from::<for_claim::ClaimKey>(claim, &()).expect("a key");
        self.fiduciary = identity.fiduciary;
        self.command_key = command::key(&anchor().dh, &claim_key, &title).expect("a good key");
        self.keystore.ask_from::<for_claim::Commit>(claim, &title).expect("a pairing record");
    }

    fn fiduciary(&self) -> Key {
        self.fiduciary
    }

    fn command_key(&self) -> Secret {
        self.command_key.clone()
    }
}

#[derive(Debug, Clone, Copy)]
enum Initiation {
    Good,
    BrokenStatic,
    BrokenTimestamp,
    /// An ephemeral key of small order.
    SmallOrder,
}

#[derive(Debug, Clone, Copy)]
enum Call {
    MeshKey,
    Random,
    Prove,
    /// To a peer with a good key, or one of small order.
    Start(bool),
    Finish(bool),
    Read(Initiation),
    /// This operation, with a counter so far from the last one's, by the authority or not, to this node or not.
    Command {
        operation: u8,
        counter: i8,
        genuine: bool,
        ours: bool,
    },
}

struct Side<K> {
    keystore: K,
    mesh_key: Key,
    fiduciary: Key,
    command_key: Secret,
    drawn: Vec<[u8; 32]>,
    stamp: [u8; 12],
    counter: u32,
}

fn peer() -> Secret {
    Secret::new([7; 32])
}

impl<K: Owned> Side<K> {
    fn new() -> Self {
        // Another one of the same keys tells what its peers know.
        let mut twin = K::new();
        twin.commit();
        Self {
            keystore: K::new(),
            mesh_key: twin.ask::<MeshKey>(&()).expect("a key"),
            fiduciary: twin.fiduciary(),
            command_key: twin.command_key(),
            drawn: Vec::new(),
            stamp: [0; 12],
            counter: 100,
        }
    }

    fn commit(&mut self) {
        self.keystore.commit();
        // Its binding has a nonce of its own.
        self.command_key = self.keystore.command_key();
    }

    fn make(&mut self, call: Call) -> Result<Facts, Refusal> {
        match call {
            Call::MeshKey => Ok(vec![("the key", self.keystore.ask::<MeshKey>(&())? == self.mesh_key)]),
            Call::Prove => self.keystore.ask::<Prove>(&()).map(|_| vec![]),
            Call::Random => {
                let random = self.keystore.ask::<MeshRandom>(&())?;
                let fresh = !self.drawn.contains(&random);
                self.drawn.push(random);
                Ok(vec![("fresh", fresh)])
            }
            Call::Start(good) => self.start(good),
            Call::Finish(good) => {
                let ephemeral = if good { crypto::dh_public(&peer()) } else { [0; 32] };
                let chaining_key = [3; 32];
                let next = self.keystore.ask::<FinishMeshHandshake>(&FinishHandshake { chaining_key, ephemeral })?;
                let mut state = Symmetric { chaining_key, hash: [0; 32] };
                state.mix_key(&*crypto::dh(&peer(), &self.mesh_key).expect("a good key"));
                Ok(vec![("the peer's state", next == state.chaining_key)])
            }
            Call::Read(initiation) => self.read(initiation),
            Call::Command { operation, counter, genuine, ours } => {
                let counter = self.counter.saturating_add_signed(counter.into());
                let fiduciary = if ours { self.fiduciary } else { self.fiduciary.map(|byte| !byte) };
                let key = if genuine { self.command_key.clone() } else { Secret::new([8; 32]) };
                let command = Command::new(&key, &fiduciary, operation, 77, counter);
                let reply = self.keystore.ask::<CheckCommand>(&command)?;
                self.counter = counter;
                let said = (reply.operation, reply.argument, reply.counter, reply.authority);
                Ok(vec![("what was commanded", said == (operation.into(), 77, counter, 0))])
            }
        }
    }

    fn start(&mut self, good: bool) -> Result<Facts, Refusal> {
        let peer_key = if good { crypto::dh_public(&peer()) } else { [0; 32] };
        let (chaining_key, hash) = ([3; 32], [4; 32]);
        let reply = self.keystore.ask::<StartMeshHandshake>(&StartHandshake { chaining_key, hash, peer: peer_key })?;
        let mut state = Symmetric { chaining_key, hash };
        let key = state.mix_key(&*crypto::dh(&peer(), &self.mesh_key).expect("a good key"));
        let (mut stamp, tag) = ([0; 12], reply.timestamp.last_chunk().expect("a tag"));
        stamp.copy_from_slice(&reply.timestamp[..12]);
        let opened = state.decrypt_and_hash(&key, &mut stamp, tag);
        let before = std::mem::replace(&mut self.stamp, stamp);
        Ok(vec![
            ("sealed for the peer", opened),
            ("a rising timestamp", stamp > before),
            ("the peer's state", (reply.chaining_key, reply.hash) == (state.chaining_key, state.hash)),
        ])
    }

    fn read(&mut self, initiation: Initiation) -> Result<Facts, Refusal> {
        let secret = Secret::new([5; 32]);
        let (chaining_key, hash) = ([3; 32], [4; 32]);
        let mut state = Symmetric { chaining_key, hash };
        let mut seal = |secret: &Secret, text: &mut [u8]| {
            let key = state.mix_key(&*crypto::dh(secret, &self.mesh_key).expect("a good key"));
            let tag = state.encrypt_and_hash(&key, text);
            [&*text, &tag].concat()
        };
        let encrypted_static = seal(&secret, &mut crypto::dh_public(&peer()));
        let encrypted_timestamp = seal(&peer(), &mut [9; 12]);
        let mut request = ReadHandshake {
            chaining_key,
            hash,
            ephemeral: crypto::dh_public(&secret),
            encrypted_static: encrypted_static.try_into().expect("48 bytes"),
            encrypted_timestamp: encrypted_timestamp.try_into().expect("28 bytes"),
            zero: [0; 4],
        };
        match initiation {
            Initiation::Good => {}
            Initiation::BrokenStatic => request.encrypted_static[7] ^= 1,
            Initiation::BrokenTimestamp => request.encrypted_timestamp[7] ^= 1,
            Initiation::SmallOrder => request.ephemeral = [0; 32],
        }
        let reply = self.keystore.ask::<ReadMeshHandshake>(&request)?;
        Ok(vec![
            ("the peer", (reply.peer, reply.timestamp) == (crypto::dh_public(&peer()), [9; 12])),
            ("the peer's state", (reply.chaining_key, reply.hash) == (state.chaining_key, state.hash)),
        ])
    }
}

/// Makes the same calls at both, with a binding committed after some of them, and compares what comes of each.
fn compare(calls: &[Call], owned_after: usize) -> Vec<Result<Facts, Refusal>> {
    let (mut real, mut fake) = (Side::<Claimable>::new(), Side::<Fake>::new());
    let mut outcomes = Vec::new();
    for (at, call) in calls.iter().enumerate() {
        if at == owned_after {
            real.commit();
            fake.commit();
        }
        let (wanted, got) = (real.make(*call), fake.make(*call));
        assert_eq!(got, wanted, "the fake and the keystore, owned after {owned_after} calls: {:?}", &calls[..=at]);
        outcomes.push(wanted);
    }
    outcomes
}

const INITIATIONS: [Initiation; 4] =
    [Initiation::Good, Initiation::BrokenStatic, Initiation::BrokenTimestamp, Initiation::SmallOrder];

#[test]
fn the_keystore_of_meshs_tests_is_the_keystore_before_and_after_a_claim() {
    let mut calls = vec![Call::MeshKey, Call::Random, Call::Random, Call::Prove];
    calls.extend([true, false, true].into_iter().flat_map(|good| [Call::Start(good), Call::Finish(good)]));
    calls.extend(INITIATIONS.map(Call::Read));
    for operation in 0..=8 {
        for (counter, genuine, ours) in [
            (1, true, true),
            (0, true, true),
            (-1, true, true),
            (1, false, true),
            (0, false, true),
            (1, true, false),
            (1, false, false),
            (0, true, false),
        ] {
            calls.push(Call::Command { operation, counter, genuine, ours });
        }
    }
    let number = calls.len();
    calls.extend(calls.clone());
    let outcomes = compare(&calls, number);
    for refusal in [Refusal::NotReady, Refusal::Forged, Refusal::NotMine, Refusal::Stale] {
        assert!(outcomes.contains(&Err(refusal)), "nothing was refused as {refusal:?}");
    }
}

/// An update that the authority of lifecycle's tests has signed.
fn update(counter: u64) -> ApplyRequest {
    let authority = super::lifecycle::fake::authority();
    let mut order = Order::new(Kind::Configuration, b"");
    order.counter = counter.into();
    order.set = AuthoritySet::alone(Authority::signer(&authority.public())).hash();
    let order = order.sign(&authority, 0);
    let mut request = ApplyRequest::new_zeroed();
    request.length = size_of_val(&order) as u64;
    request.staged[..size_of_val(&order)].copy_from_slice(order.as_bytes());
    request
}

#[test]
fn the_lifecycle_of_meshs_tests_refuses_in_the_phases_in_which_lifecycle_does() {
    for owner in [Ownership::Unclaimed, Ownership::Committed, Ownership::Claimed] {
        let mut real = gate::Real::new();
        real.show(owner, gate::NOW);
        let (mut client, server) = mailbox();
        let mut membership = Membership::new_zeroed();
        membership.phase = real.rules().phase;
        let cell = cell::Writer::new(ReadWrite::new(region())).expect("room");
        let result = CommandResult::Done;
        let mut fake = fake::Lifecycle { server, cell, membership, told: Vec::new(), trouble: None, result };
        let mut ask = |update: Option<&ApplyRequest>| {
            match update {
                None => client.call::<Joined>(&(), 0, Patience::ENDLESS),
                Some(update) => client.call::<Apply>(update, 0, Patience::ENDLESS),
            }
            fake.serve();
            gate::outcome(match update {
                None => client.poll::<Joined>(0).expect("an answer").map(|()| 0),
                Some(_) => client.poll::<Apply>(0).expect("an answer"),
            })
        };
        for counter in 1..4 {
            let request = update(counter);
            assert_eq!(ask(Some(&request)), real.ask_from_mesh::<Apply>(&request), "{owner:?}, update {counter}");
            assert_eq!(ask(None), real.ask_from_mesh::<Joined>(&()).map(|()| 0), "{owner:?}, after update {counter}");
        }
    }
}

fn call() -> impl Strategy<Value = Call> {
    let command = (0u8..8, -2i8..4, any::<bool>(), any::<bool>())
        .prop_map(|(operation, counter, genuine, ours)| Call::Command { operation, counter, genuine, ours });
    prop_oneof![
        1 => Just(Call::MeshKey),
        1 => Just(Call::Prove),
        1 => Just(Call::Random),
        2 => any::<bool>().prop_map(Call::Start),
        1 => any::<bool>().prop_map(Call::Finish),
        2 => proptest::sample::select(&INITIATIONS).prop_map(Call::Read),
        4 => command,
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn the_keystore_of_meshs_tests_is_the_keystore(
        calls in proptest::collection::vec(call(), 0..40),
        owned_after in 0usize..20,
    ) {
        compare(&calls, owned_after);
    }
}
