//! The entropy domain: reads the source and hands raw samples to the keystore, and nothing else.
//!
//! It neither tests, conditions nor stretches what it reads: the keystore does, so that nobody who
//! only holds this domain knows a key. It publishes one block unasked when it starts, and every
//! other block when the keystore has said that the last one is used and another is wanted. So an
//! idle node leaves its source alone.
#![no_std]
#![forbid(unsafe_code)]

#[cfg(test)]
extern crate std;

pub mod shell;

use calls::entropy::{BLOCK, Samples};
use shm::cell;
use zerocopy::FromZeros;

/// The hardware source, behind what the shell has for it.
pub trait Source {
    /// Fills the front of `to` with raw samples and returns how many; 0 if there are none yet. Never blocks: a
    /// device that must be asked is asked here, and notifies the domain when it has something.
    fn read(&mut self, to: &mut [u8]) -> usize;

    /// The finest counter that the platform has, for the jitter of the source's timing.
    fn counter(&mut self) -> u64;
}

pub struct Ports<'a> {
    pub keystore: cell::Writer<'a, Samples>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Channel {
    Keystore,
}

impl Ports<'_> {
    pub fn signals(&mut self, mut notify: impl FnMut(Channel)) {
        if self.keystore.take_signal() {
            notify(Channel::Keystore);
        }
    }
}

/// The most samples that are read at once, so that every block carries some of the timing of its parts.
const PART: usize = BLOCK / JITTER;
const JITTER: usize = size_of::<Samples>() - size_of::<u64>() - BLOCK;

/// The core.
pub struct Entropy<S> {
    source: S,
    block: Samples,
    filled: usize,
    wanted: bool,
}

impl<S: Source> Entropy<S> {
    pub fn new(source: S) -> Self {
        Self { source, block: Samples::new_zeroed(), filled: 0, wanted: true }
    }

    /// Reads while a block is wanted and the source has samples, and publishes the block when it is full.
    ///
    /// `credit`: the keystore has notified this domain since the last step. It counts only between blocks. One
    /// that nobody meant costs one block. Never has more to do at once: it waits for the source or for credit.
    pub fn step(&mut self, credit: bool, ports: &mut Ports<'_>) -> bool {
        self.wanted |= credit;
        while self.wanted {
            let at = self.filled;
            let part = self.block.raw.get_mut(at..BLOCK.min(at + PART)).unwrap_or_default();
            let len = self.source.read(part).min(part.len());
            if len == 0 {
                break;
            }
            let [low, ..] = self.source.counter().to_le_bytes();
            // Turned before it is added to, so that short reads do not undo each other.
            let jitter = &mut self.block.jitter[at / PART];
            *jitter = jitter.rotate_left(3) ^ low;
            self.filled = at + len;
            if self.filled == BLOCK {
                self.publish(ports);
            }
        }
        false
    }

    /// Whether it waits for the source. If not, a source that is ready is no reason to wake.
    pub fn wanting(&self) -> bool {
        self.wanted
    }

    fn publish(&mut self, ports: &mut Ports<'_>) {
        // The count is kept in the region itself, so a restart neither repeats a number nor goes back.
        self.block.number = ports.keystore.latest().number.wrapping_add(1);
        ports.keystore.publish(&self.block);
        self.block = Samples::new_zeroed();
        self.filled = 0;
        self.wanted = false;
    }
}

#[cfg(test)]
mod tests {
    use core::{cell::RefCell, sync::atomic::AtomicU64};
    use std::{collections::VecDeque, rc::Rc, vec::Vec};

    use shm::{ReadOnly, ReadWrite};

    use super::*;

    type Words = [AtomicU64; 64];

    /// A source that gives what it was fed, at most `burst` at once, and counts how often it was asked.
    #[derive(Clone)]
    struct Fed {
        samples: Rc<RefCell<VecDeque<u8>>>,
        asked: Rc<RefCell<u64>>,
        burst: usize,
    }

    impl Fed {
        fn new(burst: usize) -> Self {
            Self { samples: Rc::default(), asked: Rc::default(), burst }
        }

        fn feed(&self, samples: impl IntoIterator<Item = u8>) {
            self.samples.borrow_mut().extend(samples);
        }
    }

    impl Source for Fed {
        fn read(&mut self, to: &mut [u8]) -> usize {
            *self.asked.borrow_mut() += 1;
            let mut samples = self.samples.borrow_mut();
            let len = to.len().min(self.burst).min(samples.len());
            to[..len].iter_mut().zip(samples.drain(..len)).for_each(|(to, from)| *to = from);
            len
        }

        fn counter(&mut self) -> u64 {
            *self.asked.borrow() * 0x0101
        }
    }

    fn ends(words: &Words) -> (Ports<'_>, cell::Reader<'_, Samples>) {
        let keystore = cell::Writer::new(ReadWrite::new(words)).unwrap();
        (Ports { keystore }, cell::Reader::new(ReadOnly::new(words)).unwrap())
    }

    fn signalled(ports: &mut Ports<'_>) -> bool {
        let mut told = false;
        ports.signals(|_| told = true);
        told
    }

    #[test]
    fn one_block_unasked_and_then_one_per_credit() {
        for burst in [1, 3, 8, 1000] {
            let words: Words = [const { AtomicU64::new(0) }; 64];
            let (mut ports, mut keystore) = ends(&words);
            let source = Fed::new(burst);
            source.feed((0..5000).map(|i| i as u8));
            let mut entropy = Entropy::new(source.clone());
            for number in 1..4 {
                assert!(!entropy.step(number > 1, &mut ports));
                assert!(signalled(&mut ports));
                let block = keystore.poll().unwrap();
                assert_eq!(block.number, number);
                assert_eq!(block.raw.to_vec(), (0..=255).collect::<Vec<u8>>());
                assert!(block.jitter.iter().any(|byte| *byte != 0));
                // No credit: the source is left alone.
                assert!(!entropy.wanting());
                let asked = *source.asked.borrow();
                for _ in 0..3 {
                    entropy.step(false, &mut ports);
                }
                assert_eq!(*source.asked.borrow(), asked);
                assert!(!signalled(&mut ports) && keystore.poll().is_none());
            }
        }
    }

    #[test]
    fn a_slow_source_is_waited_for_and_no_sample_is_lost_or_sent_twice() {
        let words: Words = [const { AtomicU64::new(0) }; 64];
        let (mut ports, mut keystore) = ends(&words);
        let source = Fed::new(8);
        let mut entropy = Entropy::new(source.clone());
        let mut got = Vec::new();
        for i in 0..1024u32 {
            source.feed([(i * 7) as u8]);
            // Credits in the middle of a block, which nobody meant, ask for no second one.
            assert_eq!(entropy.wanting(), i == 0 || i % 256 != 0);
            entropy.step(i % 256 == 0 || i % 256 == 100, &mut ports);
            if let Some(block) = keystore.poll() {
                assert_eq!(i % 256, 255);
                got.extend(block.raw);
            }
        }
        assert_eq!(got, (0..1024u32).map(|i| (i * 7) as u8).collect::<Vec<_>>());
    }

    #[test]
    fn a_restart_goes_on_with_the_next_number() {
        let words: Words = [const { AtomicU64::new(0) }; 64];
        let source = Fed::new(8);
        source.feed([5; 2000]);
        let mut numbers = Vec::new();
        for _ in 0..3 {
            let (mut ports, mut keystore) = ends(&words);
            let mut entropy = Entropy::new(source.clone());
            for credit in [false, true] {
                entropy.step(credit, &mut ports);
                numbers.push(keystore.poll().unwrap().number);
            }
        }
        assert_eq!(numbers, [1, 2, 3, 4, 5, 6]);
    }

    #[test]
    fn what_was_handed_over_is_not_kept() {
        let words: Words = [const { AtomicU64::new(0) }; 64];
        let (mut ports, _) = ends(&words);
        let source = Fed::new(8);
        source.feed([0xa5; 256]);
        let mut entropy = Entropy::new(source);
        entropy.step(false, &mut ports);
        assert!(entropy.block.raw.iter().chain(&entropy.block.jitter).all(|byte| *byte == 0));
    }

    #[test]
    fn a_source_that_claims_too_much_is_held_to_what_it_was_given() {
        struct Liar;
        impl Source for Liar {
            fn read(&mut self, to: &mut [u8]) -> usize {
                to.fill(1);
                usize::MAX
            }

            fn counter(&mut self) -> u64 {
                u64::MAX
            }
        }
        let words: Words = [const { AtomicU64::new(0) }; 64];
        let (mut ports, mut keystore) = ends(&words);
        Entropy::new(Liar).step(false, &mut ports);
        assert_eq!(keystore.poll().unwrap().raw, [1; BLOCK]);
    }
}
