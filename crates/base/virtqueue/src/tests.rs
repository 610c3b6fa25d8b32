//! Slots against a device of the test's own, which reads the rings as the specification says (virtio 1.2, section 2.7).

use core::ptr::NonNull;
use std::{
    alloc::{Layout, alloc_zeroed},
    vec,
    vec::Vec,
};

use proptest::prelude::*;
use virtio_drivers::{
    BufferDirection, Hal, PAGE_SIZE, PhysAddr, Result,
    transport::{DeviceStatus, DeviceType, InterruptStatus, Transport},
};

use super::Slots;

/// Memory of the host: addresses are the same for device and driver. It is never given back, as on a board.
struct Heap;

// SAFETY: `dma_alloc` gives distinct zeroed pages of the host's own memory.
unsafe impl Hal for Heap {
    fn dma_alloc(pages: usize, _: BufferDirection) -> (PhysAddr, NonNull<u8>) {
        let layout = Layout::from_size_align(pages * PAGE_SIZE, PAGE_SIZE).unwrap();
        // SAFETY: the layout is not empty.
        let start = NonNull::new(unsafe { alloc_zeroed(layout) }).unwrap();
        (start.as_ptr().expose_provenance() as PhysAddr, start)
    }

    unsafe fn dma_dealloc(_: PhysAddr, _: NonNull<u8>, _: usize) -> i32 {
        0
    }

    unsafe fn mmio_phys_to_virt(_: PhysAddr, _: usize) -> NonNull<u8> {
        unreachable!()
    }

    unsafe fn share(buffer: NonNull<[u8]>, _: BufferDirection) -> PhysAddr {
        buffer.cast::<u8>().as_ptr().expose_provenance() as PhysAddr
    }

    unsafe fn unshare(_: PhysAddr, _: NonNull<[u8]>, _: BufferDirection) {}
}

const N: usize = 4;
const LEN: usize = 32;
const INDEX: u16 = 1;

#[repr(C)]
struct Descriptor {
    addr: u64,
    len: u32,
    flags: u16,
    next: u16,
}

/// A device with one queue, as the driver's transport sees it.
pub struct Device {
    pub offered: u64,
    /// It agrees to nothing without these features.
    pub wanted: u64,
    pub legacy: bool,
    pub status: DeviceStatus,
    pub taken: u64,
    pub descriptors: usize,
    pub available: usize,
    pub used: usize,
    pub seen: u16,
    pub given_back: u16,
    /// Buffers that the device has: token, where, how long, and whether it is to write.
    pub has: Vec<(u16, usize, usize, bool)>,
    pub notified: usize,
}

impl Default for Device {
    fn default() -> Self {
        Self {
            offered: u64::MAX,
            wanted: 0,
            legacy: false,
            status: DeviceStatus::empty(),
            taken: 0,
            descriptors: 0,
            available: 0,
            used: 0,
            seen: 0,
            given_back: 0,
            has: Vec::new(),
            notified: 0,
        }
    }
}

impl Transport for Device {
    fn device_type(&self) -> DeviceType {
        DeviceType::Network
    }

    fn read_device_features(&mut self) -> u64 {
        self.offered
    }

    fn write_driver_features(&mut self, taken: u64) {
        self.taken = taken;
    }

    fn max_queue_size(&mut self, queue: u16) -> u32 {
        if queue == INDEX { N as u32 } else { 0 }
    }

    fn notify(&mut self, queue: u16) {
        assert_eq!(queue, INDEX);
        self.notified += 1;
        self.look();
    }

    fn get_status(&self) -> DeviceStatus {
        self.status
    }

    /// A device that does not agree leaves its status as it was.
    fn set_status(&mut self, status: DeviceStatus) {
        if !status.contains(DeviceStatus::FEATURES_OK) || self.taken & self.wanted == self.wanted {
            self.status = status;
        }
    }

    fn set_guest_page_size(&mut self, _: u32) {}

    fn requires_legacy_layout(&self) -> bool {
        self.legacy
    }

    fn queue_set(&mut self, _: u16, size: u32, descriptors: PhysAddr, driver_area: PhysAddr, device_area: PhysAddr) {
        assert_eq!(size as usize, N);
        (self.descriptors, self.available, self.used) =
            (descriptors as usize, driver_area as usize, device_area as usize);
    }

    fn queue_unset(&mut self, _: u16) {}

    fn queue_used(&mut self, _: u16) -> bool {
        self.descriptors != 0
    }

    fn ack_interrupt(&mut self) -> InterruptStatus {
        InterruptStatus::empty()
    }

    fn read_config_generation(&self) -> u32 {
        0
    }

    fn read_config_space<T>(&self, _: usize) -> Result<T> {
        unreachable!()
    }

    fn write_config_space<T>(&mut self, _: usize, _: T) -> Result<()> {
        unreachable!()
    }
}

impl Device {
    fn read<T: Copy>(at: usize) -> T {
        // SAFETY: within the memory that the driver has named; both are one thread.
        unsafe { core::ptr::with_exposed_provenance::<T>(at).read_volatile() }
    }

    fn write<T>(at: usize, value: T) {
        // SAFETY: as above.
        unsafe { core::ptr::with_exposed_provenance_mut::<T>(at).write_volatile(value) }
    }

    /// Takes what the driver has made available.
    fn look(&mut self) {
        while self.seen != Self::read::<u16>(self.available + 2) {
            let token: u16 = Self::read(self.available + 4 + usize::from(self.seen) % N * 2);
            let at = self.descriptors + usize::from(token) * size_of::<Descriptor>();
            let (addr, len): (u64, u32) = (Self::read(at), Self::read(at + 8));
            let flags: u16 = Self::read(at + 12);
            // Each buffer is one descriptor: no chain, no list.
            assert_eq!(flags & !2, 0);
            assert!(self.has.iter().all(|(other, ..)| *other != token), "two buffers of one token");
            assert!(self.has.iter().all(|(_, other, ..)| *other != addr as usize), "one slot twice");
            self.has.push((token, addr as usize, len as usize, flags & 2 != 0));
            self.seen = self.seen.wrapping_add(1);
        }
    }

    /// The driver's next look finds this.
    fn give_back(&mut self, token: u32, written: u32) {
        let at = self.used + 4 + usize::from(self.given_back) % N * 8;
        Self::write(at, token);
        Self::write(at + 4, written);
        self.given_back = self.given_back.wrapping_add(1);
        Self::write(self.used + 2, self.given_back);
    }

    /// Reads a buffer that it has, any of them, and gives it back.
    fn consume(&mut self, which: usize) -> Vec<u8> {
        let (token, at, len, write) = self.has.remove(which % self.has.len());
        assert!(!write);
        let bytes = (0..len).map(|n| Self::read(at + n)).collect();
        self.give_back(token.into(), 0);
        bytes
    }

    /// Fills a buffer that it has, any of them, and gives it back.
    fn fill(&mut self, which: usize, bytes: &[u8]) {
        let (token, at, len, write) = self.has.remove(which % self.has.len());
        assert!(write && len == LEN);
        bytes.iter().enumerate().for_each(|(n, byte)| Self::write(at + n, *byte));
        self.give_back(token.into(), bytes.len() as u32);
    }
}

fn queue() -> (Device, Slots<Heap, N, LEN>) {
    let mut device = Device::default();
    let slots = Slots::new(&mut device, INDEX).unwrap();
    (device, slots)
}

#[derive(Debug, Clone)]
enum Act {
    Send(u8),
    Consume(usize),
    Collect,
}

proptest! {
    #[test]
    fn what_is_sent_is_read_whole_in_whatever_order_it_is_read(
        acts in prop::collection::vec(prop_oneof![
            4 => (1..=LEN as u8).prop_map(Act::Send),
            3 => (0usize..N).prop_map(Act::Consume),
            1 => Just(Act::Collect),
        ], 0..300)
    ) {
        let (mut device, mut slots) = queue();
        // What the device has not read yet, and what of its slots the driver has not collected.
        let (mut waiting, mut uncollected, mut number) = (Vec::new(), 0, 0u8);
        for act in acts {
            match act {
                Act::Send(len) => {
                    number = number.wrapping_add(1);
                    let bytes = vec![number; len.into()];
                    let (head, body) = bytes.split_at(usize::from(len) / 3);
                    let sent = slots.send(&mut device, [head, body]);
                    prop_assert_eq!(sent, waiting.len() + uncollected < N);
                    if sent {
                        waiting.push(bytes);
                    }
                }
                Act::Consume(_) if waiting.is_empty() => {}
                Act::Consume(which) => {
                    prop_assert_eq!(device.has.len(), waiting.len());
                    prop_assert_eq!(device.consume(which), waiting.remove(which % waiting.len()));
                    uncollected += 1;
                }
                Act::Collect => {
                    slots.collect();
                    uncollected = 0;
                }
            }
            prop_assert_eq!(slots.full(), waiting.len() + uncollected == N);
        }
    }

    #[test]
    fn what_is_written_is_received_once_in_the_order_of_its_being_written(
        acts in prop::collection::vec((0usize..N, 0..=LEN, any::<bool>(), any::<bool>()), 0..300)
    ) {
        let (mut device, mut slots) = queue();
        slots.request(&mut device);
        let (mut written, mut number) = (std::collections::VecDeque::new(), 0u8);
        for (which, len, receive, request) in acts {
            if !device.has.is_empty() {
                number = number.wrapping_add(1);
                let bytes = vec![number; len];
                device.fill(which, &bytes);
                written.push_back(bytes);
            }
            if receive {
                prop_assert_eq!(slots.receive(<[u8]>::to_vec), written.pop_front());
            }
            if request {
                slots.request(&mut device);
                prop_assert_eq!(device.has.len() + written.len(), N);
            }
        }
        while let Some(bytes) = written.pop_front() {
            prop_assert_eq!(slots.receive(<[u8]>::to_vec), Some(bytes));
        }
        prop_assert!(slots.receive(|_| ()).is_none());
    }
}

#[test]
fn what_does_not_fit_is_not_sent() {
    let (mut device, mut slots) = queue();
    assert!(!slots.send(&mut device, [&[1; LEN], &[2]]) && !slots.send(&mut device, [&[], &[]]));
    assert_eq!(device.notified, 0);
    for _ in 0..N {
        assert!(slots.send(&mut device, [&[1; LEN - 1], &[2]]));
    }
    assert!(slots.full() && !slots.send(&mut device, [&[], &[1]]));
    assert_eq!(device.notified, N);
}

#[test]
fn the_device_is_told_once_of_all_that_it_may_write_into() {
    let (mut device, mut slots) = queue();
    slots.request(&mut device);
    assert_eq!((device.notified, device.has.len()), (1, N));
    slots.request(&mut device);
    assert_eq!(device.notified, 1);
}

#[test]
fn a_device_that_says_it_wrote_more_than_there_is_room_for_gets_no_more_shown() {
    let (mut device, mut slots) = queue();
    slots.request(&mut device);
    let (token, ..) = device.has.remove(2);
    device.give_back(token.into(), u32::MAX);
    assert_eq!(slots.receive(<[u8]>::len), Some(LEN));
}

#[test]
fn interrupts_are_asked_for_in_the_ring() {
    let (device, mut slots) = queue();
    for wanted in [false, true] {
        slots.interrupts(wanted);
        assert_eq!(Device::read::<u16>(device.available), u16::from(!wanted));
    }
}

#[test]
fn a_queue_that_the_device_has_not_is_none() {
    assert!(Slots::<Heap, N, LEN>::new(&mut Device::default(), INDEX + 1).is_none());
    let (mut device, _slots) = queue();
    assert!(Slots::<Heap, N, LEN>::new(&mut device, INDEX).is_none(), "it is in use");
}

/// The domain dies, and with it nothing else.
fn gives_back(token: impl FnOnce(&Device) -> u32) {
    let (mut device, mut slots) = queue();
    assert!(slots.send(&mut device, [&[1], &[2]]));
    let token = token(&device);
    device.give_back(token, 0);
    slots.collect();
}

#[test]
#[should_panic(expected = "what it does not have")]
fn a_token_that_was_never_given_out_is_not_taken_back() {
    gives_back(|device| u32::from(device.has[0].0) ^ 1);
}

#[test]
#[should_panic(expected = "what it does not have")]
fn a_token_past_the_queue_is_not_taken_back() {
    gives_back(|_| 0xffff);
}

#[test]
#[should_panic(expected = "what it does not have")]
fn a_token_is_not_taken_back_twice() {
    let (mut device, mut slots) = queue();
    assert!(slots.send(&mut device, [&[1], &[2]]));
    let (token, ..) = device.has[0];
    device.give_back(token.into(), 0);
    slots.collect();
    device.give_back(token.into(), 0);
    slots.collect();
}
