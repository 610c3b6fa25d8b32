//! The whole life of nodes, from the first power-on to a revocation.

use sim::scenario::{Weather, crowd, life};

#[test]
fn a_life_in_fair_weather() {
    let ended = life(1, Weather::Fair, true);
    assert_eq!(ended.result, Ok(()), "\n{}", ended.trace);
}

#[test]
fn lives_in_rough_weather() {
    for seed in 0..20 {
        let result = life(seed, Weather::Rough, false).result;
        assert_eq!(result, Ok(()), "make sim SEED={seed} shows it");
    }
}

#[test]
fn the_same_seed_gives_the_same_trace_to_the_byte() {
    let trace = |seed, weather| life(seed, weather, true).trace.to_string();
    for weather in [Weather::Fair, Weather::Rough] {
        assert!(trace(7, weather) == trace(7, weather), "{weather:?}");
        assert!(trace(7, weather) != trace(8, weather), "{weather:?}");
    }
}

/// `sim --crowd 1000` does the same with a thousand.
#[test]
fn crowds_on_two_segments() {
    assert_eq!(crowd(1, 30, 15).result, Ok(()));
}
