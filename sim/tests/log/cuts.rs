//! Power that goes at every point of appends, rotations and purges, and then at every point of what recovers.

use std::collections::{BTreeMap, BTreeSet};

use calls::store::Finding;
use node::store::{Log, Outcome};
use sim::nor::{Cut, Image, Nor};

use crate::{Act, BLOCK, found, run, whole};

/// A life: as many appends as fill the blocks more than twice, and purges at each filling.
fn life() -> Vec<Act> {
    let mut acts = Vec::new();
    for sequence in 1..=9 {
        acts.push(Act::Append(sequence));
        if sequence % 4 == 1 || sequence == 8 {
            acts.push(Act::Purge);
        }
    }
    acts
}

/// What the log may say after a cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Allowed {
    old: u64,
    new: u64,
}

/// Does the acts until power goes.
fn live(nor: &mut Nor, acts: &[Act]) -> Allowed {
    let mut log = Log::new(BLOCK);
    let mut old = run(&mut log, nor, Act::Find).map_or(0, found);
    for act in acts {
        let new = if let Act::Append(sequence) = act { *sequence } else { old };
        match run(&mut log, nor, *act) {
            None => return Allowed { old, new },
            Some(outcome) => assert_eq!(outcome, Outcome::Done, "{act:?}"),
        }
        old = new;
    }
    Allowed { old, new: old }
}

/// Power is back: what is found is allowed, it stays, and the log goes on.
fn recovers(image: &Image, allowed: Allowed, what: &str) {
    let mut nor = Nor::with(BLOCK, image.clone());
    let mut log = Log::new(BLOCK);
    let outcome = run(&mut log, &mut nor, Act::Find).expect("it has power");
    let sequence = match outcome {
        Outcome::Found(Finding::Found | Finding::Empty, sequence) => sequence,
        outcome => panic!("{what}: {outcome:?}, {allowed:?}"),
    };
    assert!([allowed.old, allowed.new].contains(&sequence), "{what}: {sequence}, {allowed:?}");
    assert_eq!(log.account().errors, 0, "{what}: a cut is no error");
    // Whoever looks next, with nothing but the flash, sees the same, and has nothing to mend.
    let before = nor.actions();
    let mut log = Log::new(BLOCK);
    assert_eq!(run(&mut log, &mut nor, Act::Find).map(found), Some(sequence), "{what}");
    assert_eq!(nor.actions(), before, "{what}: nothing was left to do");
    for next in allowed.new + 1..allowed.new + 5 {
        assert_eq!(run(&mut log, &mut nor, Act::Append(next)), Some(Outcome::Done), "{what}");
    }
    assert_eq!(run(&mut Log::new(BLOCK), &mut nor, Act::Find).map(found), Some(allowed.new + 4), "{what}");
}

#[test]
fn power_that_goes_at_any_point_leaves_the_old_entry_or_the_new_one_and_so_does_a_second_cut_in_what_recovers() {
    let acts = life();
    let seeds: &[u64] = if whole() { &[0, 1, 2] } else { &[0, 1] };
    let mut fresh = Nor::new(BLOCK);
    live(&mut fresh, &acts);
    let points = fresh.points();
    // What a first cut leaves, told apart by what stands there and by what may be found.
    let mut left = BTreeMap::new();
    let mut generated = 0_u64;
    for point in 0..points {
        for seed in seeds {
            let cut = Cut { point, seed: *seed };
            let mut nor = Nor::new(BLOCK);
            nor.cut_at(cut);
            let allowed = live(&mut nor, &acts);
            assert!(nor.is_dead(), "{cut:?}");
            generated += 1;
            left.entry((nor.image.digest(), allowed)).or_insert((nor.image, cut));
        }
    }
    for ((_, allowed), (image, cut)) in &left {
        recovers(image, *allowed, &format!("{cut:?}"));
    }
    // From each of them every cut of what recovers.
    let step = if whole() { 1 } else { 17 };
    let (mut second, mut seen, mut run_of_them) = (0_u64, BTreeSet::new(), 0_u64);
    for ((_, allowed), (image, cut)) in left.iter().step_by(step) {
        run_of_them += 1;
        for seed in seeds {
            for point in 0.. {
                let again = Cut { point, seed: *seed };
                let mut nor = Nor::with(BLOCK, image.clone());
                nor.cut_at(again);
                if run(&mut Log::new(BLOCK), &mut nor, Act::Find).is_some() {
                    break;
                }
                second += 1;
                if seen.insert((nor.image.digest(), *allowed)) {
                    recovers(&nor.image, *allowed, &format!("{cut:?}, then {again:?}"));
                }
            }
        }
    }
    say::show!(
        "{generated} first cuts at {points} points, {} distinct, {run_of_them} of them cut again: {second} second cuts, {} \
         distinct, all run",
        left.len(),
        seen.len()
    );
}
