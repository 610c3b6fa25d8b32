//! The entropy device: a few bytes at a time, on request, so that the time each part took is worth something.

use entropy::Source;
use virtio_drivers::transport::DeviceType;

use crate::device::{Device, Slots};

const REQUEST: usize = 8;

pub struct VirtioRng {
    device: Device,
    queue: Slots<1, REQUEST>,
}

impl VirtioRng {
    /// The device of the symbols `virtio` and `dma`, started.
    pub fn bind() -> Self {
        let mut device = Device::bind(DeviceType::EntropySource);
        let queue = device.queue(0);
        device.start();
        Self { device, queue }
    }
}

impl Source for VirtioRng {
    fn read(&mut self, to: &mut [u8]) -> usize {
        self.device.acknowledge();
        let read = self.queue.receive(|bytes| {
            let len = bytes.len().min(to.len());
            to[..len].copy_from_slice(&bytes[..len]);
            len
        });
        if read.is_none() {
            self.queue.request(&mut self.device.transport);
        }
        read.unwrap_or(0)
    }

    fn counter(&mut self) -> u64 {
        platform::counter()
    }
}
