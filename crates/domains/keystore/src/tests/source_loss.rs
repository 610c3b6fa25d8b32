//! Sources that fail, at the start and later, and a generator that gets no fresh samples.

use calls::keystore::{for_beacon, for_claim};

use super::{
    source::{Biased, Stuck},
    *,
};
use crate::source::{RESEED_AFTER, RESEED_LIMIT};

fn random(rig: &mut Rig) -> Result<[u8; 32], Refusal> {
    rig.ask::<for_beacon::BeaconRandom>(Channel::Beacon, &())
}

/// Everything that wants randomness, in a node that is not claimed.
fn fresh_operations(rig: &mut Rig) -> Vec<Option<Refusal>> {
    let hello = HelloBody { fiduciary: rig.status().fiduciary, ..HelloBody::new_zeroed() };
    let keys = Keys::derive(&rig.board.root_seed());
    let open = open_for(&HelloBody { claim_key: keys.public.claim, ..hello }, &admin(), 3);
    let title = Title::new_zeroed();
    vec![
        rig.fork().err(),
        rig.find(1 << 40).err(),
        rig.ask::<for_beacon::MakeHello>(Channel::Beacon, &()).err(),
        rig.ask::<for_beacon::CheckOpen>(Channel::Beacon, &open).err(),
        random(rig).err(),
        rig.identify().err(),
        rig.commit(&title).err(),
        rig.acknowledge(&[0; 32]).err(),
        rig.ask::<for_claim::ClaimRandom>(Channel::Claim, &()).err(),
    ]
}

#[test]
fn a_source_that_fails_at_the_start_gets_no_key() {
    // The last window of the adaptive proportion test is two blocks long.
    for late in [0, 5, BLOCKS - 2] {
        for board in [Board::anchored(), Board::ticket()] {
            for (bad, test) in [
                (Box::new(Stuck(0)) as Box<dyn Source>, HealthTest::Repetition as u8),
                (Box::new(Biased::new(4, 0.98)), HealthTest::Repetition as u8),
                (Box::new(Alternating(0)), HealthTest::Proportion as u8),
            ] {
                let mut rig = Rig::cold(board, Disk::default());
                rig.source_lives = false;
                for _ in 0..late {
                    rig.feed();
                    rig.run();
                }
                rig.source = bad;
                rig.source_lives = true;
                rig.feed();
                rig.run();
                let status = rig.status();
                assert_eq!((status.state, status.fiduciary), (State::NoEntropy as u8, [0; 32]));
                if late == 0 {
                    assert_eq!(status.failed_test, test);
                }
                // Latched: a source that recovers changes nothing, and nothing is asked of it.
                rig.source = Box::new(Good::new(1));
                for _ in 0..2 * BLOCKS {
                    rig.feed();
                    rig.run();
                    assert_eq!(rig.told, []);
                }
                assert_eq!(rig.status(), status);
                assert_eq!(rig.disk.writes(), 0);
                assert!(rig.shown_ticket().is_none());
                assert_eq!(fresh_operations(&mut rig), vec![Some(Refusal::NotReady); 9]);
                assert_eq!(rig.ask::<for_claim::ClaimKey>(Channel::Claim, &()), Err(Refusal::NotReady));
            }
        }
    }
}

struct Alternating(u8);

impl Source for Alternating {
    fn sample(&mut self) -> u8 {
        self.0 ^= 1;
        self.0
    }
}

#[test]
fn a_biased_source_gets_no_key() {
    for seed in 0..50 {
        let mut rig = Rig::cold(Board::anchored(), Disk::default());
        rig.source = Box::new(Biased::new(seed, 0.9));
        rig.feed();
        rig.run();
        assert_eq!(rig.status().state, State::NoEntropy as u8);
        assert_eq!(rig.disk.writes(), 0);
    }
}

#[test]
fn a_source_that_fails_later_ends_all_that_is_fresh_and_nothing_else() {
    for board in [Board::anchored(), Board::ticket()] {
        let mut rig = Rig::new(board);
        rig.show();
        rig.step();
        let before = rig.status();
        assert!(!fresh_operations(&mut rig).contains(&Some(Refusal::NotReady)));
        let before = StatusReply { forked: 1, ..before };
        rig.source = Box::new(Stuck(7));
        rig.feed();
        rig.run();
        assert_eq!(rig.told, [Channel::Lifecycle]);
        assert!(rig.lifecycle.nudged());
        let status = rig.status();
        let lost = StatusReply { state: State::EntropyLost as u8, failed_test: HealthTest::Repetition as u8, ..before };
        assert_eq!(status, lost);
        let writes = rig.disk.writes();
        for _ in 0..3 {
            assert_eq!(fresh_operations(&mut rig), vec![Some(Refusal::NotReady); 9]);
            // Good samples do not bring it back.
            rig.source = Box::new(Good::new(1));
            rig.feed();
            rig.run();
            assert_eq!(rig.told, []);
            assert_eq!(rig.status(), lost);
        }
        assert_eq!(rig.disk.writes(), writes);
        // What is there without randomness is still there.
        assert!(rig.ask::<for_claim::ClaimKey>(Channel::Claim, &()).is_ok());
        assert_eq!(rig.ask::<CloseGate>(Channel::Lifecycle, &()), Ok(()));
        // The next power-up starts anew.
        rig.power_cycle();
        assert_eq!(rig.status().state, State::Ready as u8);
    }
}

#[test]
fn a_fault_in_the_last_sample_of_a_block_spoils_the_block() {
    let mut rig = Rig::new(Board::anchored());
    rig.number += 1;
    let mut block = source::block(rig.number, &mut *rig.source);
    let last = block.raw[BLOCK - 7] ^ 1;
    block.raw[BLOCK - 6..].fill(last);
    rig.entropy.publish(&block);
    rig.run();
    assert_eq!(rig.status().state, State::EntropyLost as u8);
    assert_eq!(random(&mut rig), Err(Refusal::NotReady));
}

#[test]
fn a_block_is_asked_for_when_it_is_due_and_only_then() {
    let mut rig = Rig::new(Board::anchored());
    let mut asked = 0;
    for _ in 0..10 * RESEED_AFTER {
        random(&mut rig).unwrap();
        asked += rig.told.iter().filter(|peer| **peer == Channel::Entropy).count();
    }
    assert!((9..=10).contains(&asked), "{asked}");
}

#[test]
fn a_source_that_falls_silent_is_waited_for_up_to_a_limit() {
    let mut rig = Rig::new(Board::anchored());
    rig.source_lives = false;
    // Thousands of the same.
    rig.search = false;
    let (mut given, mut asked, mut news) = (0, 0, Vec::new());
    let ready = rig.status();
    rig.lifecycle.nudged();
    while random(&mut rig).is_ok() {
        given += 1;
        asked += rig.told.iter().filter(|peer| **peer == Channel::Entropy).count();
        if rig.lifecycle.nudged() {
            news.push(given);
        }
    }
    assert!(given <= RESEED_LIMIT && given > 2 * RESEED_AFTER);
    assert_eq!(asked, 1);
    // Lifecycle hears of it once, long before nothing is left.
    let [told] = news[..] else { panic!("{news:?}") };
    assert!((RESEED_AFTER..=2 * RESEED_AFTER).contains(&told), "{told}");
    assert_eq!(rig.status(), StatusReply { state: State::EntropySilent as u8, ..ready });
    assert_eq!(rig.fork(), Err(Refusal::NotReady));
    // A block that comes at last is enough.
    rig.feed();
    assert!(random(&mut rig).is_ok());
    assert!(rig.lifecycle.nudged());
    assert_eq!(rig.status(), ready);
    assert_eq!(rig.fork(), Ok(()));
}

#[test]
fn a_block_mixed_in_changes_what_follows() {
    let next = |blocks: u64| {
        let mut rig = Rig::new(Board::anchored());
        rig.source = Box::new(Good::new(50));
        for _ in 0..blocks {
            rig.feed();
            rig.run();
        }
        random(&mut rig).unwrap()
    };
    assert_eq!(next(1), next(1));
    assert!(next(0) != next(1) && next(1) != next(2));
}
