//! The rules by name, and how one is said to be broken.

use std::fmt;

/// A rule by the name that its messages begin with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rule {
    Thread,
    ForeignFrame,
    ForeignTcb,
    ForeignVspace,
    ForeignCnode,
    Endpoint,
    WriteExecute,
    SharedRegion,
    Channels,
    Interrupt,
    DeviceFrame,
    Dma,
    FixedMemory,
    NoPathOut,
    PublicImage,
    Capability,
}

/// A rule that is broken, and how.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Violation {
    pub rule: Rule,
    pub what: String,
}

impl Rule {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Thread => "thread",
            Self::ForeignFrame => "foreign-frame",
            Self::ForeignTcb => "foreign-tcb",
            Self::ForeignVspace => "foreign-vspace",
            Self::ForeignCnode => "foreign-cnode",
            Self::Endpoint => "endpoint",
            Self::WriteExecute => "write-execute",
            Self::SharedRegion => "shared-region",
            Self::Channels => "channels",
            Self::Interrupt => "interrupt",
            Self::DeviceFrame => "device-frame",
            Self::Dma => "dma",
            Self::FixedMemory => "fixed-memory",
            Self::NoPathOut => "no-path-out",
            Self::PublicImage => "public-image",
            Self::Capability => "capability",
        }
    }

    pub(super) fn broken(self, what: impl Into<String>) -> Violation {
        Violation { rule: self, what: what.into() }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.rule.name(), self.what)
    }
}
