//! The network device: frames in and out, and its address. It offers the device no offload, so a frame is only ever bytes.

use virtio_drivers::transport::DeviceType;

use crate::device::{Device, Features, Slots};

const RECEIVE: u16 = 0;
const TRANSMIT: u16 = 1;
const SLOTS: usize = 64;
const SLOT: usize = 2048;

pub struct VirtioNet {
    device: Device,
    receive: Slots<SLOTS, SLOT>,
    transmit: Slots<SLOTS, SLOT>,
    mac: [u8; 6],
    /// Before each frame. A legacy device's is shorter.
    header: usize,
}

impl VirtioNet {
    /// The device of the symbols `virtio` and `dma`, started.
    pub fn bind() -> Self {
        let mut device = Device::bind(DeviceType::Network);
        assert!(device.features.contains(Features::MAC), "the device has no address");
        let mac = device.configuration();
        let mut receive: Slots<SLOTS, SLOT> = device.queue(RECEIVE);
        let mut transmit: Slots<SLOTS, SLOT> = device.queue(TRANSMIT);
        // Slots that were sent are collected when the next is: no interrupt is needed for that.
        transmit.interrupts(false);
        device.start();
        receive.request(&mut device.transport);
        let header = if device.features.contains(Features::VERSION_1) { 12 } else { 10 };
        Self { device, receive, transmit, mac, header }
    }

    /// See [`Device::acknowledge`].
    pub fn acknowledge(&mut self) {
        self.device.acknowledge();
    }

    /// Whether to interrupt when there is room for another frame. True if there may be room already.
    pub fn wake_when_room(&mut self, wanted: bool) -> bool {
        self.transmit.interrupts(wanted);
        self.transmit.collect();
        wanted && !self.transmit.full()
    }
}

impl net::Device for VirtioNet {
    fn mac(&self) -> [u8; 6] {
        self.mac
    }

    fn recv(&mut self, frame: &mut [u8]) -> Option<usize> {
        let header = self.header;
        let received = self.receive.receive(|bytes| {
            let bytes = bytes.get(header..).unwrap_or_default();
            let len = bytes.len().min(frame.len());
            frame[..len].copy_from_slice(&bytes[..len]);
            bytes.len()
        });
        if received.is_none() {
            // Drained: the device gets its slots back in one go.
            self.receive.request(&mut self.device.transport);
            return None;
        }
        received
    }

    fn send(&mut self, frame: &[u8]) -> bool {
        self.transmit.collect();
        self.transmit.send(&mut self.device.transport, [&[0; 12][..self.header], frame])
    }
}
