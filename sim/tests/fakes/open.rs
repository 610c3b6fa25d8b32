//! The lifecycle in beacon's tests: to whom the gate opens.

#[path = "../../../crates/domains/beacon/src/tests/lifecycle.rs"]
mod fake;

use calls::{
    keystore::Ownership,
    lifecycle::{GateRequest, Refusal},
    rules::Rules,
};
use link::Station;
use proptest::prelude::*;
use shm::Micros;
use wire::Phase;

use super::gate::{NOW, Real};

#[derive(Debug, Clone, Copy)]
enum Action {
    Open(u8),
    /// So many seconds pass.
    Pass(u8),
    /// The keystore's next word about the owner.
    Owner(Ownership),
}

fn request(peer: u8) -> GateRequest {
    GateRequest { peer: Station::new([0xfe; 16], [peer; 6]), token: [7; 16], nonce: [8; 16] }
}

/// Makes the same calls at both, to which the same happens, and compares what comes of each and to whom the gate is open.
fn compare(actions: &[Action]) -> Vec<Result<(), Refusal>> {
    let (mut real, mut fake) = (Real::new(), fake::Gates::default());
    let mut rules = Rules { phase: Phase::Hold as u64, ..Rules::CLOSED };
    let (mut now, mut rivals): (Micros, u32) = (NOW, 0);
    let mut outcomes = Vec::new();
    for (at, action) in actions.iter().enumerate() {
        match *action {
            Action::Open(peer) => {
                let wanted = real.open(&request(peer), now);
                assert_eq!(fake.open(&mut rules, now, &request(peer)), wanted, "{:?}", &actions[..=at]);
                rivals += u32::from(wanted == Err(Refusal::Busy));
                outcomes.push(wanted);
            }
            Action::Pass(seconds) => now += Micros::from(seconds) * 1_000_000,
            Action::Owner(owner) => {
                real.show(owner, now);
                // As a test of beacon enters the phase that lifecycle is in.
                let phase = real.rules().phase;
                if rules.phase != phase {
                    let gate = if phase == Phase::Claimed as u64 { 0 } else { rules.gate };
                    rules = Rules { phase, gate, ..rules };
                }
            }
        }
        let shown = real.rules();
        assert_eq!(rules.phase, shown.phase, "{:?}", &actions[..=at]);
        assert_eq!(rules.open_to(now), shown.open_to(now), "{:?}", &actions[..=at]);
        assert_eq!(fake.rivals, rivals);
        if rules.open_to(now).is_some() {
            assert_eq!((rules.gate, rules.until), (shown.gate, shown.until), "{:?}", &actions[..=at]);
        }
    }
    outcomes
}

#[test]
fn the_lifecycle_of_beacons_tests_is_lifecycle_in_every_phase() {
    let opens = [1, 2, 1].map(Action::Open);
    let mut actions = Vec::new();
    for owner in [Ownership::Unclaimed, Ownership::Committed, Ownership::Claimed] {
        actions.push(Action::Owner(owner));
        for seconds in [1, 28, 1, 29, 30, 31] {
            actions.extend(opens);
            actions.push(Action::Pass(seconds));
        }
    }
    let outcomes = compare(&actions);
    for outcome in [Ok(()), Err(Refusal::Busy), Err(Refusal::Phase)] {
        assert!(outcomes.contains(&outcome), "{outcome:?} never came");
    }
}

fn action() -> impl Strategy<Value = Action> {
    prop_oneof![
        6 => (1u8..4).prop_map(Action::Open),
        3 => (0u8..40).prop_map(Action::Pass),
        1 => prop_oneof![4 => Just(Ownership::Unclaimed), 4 => Just(Ownership::Committed), 1 => Just(Ownership::Claimed)]
            .prop_map(Action::Owner),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn the_lifecycle_of_beacons_tests_is_lifecycle(actions in proptest::collection::vec(action(), 0..60)) {
        compare(&actions);
    }
}
