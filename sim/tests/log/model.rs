//! Random acts, cuts, failures and deaths of the domain, against what an owner of the record knows.

use calls::store::{Finding, Refusal};
use node::store::{Log, Outcome};
use sim::{
    Rng,
    nor::{Cut, Nor},
};

use crate::{Act, BLOCK, run, start, whole};

/// What the owner of the record knows of it.
#[derive(Debug, Clone, Copy, Default)]
struct Known {
    /// The newest that was acknowledged or found.
    newest: u64,
    /// The last that was tried.
    tried: u64,
    /// Whether what was tried last has no known outcome.
    open: bool,
}

fn lives(seed: u64) {
    let rng = Rng::new(seed);
    let mut nor = Nor::new(BLOCK);
    nor.set_busy(rng.below(3) as u32);
    let mut log = Log::new(BLOCK);
    let mut known = Known::default();
    for number in 0..120 {
        match rng.below(12) {
            0 => nor.cut_at(Cut { point: nor.points() + rng.below(120), seed: rng.below(6) }),
            1 => nor.fail(nor.actions() + rng.below(12)),
            // The domain dies between two steps, in the middle of something or not.
            2 if !known.open => {
                known.open = true;
                known.tried += 1;
                start(&mut log, Act::Append(known.tried));
                for _ in 0..rng.below(30) {
                    log.step(&mut nor);
                }
                log = Log::new(BLOCK);
            }
            _ => {}
        }
        let act = match rng.below(8) {
            _ if known.open => Act::Find,
            0 => Act::Purge,
            1 => Act::Find,
            _ => Act::Append(known.tried.max(known.newest) + 1),
        };
        if let Act::Append(sequence) = act {
            known.tried = sequence;
        }
        match run(&mut log, &mut nor, act) {
            // Whoever is switched on again does not know what it tried.
            None => {
                nor.restore();
                log = Log::new(BLOCK);
                known.open = true;
            }
            Some(Outcome::Done) if act == Act::Purge => {}
            Some(Outcome::Done) => known.newest = known.tried,
            Some(Outcome::Refused(Refusal::Failed)) => known.open = true,
            Some(Outcome::Found(Finding::Found | Finding::Empty, sequence)) => {
                let allowed = sequence == known.newest || known.open && sequence == known.tried;
                assert!(allowed, "seed {seed}, act {number}: {sequence}, {known:?}");
                known = Known { newest: sequence, tried: known.tried, open: false };
            }
            Some(outcome) => panic!("seed {seed}, act {number}, {act:?}: {outcome:?}, {known:?}"),
        }
    }
}

#[test]
fn what_is_acknowledged_or_found_stays_whatever_happens() {
    let seeds = if whole() { 2000 } else { 200 };
    (0..seeds).for_each(lives);
    say::show!("{seeds} lives of 120 acts");
}

#[test]
fn a_number_that_is_not_above_the_newest_is_refused_and_nothing_is_written() {
    let mut nor = Nor::new(BLOCK);
    let mut log = Log::new(BLOCK);
    assert_eq!(run(&mut log, &mut nor, Act::Append(7)), Some(Outcome::Done));
    let actions = nor.actions();
    for again in [7, 6, 0] {
        assert_eq!(run(&mut log, &mut nor, Act::Append(again)), Some(Outcome::Refused(Refusal::Stale)));
        assert_eq!(run(&mut Log::new(BLOCK), &mut nor, Act::Append(again)), Some(Outcome::Refused(Refusal::Stale)));
    }
    assert_eq!(nor.actions(), actions);
    assert_eq!(run(&mut log, &mut nor, Act::Append(u64::MAX)), Some(Outcome::Done));
}

/// After a purge nothing is left on the flash of what stood in an entry before.
#[test]
fn a_purge_leaves_the_newest_entry_and_no_byte_of_another() {
    for last in 1..=8 {
        let mut nor = Nor::new(BLOCK);
        let mut log = Log::new(BLOCK);
        assert_eq!(run(&mut log, &mut nor, Act::Purge), Some(Outcome::Done));
        assert_eq!(nor.actions(), 0, "an empty log has nothing to lose");
        for sequence in 1..=last {
            assert_eq!(run(&mut log, &mut nor, Act::Append(sequence)), Some(Outcome::Done));
        }
        let stands = |nor: &Nor, sequence: u64| {
            let body = crate::body(sequence);
            let bytes: Vec<u8> = (0..6 * BLOCK).map(|at| nor.image.byte(at)).collect();
            bytes.windows(8).filter(|window| *window == &body[..8]).count()
        };
        assert_eq!(run(&mut log, &mut nor, Act::Purge), Some(Outcome::Done));
        assert!((1..last).all(|before| stands(&nor, before) == 0), "{last}");
        assert_eq!(stands(&nor, last), 2, "both blocks have it");
        let actions = nor.actions();
        assert_eq!(run(&mut log, &mut nor, Act::Purge), Some(Outcome::Done));
        assert_eq!(nor.actions(), actions, "it costs nothing twice");
    }
}
