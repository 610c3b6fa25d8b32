//! What a driver and a virtio device agree on, and a virtqueue whose every buffer is one slot of DMA memory. What a device has of it, the driver does not touch; who
//! borrows a slot gets it only for as long as that is so.
//!
//! Here and not beside the drivers, because it needs neither a board nor seL4: the tests run it against a device that is
//! as slow, disorderly and dishonest as they like.
//!
//! Neither side suppresses the other's notifications by event index: the rules for that need a full barrier
//! at places where `virtio-drivers` has none, and a notification that is lost here stops the node.
#![no_std]

#[cfg(test)]
extern crate std;

mod device;
#[cfg(test)]
mod tests;

use core::{
    ptr::NonNull,
    sync::atomic::{Ordering, fence},
};

use virtio_drivers::{BufferDirection, Hal, PAGE_SIZE, queue::VirtQueue, transport::Transport};

pub use device::{Refused, agree, has_failed};

/// A queue of `N` slots of `LEN` bytes.
pub struct Slots<H: Hal, const N: usize, const LEN: usize> {
    queue: VirtQueue<H, N>,
    index: u16,
    base: NonNull<u8>,
    /// The slots that the device does not have are `free[..count]`.
    free: [u16; N],
    count: usize,
    /// What the device has, by the queue's token.
    lent: [Option<Lent>; N],
}

#[derive(Clone, Copy)]
struct Lent {
    slot: u16,
    /// How much of the slot.
    len: usize,
}

#[derive(Clone, Copy)]
enum To {
    Read,
    Write,
}

impl<H: Hal, const N: usize, const LEN: usize> Slots<H, N, LEN> {
    /// `None`: the DMA memory is too small, or the device has no such queue.
    pub fn new(transport: &mut impl Transport, index: u16) -> Option<Self> {
        let queue = VirtQueue::new(transport, index, false, false).ok()?;
        let (physical, base) = H::dma_alloc((N * LEN).div_ceil(PAGE_SIZE), BufferDirection::Both);
        // Address 0 is how `Hal` says that there is none.
        (physical != 0).then_some(())?;
        let free = core::array::from_fn(|slot| slot as u16);
        Some(Self { queue, index, base, free, count: N, lent: [None; N] })
    }

    /// Copies `parts` into a free slot and gives it to the device to read. False if no slot is free, or they are longer.
    pub fn send(&mut self, transport: &mut impl Transport, parts: [&[u8]; 2]) -> bool {
        let [head, body] = parts;
        let len = head.len() + body.len();
        if len == 0 || len > LEN {
            return false;
        }
        let Some(slot) = self.take() else { return false };
        let (to_head, to_body) = self.slot(slot, len).split_at_mut(head.len());
        to_head.copy_from_slice(head);
        to_body.copy_from_slice(body);
        self.lend(slot, len, To::Read);
        self.notify(transport);
        true
    }

    /// Gives every free slot to the device to write into.
    pub fn request(&mut self, transport: &mut impl Transport) {
        let mut any = false;
        while let Some(slot) = self.take() {
            self.lend(slot, LEN, To::Write);
            any = true;
        }
        if any {
            self.notify(transport);
        }
    }

    /// Takes back a slot that the device has written, and shows what it holds.
    pub fn receive<R>(&mut self, read: impl FnOnce(&[u8]) -> R) -> Option<R> {
        let (slot, written) = self.take_back(To::Write)?;
        let read = read(self.slot(slot, written.min(LEN)));
        self.put_back(slot);
        Some(read)
    }

    /// Takes back every slot that the device has read.
    pub fn collect(&mut self) {
        while let Some((slot, _)) = self.take_back(To::Read) {
            self.put_back(slot);
        }
    }

    /// Whether the device is to interrupt when it is done with a slot.
    pub fn interrupts(&mut self, wanted: bool) {
        self.queue.set_dev_notify(wanted);
        // Before the queue is looked at again: what the device has done by now, it has not told.
        fence(Ordering::SeqCst);
    }

    /// Whether the device has every slot.
    pub fn full(&self) -> bool {
        self.count == 0
    }

    fn notify(&self, transport: &mut impl Transport) {
        // The device must see the buffers before it is told of them.
        fence(Ordering::SeqCst);
        transport.notify(self.index);
    }

    /// A slot that the device does not have. It is on no list until it is lent or put back.
    fn take(&mut self) -> Option<u16> {
        self.count = self.count.checked_sub(1)?;
        Some(self.free[self.count])
    }

    fn put_back(&mut self, slot: u16) {
        self.free[self.count] = slot;
        self.count += 1;
    }

    /// The first bytes of a slot that was taken.
    fn slot(&mut self, slot: u16, len: usize) -> &mut [u8] {
        // SAFETY: `buffer` lies within the pages taken for this queue, which start as zeros. The device does not have the
        // slot, and the borrow of `self` keeps it so.
        unsafe { self.buffer(slot, len).as_mut() }
    }

    fn buffer(&self, slot: u16, len: usize) -> NonNull<[u8]> {
        assert!(usize::from(slot) < N && len <= LEN);
        // SAFETY: within the pages taken for this queue.
        NonNull::slice_from_raw_parts(unsafe { self.base.add(usize::from(slot) * LEN) }, len)
    }

    fn lend(&mut self, slot: u16, len: usize, to: To) {
        let mut buffer = self.buffer(slot, len);
        // SAFETY: the slot was taken, and is on no list of free slots until the device has given it back.
        let token = unsafe {
            match to {
                To::Read => self.queue.add(&[buffer.as_ref()], &mut []),
                To::Write => self.queue.add(&[], &mut [buffer.as_mut()]),
            }
        };
        // There are as many descriptors as slots, and each slot takes one.
        let place = token.ok().and_then(|token| self.lent.get_mut(usize::from(token)));
        let Some(place @ None) = place else { panic!("the queue has no descriptor for a free slot") };
        *place = Some(Lent { slot, len });
    }

    /// What the device has given back: the slot, which is now taken, and how many bytes it says that it wrote.
    fn take_back(&mut self, to: To) -> Option<(u16, usize)> {
        let token = self.queue.peek_used()?;
        let lent = self.lent.get_mut(usize::from(token)).and_then(Option::take);
        let Some(Lent { slot, len }) = lent else { panic!("the device gives back what it does not have") };
        let mut buffer = self.buffer(slot, len);
        // SAFETY: this is the buffer that was lent under this token.
        let written = unsafe {
            match to {
                To::Read => self.queue.pop_used(token, &[buffer.as_ref()], &mut []),
                To::Write => self.queue.pop_used(token, &[], &mut [buffer.as_mut()]),
            }
        };
        // The device may change what it wrote between the two looks at its ring: then the slot is its for good.
        let written = written.unwrap_or_else(|_| panic!("the device changes what it has given back"));
        Some((slot, written as usize))
    }
}
