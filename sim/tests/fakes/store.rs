//! The store in lifecycle's tests.

#[path = "../../../crates/domains/lifecycle/src/tests/store.rs"]
pub mod fake;

use calls::store::{
    BlockPlace, CONFIGURATIONS, MAX_BLOCKS, Refusal, SEALED_BLOCK, WriteBlockRequest, for_lifecycle::*,
};
use node::store::{Ports, Store};
use proptest::prelude::*;
use shm::mailbox::{CallError, Client, Operation, Patience, Server};
use sim::nor::Nor;

use super::real::mailbox;

/// As small as it may be: what is compared does not depend on it.
const BLOCK: usize = 256 << 10;

#[derive(Debug, Clone, Copy)]
enum Action {
    Read(u64, u64),
    Write(u64, u64, u8),
    Erase(u64),
}

/// What an action brought: the bytes of a block.
type Answer = Result<Vec<u8>, Refusal>;

fn ask<O: Operation>(
    client: &mut Client<'static>,
    request: &O::Request,
    serve: &mut dyn FnMut(),
) -> Result<O::Reply, Refusal> {
    client.call::<O>(request, 0, Patience::ENDLESS);
    serve();
    client.poll::<O>(0).expect("an answer").map_err(|error| match error {
        CallError::Refused(code) => Refusal::from_number(code.into()).expect("a known refusal"),
        other => panic!("{other:?}"),
    })
}

fn act(action: Action, client: &mut Client<'static>, serve: &mut dyn FnMut()) -> Answer {
    match action {
        Action::Read(slot, index) => {
            ask::<ReadBlock>(client, &BlockPlace { slot, index }, serve).map(|block| block.to_vec())
        }
        Action::Write(slot, index, byte) => {
            let request = WriteBlockRequest { place: BlockPlace { slot, index }, sealed: [byte; SEALED_BLOCK] };
            ask::<WriteBlock>(client, &request, serve).map(|()| Vec::new())
        }
        Action::Erase(slot) => ask::<EraseSlot>(client, &slot, serve).map(|()| Vec::new()),
    }
}

fn compare(actions: &[Action]) {
    let (mut to_fake, mut server) = mailbox::<{ MAX_REQUEST }>();
    let mut fake = fake::Store::new();
    let ((mut to_real, lifecycle), (_, keystore)) = (mailbox(), mailbox());
    let mut ports = Ports { keystore, lifecycle };
    let mut real = Store::new(Nor::new(BLOCK));
    for (at, action) in actions.iter().enumerate() {
        let got = act(*action, &mut to_fake, &mut || answer(&mut fake, &mut server));
        let wanted = act(*action, &mut to_real, &mut || while real.step(0, &mut ports) {});
        assert_eq!(got, wanted, "the fake and the store: {:?}", &actions[..=at]);
    }
}

fn answer(fake: &mut fake::Store, server: &mut Server<'static, { MAX_REQUEST }>) {
    if let Some(call) = server.take().expect("a call") {
        fake.answer(server, &call);
    }
}

fn action() -> impl Strategy<Value = Action> {
    let place = (0..=CONFIGURATIONS as u64, 0..=MAX_BLOCKS as u64);
    prop_oneof![
        place.clone().prop_map(|(slot, index)| Action::Read(slot, index)),
        (place, proptest::sample::select(&[0x55, 0xaa, 0x11]))
            .prop_map(|((slot, index), byte)| Action::Write(slot, index, byte)),
        (0..=CONFIGURATIONS as u64).prop_map(Action::Erase),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn the_store_of_lifecycles_tests_is_the_store(actions in proptest::collection::vec(action(), 0..30)) {
        compare(&actions);
    }
}
