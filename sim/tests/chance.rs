//! Random actions against a model of who owns what: a fixed part of what `make sim` runs.

use sim::chance;

#[test]
fn whatever_happens_a_node_is_who_it_was_and_belongs_to_nobody_else() {
    for seed in 0..3 {
        if let Err(what) = chance::run(seed, 150) {
            panic!("seed {seed}: {what}");
        }
    }
}
