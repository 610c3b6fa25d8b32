//! Runs the life of simulated nodes for many seeds, in fair and in rough weather; with one seed, replays that one and prints
//! who said what to whom.

use std::process::ExitCode;

use sim::scenario::{Ended, Weather, crowd, life};

const USAGE: &str = "usage: sim [--seeds N] | sim --seed N [--fair] | sim --crowd N";
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
        ["--crowd", nodes] => nodes.parse().map_or_else(|_| usage(), |nodes| end(&crowd(1, nodes, SEGMENT))),
        _ => usage(),
    }
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
