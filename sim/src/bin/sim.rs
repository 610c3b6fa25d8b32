//! Runs the life of simulated nodes for many seeds, in fair and in rough weather; with one seed, replays that one and prints
//! who said what to whom.

use std::process::ExitCode;

use sim::{
    chance,
    scenario::{Ended, Weather, crowd, life},
};

const USAGE: &str = "usage: sim [--seeds N] | sim --seed N [--fair] | sim --crowd N | sim --chance SEEDS ACTIONS";
/// As many nodes as one segment has at most.
const SEGMENT: usize = 250;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words[..] {
        [] => sweep(100),
        ["--seeds", count] => count.parse().map_or_else(|_| usage(), sweep),
        ["--seed", seed] => seed.parse().map_or_else(|_| usage(), |seed| replay(seed, Weather::Rough)),
        ["--seed", seed, "--fair"] => seed.parse().map_or_else(|_| usage(), |seed| replay(seed, Weather::Fair)),
        ["--chance", actions, "--seed", seed] => match (seed.parse(), actions.parse()) {
            (Ok(seed), Ok(actions)) => replay_chance(seed, actions),
            _ => usage(),
        },
        ["--crowd", nodes] => nodes.parse().map_or_else(|_| usage(), |nodes| end(&crowd(1, nodes, SEGMENT))),
        ["--chance", seeds, actions] => match (seeds.parse(), actions.parse()) {
            (Ok(seeds), Ok(actions)) => random(seeds, actions),
            _ => usage(),
        },
        _ => usage(),
    }
}

fn replay_chance(seed: u64, actions: u32) -> ExitCode {
    let (trace, result) = chance::replay(seed, actions);
    say::show!("{}", trace.to_string().trim_end());
    match result {
        Ok(_) => ExitCode::SUCCESS,
        Err(what) => {
            say::show!("failed: {what}");
            ExitCode::FAILURE
        }
    }
}

/// Random actions, so many for each of so many seeds.
fn random(seeds: u64, actions: u32) -> ExitCode {
    let (mut failed, mut tally) = (0, chance::Tally::new());
    for seed in 0..seeds {
        match chance::run(seed, actions) {
            Ok(done) => done.into_iter().for_each(|(what, count)| *tally.entry(what).or_default() += count),
            Err(what) => {
                failed += 1;
                say::show!("seed {seed}: {what}");
            }
        }
    }
    tally.iter().for_each(|(what, count)| say::show!("{count:8} {what}"));
    say::show!("{actions} actions of each of {seeds} seeds, {failed} seeds failed");
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn usage() -> ExitCode {
    say::tell!("{USAGE}");
    ExitCode::from(2)
}

fn sweep(seeds: u64) -> ExitCode {
    let mut failed = 0;
    for seed in 0..seeds {
        for weather in [Weather::Fair, Weather::Rough] {
            if let Err(what) = life(seed, weather, false).result {
                failed += 1;
                say::show!("seed {seed}, {weather:?}: {what}; to see it: make sim SEED={seed}");
            }
        }
    }
    say::show!("{} lives of {seeds} seeds, {failed} failed", 2 * seeds);
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn replay(seed: u64, weather: Weather) -> ExitCode {
    let ended = life(seed, weather, true);
    say::show!("{}", ended.trace.to_string().trim_end());
    end(&ended)
}

fn end(ended: &Ended) -> ExitCode {
    say::show!("{} steps of domains, {} frames", ended.steps, ended.frames);
    match &ended.result {
        Ok(()) => ExitCode::SUCCESS,
        Err(what) => {
            say::show!("failed: {what}");
            ExitCode::FAILURE
        }
    }
}
