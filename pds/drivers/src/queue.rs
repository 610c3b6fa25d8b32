//! A virtqueue whose every buffer is one slot of DMA memory.
//!
//! Neither side suppresses the other's notifications by event index: the rules for that need a full barrier
//! at places where `virtio-drivers` has none, and a notification that is lost here stops the node.

use core::{
    ptr::NonNull,
    sync::atomic::{Ordering, fence},
};

use virtio_drivers::{
    PAGE_SIZE,
    queue::VirtQueue,
    transport::{
        DeviceType, InterruptStatus, Transport,
        mmio::{MmioTransport, VirtIOHeader},
    },
};

use crate::dma::Dma;

bitflags::bitflags! {
    /// All that is negotiated.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub struct Features: u64 {
        /// The network device has an address.
        const MAC = 1 << 5;
        /// Not a legacy device.
        const VERSION_1 = 1 << 32;
    }
}

/// Registers and configuration of one device. What lies behind it in the page is not touched.
const MMIO_SIZE: usize = 0x200;

/// The device at the symbol `virtio`.
pub struct Device {
    transport: MmioTransport<'static>,
    pub features: Features,
}

impl Device {
    /// Finds it and agrees on features. `kind` is what must be there.
    pub fn bind(kind: DeviceType) -> Self {
        let Some(header) = NonNull::new(platform::setvar!("virtio") as *mut VirtIOHeader) else {
            panic!("the board gives no virtio device");
        };
        // SAFETY: the description maps the device's registers at this symbol, for good and to this domain alone.
        let transport = unsafe { MmioTransport::new(header, MMIO_SIZE) };
        let Ok(mut transport) = transport else { panic!("no virtio device at its address") };
        assert!(transport.device_type() == kind, "another virtio device at this address");
        let features = transport.begin_init(Features::all());
        Self { transport, features }
    }

    /// The queues are set up: the device may start.
    pub fn start(&mut self) {
        self.transport.finish_init();
    }

    pub fn configuration<const N: usize>(&self) -> [u8; N] {
        let read = self.transport.read_consistent(|| self.transport.read_config_space(0));
        read.unwrap_or_else(|_| panic!("the device has no configuration"))
    }

    /// Tells the device that its interrupt has been seen. Before the queues are drained, and the interrupt is
    /// acknowledged to the kernel after that: so none is lost and none comes twice.
    pub fn acknowledge(&mut self) -> InterruptStatus {
        self.transport.ack_interrupt()
    }

    fn notify(&mut self, queue: u16) {
        // The device must see the buffers before it is told of them.
        fence(Ordering::SeqCst);
        self.transport.notify(queue);
    }
}

/// A queue of `N` slots of `LEN` bytes.
pub struct Slots<const N: usize, const LEN: usize> {
    queue: VirtQueue<Dma, N>,
    index: u16,
    base: NonNull<u8>,
    /// The slots that the device does not have are `free[..count]`, the next on top. The queue's own list of free
    /// descriptors goes up and down in the same way, so that a slot and its descriptor have the same number.
    free: [u16; N],
    count: usize,
    /// How much of each slot the device has.
    lent: [usize; N],
}

#[derive(Clone, Copy)]
enum To {
    Read,
    Write,
}

impl<const N: usize, const LEN: usize> Slots<N, LEN> {
    pub fn new(device: &mut Device, index: u16) -> Self {
        let queue = VirtQueue::new(&mut device.transport, index, false, false);
        let (Ok(queue), Some((_, base))) = (queue, Dma::take((N * LEN).div_ceil(PAGE_SIZE))) else {
            panic!("the DMA region is too small, or the device has no such queue");
        };
        let mut free = [0; N];
        free.iter_mut().zip((0..N as u16).rev()).for_each(|(slot, number)| *slot = number);
        Self { queue, index, base, free, count: N, lent: [0; N] }
    }

    /// Copies `parts` into a free slot and gives it to the device to read. False if no slot is free.
    pub fn send(&mut self, device: &mut Device, parts: [&[u8]; 2]) -> bool {
        let [head, body] = parts;
        let Some(slot) = self.top().filter(|_| head.len() + body.len() <= LEN) else { return false };
        let bytes = self.slot(slot, head.len() + body.len());
        let (to_head, to_body) = bytes.split_at_mut(head.len());
        to_head.copy_from_slice(head);
        to_body.copy_from_slice(body);
        self.lend(slot, head.len() + body.len(), To::Read);
        device.notify(self.index);
        true
    }

    /// Gives every free slot to the device to write into.
    pub fn request(&mut self, device: &mut Device) {
        let mut any = false;
        while let Some(slot) = self.top() {
            self.lend(slot, LEN, To::Write);
            any = true;
        }
        if any {
            device.notify(self.index);
        }
    }

    /// Takes back a slot that the device has written, and shows what it holds.
    pub fn receive<R>(&mut self, read: impl FnOnce(&[u8]) -> R) -> Option<R> {
        let (slot, written) = self.take_back(To::Write)?;
        Some(read(self.slot(slot, written.min(LEN))))
    }

    /// Takes back every slot that the device has read.
    pub fn collect(&mut self) {
        while self.take_back(To::Read).is_some() {}
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

    fn top(&self) -> Option<u16> {
        self.free.get(self.count.checked_sub(1)?).copied()
    }

    /// The first bytes of a slot that the device does not have.
    fn slot(&mut self, slot: u16, len: usize) -> &mut [u8] {
        assert!(usize::from(slot) < N && len <= LEN);
        // SAFETY: within the pages taken for this queue. The device does not have the slot, and the borrow of `self` keeps it so.
        unsafe { core::slice::from_raw_parts_mut(self.base.add(usize::from(slot) * LEN).as_ptr(), len) }
    }

    fn buffer(&self, slot: u16, len: usize) -> NonNull<[u8]> {
        assert!(usize::from(slot) < N && len <= LEN);
        // SAFETY: within the pages taken for this queue.
        NonNull::slice_from_raw_parts(unsafe { self.base.add(usize::from(slot) * LEN) }, len)
    }

    fn lend(&mut self, slot: u16, len: usize, to: To) {
        self.count -= 1;
        self.lent[usize::from(slot)] = len;
        let mut buffer = self.buffer(slot, len);
        // SAFETY: the slot is on no list of free slots until the device has given it back.
        let token = unsafe {
            match to {
                To::Read => self.queue.add(&[buffer.as_ref()], &mut []),
                To::Write => self.queue.add(&[], &mut [buffer.as_mut()]),
            }
        };
        assert!(token.is_ok_and(|token| token == slot), "slots and descriptors are out of step");
    }

    fn take_back(&mut self, to: To) -> Option<(u16, usize)> {
        let slot = self.queue.peek_used()?;
        let len = self.lent.get_mut(usize::from(slot)).map(core::mem::take).filter(|len| *len > 0);
        let Some(len) = len else { panic!("the device gives back what it does not have") };
        let mut buffer = self.buffer(slot, len);
        // SAFETY: this is the buffer that was lent under this number.
        let written = unsafe {
            match to {
                To::Read => self.queue.pop_used(slot, &[buffer.as_ref()], &mut []),
                To::Write => self.queue.pop_used(slot, &[], &mut [buffer.as_mut()]),
            }
        };
        self.free[self.count] = slot;
        self.count += 1;
        Some((slot, written.map_or(0, |len| len as usize)))
    }
}
