//! Each fuzz target for some seconds, with random bytes and with mutations of what it takes. `make fuzz` goes deeper.
#![allow(
    clippy::print_stdout,
    reason = "the harness of tests captures what these macros print, and shows it of a test that failed"
)]

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use genesis_tests::{seeds, targets::TARGETS};
use proptest::{
    prelude::*,
    test_runner::{Config, RngAlgorithm, TestRng, TestRunner},
};

/// For each target. Longer finds more; no result depends on it.
const TIME: Duration = Duration::from_secs(2);

#[test]
fn every_target_survives() {
    for (name, target) in TARGETS {
        let seeds = seeds::of(name);
        let mut runner =
            TestRunner::new_with_rng(Config::default(), TestRng::from_seed(RngAlgorithm::ChaCha, &seeds::seed(name)));
        let bytes = proptest::collection::vec(any::<u8>(), 0..2100);
        let changes = proptest::collection::vec((any::<u16>(), any::<u8>()), 0..4);
        let started = Instant::now();
        let mut runs = 0u64;
        while started.elapsed() < TIME || runs < 200 {
            let mut next = |strategy: &dyn Fn(&mut TestRunner) -> Vec<u8>| strategy(&mut runner);
            target(&next(&|runner| bytes.new_tree(runner).expect("bytes").current()));
            for seed in &seeds {
                let changed = next(&|runner| {
                    let mut changed = seed.clone();
                    for (at, value) in changes.new_tree(runner).expect("changes").current() {
                        let at = usize::from(at) % (changed.len() + 1);
                        match changed.get_mut(at) {
                            Some(byte) => *byte = value,
                            None => changed.truncate(usize::from(value)),
                        }
                    }
                    changed
                });
                target(&changed);
            }
            runs += 1;
        }
        println!("{name}: {runs} rounds of {} inputs", 1 + seeds.len());
    }
}

/// `make fuzz` runs what is tested here, and nothing else.
#[test]
fn every_target_has_its_libfuzzer_program() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/fuzz_targets");
    let mut programs: Vec<String> = fs::read_dir(folder)
        .expect("fuzz/fuzz_targets")
        .map(|entry| entry.expect("an entry").path().file_stem().expect("a name").to_string_lossy().into_owned())
        .collect();
    programs.sort();
    let mut names: Vec<&str> = TARGETS.iter().map(|(name, _)| *name).collect();
    names.sort_unstable();
    assert_eq!(programs, names);
}

use proptest::strategy::ValueTree;
