//! The device's status: whether it takes what the driver proposes, and whether it still works.

use core::{fmt::Debug, ops::BitAnd};

use bitflags::Flags;
use virtio_drivers::transport::{DeviceStatus, Transport};

/// The device does not work with what the driver takes of its features.
#[derive(Debug, PartialEq, Eq)]
pub struct Refused;

/// Agrees on features, of those that the driver knows (virtio 1.2, section 3.1.1, steps 1 to 6). A device that wants one
/// which the driver does not know, as one behind an IOMMU does, says so in its status only: it would take
/// the queues all the same, and stay deaf.
pub fn agree<F>(transport: &mut impl Transport, known: F) -> Result<F, Refused>
where
    F: Flags<Bits = u64> + BitAnd<Output = F> + Debug,
{
    let agreed = transport.begin_init(known);
    // A legacy device has no such bit, and takes what it gets.
    if transport.requires_legacy_layout() || transport.get_status().contains(DeviceStatus::FEATURES_OK) {
        return Ok(agreed);
    }
    transport.set_status(DeviceStatus::FAILED);
    Err(Refused)
}

/// Whether the device has given up: it moves nothing more until it is reset.
pub fn has_failed(transport: &impl Transport) -> bool {
    transport.get_status().contains(DeviceStatus::DEVICE_NEEDS_RESET)
}

#[cfg(test)]
mod tests {
    use bitflags::bitflags;

    use super::*;
    use crate::tests::Device;

    bitflags! {
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        struct Features: u64 {
            const MAC = 1 << 5;
            const VERSION_1 = 1 << 32;
        }
    }

    const ACCESS_PLATFORM: u64 = 1 << 33;

    #[test]
    fn a_device_that_wants_a_feature_which_the_driver_does_not_know_is_refused() {
        let offered = Features::all().bits() | ACCESS_PLATFORM;
        let mut device = Device { offered, wanted: ACCESS_PLATFORM, ..Device::default() };
        assert_eq!(agree(&mut device, Features::all()), Err(Refused));
        assert_eq!(device.get_status(), DeviceStatus::FAILED);
        // What is offered and not wanted may be left.
        let mut device = Device { offered, ..Device::default() };
        assert_eq!(agree(&mut device, Features::all()), Ok(Features::all()));
        let mut device = Device { offered: Features::MAC.bits(), ..Device::default() };
        assert_eq!(agree(&mut device, Features::all()), Ok(Features::MAC));
    }

    #[test]
    fn a_legacy_device_is_not_asked_whether_it_agrees() {
        let offered = Features::MAC.bits();
        let mut device = Device { offered, wanted: ACCESS_PLATFORM, legacy: true, ..Device::default() };
        assert_eq!(agree(&mut device, Features::all()), Ok(Features::MAC));
    }

    #[test]
    fn a_device_that_gives_up_is_seen_to() {
        let mut device = Device::default();
        agree(&mut device, Features::all()).unwrap();
        device.finish_init();
        assert!(!has_failed(&device));
        device.status |= DeviceStatus::DEVICE_NEEDS_RESET;
        assert!(has_failed(&device));
    }
}
