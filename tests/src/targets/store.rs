//! A flash on which anything stands.

use calls::store::{Finding, Refusal};
use store::{Log, Outcome, Stands};

use crate::flash::{BLOCK, BODY, Ram};

fn run(log: &mut Log<BODY>, flash: &mut Ram) -> Outcome {
    let over = (0..10_000).find_map(|_| match log.step(flash) {
        Stands::Over(outcome) => Some(outcome),
        Stands::Busy | Stands::More => None,
    });
    over.expect("an end")
}

fn find(flash: &mut Ram) -> (Outcome, [u8; BODY]) {
    let mut log = Log::new(BLOCK);
    log.find(0);
    let outcome = run(&mut log, flash);
    (outcome, *log.body())
}

/// What is found stays what is found, and the log goes on from there; what is none is left as it is.
pub fn flash(data: &[u8]) {
    let mut flash = Ram::new(data);
    let before = flash.clone();
    let mut log = Log::new(BLOCK);
    let (found, body) = find(&mut flash);
    match found {
        Outcome::Found(Finding::Found | Finding::Empty, sequence) => {
            let actions = flash.actions;
            let again = find(&mut flash);
            assert_eq!(again.0, found);
            assert!(sequence == 0 || again.1 == body);
            assert_eq!(flash.actions, actions, "nothing is left to mend");
            if let Some(next) = sequence.checked_add(1) {
                log.append(0, next, &[7; BODY]);
                match run(&mut log, &mut flash) {
                    Outcome::Done => {
                        assert_eq!(find(&mut flash), (Outcome::Found(Finding::Found, next), [7; BODY]));
                    }
                    // Something stands where the entry was to.
                    outcome => assert_eq!(outcome, Outcome::Refused(Refusal::Failed)),
                }
            }
        }
        Outcome::Found(finding, 0) => {
            assert!(flash.bytes == before.bytes && flash.actions == 0, "{finding:?} is left as it is");
            log.append(0, u64::MAX, &[7; BODY]);
            assert_eq!(run(&mut log, &mut flash), Outcome::Refused(Refusal::Unusable));
            log.purge(0);
            assert_eq!(run(&mut log, &mut flash), Outcome::Refused(Refusal::Unusable));
            assert_eq!(flash.actions, 0);
        }
        outcome => panic!("{outcome:?}"),
    }
}
