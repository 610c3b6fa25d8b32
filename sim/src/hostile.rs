//! A domain that has been taken over: it has the regions and channels of the domain in whose place it is, and does with them
//! whatever it likes.

use pd::{Channel, Domain, Wake};
use shm::{Micros, ReadOnly, ReadWrite};

use crate::rng::Rng;

const WORD: usize = size_of::<u64>();
/// Where the slots of a ring begin, and how long one for frames is, length included.
const SLOTS: usize = 64;
const SLOT: usize = shm::ring::FRAME_SLOT;
/// A region of this size or more is a ring of frames.
const RING: usize = 0x10000;
/// How much of a region is replayed at most.
const COPIED: usize = 0x1000;
/// How often it runs in one moment: the others must have their turn, or the clock would never go on.
const AT_ONCE: u32 = 4;
/// How much it does each time.
const MOVES: u64 = 6;

/// A region that it writes, and what has stood there before.
struct Written<'a> {
    region: ReadWrite<'a>,
    before: Vec<Vec<u8>>,
}

pub struct Hostile<'a, C> {
    rng: Rng,
    reads: Vec<ReadOnly<'a>>,
    writes: Vec<Written<'a>>,
    channels: Vec<C>,
    /// Frames that it would like to see on the wire.
    frames: Vec<Vec<u8>>,
    moment: Micros,
    left: u32,
}

impl<'a, C: Channel> Hostile<'a, C> {
    pub fn new(
        rng: Rng,
        reads: Vec<ReadOnly<'a>>,
        writes: Vec<ReadWrite<'a>>,
        channels: Vec<C>,
        frames: Vec<Vec<u8>>,
    ) -> Self {
        let writes = writes.into_iter().map(|region| Written { region, before: Vec::new() }).collect();
        Self { rng, reads, writes, channels, frames, moment: 0, left: 0 }
    }

    fn act(&mut self) {
        let Self { rng, reads, writes, frames, .. } = self;
        if writes.is_empty() {
            return;
        }
        let choice = pick(rng, writes.len());
        let written = &mut writes[choice];
        let mut now = vec![0; written.region.len().min(COPIED)];
        written.region.read_only().read(0, &mut now);
        match rng.below(8) {
            // A frame of its own, or something like one that it has read, where the next frame goes.
            0..3 if written.region.len() >= RING => {
                let mut frame = match rng.below(4) {
                    0 if !reads.is_empty() => slot(reads[pick(rng, reads.len())], rng),
                    _ if !frames.is_empty() => frames[pick(rng, frames.len())].clone(),
                    _ => return,
                };
                if rng.below(4) == 0 && !frame.is_empty() {
                    let at = pick(rng, frame.len());
                    frame[at] ^= 1 << rng.below(8);
                }
                push(&mut written.region, &frame);
            }
            // What has stood there before, as something new.
            0..3 if !written.before.is_empty() => {
                let old = &written.before[pick(rng, written.before.len())];
                let number = written.region.load(0);
                written.region.write(WORD, old.get(WORD..).unwrap_or(&[]));
                written.region.store(0, number.wrapping_add(1 + rng.below(2)));
            }
            // Something new: words anywhere behind the number that tells of it, most of them near it; of a call often the
            // body alone.
            3..6 => {
                let first = if rng.below(2) == 0 { 1 } else { shm::mailbox::BODY / WORD };
                for _ in 0..=rng.below(12) {
                    let words = written.region.len() / WORD;
                    let near = pick(rng, words.min(24));
                    let at = if rng.below(4) == 0 { pick(rng, words) } else { near };
                    let value = tempting(rng, written.region.load(at * WORD));
                    written.region.store(at.max(first) * WORD, value);
                }
                let number = written.region.load(0);
                written.region.store(0, number.wrapping_add(1 + rng.below(2)));
            }
            // What another of its regions says, in this one.
            6 if !reads.is_empty() => {
                let other = reads[pick(rng, reads.len())];
                let mut bytes = vec![0; other.len().min(COPIED)];
                other.read(0, &mut bytes);
                written.region.write(0, &bytes);
            }
            // A lie about how far it has come.
            _ => {
                let at = pick(rng, 6) * WORD;
                let value = tempting(rng, written.region.load(at));
                written.region.store(at, value);
            }
        }
        if written.before.len() < 16 {
            written.before.push(now);
        }
    }
}

impl<C: Channel + Copy> Domain for Hostile<'_, C> {
    fn step(&mut self, wake: &Wake) -> bool {
        if wake.now != self.moment {
            (self.moment, self.left) = (wake.now, AT_ONCE);
        }
        let Some(left) = self.left.checked_sub(1) else { return false };
        self.left = left;
        (0..MOVES).for_each(|_| self.act());
        self.channels.iter().for_each(|channel| channel.notify());
        left > 0
    }
}

/// A value that somebody might take at its word.
fn tempting(rng: &Rng, now: u64) -> u64 {
    match rng.below(8) {
        0 => 0,
        1 => now.wrapping_add(1),
        2 => now.wrapping_sub(1),
        3 => u64::MAX,
        4 => rng.below(64),
        5 => rng.below(0x3000),
        6 => now ^ 1 << rng.below(64),
        _ => rng.next(),
    }
}

/// What stands in a slot of a region, if it is a ring.
fn slot(region: ReadOnly<'_>, rng: &Rng) -> Vec<u8> {
    let slots = region.len().saturating_sub(SLOTS) / SLOT;
    if region.len() < RING || slots == 0 {
        return Vec::new();
    }
    let at = SLOTS + pick(rng, slots) * SLOT;
    let length = usize::try_from(region.load(at)).unwrap_or(0).min(SLOT - WORD);
    let mut frame = vec![0; length];
    region.read(at + WORD, &mut frame);
    frame
}

/// Puts a frame where the reader looks for the next one.
fn push(region: &mut ReadWrite<'_>, frame: &[u8]) {
    let slots = (region.len() - SLOTS) / SLOT;
    let produced = region.load(0);
    let at = SLOTS + usize::try_from(produced % slots as u64).unwrap_or(0) * SLOT;
    let frame = frame.get(..SLOT - WORD).unwrap_or(frame);
    region.write(at + WORD, frame);
    region.store(at, frame.len() as u64);
    region.store(0, produced.wrapping_add(1));
}

fn pick(rng: &Rng, count: usize) -> usize {
    usize::try_from(rng.below(count.max(1) as u64)).unwrap_or(0)
}
