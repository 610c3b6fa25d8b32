//! A virtio device in the memory of this domain, and its queues.

use core::ptr::NonNull;

use virtio_drivers::transport::{
    DeviceType, InterruptStatus, Transport,
    mmio::{MmioTransport, VirtIOHeader},
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
    pub transport: MmioTransport<'static>,
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
        match virtqueue::agree(&mut transport, Features::all()) {
            Ok(features) => Self { transport, features },
            Err(virtqueue::Refused) => panic!("the device wants a feature that this driver does not know"),
        }
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
    /// acknowledged to the kernel after that: so none is lost and none comes twice. A device that has given up says so by
    /// an interrupt too.
    pub fn acknowledge(&mut self) {
        let interrupts = self.transport.ack_interrupt();
        let changed = interrupts.contains(InterruptStatus::DEVICE_CONFIGURATION_INTERRUPT);
        assert!(!(changed && virtqueue::has_failed(&self.transport)), "the device has given up");
    }

    /// A queue of this device.
    pub fn queue<const N: usize, const LEN: usize>(&mut self, index: u16) -> Slots<N, LEN> {
        let slots = Slots::new(&mut self.transport, index);
        slots.unwrap_or_else(|| panic!("the DMA region is too small, or the device has no such queue"))
    }
}

/// A queue whose slots are cut from the region `dma`.
pub type Slots<const N: usize, const LEN: usize> = virtqueue::Slots<Dma, N, LEN>;
