//! What the runner tells a domain's process at its start: descriptors and addresses, as JSON in a memfd
//! whose number stands in the environment.

use std::os::fd::RawFd;

use serde::{Deserialize, Serialize};
use sysdesc::DeviceKind;

/// The one variable of a domain's environment.
pub const VARIABLE: &str = "GENESIS_BOOT";

#[derive(Serialize, Deserialize)]
pub struct Boot {
    pub domain: String,
    /// The program that the description names.
    pub program: String,
    /// The page for last words.
    pub words: RawFd,
    pub regions: Vec<BootRegion>,
    pub channels: Vec<BootChannel>,
    pub devices: Vec<BootDevice>,
    pub children: Vec<BootChild>,
}

#[derive(Serialize, Deserialize)]
pub struct BootRegion {
    pub name: String,
    /// The domain's name for it: the symbol of `setvar_vaddr`.
    pub symbol: Option<String>,
    /// Opened read-only if the domain may only read.
    pub fd: RawFd,
    pub vaddr: usize,
    pub size: usize,
    pub writable: bool,
}

#[derive(Serialize, Deserialize)]
pub struct BootChannel {
    pub id: u8,
    /// The symbol of `setvar_id`.
    pub symbol: Option<String>,
    /// The eventfd that this domain writes, if it may notify.
    pub tell: Option<RawFd>,
    /// The eventfd that this domain reads, if it may be notified.
    pub hear: Option<RawFd>,
}

/// A domain whose parent this one is.
#[derive(Serialize, Deserialize)]
pub struct BootChild {
    pub id: u8,
    /// The symbol of `setvar_id`.
    pub symbol: Option<String>,
    /// The eventfd that the runner writes when the child has ended.
    pub ended: RawFd,
    /// The eventfd that this domain writes to have the child ended, if it runs, and started anew.
    pub restart: RawFd,
}

#[derive(Serialize, Deserialize)]
pub struct BootDevice {
    pub name: String,
    pub kind: DeviceKind,
    /// None: nothing is plugged in.
    pub fd: Option<RawFd>,
    /// The MAC address of a network device; it means nothing for any other.
    pub mac: [u8; 6],
}
