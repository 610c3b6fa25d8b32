use core::sync::atomic::AtomicU64;
use std::{boxed::Box, collections::VecDeque, vec, vec::Vec};

use proptest::prelude::*;
use shm::{ReadOnly, ReadWrite};

use super::*;

const MAC: [u8; 6] = [2, 0, 0, 0, 0, 7];
const SLOTS: usize = 63;

#[derive(Default)]
struct Wire {
    arriving: VecDeque<Vec<u8>>,
    sent: Vec<Vec<u8>>,
    room: usize,
}

impl Device for Wire {
    fn mac(&self) -> [u8; 6] {
        MAC
    }

    fn recv(&mut self, frame: &mut [u8]) -> Option<usize> {
        let next = self.arriving.pop_front()?;
        let len = next.len().min(frame.len());
        frame[..len].copy_from_slice(&next[..len]);
        // As a datagram socket that tells the true length.
        Some(next.len())
    }

    fn send(&mut self, frame: &[u8]) -> bool {
        let fits = self.room > 0;
        if fits {
            self.room -= 1;
            self.sent.push(frame.to_vec());
        }
        fits
    }
}

struct Rig {
    net: Net,
    ports: Ports<'static>,
    wire: Wire,
    nic: cell::Reader<'static, Nic>,
    drops: cell::Reader<'static, Drops>,
    perimeter: ring::Duplex<'static, FRAME_SLOT>,
    /// What `net` reads.
    theirs: &'static [AtomicU64],
}

impl Rig {
    fn new() -> Self {
        let region = |len: usize| -> &'static [AtomicU64] {
            Box::leak((0..len / 8).map(|_| AtomicU64::new(0)).collect::<Vec<_>>().into_boxed_slice())
        };
        let (nic, drops, out, theirs) = (region(0x1000), region(0x1000), region(0x20000), region(0x20000));
        Self {
            net: Net::new(),
            ports: Ports {
                nic: cell::Writer::new(ReadWrite::new(nic)).unwrap(),
                drops: cell::Writer::new(ReadWrite::new(drops)).unwrap(),
                perimeter: ring::Duplex::new(ReadWrite::new(out), ReadOnly::new(theirs)).unwrap(),
            },
            wire: Wire::default(),
            nic: cell::Reader::new(ReadOnly::new(nic)).unwrap(),
            drops: cell::Reader::new(ReadOnly::new(drops)).unwrap(),
            perimeter: ring::Duplex::new(ReadWrite::new(theirs), ReadOnly::new(out)).unwrap(),
            theirs,
        }
    }

    fn step(&mut self) -> bool {
        self.net.step(&mut self.ports, &mut self.wire)
    }

    fn passed_in(&mut self) -> Vec<Vec<u8>> {
        let mut buf = [0; ROOM];
        core::iter::from_fn(|| self.perimeter.recv(&mut buf).unwrap().map(|len| buf[..len].to_vec())).collect()
    }

    fn notified(&mut self) -> bool {
        let mut notified = false;
        self.ports.signals(|_| notified = true);
        notified
    }
}

#[test]
fn the_device_is_announced_once_and_an_idle_step_is_silent() {
    let mut rig = Rig::new();
    assert!(!rig.step());
    assert_eq!(rig.nic.poll(), Some(Nic { mac: MAC, up: 1, zero: 0 }));
    assert!(rig.notified());
    assert!(!rig.step());
    assert_eq!(rig.nic.poll(), None);
    assert!(!rig.notified());
}

#[test]
fn only_lengths_of_an_ethernet_frame_pass_either_way() {
    let mut rig = Rig::new();
    rig.wire.room = 100;
    for len in [0, 1, 1514, 1515, ROOM, ROOM + 1, 9000] {
        rig.wire.arriving.push_back(vec![7; len]);
        if len <= ROOM {
            rig.perimeter.send(&vec![9; len]).unwrap();
        }
    }
    assert!(!rig.step());
    let lengths = |frames: Vec<Vec<u8>>| frames.iter().map(Vec::len).collect::<Vec<_>>();
    assert_eq!(lengths(rig.passed_in()), [1, 1514]);
    assert_eq!(lengths(core::mem::take(&mut rig.wire.sent)), [1, 1514]);
    assert_eq!(rig.drops.poll(), Some([(Reason::Length, 5), (Reason::Own, 3)].into()));
}

#[test]
fn a_step_is_bounded_and_says_that_more_is_waiting() {
    let mut rig = Rig::new();
    rig.wire.arriving = (0..BATCH + 1).map(|n| vec![n as u8]).collect();
    assert!(rig.step());
    assert_eq!(rig.passed_in().len(), BATCH);
    assert!(!rig.step());
    assert_eq!(rig.passed_in(), [[BATCH as u8]]);
}

#[test]
fn a_frame_for_which_the_device_has_no_room_is_kept_and_goes_first() {
    let mut rig = Rig::new();
    for n in 0..3 {
        rig.perimeter.send(&[n]).unwrap();
    }
    // No spinning on a full device, and the other direction goes on.
    rig.wire.arriving.push_back(vec![8]);
    assert!(!rig.step());
    assert!(rig.net.blocked() && rig.wire.sent.is_empty());
    assert_eq!(rig.passed_in(), [[8]]);
    rig.wire.room = 9;
    assert!(!rig.step());
    assert!(!rig.net.blocked());
    assert_eq!(rig.wire.sent, [[0], [1], [2]]);
}

#[test]
fn a_full_ring_loses_frames_and_nothing_else() {
    let mut rig = Rig::new();
    rig.wire.arriving = (0..100).map(|n| vec![n]).collect();
    while rig.step() {}
    assert_eq!(rig.drops.poll(), Some([(Reason::Full, 100 - SLOTS as u64)].into()));
    assert_eq!(rig.passed_in().len(), SLOTS);
    rig.wire.arriving.push_back(vec![1]);
    rig.step();
    assert_eq!(rig.passed_in().len(), 1);
}

#[test]
fn a_dropped_frame_is_told_and_wakes_nobody() {
    let mut rig = Rig::new();
    rig.step();
    assert!(rig.notified());
    assert_eq!(rig.drops.poll(), None);
    for all in 1..3 {
        rig.wire.arriving.push_back(vec![0; 2000]);
        rig.step();
        assert!(!rig.notified());
        assert_eq!(rig.drops.poll(), Some([(Reason::Length, all)].into()));
    }
    rig.step();
    assert_eq!(rig.drops.poll(), None);
}

proptest! {
    /// Whatever stands in perimeter's region, nothing longer than a frame reaches the device and no step panics.
    #[test]
    fn survives_any_bytes_from_perimeter(words in prop::collection::vec(any::<u64>(), 16), small in any::<bool>(), at in 0usize..64) {
        let mut rig = Rig::new();
        rig.wire.room = usize::MAX;
        for (n, word) in words.iter().enumerate() {
            let value = if small { word % 3000 } else { *word };
            rig.theirs[if n < 2 { n } else { 8 + (at * 256 + n - 2) % 15872 }].store(value, core::sync::atomic::Ordering::Relaxed);
        }
        for _ in 0..8 {
            rig.step();
        }
        prop_assert!(rig.wire.sent.iter().all(|frame| passes(frame.len())));
    }

    /// Against queues as the model: order is kept and nothing is invented, whenever the device has room.
    #[test]
    fn order_is_kept(actions in prop::collection::vec(0u8..4, 0..300)) {
        let mut rig = Rig::new();
        let (mut next_in, mut next_out) = (0u32, 0u32);
        let (mut seen_in, mut seen_out) = (0u32, 0u32);
        for action in actions {
            match action {
                0 => {
                    rig.wire.arriving.push_back(next_in.to_le_bytes().to_vec());
                    next_in += 1;
                }
                1 => {
                    if rig.perimeter.send(&next_out.to_le_bytes()).is_ok() {
                        next_out += 1;
                    }
                }
                2 => rig.wire.room = 2,
                _ => {
                    rig.step();
                    for frame in rig.passed_in() {
                        prop_assert_eq!(frame, seen_in.to_le_bytes());
                        seen_in += 1;
                    }
                    for frame in core::mem::take(&mut rig.wire.sent) {
                        prop_assert_eq!(frame, seen_out.to_le_bytes());
                        seen_out += 1;
                    }
                }
            }
        }
        prop_assert!(seen_in <= next_in && seen_out <= next_out);
    }
}
