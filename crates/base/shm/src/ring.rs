//! A pair of single-producer single-consumer rings of frames, one each way.
//!
//! Each end writes one region: word 0 counts the frames that it has produced into this region, word
//! 1 the frames that it has consumed from the other's, word 2 how often this end has been started, and from byte 64 come
//! the slots of the ring that it produces. A slot is a length word and the frame. Capacity follows from the region's
//! length, is kept privately and never read from shared memory; so are both own counters.
//!
//! An end that is started anew goes on counting where its predecessor was, as far as that can be, and drops what stands in
//! the ring that it reads: the frame that its predecessor died of is not read again, nor is one beside it.

use crate::{Misbehaved, ReadOnly, ReadWrite, TooSmall, region::WORD};

const PRODUCED: usize = 0;
const CONSUMED: usize = WORD;
const STARTED: usize = 2 * WORD;
const SLOTS: usize = 64;

/// The slot of rings that carry Ethernet frames.
pub const FRAME_SLOT: usize = 2048;

/// The longest frame that a slot of `SLOT` bytes holds.
pub const fn capacity(slot: usize) -> usize {
    slot - WORD
}

/// Why a frame was not sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SendError {
    /// No free slot: drop the frame or try again when notified.
    Full,
    /// Longer than a slot: drop it.
    TooLong,
    /// The consumer claims what it cannot have consumed: as `Full`, and count it.
    Misbehaved,
}

/// One end of a pair of rings with slots of `SLOT` bytes.
pub struct Duplex<'a, const SLOT: usize> {
    out: ReadWrite<'a>,
    inn: ReadOnly<'a>,
    out_slots: u64,
    in_slots: u64,
    produced: u64,
    consumed: u64,
    signal: bool,
    /// How many frames were taken since the ring was last found empty.
    taken: u64,
    room: bool,
}

impl<'a, const SLOT: usize> Duplex<'a, SLOT> {
    pub fn new(out: ReadWrite<'a>, inn: ReadOnly<'a>) -> Result<Self, TooSmall> {
        let mut ring = Self::keeping(out, inn)?;
        if ring.out.load(STARTED) > 1 {
            ring.consume_to(ring.inn.load(PRODUCED));
            ring.taken = 0;
        }
        Ok(ring)
    }

    /// As [`Self::new`], for an end that trusts the other: started anew, it still takes what stands in the ring.
    pub fn keeping(mut out: ReadWrite<'a>, inn: ReadOnly<'a>) -> Result<Self, TooSmall> {
        let (out_slots, in_slots) = (slots::<SLOT>(out.len())?, slots::<SLOT>(inn.len())?);
        // Own counters survive a restart in the region that only this end writes. A predecessor may have left anything there.
        let (mut produced, mut consumed) = (out.load(PRODUCED), out.load(CONSUMED));
        if produced.wrapping_sub(inn.load(CONSUMED)) > out_slots {
            produced = inn.load(CONSUMED);
            out.store(PRODUCED, produced);
        }
        if inn.load(PRODUCED).wrapping_sub(consumed) > in_slots {
            consumed = inn.load(PRODUCED);
            out.store(CONSUMED, consumed);
        }
        let started = out.load(STARTED).wrapping_add(1).max(1);
        out.store(STARTED, started);
        // The other end may wait for room.
        let is_new = started > 1;
        Ok(Self { out, inn, out_slots, in_slots, produced, consumed, signal: is_new, taken: 0, room: is_new })
    }

    /// Puts a frame into the outgoing ring.
    pub fn send(&mut self, frame: &[u8]) -> Result<(), SendError> {
        if frame.len() > capacity(SLOT) {
            return Err(SendError::TooLong);
        }
        let used = self.produced.wrapping_sub(self.inn.load(CONSUMED));
        if used > self.out_slots {
            return Err(SendError::Misbehaved);
        }
        if used == self.out_slots {
            return Err(SendError::Full);
        }
        let at = slot_at::<SLOT>(self.produced, self.out_slots);
        self.out.write(at + WORD, frame);
        self.out.store(at, frame.len() as u64);
        self.produced = self.produced.wrapping_add(1);
        self.out.store(PRODUCED, self.produced);
        self.signal = true;
        Ok(())
    }

    /// Takes the next incoming frame into `to` and returns its length. A producer that breaks the
    /// rules loses what it had in the ring.
    pub fn recv(&mut self, to: &mut [u8]) -> Result<Option<usize>, Misbehaved> {
        let produced = self.inn.load(PRODUCED);
        let waiting = produced.wrapping_sub(self.consumed);
        if waiting == 0 {
            self.room |= core::mem::take(&mut self.taken) >= self.in_slots;
            return Ok(None);
        }
        if waiting > self.in_slots {
            self.consume_to(produced);
            return Err(Misbehaved);
        }
        let at = slot_at::<SLOT>(self.consumed, self.in_slots);
        let len = usize::try_from(self.inn.load(at)).unwrap_or(usize::MAX);
        let taken = match to.get_mut(..len) {
            Some(to) if len <= capacity(SLOT) => {
                self.inn.read(at + WORD, to);
                Ok(Some(len))
            }
            _ => Err(Misbehaved),
        };
        self.consume_to(self.consumed.wrapping_add(1));
        taken
    }

    /// Whether there is a free slot: what is sent now is not refused for want of one.
    pub fn has_room(&self) -> bool {
        self.produced.wrapping_sub(self.inn.load(CONSUMED)) < self.out_slots
    }

    /// Whether the other end has taken everything that was sent.
    pub fn drained(&self) -> bool {
        self.inn.load(CONSUMED) == self.produced
    }

    fn consume_to(&mut self, count: u64) {
        self.taken = self.taken.saturating_add(count.wrapping_sub(self.consumed));
        self.consumed = count;
        self.out.store(CONSUMED, count);
    }

    /// Whether the other end is to be notified since this was last asked.
    pub fn take_signal(&mut self) -> bool {
        core::mem::take(&mut self.signal)
    }

    /// Whether, since this was last asked, an incoming ring was emptied that may have been full: where the other end keeps
    /// what it found no room for, it is to be notified.
    pub fn take_room(&mut self) -> bool {
        core::mem::take(&mut self.room)
    }
}

fn slots<const SLOT: usize>(len: usize) -> Result<u64, TooSmall> {
    const { assert!(SLOT > WORD && SLOT.is_multiple_of(WORD)) };
    match len.checked_sub(SLOTS).map(|room| room / SLOT) {
        None | Some(0) => Err(TooSmall),
        Some(count) => Ok(count as u64),
    }
}

fn slot_at<const SLOT: usize>(index: u64, slots: u64) -> usize {
    // Below the region's length, so it fits a usize.
    SLOTS + (index % slots) as usize * SLOT
}

#[cfg(test)]
mod tests {
    use core::sync::atomic::AtomicU64;
    use std::{collections::VecDeque, vec::Vec};

    use proptest::prelude::*;

    use super::*;

    const SLOT: usize = 32;
    type Words = [AtomicU64; (SLOTS + 4 * SLOT) / WORD];

    fn end<'a>(own: &'a Words, other: &'a Words) -> Duplex<'a, SLOT> {
        Duplex::new(ReadWrite::new(own), ReadOnly::new(other)).unwrap()
    }

    fn ends<'a>(a: &'a Words, b: &'a Words) -> (Duplex<'a, SLOT>, Duplex<'a, SLOT>) {
        (end(a, b), end(b, a))
    }

    proptest! {
        /// Against a queue as the model, with restarts of either end in between.
        #[test]
        fn behaves_as_a_bounded_queue(actions in prop::collection::vec((0u8..5, prop::collection::vec(any::<u8>(), 0..30)), 0..200)) {
            let (a, b): (Words, Words) = Default::default();
            let (mut left, mut right) = ends(&a, &b);
            let mut model: VecDeque<Vec<u8>> = VecDeque::new();
            for (action, frame) in actions {
                match action {
                    0 => {
                        let expected = if frame.len() > capacity(SLOT) {
                            Err(SendError::TooLong)
                        } else if model.len() == 4 {
                            Err(SendError::Full)
                        } else {
                            model.push_back(frame.clone());
                            Ok(())
                        };
                        prop_assert_eq!(left.send(&frame), expected);
                        prop_assert_eq!(left.has_room(), model.len() < 4);
                    }
                    1 => {
                        let mut buf = [0; SLOT];
                        let got = right.recv(&mut buf).unwrap().map(|len| buf[..len].to_vec());
                        prop_assert_eq!(got, model.pop_front());
                        prop_assert_eq!(left.drained(), model.is_empty());
                    }
                    2 => left = end(&a, &b),
                    // What stands there is dropped, and the producer hears of the room.
                    3 => {
                        right = end(&b, &a);
                        model.clear();
                        prop_assert!(right.take_signal() && right.take_room());
                    }
                    // Unless it is trusted.
                    _ => right = Duplex::keeping(ReadWrite::new(&b), ReadOnly::new(&a)).unwrap(),
                }
            }
        }

        /// Whatever a predecessor left in its region, its successor and the other end understand each other at once.
        #[test]
        fn a_successor_mends_its_predecessors_counters(left in any::<[u64; 2]>(), sent in 0u64..3) {
            let (a, b): (Words, Words) = Default::default();
            let (_, mut right) = ends(&a, &b);
            (0..sent).for_each(|_| right.send(b"x").unwrap());
            a.iter().zip(left).for_each(|(word, left)| word.store(left, core::sync::atomic::Ordering::Relaxed));
            let mut buf = [0; SLOT];
            // The other end may have met them.
            let _ = right.recv(&mut buf);
            let mut left = end(&a, &b);
            prop_assert_eq!(left.recv(&mut buf), Ok(None));
            let stale = right.recv(&mut buf).unwrap();
            prop_assert_eq!(right.send(b"y"), Ok(()));
            prop_assert_eq!(left.recv(&mut buf), Ok(Some(1)));
            if stale.is_none() {
                prop_assert_eq!(left.send(b"z"), Ok(()));
                prop_assert_eq!(right.recv(&mut buf), Ok(Some(1)));
            }
        }

        /// Whatever stands in the producer's region, the consumer neither panics nor stays stuck.
        #[test]
        fn survives_any_bytes_from_the_producer(words in prop::collection::vec(any::<u64>(), 24), small in any::<bool>()) {
            let (a, b): (Words, Words) = Default::default();
            for (to, from) in a.iter().zip(&words) {
                to.store(if small { from % 40 } else { *from }, core::sync::atomic::Ordering::Relaxed);
            }
            let (_, mut right) = ends(&a, &b);
            let mut buf = [0; SLOT];
            let mut rounds = 0;
            while right.recv(&mut buf) != Ok(None) {
                rounds += 1;
                prop_assert!(rounds <= 5);
            }
            let sent = right.send(b"x");
            prop_assert!(matches!(sent, Ok(()) | Err(SendError::Full | SendError::Misbehaved)));
        }
    }

    #[test]
    fn a_ring_that_was_full_and_is_empty_is_told_once() {
        let (a, b): (Words, Words) = Default::default();
        let (mut left, mut right) = ends(&a, &b);
        let mut buf = [0; SLOT];
        let drain = |right: &mut Duplex<'_, SLOT>, buf: &mut [u8]| while right.recv(buf).unwrap().is_some() {};
        for (sent, room) in [(0, false), (3, false), (4, true), (3, false)] {
            (0..sent).for_each(|_| left.send(b"x").unwrap());
            drain(&mut right, &mut buf);
            assert_eq!((right.take_room(), right.take_room()), (room, false), "{sent}");
        }
        // It is filled up again while it is emptied.
        (0..4).for_each(|_| left.send(b"x").unwrap());
        right.recv(&mut buf).unwrap();
        left.send(b"x").unwrap();
        assert_eq!(left.send(b"x"), Err(SendError::Full));
        assert!(!right.take_room());
        drain(&mut right, &mut buf);
        assert!(right.take_room());
    }

    #[test]
    fn a_region_without_one_slot_is_refused() {
        let words: [AtomicU64; 11] = Default::default();
        assert!(Duplex::<SLOT>::new(ReadWrite::new(&words), ReadOnly::new(&words)).is_err());
    }
}
