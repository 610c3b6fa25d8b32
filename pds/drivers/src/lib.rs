//! The devices. Each driver moves bytes between registers or DMA buffers and its domain's core, and looks into none.
//!
//! A board chooses a driver by the symbol that it sets (`boards/BOARD.toml`); the others stay without a device.
#![no_std]

pub mod cfi;
mod device;
mod dma;
mod register;
pub mod uart;
pub mod virtio_net;
pub mod virtio_rng;
