//! Reads the system description, completes it for one board, and refuses what breaks its rules.
//!
//! `system.xml` is Microkit SDF with two extensions: `${name}` in attribute values, given by the board
//! (an attribute that comes out empty is left away), and `<device name="..."/>` in a domain, which
//! stands for the memory and interrupts of a device, or on native for a Linux object. What comes out,
//! [`System`], is what the checks have seen and all that [`System::to_xml`] writes: nothing
//! passes by unread. It is stricter than the Microkit tool. Elements that hand out rights over other domains
//! (`cspace`, `virtual_machine`, `ioport`, `smc`) do not exist here; nor do protected calls.
#![forbid(unsafe_code)]

mod board;
pub mod capdl;
mod check;
pub mod kernel;
mod model;
mod parse;
pub mod policy;
pub mod rules;
mod supply;
mod write;

use std::fmt;

pub use board::{BadBoard, Board, DeviceKind, Platform};
pub use model::{Channel, Device, Domain, End, Image, Irq, Map, PaddrOf, Perms, Region, System, Trigger};

/// Where the offending part of the description stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum At {
    /// A line of the system description.
    Line(u32),
    /// The board's file.
    #[default]
    Board,
}

/// Why a system description is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{at}: {what}")]
pub struct Refused {
    pub at: At,
    pub what: String,
}

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Line(line) => write!(f, "line {line}"),
            Self::Board => f.write_str("board"),
        }
    }
}

impl At {
    fn refuse<T>(self, what: impl Into<String>) -> Result<T, Refused> {
        Err(Refused { at: self, what: what.into() })
    }
}

/// The description in `text`, completed for `board` and checked.
pub fn elaborate(text: &str, board: &Board) -> Result<System, Refused> {
    let mut system = parse::system(text, board)?;
    supply::devices(&mut system, board)?;
    check::system(&system)?;
    Ok(system)
}
