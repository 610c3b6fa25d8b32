//! `boards/BOARD.toml`: what a board gives to a system description.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// A board, read from its file.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Board {
    pub platform: Platform,
    /// Values for `${name}`.
    #[serde(default)]
    pub vars: BTreeMap<String, Value>,
    /// All memory, the kernel's and other. `sysdesc check` wants it.
    pub(crate) ram: Option<Memory>,
    /// The regions of the system that lie at a fixed address and are no device's, each with the reason beside it.
    #[serde(default)]
    pub(crate) fixed: BTreeMap<String, Memory>,
    /// By domain, then by the name of the device.
    #[serde(default)]
    device: BTreeMap<String, BTreeMap<String, Supply>>,
}

/// What runs the system.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Platform {
    /// Linux processes, `tools/native`.
    Native,
    /// seL4, by the Microkit tool.
    Microkit,
}

/// The value of a variable; a number stands for its decimal text.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub enum Value {
    Number(u64),
    Text(String),
}

/// The Linux object that stands for a device on native.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum DeviceKind {
    /// A datagram socket, connected to the switch: one Ethernet frame per datagram.
    SwitchPort,
    /// A pipe that the runner fills with random bytes.
    EntropyPipe,
    /// A file or terminal that is written to.
    File,
    /// A timer of the monotonic clock.
    Timerfd,
    /// A file that behaves as NOR flash.
    Flash,
}

/// What a board gives for one `<device>`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Supply {
    /// On native, and only there.
    pub kind: Option<DeviceKind>,
    pub region: Vec<DeviceRegion>,
    pub irq: Vec<DeviceIrq>,
}

/// Physical memory.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Memory {
    pub phys_addr: u64,
    pub size: u64,
}

/// A region of a device and its one mapping.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct DeviceRegion {
    pub name: String,
    pub size: u64,
    pub page_size: Option<u64>,
    /// Where registers are. Memory for DMA is wherever the tool puts it.
    pub phys_addr: Option<u64>,
    pub vaddr: u64,
    pub perms: String,
    pub cached: Option<bool>,
    pub setvar_vaddr: Option<String>,
    pub setvar_size: Option<String>,
    /// The symbol that learns the physical address, for DMA.
    pub setvar_paddr: Option<String>,
}

/// An interrupt of a device.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct DeviceIrq {
    pub irq: u32,
    pub id: u8,
    pub trigger: Option<String>,
    pub setvar_id: Option<String>,
}

/// A board's file that cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct BadBoard(#[from] toml::de::Error);

impl Board {
    pub fn parse(text: &str) -> Result<Self, BadBoard> {
        Ok(toml::from_str(text)?)
    }

    /// Gives a variable a value, whatever the file says. Whether the file said anything.
    pub fn set(&mut self, name: &str, value: &str) -> bool {
        self.vars.insert(name.to_owned(), Value::Text(value.to_owned())).is_some()
    }

    pub(crate) fn var(&self, name: &str) -> Option<String> {
        self.vars.get(name).map(|value| match value {
            Value::Number(number) => number.to_string(),
            Value::Text(text) => text.clone(),
        })
    }

    pub(crate) fn supply(&self, domain: &str, device: &str) -> Option<&Supply> {
        self.device.get(domain)?.get(device)
    }

    /// The devices that the board has for a domain.
    pub(crate) fn supplied_to(&self, domain: &str) -> impl Iterator<Item = &str> {
        self.device.get(domain).into_iter().flat_map(BTreeMap::keys).map(String::as_str)
    }
}

impl Memory {
    pub(crate) const fn overlaps(&self, other: &Self) -> bool {
        self.phys_addr < other.phys_addr.saturating_add(other.size)
            && other.phys_addr < self.phys_addr.saturating_add(self.size)
    }
}

impl DeviceKind {
    const ALL: [Self; 5] = [Self::SwitchPort, Self::EntropyPipe, Self::File, Self::Timerfd, Self::Flash];

    pub const fn name(self) -> &'static str {
        match self {
            Self::SwitchPort => "switch-port",
            Self::EntropyPipe => "entropy-pipe",
            Self::File => "file",
            Self::Timerfd => "timerfd",
            Self::Flash => "flash",
        }
    }

    pub(crate) fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }
}
