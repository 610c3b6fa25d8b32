//! The log of `store`, on a flash that loses its power, its bits and its patience.

mod cuts;
mod faults;
mod model;
mod served;

use calls::store::Finding;
use node::store::{Log, Outcome, Stands};
use sim::nor::Nor;

/// Small, so that little is a whole life: a body in one page, three entries in a block.
const BODY: usize = 12;
const BLOCK: usize = 512;
const RECORD: u8 = 1;

fn whole() -> bool {
    std::env::var_os("SIM_WHOLE").is_some()
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Act {
    Append(u64),
    Purge,
    Find,
}

/// What an entry of this number says.
fn body(sequence: u64) -> [u8; BODY] {
    let mut body = [0; BODY];
    body[..8].copy_from_slice(&sequence.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes());
    body
}

/// Asks for something.
fn start(log: &mut Log<BODY>, act: Act) {
    match act {
        Act::Append(sequence) => log.append(RECORD, sequence, &body(sequence)),
        Act::Purge => log.purge(RECORD),
        Act::Find => log.find(RECORD),
    }
}

/// Has something done; `None` if power went.
fn run(log: &mut Log<BODY>, nor: &mut Nor, act: Act) -> Option<Outcome> {
    start(log, act);
    for _ in 0..10_000 {
        let stands = log.step(nor);
        if nor.is_dead() {
            return None;
        }
        if let Stands::Over(outcome) = stands {
            if let Outcome::Found(Finding::Found, sequence) = outcome {
                assert_eq!(*log.body(), body(sequence), "the entry of {sequence}");
            }
            return Some(outcome);
        }
    }
    panic!("{act:?} has no end");
}

/// The number that is found, 0 if the log is empty.
fn found(outcome: Outcome) -> u64 {
    match outcome {
        Outcome::Found(Finding::Found, sequence) => sequence,
        Outcome::Found(Finding::Empty, 0) => 0,
        outcome => panic!("{outcome:?}"),
    }
}
