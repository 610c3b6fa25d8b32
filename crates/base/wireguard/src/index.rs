//! The indices by which peers name the node's sessions and handshakes: random, each found in one step.

use crate::{PeerId, random::Random};

/// At least twice as many as there can be indices at a time.
const BUCKETS: usize = 256;

/// What an index stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Holder {
    Initiation,
    /// The slot of a session.
    Session(u8),
}

#[derive(Clone, Copy)]
struct Entry {
    index: u32,
    peer: PeerId,
    holder: Holder,
}

/// An index stands in the bucket of its lowest byte, and in no other.
pub struct Table([Option<Entry>; BUCKETS]);

impl Table {
    pub const fn new() -> Self {
        Self([None; BUCKETS])
    }

    pub fn find(&self, index: u32) -> Option<(PeerId, Holder)> {
        let entry = self.0[index as usize % BUCKETS].as_ref()?;
        (entry.index == index).then_some((entry.peer, entry.holder))
    }

    /// A fresh index. 0 stands for none and is never given; `None` if every bucket is taken, which the number of
    /// peers forbids.
    pub fn insert(&mut self, random: &mut Random, peer: PeerId, holder: Holder) -> Option<u32> {
        let drawn = random.number() | 0x100;
        let index = (0..BUCKETS as u32)
            .map(|step| drawn & !0xff | drawn.wrapping_add(step) & 0xff)
            .find(|index| self.0[*index as usize % BUCKETS].is_none())?;
        self.0[index as usize % BUCKETS] = Some(Entry { index, peer, holder });
        Some(index)
    }

    /// The same index stands for something else of the same peer.
    pub fn change(&mut self, index: u32, holder: Holder) {
        if let Some(entry) = self.0[index as usize % BUCKETS].as_mut().filter(|entry| entry.index == index) {
            entry.holder = holder;
        }
    }

    pub fn remove(&mut self, index: u32) {
        let entry = &mut self.0[index as usize % BUCKETS];
        if entry.is_some_and(|entry| entry.index == index) {
            *entry = None;
        }
    }

    #[cfg(test)]
    pub fn count(&self) -> usize {
        self.0.iter().flatten().count()
    }
}

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use crypto::Secret;

    use super::*;

    #[test]
    fn every_bucket_can_be_taken_and_given_back() {
        let (mut table, mut random) = (Table::new(), Random::new(Secret::new([1; 32])));
        let mut indices: Vec<u32> =
            (0..BUCKETS).map(|n| table.insert(&mut random, PeerId(n as u8), Holder::Initiation).unwrap()).collect();
        assert!(table.insert(&mut random, PeerId(0), Holder::Initiation).is_none());
        for (n, index) in indices.iter().enumerate() {
            assert_eq!(table.find(*index), Some((PeerId(n as u8), Holder::Initiation)));
            assert_eq!(table.find(index ^ 0x100), None);
        }
        assert!(!indices.contains(&0));
        table.change(indices[0], Holder::Session(2));
        table.change(indices[1] ^ 0x100, Holder::Session(2));
        table.remove(indices[1] ^ 0x100);
        assert_eq!(table.find(indices[0]), Some((PeerId(0), Holder::Session(2))));
        assert_eq!(table.find(indices[1]), Some((PeerId(1), Holder::Initiation)));
        indices.iter().for_each(|index| table.remove(*index));
        assert_eq!(table.count(), 0);
        indices.sort_unstable();
        indices.dedup();
        assert_eq!(indices.len(), BUCKETS);
    }
}
