//! A value that one domain publishes and another reads: latest wins, nothing flows back.
//!
//! Layout: word 0 the sequence number, odd while a value is being written; the value from byte 8.
//! A reader that meets a half-written value keeps the old one: the writer's notification, which
//! follows the value, wakes it again.

use core::marker::PhantomData;

use crate::{Plain, ReadOnly, ReadWrite, TooSmall, region::WORD};

const VALUE: usize = WORD;

/// The publishing end.
pub struct Writer<'a, T> {
    region: ReadWrite<'a>,
    seq: u64,
    signal: bool,
    value: PhantomData<T>,
}

/// The reading end.
pub struct Reader<'a, T> {
    region: ReadOnly<'a>,
    seen: u64,
    value: PhantomData<T>,
}

impl<'a, T: Plain> Writer<'a, T> {
    pub fn new(region: ReadWrite<'a>) -> Result<Self, TooSmall> {
        fits::<T>(region.len())?;
        // After a restart the number goes on, rounded up to "complete".
        let seq = region.load(0).next_multiple_of(2);
        Ok(Self { region, seq, signal: false, value: PhantomData })
    }

    pub fn publish(&mut self, value: &T) {
        self.region.store(0, self.seq | 1);
        self.region.write(VALUE, value.as_bytes());
        self.seq = self.seq.wrapping_add(2);
        self.region.store(0, self.seq);
        self.signal = true;
    }

    /// The value that stands there: the last published one; after a restart, the predecessor's.
    pub fn latest(&self) -> T {
        read(&self.region.read_only(), VALUE)
    }

    /// Overwrites the value with zeros, for what must not stay.
    pub fn wipe(&mut self) {
        self.region.store(0, self.seq | 1);
        let len = self.region.len();
        for at in (VALUE..len).step_by(WORD) {
            self.region.store(at, 0);
        }
        self.seq = self.seq.wrapping_add(2);
        self.region.store(0, self.seq);
    }

    /// Whether the other end is to be notified since this was last asked.
    pub fn take_signal(&mut self) -> bool {
        core::mem::take(&mut self.signal)
    }
}

impl<'a, T: Plain> Reader<'a, T> {
    pub fn new(region: ReadOnly<'a>) -> Result<Self, TooSmall> {
        fits::<T>(region.len())?;
        Ok(Self { region, seen: 0, value: PhantomData })
    }

    /// The latest value, if it is whole and newer than the last one returned.
    ///
    /// A reader that has restarted gets the present value once more.
    pub fn poll(&mut self) -> Option<T> {
        let seq = self.region.load(0);
        if seq == self.seen || seq % 2 == 1 {
            return None;
        }
        let value = read::<T>(&self.region, VALUE);
        if self.region.load(0) != seq {
            return None;
        }
        self.seen = seq;
        Some(value)
    }
}

/// Reads a value that never changes: a prefilled region.
pub fn read_static<T: Plain>(region: &ReadOnly<'_>) -> T {
    read(region, 0)
}

fn read<T: Plain>(region: &ReadOnly<'_>, at: usize) -> T {
    let mut value = T::new_zeroed();
    region.read(at, value.as_mut_bytes());
    value
}

fn fits<T>(len: usize) -> Result<(), TooSmall> {
    if len >= VALUE + size_of::<T>() { Ok(()) } else { Err(TooSmall) }
}

#[cfg(test)]
mod tests {
    use core::sync::atomic::AtomicU64;

    use super::*;

    #[test]
    fn latest_wins_and_a_half_written_value_is_not_seen() {
        let words: [AtomicU64; 8] = Default::default();
        let mut writer = Writer::<[u8; 20]>::new(ReadWrite::new(&words)).unwrap();
        let mut reader = Reader::<[u8; 20]>::new(ReadOnly::new(&words)).unwrap();
        assert_eq!(reader.poll(), None);
        writer.publish(&[1; 20]);
        writer.publish(&[2; 20]);
        assert!(writer.take_signal());
        assert!(!writer.take_signal());
        assert_eq!(reader.poll(), Some([2; 20]));
        assert_eq!(reader.poll(), None);
        ReadWrite::new(&words).store(0, 5);
        assert_eq!(reader.poll(), None);
        // The writer restarts in the middle of a value and goes on.
        let mut writer = Writer::<[u8; 20]>::new(ReadWrite::new(&words)).unwrap();
        assert_eq!(writer.latest(), [2; 20]);
        writer.publish(&[3; 20]);
        assert_eq!(reader.poll(), Some([3; 20]));
        writer.wipe();
        assert_eq!(reader.poll(), Some([0; 20]));
    }

    #[test]
    fn a_region_too_small_is_refused() {
        let words: [AtomicU64; 2] = Default::default();
        assert!(Writer::<[u8; 9]>::new(ReadWrite::new(&words)).is_err());
        assert!(Reader::<[u8; 9]>::new(ReadOnly::new(&words)).is_err());
    }
}
