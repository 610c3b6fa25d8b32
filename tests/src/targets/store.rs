//! A flash on which anything stands.

use calls::store::{BLOCKS, COPIES, Finding, Refusal};
use store::{Flash, Log, Outcome, Progress, Stands};

/// Small, so that what is generated reaches every byte of it.
const BODY: usize = 12;
const BLOCK: usize = 512;
/// Bytes of a record.
const RECORD: usize = COPIES * BLOCK;

/// Programs only clear bits.
#[derive(Clone)]
struct Ram {
    bytes: Vec<u8>,
    actions: u64,
}

impl Ram {
    fn new(data: &[u8]) -> Self {
        let mut bytes = vec![0xff; BLOCKS * BLOCK];
        bytes.iter_mut().zip(data).take(RECORD).for_each(|(to, from)| *to = *from);
        Self { bytes, actions: 0 }
    }
}

impl Flash for Ram {
    fn block_size(&self) -> usize {
        BLOCK
    }

    fn blocks(&self) -> usize {
        BLOCKS
    }

    fn read(&mut self, at: usize, to: &mut [u8]) -> bool {
        to.copy_from_slice(&self.bytes[at..at + to.len()]);
        true
    }

    fn begin_program(&mut self, at: usize, bytes: &[u8]) {
        self.actions += 1;
        for (stands, new) in self.bytes[at..].iter_mut().zip(bytes) {
            assert_eq!(*stands & new, *new, "a bit cannot be set without an erase");
            *stands = *new;
        }
    }

    fn begin_erase(&mut self, block: usize) {
        self.actions += 1;
        self.bytes[block * BLOCK..(block + 1) * BLOCK].fill(0xff);
    }

    fn poll(&mut self) -> Progress {
        Progress::Done
    }
}

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

/// Flashes that were written so and so often, and one on which a rewriting was cut off.
pub fn seeds() -> Vec<Vec<u8>> {
    let mut flash = Ram::new(&[]);
    let mut log = Log::new(BLOCK);
    let mut seeds = Vec::new();
    for sequence in 1..=5 {
        log.append(0, sequence, &[sequence as u8; BODY]);
        loop {
            let stands = log.step(&mut flash);
            // The fourth has no place.
            if sequence == 4 || stands != Stands::More {
                seeds.push(flash.bytes[..RECORD].to_vec());
            }
            if stands != Stands::More {
                break;
            }
        }
    }
    seeds.dedup();
    seeds
}
