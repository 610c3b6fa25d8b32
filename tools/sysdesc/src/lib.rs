//! The system description, and images made from it.
//!
//! [`description`] reads `system.xml`, completes it for one board, and refuses what breaks its rules. [`image`] puts
//! images together with the Microkit tool, and judges them.
#![forbid(unsafe_code)]

pub mod description;
pub mod image;

pub use description::{
    At, BadBoard, Board, Channel, Device, DeviceKind, Domain, End, Image, Irq, Map, PaddrOf, Perms, Platform, Refused,
    Region, System, Trigger, elaborate,
};
