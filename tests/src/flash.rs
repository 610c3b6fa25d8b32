//! A small flash in memory.

use calls::store::{BLOCKS, COPIES};
use store::{Flash, Log, Progress, Stands};

/// Small, so that what is generated reaches every byte of it.
pub const BODY: usize = 12;
pub const BLOCK: usize = 512;
/// Bytes of a record.
const RECORD: usize = COPIES * BLOCK;

/// Programs only clear bits.
#[derive(Clone)]
pub struct Ram {
    pub bytes: Vec<u8>,
    pub actions: u64,
}

impl Ram {
    pub fn new(data: &[u8]) -> Self {
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
