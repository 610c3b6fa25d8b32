//! The rules that an image keeps: its capDL against the system description. docs/system-check.md says what each shows
//! and what it does not. Each has a bad system in `tools/sysdesc/tests/bad-capdl/`.
//!
//! Nothing here trusts the name of a page table, CNode, notification or endpoint: a domain is its thread, and all else
//! is what that thread can reach. Names are taken at their word for threads (`tcb_NAME`), and for the frames of
//! regions, which hold what the tool was told to copy in.

mod caps;
mod description;
mod frames;
mod threads;
mod view;

use std::fmt;

use crate::{Board, Platform, System, capdl::Spec, policy::Policy};
use view::View;

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
    Capability,
}

/// A rule that is broken, and how.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Violation {
    pub rule: Rule,
    pub what: String,
}

/// Everything that is wrong with an image of `system`. Nothing, if the rules hold.
pub fn check(system: &System, board: &Board, policy: &Policy<'_>, spec: &Spec) -> Vec<Violation> {
    if board.platform != Platform::Microkit {
        return vec![Rule::Thread.broken("this platform's images have no capDL")];
    }
    let mut broken = Vec::new();
    description::check(system, board, policy, &mut broken);
    match View::new(system, policy, spec) {
        Ok(view) => {
            threads::check(&view, &mut broken);
            caps::check(&view, &mut broken);
            frames::check(&view, &mut broken);
        }
        // What a domain is cannot be told: there is nothing more to judge.
        Err(why) => broken.extend(why),
    }
    broken.sort();
    broken.dedup();
    broken
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
            Self::Capability => "capability",
        }
    }

    fn broken(self, what: impl Into<String>) -> Violation {
        Violation { rule: self, what: what.into() }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.rule.name(), self.what)
    }
}
