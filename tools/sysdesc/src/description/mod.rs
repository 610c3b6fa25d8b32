//! The description: from text and a board to a checked [`System`], and from that to plain SDF.
//!
//! `system.xml` is Microkit SDF with two extensions: `${name}` in attribute values, given by the board
//! (an attribute that comes out empty is left away), and `<device name="..."/>` in a domain, which
//! stands for the memory and interrupts of a device, or on native for a Linux object. What comes out,
//! [`System`], is what the checks have seen and all that [`System::to_xml`] writes: nothing
//! passes by unread. It is stricter than the Microkit tool. Elements that hand out rights over other domains
//! (`cspace`, `virtual_machine`, `ioport`, `smc`) do not exist here; nor do protected calls.

pub(crate) mod board;
pub mod boards;
mod check;
mod model;
mod parse;
mod refused;
mod supply;
mod write;

pub use self::{
    board::{BadBoard, Board, DeviceKind, Platform},
    model::{Channel, Device, Domain, End, Image, Irq, Map, PaddrOf, Perms, Region, System, Trigger},
    refused::{At, Refused},
};

/// The description in `text`, completed for `board` and checked.
pub fn elaborate(text: &str, board: &Board) -> Result<System, Refused> {
    let mut system = parse::system(text, board)?;
    supply::devices(&mut system, board)?;
    check::system(&system)?;
    Ok(system)
}
