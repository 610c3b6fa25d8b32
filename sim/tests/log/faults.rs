//! Bits that turn, blocks that are swapped, copied, stale or somebody else's, a chip that fails: each has a defined outcome,
//! and none is an entry before the newest.

use calls::store::{COPIES, Finding, Refusal};
use node::store::{Log, Outcome};
use sim::{
    Rng,
    nor::{Image, Nor},
};

use crate::{Act, BLOCK, RECORD, found, run, whole};

/// Where the record's two blocks begin.
const A: usize = RECORD as usize * COPIES * BLOCK;
const B: usize = A + BLOCK;
const ERASED: u8 = 0xff;

/// A log with the entries up to this one.
fn log_of(last: u64) -> Nor {
    let mut nor = Nor::new(BLOCK);
    let mut log = Log::new(BLOCK);
    for sequence in 1..=last {
        assert_eq!(run(&mut log, &mut nor, Act::Append(sequence)), Some(Outcome::Done));
    }
    nor
}

fn find(image: &Image) -> (Outcome, Nor, u64) {
    let mut nor = Nor::with(BLOCK, image.clone());
    let mut log = Log::new(BLOCK);
    let outcome = run(&mut log, &mut nor, Act::Find).expect("it has power");
    (outcome, nor, log.account().errors)
}

/// What is found is the newest entry, in both blocks, and the log goes on; or it is said what stands there, and nothing is
/// written over it.
fn newest_or_named(image: &Image, newest: u64, what: &str) -> Finding {
    let (outcome, mut nor, _) = find(image);
    let mut log = Log::new(BLOCK);
    match outcome {
        Outcome::Found(Finding::Found, sequence) => {
            assert_eq!(sequence, newest, "{what}");
            let actions = nor.actions();
            assert_eq!(run(&mut log, &mut nor, Act::Find).map(found), Some(newest), "{what}");
            assert_eq!(nor.actions(), actions, "{what}: all was mended");
            assert_eq!(run(&mut log, &mut nor, Act::Append(newest + 1)), Some(Outcome::Done), "{what}");
            assert_eq!(run(&mut log, &mut nor, Act::Find).map(found), Some(newest + 1), "{what}");
            Finding::Found
        }
        Outcome::Found(finding @ (Finding::Damaged | Finding::Foreign | Finding::Newer), 0) => {
            for act in [Act::Append(newest + 1), Act::Purge] {
                let refused = Some(Outcome::Refused(Refusal::Unusable));
                assert_eq!(run(&mut log, &mut nor, act), refused, "{what}");
            }
            assert!(nor.actions() == 0 && nor.image == *image, "{what}: nothing is written");
            finding
        }
        outcome => panic!("{what}: {outcome:?}"),
    }
}

#[test]
fn a_bit_that_turns_in_one_copy_loses_nothing() {
    // Some entries, and the second after a rotation; else all from the first one on.
    for last in if whole() { vec![1, 2, 3, 4, 5] } else { vec![2, 5] } {
        let good = log_of(last).image;
        let mut mended = 0;
        for bit in 0..2 * BLOCK * 8 {
            let mut image = good.clone();
            image.flip(A + bit / 8, (bit % 8) as u8);
            let what = format!("bit {bit} of {last}");
            assert_eq!(newest_or_named(&image, last, &what), Finding::Found, "{what}");
            mended += find(&image).2;
        }
        assert!(mended > 0, "an entry that was lost in one copy is counted");
    }
}

#[test]
fn bits_that_turn_in_both_copies_are_damage_and_never_the_entry_before() {
    let rng = Rng::new(1);
    let mut seen = [0_u64; 5];
    for last in 1..=5 {
        let good = log_of(last).image;
        for round in 0..if whole() { 100_000 } else { 1500 } {
            let mut image = good.clone();
            for _ in 0..=rng.below(4) + 1 {
                let bit = rng.below(2 * BLOCK as u64 * 8);
                image.flip(A + bit as usize / 8, (bit % 8) as u8);
            }
            seen[usize::from(u8::from(newest_or_named(&image, last, &format!("round {round} of {last}"))))] += 1;
        }
        // The same byte of the newest entry, which stands at the same place in both.
        let place = (last as usize - 1) % 3;
        for byte in 0..128 {
            let mut image = good.clone();
            let at = 128 + place * 128 + byte;
            image.flip(A + at, 3);
            image.flip(B + at, 3);
            let finding = newest_or_named(&image, last, &format!("byte {byte} of both"));
            // One bit turns no word; what is behind the body is nobody's.
            let matters = byte < 60 || (64..76).contains(&byte);
            assert_eq!(finding == Finding::Damaged, matters, "byte {byte} of {last}: {finding:?}");
        }
    }
    say::show!("found {}, damaged {}, foreign {}, newer {}", seen[1], seen[2], seen[3], seen[4]);
    assert!(seen[1] > 0 && seen[2] > 0);
}

#[test]
fn blocks_that_are_swapped_copied_stale_or_erased_are_told_apart() {
    let (old, good) = (log_of(4).image, log_of(5).image);
    let with = |change: &dyn Fn(&mut Image)| {
        let mut image = good.clone();
        change(&mut image);
        image
    };
    let erase = |image: &mut Image, at: usize| (at..at + BLOCK).for_each(|at| image.set(at, ERASED));
    let swapped = with(&|image| {
        image.copy(&good, A, B, BLOCK);
        image.copy(&good, B, A, BLOCK);
    });
    assert_eq!(newest_or_named(&swapped, 5, "swapped"), Finding::Damaged);
    assert_eq!(newest_or_named(&with(&|image| image.copy(&good, A, B, BLOCK)), 5, "A in both"), Finding::Damaged);
    assert_eq!(newest_or_named(&with(&|image| image.copy(&good, B, A, BLOCK)), 5, "B in both"), Finding::Damaged);
    // Another record's, in the place of this one's.
    let mut other = Nor::new(BLOCK);
    other.image.copy(&good, A, 0, 2 * BLOCK);
    let mut log = Log::<{ crate::BODY }>::new(BLOCK);
    log.find(0);
    let outcome = loop {
        if let node::store::Stands::Over(outcome) = log.step(&mut other) {
            break outcome;
        }
    };
    assert_eq!(outcome, Outcome::Found(Finding::Damaged, 0));
    // One block of before: the other has the newest.
    for at in [A, B] {
        let stale = with(&|image| image.copy(&old, at, at, BLOCK));
        assert_eq!(newest_or_named(&stale, 5, "stale"), Finding::Found);
        let erased = with(&|image| erase(image, at));
        assert_eq!(newest_or_named(&erased, 5, "erased"), Finding::Found);
        let foreign = with(&|image| (at..at + BLOCK).for_each(|at| image.set(at, at as u8)));
        assert_eq!(newest_or_named(&foreign, 5, "foreign"), Finding::Foreign);
    }
    // All of before, or nothing: whoever holds the flash can do that, and it cannot be told.
    assert_eq!(found(find(&old).0), 4);
    let none = with(&|image| {
        erase(image, A);
        erase(image, B);
    });
    assert_eq!(find(&none).0, Outcome::Found(Finding::Empty, 0));
    // Somebody else's from the beginning.
    let mut image = Image::default();
    image.set(A + 300, 0);
    assert_eq!(find(&image).0, Outcome::Found(Finding::Foreign, 0));
}

#[test]
fn a_later_versions_log_is_said_to_be_one_and_is_left_as_it_is() {
    let good = log_of(2).image;
    for at in [A, B] {
        let mut image = good.clone();
        let mut header: Vec<u8> = (at..at + 28).map(|at| good.byte(at)).collect();
        header[8] += 1;
        header.extend(crypto::sha256(&header));
        header.iter().enumerate().for_each(|(offset, byte)| image.set(at + offset, *byte));
        assert_eq!(newest_or_named(&image, 2, "newer"), Finding::Newer);
    }
}

/// The acts of a life of which this action of the chip fails: what was acknowledged stays, and it goes on.
#[test]
fn an_action_that_fails_at_any_point_is_said_and_loses_nothing_that_was_acknowledged() {
    let mut failures = 0;
    for action in 0.. {
        let mut nor = Nor::new(BLOCK);
        nor.fail(action);
        let mut log = Log::new(BLOCK);
        let (mut acknowledged, mut tried) = (0, 0);
        for round in 0..12 {
            let act = if round % 4 == 3 { Act::Purge } else { Act::Append(tried + 1) };
            tried += u64::from(matches!(act, Act::Append(_)));
            match run(&mut log, &mut nor, act) {
                Some(Outcome::Done) => acknowledged = if act == Act::Purge { acknowledged } else { tried },
                Some(Outcome::Refused(Refusal::Failed)) => {
                    failures += 1;
                    assert!(log.account().errors > 0, "it is counted");
                    let newest = run(&mut log, &mut nor, Act::Find).map(found).expect("it has power");
                    assert!([acknowledged, tried].contains(&newest), "action {action}: {newest}");
                    acknowledged = newest;
                }
                outcome => panic!("action {action}, {act:?}: {outcome:?}"),
            }
        }
        assert_eq!(run(&mut Log::new(BLOCK), &mut nor, Act::Find).map(found), Some(acknowledged));
        if nor.actions() < action {
            break;
        }
    }
    assert!(failures > 50, "{failures}");
}

/// A bit that cannot be cleared any more: what is acknowledged can be read, whatever is refused.
#[test]
fn a_cell_that_is_worn_out_makes_no_entry_that_cannot_be_read() {
    for bit in (0..2 * BLOCK * 8).step_by(if whole() { 1 } else { 13 }) {
        let mut nor = Nor::new(BLOCK);
        nor.stick(A + bit / 8, 1 << (bit % 8));
        let mut log = Log::new(BLOCK);
        let (mut acknowledged, mut tried) = (0, 0);
        for _ in 0..8 {
            tried += 1;
            let mut known = [acknowledged, tried];
            match run(&mut log, &mut nor, Act::Append(tried)) {
                Some(Outcome::Done) => known = [tried; 2],
                Some(Outcome::Refused(_)) => {}
                outcome => panic!("bit {bit}: {outcome:?}"),
            }
            match run(&mut Log::new(BLOCK), &mut nor, Act::Find) {
                // Nothing was ever acknowledged, and nothing can be.
                Some(Outcome::Refused(Refusal::Failed)) if acknowledged == 0 => assert_ne!(known, [tried; 2]),
                Some(outcome) => {
                    assert!(known.contains(&found(outcome)), "bit {bit}: {outcome:?}, {known:?}");
                    acknowledged = found(outcome);
                }
                None => panic!("it has power"),
            }
        }
    }
}

#[test]
fn a_flash_that_is_gone_is_no_empty_one() {
    let mut nor = log_of(2);
    nor.break_down(true);
    let mut log = Log::new(BLOCK);
    for act in [Act::Find, Act::Append(3), Act::Purge] {
        assert_eq!(run(&mut log, &mut nor, act), Some(Outcome::Refused(Refusal::Failed)), "{act:?}");
    }
    nor.break_down(false);
    assert_eq!(run(&mut log, &mut nor, Act::Find).map(found), Some(2));
}
