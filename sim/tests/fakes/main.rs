//! A domain's tests play the other domains. Here each such fake is asked the same as the real core, call by call: it must
//! answer what the real one answers, and refuse what that refuses, for the same reason. A fake that is kinder than the real
//! domain lets a test pass that a node would not.
//!
//! What a test has a fake do on purpose (its troubles and moods: to refuse, to lie, to be silent) is not compared.

mod beacon;
mod claim;
mod disk;
mod gate;
mod lifecycle;
mod mesh;
mod open;
mod real;
mod store;

use calls::keystore::Refusal;
use crypto::AnchorSecret;
use shm::mailbox::{CallError, Client, Operation, Patience};
use wire::{
    U64,
    binding::{ForkRecord, Identity},
    set::{Authority, AuthoritySet},
    title::Title,
};
use zerocopy::FromZeros;

/// What could be told from a reply.
type Facts = Vec<(&'static str, bool)>;

/// A keystore, real or not, with somebody who asks it.
trait Keystore {
    fn client(&mut self) -> &mut Client<'static>;
    /// Answers what has come.
    fn serve(&mut self);

    fn ask<O: Operation>(&mut self, request: &O::Request) -> Result<O::Reply, Refusal> {
        self.client().call::<O>(request, 0, Patience::ENDLESS);
        self.serve();
        let outcome = self.client().poll::<O>(0).expect("an answer");
        outcome.map_err(|error| match error {
            CallError::Refused(code) => Refusal::from_number(code.into()).expect("a known refusal"),
            other => panic!("operation {}: {other:?}", O::OP),
        })
    }
}

fn anchor() -> AnchorSecret {
    AnchorSecret::from_seed(&[1; 32])
}

fn stranger() -> AnchorSecret {
    AnchorSecret::from_seed(&[2; 32])
}

/// The first binding, not signed yet, of a node with this identity to the anchor's fleet.
fn bind(identity: &Identity) -> Title {
    let mut title = Title::new_zeroed();
    title.warrant.fiduciary = identity.fiduciary;
    title.binding.nonce = identity.nonce;
    title.binding.mesh_key = identity.mesh_key;
    title.warrant.fork = ForkRecord::hash(identity.fork());
    title.warrant.fleet = [9; 32];
    title.warrant.epoch = U64::new(1);
    title.binding.counter = U64::new(1);
    title.set = AuthoritySet::alone(Authority::signer(&anchor().public()));
    title
}
